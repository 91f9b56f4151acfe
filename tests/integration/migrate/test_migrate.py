"""Migrations of the older layouts: nothing is lost, nobody's write is lost, and what cannot be moved stops it."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.connection import SQL, Identifier
from scannerdb.errors import InvalidInput, MigrationRefused, RestoreRefused, ValidationFailed
from scannerdb.jobs import migrate as job
from scannerdb.jobs.migrate import migrate
from scannerdb.jobs.options import MigrateOptions
from scannerdb.jobs.schema import schema
from scannerdb.sets.manifest import read_manifest

from tests.integration.application.shape_support import made
from tests.integration.playbooks import Site, site
from tests.integration.restore.restore_support import databases, state
from tests.integration.support import findings, options, run_fix, run_restore, schema_damage, wait_until
from tests.servers import Database, Databases

__all__ = ["site"]
OLDER = ("older", "older-endpoint-id")
MOVED = """
SELECT e.id, e.ip, e.port, e.verified, e.scan_date::text, e.verification_date::text, e.is_honeypot, e.honeypot_reason,
       e.is_active, e.inactive_reason FROM endpoints e ORDER BY 1
"""
BEFORE = """
SELECT id, ip, port, array_position(ARRAY['scanned', 'verified', 'failed'], status) - 1, scan_date::text,
       verified_date::text, is_honeypot, honeypot_reason, is_active, inactive_reason FROM servers ORDER BY 1
"""


def run(database: Database, folder: Path, **more: Any) -> dict[str, Any]:
    places = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s")}
    check_mode = more.pop("check_mode", False)
    asked = MigrateOptions(**{"confirm": database.name, "grace_s": 0, **places, **more})
    return migrate(options(database), asked, check_mode=check_mode)


def undone(database: Database, folder: Path) -> dict[str, Any]:
    places = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s")}
    return run_restore(options(database), state="undone", confirm=database.name, grace_s=0, **places)


@pytest.mark.parametrize("shape", OLDER)
def test_an_older_layout_becomes_the_baseline(make_database: Databases, shape: str, tmp_path: Path) -> None:
    database = made(make_database, shape)
    reference = "server_id" if shape == "older" else "endpoint_id"
    models = "SELECT id, {}, name, {}, {}, size, count FROM models ORDER BY 1"
    before, whole = database.sql(BEFORE), state(database)
    old_models = database.sql(models.format(reference, "params", "quant"))
    planned = run(database, tmp_path, check_mode=True)
    assert (planned["changed"], state(database)) == (True, whole)
    assert any("servers becomes endpoints" in step for step in planned["plan"]["steps"])
    result = run(database, tmp_path)
    kept = read_manifest(Path(result["restore"]["backup"]))[0].tables
    assert [table.name for table in kept if not table.fingerprint] == [], "what it is compared by"
    assert database.sql(MOVED) == before
    assert database.sql(models.format("endpoint_id", "parameter_size", "quantization_level")) == old_models
    assert database.value("SELECT count(*) FROM models WHERE size_mb = round(size / 1048576.0, 2)") == 120
    verified = [row[0] for row in before if row[3] == 1]
    assert [row[0] for row in database.sql("SELECT id FROM servers ORDER BY 1")] == verified
    assert [
        d for d in schema_damage(database) if d not in ("schema.foreign_key.blocks_delete", "schema.column.type")
    ] == []
    assert state(Database(database.server, result["restore"]["previous_database"]))["relations"] == whole["relations"]
    for table in ("chat_history", "metadata", "schema_version"):
        assert state(database)[f"rows of public.{table}"] == whole[f"rows of public.{table}"]
    again = run(database, tmp_path)
    assert (again["changed"], "nothing to migrate" in again["msg"]) == (False, True)
    assert not schema(options(database))["changed"]
    assert undone(database, tmp_path)["changed"] and state(database) == whole


@pytest.mark.pg(17)
def test_people_work_with_it_afterwards(make_database: Databases, tmp_path: Path) -> None:
    database = made(make_database, "older")
    run(database, tmp_path)
    with database.connect("ollama") as conn:
        assert conn.execute("INSERT INTO servers (ip) VALUES ('203.0.113.5') RETURNING id").fetchone() == (61,)
        conn.execute("INSERT INTO models (endpoint_id, name) VALUES (61, 'phi')")
        conn.execute("DELETE FROM servers WHERE id = 61")
    with database.connect("grafana_ro") as conn:
        assert conn.execute("SELECT count(*) FROM servers").fetchone() == (20,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM servers")
    assert run_fix(database)["failures"] == []


@pytest.mark.pg(17)
@pytest.mark.parametrize("terminate", [False, True])
def test_a_write_that_waits_is_never_lost(
    make_database: Databases, tmp_path: Path, terminate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that connects while the database is migrated waits; it is refused or it stops the cutover."""
    database = made(make_database, "older")
    told: list[str] = []
    threads = []

    def write() -> None:
        try:
            with database.connect("ollama") as conn:
                conn.execute("INSERT INTO servers (ip, port) VALUES ('203.0.113.9', 1)")
                told.append("written")
        except psycopg.Error:
            told.append("refused")

    def build(*arguments: Any) -> list[str]:
        threads.append(threading.Thread(target=write))
        threads[0].start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ollama' AND wait_event_type = 'Lock'"
        wait_until(lambda: database.value(waiting))
        assert database.value("SELECT count(*) FROM servers") == 60  # readers go on
        return original(*arguments)

    original = job._build
    monkeypatch.setattr(job, "_build", build)
    if terminate:
        run(database, tmp_path, terminate=True)
    else:
        with pytest.raises(RestoreRefused, match=r"in use: .*scannerdb_migrate_terminate"):
            run(database, tmp_path)
    threads[0].join()
    assert told == ["refused" if terminate else "written"]
    relation, rows = ("endpoints", 60) if terminate else ("servers", 61)
    assert database.value(f"SELECT count(*) FROM {relation}") == rows
    assert not [name for name in databases(database) if "__restore_" in name]


@pytest.mark.pg(17)
def test_a_table_that_is_made_meanwhile_stops_it(
    make_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = made(make_database, "older")
    original = job._build
    monkeypatch.setattr(job, "_build", lambda *a: (original(*a), database.sql("CREATE TABLE late (n int)"))[0])
    with pytest.raises(MigrationRefused, match=r"came or went while .*: public\.late"):
        run(database, tmp_path)
    assert not [name for name in databases(database) if "__restore_" in name]


@pytest.mark.pg(17)
def test_the_lost_holder_stops_it(make_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = made(make_database, "older")
    whole = state(database)

    def confirm(still: job.Standstill) -> None:
        database.sql("SELECT pg_terminate_backend(%s)", still.conn.info.backend_pid)
        wait_until(lambda: not database.value("SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND granted"))

    monkeypatch.setattr(job.Standstill, "confirm", confirm)
    with pytest.raises(RestoreRefused, match="kept others from writing to it has ended"):
        run(database, tmp_path)
    assert state(database) == whole


@pytest.mark.pg(17)
def test_what_a_killed_run_left_is_healed(
    make_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = made(make_database, "older")
    whole = state(database)
    with monkeypatch.context() as patched:
        patched.setattr(job, "clear_up", lambda *_: None)
        patched.setattr(job, "cut_over", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(database, tmp_path)
    assert [name for name in databases(database) if "__restore_" in name] and state(database) == whole
    result = run(database, tmp_path)
    assert any("left over from a restore that was cut short" in said for said in result["warnings"])
    assert database.value("SELECT count(*) FROM servers") == 20
    assert not [name for name in databases(database) if "__restore_" in name]


@pytest.mark.pg(17)
def test_the_playbook_and_the_undo_that_it_prints(site: Site, make_database: Databases) -> None:
    database = made(make_database, "older")
    whole = state(database)
    site.add("db1", database)
    confirm = {"scannerdb_migrate_confirm": database.name}
    site.run("playbooks/fix.yml", scannerdb_fix_require_backup=False).ok()
    assert state(database) == whole
    planned = site.run("playbooks/migrate.yml", "--check", "--diff", **confirm).ok()
    assert "table servers becomes endpoints: status becomes verified" in planned.prose
    assert state(database) == whole
    site.run("playbooks/migrate.yml").failed("Set scannerdb_migrate_confirm to")
    done = site.run("playbooks/migrate.yml", **confirm).ok()
    assert done.changed["db1"] == 1 and database.value("SELECT count(*) FROM servers") == 20
    assert site.run("playbooks/migrate.yml", **confirm).ok().changed["db1"] == 0
    words = shlex.split(next(line for line in done.output.splitlines() if "Undo  " in line).split("Undo")[1])
    playbook = words.index("playbooks/restore.yml")
    site.run("playbooks/restore.yml", *words[playbook + 1 :]).ok()
    assert state(database) == whole


STOPPING = {
    "ALTER TABLE servers DROP CONSTRAINT servers_status_check; UPDATE servers SET status = 'dead' WHERE id < 4": (
        r"'dead' \(3 rows\)",
        MigrationRefused,
    ),
    "CREATE VIEW good AS SELECT ip FROM servers WHERE status = 'verified'": ("view good depends", MigrationRefused),
    "CREATE TABLE endpoints (id integer)": ("a endpoints beside", MigrationRefused),
    "ALTER TABLE models ADD endpoint_id integer": ("two columns that would become endpoint_id", MigrationRefused),
    "ALTER TABLE servers DROP status": ("has no column status", MigrationRefused),
    "UPDATE models SET server_id = NULL WHERE id = 1": (r"schema.column.nullable \(models", ValidationFailed),
    "CREATE FUNCTION ill() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';"
    " CREATE TRIGGER ill BEFORE INSERT ON servers FOR EACH ROW EXECUTE FUNCTION ill()": (
        "does not work",
        ValidationFailed,
    ),
}


@pytest.mark.pg(17)
@pytest.mark.parametrize("sabotage", STOPPING)
def test_what_cannot_be_moved_stops_it(make_database: Databases, tmp_path: Path, sabotage: str) -> None:
    database = made(make_database, "older")
    with database.connect() as conn:
        conn.execute(sabotage.encode())
    whole, (message, kind) = state(database), STOPPING[sabotage]
    with pytest.raises(kind, match=message):
        run(database, tmp_path)
    assert state(database) == whole
    assert not [name for name in databases(database) if "__restore_" in name]


@pytest.mark.pg(17)
def test_triggers_indexes_and_checks_of_the_site(make_database: Databases, tmp_path: Path) -> None:
    """No trigger fires on the way; what speaks of the words of status goes, all else stays."""
    database = made(make_database, "older")
    with database.connect() as conn:
        conn.execute(
            "CREATE TABLE fired (n integer); GRANT ALL ON fired TO ollama;"
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN INSERT INTO public.fired VALUES (1); RETURN NEW; END';"
            "CREATE TRIGGER note AFTER UPDATE ON servers FOR EACH ROW EXECUTE FUNCTION note();"
            "CREATE TRIGGER note AFTER UPDATE ON models FOR EACH ROW EXECUTE FUNCTION note();"
            "CREATE INDEX only_good ON servers (ip) WHERE status = 'verified';"
            "CREATE VIEW names AS SELECT s.ip, m.name FROM servers s JOIN models m ON m.server_id = s.id;"
            "ALTER TABLE servers ADD country text DEFAULT 'xx';"
            "GRANT SELECT (ip) ON servers TO grafana_ro"
        )
    names = database.sql("SELECT * FROM names ORDER BY 1, 2")
    planned = run(database, tmp_path, check_mode=True)
    assert "check servers_status_check, index only_good" in " ".join(planned["plan"]["steps"])
    run(database, tmp_path)
    assert database.value("SELECT count(*) FROM fired") == 0
    assert database.sql("SELECT * FROM names ORDER BY 1, 2") == names
    assert database.value("SELECT count(*) FROM endpoints WHERE country = 'xx'") == 60
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'note'") == 2
    assert (
        database.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'servers\\_%' OR relname = 'only_good'") == 0
    )
    assert database.value("SELECT pg_get_serial_sequence('endpoints', 'id')") == "public.endpoints_id_seq"
    assert database.value("SELECT has_column_privilege('grafana_ro', 'endpoints', 'ip', 'SELECT')")


@pytest.mark.pg(17)
def test_the_request_is_checked(make_database: Databases, tmp_path: Path) -> None:
    database = made(make_database, "older")
    with pytest.raises(RestoreRefused, match="Set scannerdb_migrate_confirm to"):
        run(database, tmp_path, confirm="other")
    with pytest.raises(InvalidInput, match="reads back the backup"):
        run(database, tmp_path, age_recipients=["age1x"])
    with database.connect("ollama"), pytest.raises(RestoreRefused, match="in use"):
        run(database, tmp_path)


SPY = """
CREATE FUNCTION spy(x anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
ALTER FUNCTION spy OWNER TO scanner_owner;
CREATE FUNCTION caught() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN RAISE 'with all rights'; END IF;
    RETURN coalesce(NEW, OLD); END $$;
ALTER FUNCTION caught OWNER TO scanner_owner;
"""


@pytest.mark.pg(17)
@pytest.mark.parametrize(
    "carried", ["CREATE INDEX spy ON servers (ip) WHERE spy(port)", "ALTER TABLE models ADD CHECK (spy(name))"]
)
def test_code_of_a_lesser_role_is_refused(make_database: Databases, tmp_path: Path, carried: str) -> None:
    database = made(make_database, "older")
    with database.connect() as conn:
        conn.execute((SPY + carried).encode())
    with pytest.raises(RestoreRefused, match=r"spy.*scannerdb_migrate_run_code"):
        run(database, tmp_path)


@pytest.mark.pg(17)
def test_triggers_of_a_lesser_role_never_run_as_the_superuser(make_database: Databases, tmp_path: Path) -> None:
    database = made(make_database, "older")
    with database.connect() as conn:
        conn.execute(SPY.encode())
        for table in ("servers", "models", "benchmark_results", "metadata"):
            words = (
                f"CREATE TRIGGER c BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION caught()"
            )
            conn.execute(words.encode())
    run(database, tmp_path)
    assert database.value("SELECT count(*) FROM endpoints") == 60


@pytest.mark.pg(17)
def test_a_role_with_few_rights_migrates(make_database: Databases, tmp_path: Path) -> None:
    database = made(make_database, "older")
    with database.connect() as conn:
        for statement in (
            SQL("CREATE ROLE few LOGIN CREATEDB IN ROLE scanner_owner, ollama"),
            SQL("ALTER DATABASE {} OWNER TO scanner_owner").format(Identifier(database.name)),
            SQL("GRANT CREATE ON SCHEMA public TO few"),
        ):
            conn.execute(statement)
    places = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    asked = MigrateOptions(confirm=database.name, grace_s=0, **places)
    result = migrate(options(database, user="few"), asked)
    assert result["changed"]
    assert database.value("SELECT count(*) FROM servers") == 20
    assert "schema.view.trigger" not in findings(database)
