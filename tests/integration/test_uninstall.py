"""Taking the bundle's schema out of a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.errors import InvalidInput
from scannerdb.jobs.uninstall import uninstall

from tests.integration.playbooks import Site
from tests.integration.support import options, run_fix
from tests.servers import Database


def test_the_schema_goes_and_nothing_else(field_db: Database) -> None:
    assert uninstall(options(field_db)) == {
        "changed": False,
        "rows": 0,
        "msg": "There is no schema scannerdb_maintenance.",
    }
    run_fix(field_db)
    rows = field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal")
    dry = uninstall(options(field_db), check_mode=True)
    assert (dry["changed"], dry["rows"]) == (True, rows) and rows > 0
    assert field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal") == rows
    done = uninstall(options(field_db))
    assert (done["changed"], done["rows"]) == (True, rows)
    assert not uninstall(options(field_db))["changed"]
    assert field_db.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'servers'::regclass") > 0


def test_what_somebody_else_put_there_is_not_dropped(field_db: Database) -> None:
    run_fix(field_db)
    field_db.sql("CREATE TABLE scannerdb_maintenance.mine (a int)")
    for check_mode in (True, False):
        with pytest.raises(InvalidInput, match="holds mine, which the bundle did not make"):
            uninstall(options(field_db), check_mode=check_mode)
    assert field_db.value("SELECT to_regclass('scannerdb_maintenance.journal') IS NOT NULL")


def test_backups_within_a_folder_that_goes_are_not_removed_by_the_way(tmp_path: Path) -> None:
    state = tmp_path / "scannerdb" / "one"
    (state / "backups" / "x.backup").mkdir(parents=True)
    site = Site(tmp_path, {"one": {}})
    site.group.update(scannerdb_become_root=False, scannerdb_bundle_install=False)
    site.group.update(scannerdb_state_dir=str(state), scannerdb_backup_dir=f"{state}/backups")
    site.run("playbooks/uninstall.yml", "--check").failed("lie in a folder that would be removed")
    assert (state / "backups" / "x.backup").is_dir()
