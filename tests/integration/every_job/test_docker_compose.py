"""docs/docker-compose.md as it stands, on a server of that shape: its only superuser is `ollama`, by SCRAM over TCP.

The container itself is left out; inventories/docker-compose is used as it is, but for the port and folders.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import connect
from scannerdb.contract.overlay import contract_with
from scannerdb.contract.probe import write_probe
from scannerdb.errors import PrivilegeMissing
from scannerdb.fixes.rights import writer_of
from scannerdb.jobs.migrate import migrate
from scannerdb.jobs.options import MigrateOptions

from demo import field
from tests.integration.playbooks import ROOT, Run, run
from tests.integration.support import options, run_backup, run_restore
from tests.servers import Database, compose_server, find_bin_dir

pytestmark = pytest.mark.pg(15)  # the version of the image
INVENTORY = ROOT / "inventories" / "docker-compose" / "hosts.yml"
SUPERUSER = {"scannerdb_login_user": "ollama", "scannerdb_login_password": field.APP_PASSWORD}
MAINTENANCE = {"vault_maintenance_password": "hidden:maint\\word"}
NETWORK = "host all all 127.0.0.1/32 scram-sha-256\n"


@pytest.fixture
def compose() -> Iterator[Database]:
    """The field's database in the docker-compose shape: everything is the application's, who is the only superuser."""
    bin_dir = find_bin_dir(15)
    assert bin_dir is not None
    with compose_server(bin_dir) as database:
        hba = database.server.data / "pg_hba.conf"
        hba.write_text(NETWORK + hba.read_text())
        with database.connect() as conn:
            conn.execute("SELECT pg_reload_conf()")
            field.generate(conn, 0.002, owner=field.APP_ROLE)
            conn.execute("DROP OWNED BY scanner_owner; DROP ROLE scanner_owner")  # the page makes one
            conn.execute("CREATE EXTENSION pg_stat_statements")
        yield database


def play(database: Database, home: Path, name: str, *arguments: str, **extra: Any) -> Run:
    """Run a playbook with the inventory, which leads to this server's port."""
    own = {"scannerdb_login_port": database.server.port, "compose_home": str(home), **MAINTENANCE}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(INVENTORY), *arguments]
    shape = {"scannerdb_pg_bin_dir": str(database.server.bin_dir), "scannerdb_backup_storage": "persistent"}
    return run([*command, "-e", json.dumps({**own, **shape, **extra}), f"playbooks/{name}.yml"], home, ROOT, {})


def given_away(database: Database) -> None:
    """The page's own SQL: what the superuser owned belongs to an unprivileged role."""
    page = (ROOT / "docs" / "docker-compose.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with database.connect() as conn:
        for part in re.split(r";\n|\\gexec\n", statements.replace("ollama_scanner", database.name)):
            cursor = conn.execute(part.encode()) if part.strip() else None
            for (statement,) in cursor.fetchall() if cursor and cursor.description else ():
                conn.execute(statement.encode())


def test_the_page_from_deploy_to_a_restore(compose: Database, tmp_path: Path) -> None:
    database, home = compose, tmp_path
    first = play(database, home, "deploy", **SUPERUSER).ok()
    assert "superusers own" in first.prose
    given_away(database)
    assert "superusers own" not in play(database, home, "deploy", **SUPERUSER).ok().prose
    assert play(database, home, "deploy", **SUPERUSER).ok().changed["scanner"] == 0
    assert database.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'scannerdb_maint'") is False
    assert not database.value("SELECT pg_has_role('scannerdb_maint', 'ollama', 'MEMBER')")
    with database.connect(field.APP_ROLE) as conn:  # the application works as before
        conn.execute("INSERT INTO servers (ip) VALUES ('203.0.113.5')")
    play(database, home, "check", scannerdb_check_fail_on="never").ok()
    report = json.loads((home / "state" / "reports" / "db_schema_issues_report.json").read_text())
    assert "security.role.superuser" in {f["id"] for f in report["findings"]}
    assert not [f for f in report["findings"] if "could not" in f["message"]], report["findings"]
    play(database, home, "backup").ok()
    proven = play(database, home, "verify").ok()
    assert "is proven restorable" in proven.prose
    rows = database.sql("SELECT * FROM models ORDER BY id")
    play(database, home, "fix").ok()
    database.sql("DELETE FROM models")
    words = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": "ollama_scanner"}
    play(database, home, "restore", **words).failed("pg_stat_statements")
    play(database, home, "restore", **words, **SUPERUSER).ok()
    assert database.sql("SELECT * FROM models ORDER BY id") == rows
    owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
    assert database.value(owner) == "scanner_owner"
    play(database, home, "backup").ok()


def test_membership_in_a_superuser_is_never_offered(compose: Database, tmp_path: Path) -> None:
    """Whoever is a member of one has its rights: nothing that a job without it says leads there."""
    database = compose
    database.sql("CREATE ROLE few LOGIN CREATEDB IN ROLE pg_read_all_data")
    database.sql("DROP EXTENSION pg_stat_statements")
    few = options(database, user="few")
    with connect(few) as conn:
        skipped = write_probe(conn, contract_with({})).skipped
    places = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    run_backup(few, storage="persistent", **places)
    with pytest.raises(PrivilegeMissing) as owners:
        run_restore(few, source="latest", confirm=database.name, **places)
    with connect(few) as conn, pytest.raises(PrivilegeMissing) as rows:
        writer_of(conn, "public", ["endpoints"], field.APP_ROLE)
    for said in (skipped, str(owners.value), str(rows.value)):
        assert "superuser" in said and not re.search(r"(?i)grant \W?ollama", said), said


def test_the_schedule_runs_as_the_maintenance_role(compose: Database, tmp_path: Path) -> None:
    database, home = compose, tmp_path
    play(database, home, "deploy", **SUPERUSER).ok()
    given_away(database)
    play(database, home, "deploy", **SUPERUSER).ok()
    for name in ("cron", "rotate", "units"):
        (home / name).mkdir()
    places = {
        "scannerdb_become_root": False,
        "scannerdb_config_dir": str(home / "etc"),
        "__scannerdb_schedule_unit_dir": str(home / "units"),
        "__scannerdb_schedule_logrotate_dir": str(home / "rotate"),
        "__scannerdb_schedule_cron_dir": str(home / "cron"),
    }
    play(database, home, "schedule", scannerdb_bundle_install=False, **places).ok()  # its self-test connects
    assert (home / "cron" / "scannerdb-scanner").exists()
    known = (home / "etc" / "inventory.json").read_text()
    assert "scannerdb_maint" in known and field.APP_PASSWORD not in known


def test_an_older_layout_of_the_superuser_is_migrated(tmp_path: Path) -> None:
    bin_dir = find_bin_dir(15)
    assert bin_dir is not None
    with compose_server(bin_dir) as database:
        with database.connect() as conn:
            field.older_layout(conn)
            conn.execute("REASSIGN OWNED BY scanner_owner TO ollama")
        places = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
        result = migrate(options(database), MigrateOptions(confirm=database.name, **places))
        assert result["changed"] and not [said for said in result["warnings"] if "probe" in said]
        assert database.value("SELECT count(*) FROM servers") == 20
