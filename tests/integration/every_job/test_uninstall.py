"""Taking the bundle's schema out of a database, and its sets out of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.errors import InvalidInput
from scannerdb.jobs.uninstall import uninstall
from scannerdb.jobs.uninstall_files import Folders, uninstall_files

from tests.integration.support import options, run_backup, run_fix
from tests.servers import Database, Databases


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


def test_of_the_backups_only_the_named_databases_sets_go(make_database: Databases, tmp_path: Path) -> None:
    """Also where they lie in a folder that would otherwise go."""
    mine, other = make_database(filled=True), make_database(filled=True)
    backups = tmp_path / "state" / "backups"
    for database in (mine, other, mine):
        run_backup(options(database), backup_dir=str(backups), state_dir=str(tmp_path / "state"), verify_level="none")
    (backups / "old_20250418_120000.backup").write_text("PGDMP")
    inner = [str(tmp_path / name) for name in ("etc", "state", "state/reports", "log", "state/backups")]
    uninstall_files(Folders(*inner))
    assert len(sets(backups)) == 4 and list((tmp_path / "state").iterdir()) == [backups]
    done = uninstall_files(Folders(*inner), database=mine.name)
    assert [one.rsplit("_", 2)[0] for one in sets(backups)] == ["old", other.name], done
    assert sets(backups, "latest.backup") == [] and len(done["left"]) == 2


def sets(folder: Path, pattern: str = "*_*.backup") -> list[str]:
    """What looks like a backup set, by name."""
    return sorted(path.name for path in folder.glob(pattern))
