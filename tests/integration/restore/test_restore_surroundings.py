"""What a backup needs of the server around it: tablespaces, a server that can be written, leave for DDL, a template."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.errors import InvalidInput, PrivilegeMissing, RestoreRefused, ServerUnsupported

from tests.integration.matrix.matrix_support import back_up, bring_back, lose
from tests.integration.own_server import own_databases, own_db, own_server
from tests.integration.restore.restore_support import maintenance, options
from tests.integration.support import run_restore, run_sweep, run_verify
from tests.servers import Database

__all__ = ["own_databases", "own_db", "own_server"]
SPACES = ("fast disk", "slow")
PLACED = [
    'CREATE TABLE t (a int PRIMARY KEY USING INDEX TABLESPACE "slow", b text) TABLESPACE "fast disk"',
    "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100) i",
    'CREATE INDEX "odd; idx" ON t (b) TABLESPACE "fast disk"',
    'CREATE MATERIALIZED VIEW m TABLESPACE "fast disk" AS SELECT count(*) FROM t',
    'CREATE TABLE parts (a int) PARTITION BY RANGE (a) TABLESPACE "fast disk"',
    'CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10) TABLESPACE "slow"',
    "INSERT INTO parts VALUES (1)",
    "CREATE TABLE plain (a text DEFAULT 'SET default_tablespace = nowhere;\nCREATE TABLE public.x ();')",
    "CREATE UNLOGGED TABLE u (a int) TABLESPACE slow",
]
WHERE = """
SELECT relname::text, coalesce(spcname::text, '') FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = reltablespace
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'i', 'p')
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND NOT i.indisvalid) ORDER BY 1
"""


@pytest.fixture
def placed(own_db: Database) -> Iterator[Database]:
    """A database with things in two tablespaces."""
    with own_db.connect(options="-c allow_in_place_tablespaces=on", autocommit=True) as conn:
        for space in SPACES:
            conn.execute(f"CREATE TABLESPACE \"{space}\" LOCATION ''".encode())
    for statement in PLACED:
        own_db.sql(statement)
    yield own_db
    lose(own_db)
    _forget_kept(own_db)
    _drop(own_db, *SPACES)


def _drop(database: Database, *spaces: str) -> None:
    with maintenance(database, autocommit=True) as conn:
        for space in spaces:
            conn.execute(f'DROP TABLESPACE IF EXISTS "{space}"'.encode())


@pytest.mark.pg(17)
def test_tablespaces_that_are_gone(placed: Database, tmp_path: Path) -> None:
    """Said before any work, in check mode too, by restore and drill alike; with a map all comes back elsewhere."""
    before = dict(placed.sql(WHERE))
    assert set(before.values()) == {"", *SPACES}
    back_up(placed, tmp_path)
    script = _plain_dump(placed, tmp_path)
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    bring_back(placed, tmp_path)
    assert dict(placed.sql(WHERE)) == before
    lose(placed)
    _forget_kept(placed)
    _drop(placed, "fast disk")
    for check_mode in (True, False):
        with pytest.raises(RestoreRefused, match=r"'fast disk'.*scannerdb_restore_tablespace_map"):
            bring_back(placed, tmp_path, check_mode=check_mode)
        with pytest.raises(RestoreRefused, match="scannerdb_restore_tablespace_map"):
            bring_back(placed, tmp_path, source=str(script), check_mode=check_mode)
        with pytest.raises(RestoreRefused, match="scannerdb_verify_place"):
            run_verify(options(placed), check_mode=check_mode, **folder)
    with pytest.raises(RestoreRefused, match="'nowhere'"):
        bring_back(placed, tmp_path, tablespace_map={"fast disk": "nowhere"})
    with pytest.raises(InvalidInput, match="tablespace_map"):
        bring_back(placed, tmp_path, tablespace_map={"fast disk": ""})
    moved = {name: space.replace("fast disk", "") for name, space in before.items()}
    for source in ("latest", str(script)):
        told = bring_back(placed, tmp_path, source=source, check_mode=True, tablespace_map={"fast disk": "pg_default"})
        assert any("'fast disk' becomes 'pg_default'" in step for step in told["plan"]["steps"])
        bring_back(placed, tmp_path, source=source, tablespace_map={"fast disk": "pg_default"})
        assert dict(placed.sql(WHERE)) == moved
        bring_back(placed, tmp_path, source=source, tablespace_map={"fast disk": "slow"})
        assert dict(placed.sql(WHERE)) == {name: space.replace("fast disk", "slow") for name, space in before.items()}
    done = bring_back(placed, tmp_path, tables=["t"], into_schema="brought")
    assert done["changed"] and placed.value("SELECT count(*) FROM brought.t") == 100
    _forget_kept(placed)


def _plain_dump(database: Database, folder: Path) -> Path:
    environment = {"PGHOST": str(database.server.socket_dir), "PGPORT": str(database.server.port), "PGUSER": "postgres"}
    path = folder / "plain.sql"
    words = [str(database.server.bin_dir / "pg_dump"), "-f", str(path), database.name]
    subprocess.run(words, env=environment, check=True)
    return path


def _forget_kept(database: Database) -> None:
    """Drop the databases that restores have replaced."""
    with maintenance(database, autocommit=True) as conn:
        query = "SELECT datname::text FROM pg_database WHERE datname <> %s AND starts_with(datname, %s)"
        for (name,) in conn.execute(query, [database.name, database.name]).fetchall():
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.mark.pg(17)
def test_a_tablespace_that_the_role_may_not_use(placed: Database, tmp_path: Path) -> None:
    placed.sql("CREATE ROLE keeper LOGIN CREATEDB IN ROLE pg_read_all_data, pg_signal_backend, pg_monitor")
    back_up(placed, tmp_path)
    with pytest.raises(PrivilegeMissing, match="GRANT CREATE ON TABLESPACE"):
        bring_back(placed, tmp_path, login={"user": "keeper"}, check_mode=True)


@pytest.mark.pg(17)
def test_a_server_that_is_read_only(own_db: Database, tmp_path: Path) -> None:
    back_up(own_db, tmp_path)
    own_db.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    own_db.sql("SELECT pg_reload_conf()")
    try:
        for check_mode in (True, False):
            with pytest.raises(ServerUnsupported, match="set to be read only"):
                bring_back(own_db, tmp_path, check_mode=check_mode)
    finally:
        with own_db.connect(options="-c default_transaction_read_only=off", autocommit=True) as conn:
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            conn.execute("SELECT pg_reload_conf()")


def test_a_template_stays_one(database: Database, tmp_path: Path) -> None:
    """And what it replaced can be swept, and an undo swaps templates."""
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 9) AS a")
    with maintenance(database, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{database.name}" IS_TEMPLATE true'.encode())
    back_up(database, tmp_path)
    templates = "SELECT count(*) FROM pg_database WHERE datistemplate AND datname !~ '^template'"
    bring_back(database, tmp_path)
    assert database.value("SELECT datistemplate FROM pg_database WHERE datname = current_database()")
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    run_restore(options(database), state="undone", confirm=database.name, grace_s=0, **folder)
    assert database.value(templates) == 2
    assert run_sweep(options(database), backup_dir=folder["backup_dir"], keep_hours=0.00001)["changed"]
    assert database.value(templates) == 1
    lose(database)
    bring_back(database, tmp_path)
    assert database.value(templates) == 1


@pytest.mark.pg(17)
def test_an_event_trigger_at_login_that_writes(database: Database, tmp_path: Path) -> None:
    """What restore and drill look at does not change by their looking."""
    for statement in (
        "CREATE TABLE logins (who text, at timestamptz DEFAULT clock_timestamp())",
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS"
        " $$BEGIN INSERT INTO logins VALUES (session_user); END$$",
        "CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION note()",
        "ALTER EVENT TRIGGER at_login ENABLE ALWAYS",
    ):
        database.sql(statement)
    back_up(database, tmp_path)
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    assert run_verify(options(database), **folder)["verification"]["problems"] == []
    lose(database)
    bring_back(database, tmp_path)
    before = database.value("SELECT count(*) FROM logins")
    assert database.value("SELECT count(*) FROM logins") == before + 1
    bring_back(database, tmp_path, into_database=f"{database.name}_copy", confirm=f"{database.name}_copy")
    assert not database.value("SELECT count(*) FROM pg_db_role_setting")


@pytest.mark.pg(17)
def test_a_login_that_takes_on_another_role(database: Database, tmp_path: Path) -> None:
    """ALTER ROLE … SET role: whoever logs in works as somebody else from the start."""
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 9) AS a")
    database.sql("CREATE ROLE keeper LOGIN SUPERUSER")
    database.sql("CREATE ROLE maintainers SUPERUSER")
    database.sql("ALTER ROLE keeper SET role = 'maintainers'")
    login = {"user": "keeper"}
    back_up(database, tmp_path, login=dict(login))
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    assert run_verify(options(database, **login), **folder)["verification"]["outcome"] == "proven"
    bring_back(database, tmp_path, login=dict(login))
    assert database.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == "postgres"


def test_event_triggers_that_forbid_ddl(database: Database, tmp_path: Path) -> None:
    """With roles that take others' place: they come back, and did not stop what comes before."""
    for statement in (
        "CREATE ROLE old_app",
        "CREATE ROLE new_app",
        "CREATE TABLE t AS SELECT generate_series(1, 9) AS a",
        "ALTER TABLE t OWNER TO old_app",
        "GRANT SELECT ON t TO old_app",
        "CREATE VIEW v AS SELECT * FROM t",
        "GRANT SELECT ON v TO old_app",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t TO old_app USING (true)",
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no %', tg_tag; END$$",
        "CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION forbid()",
        "CREATE EVENT TRIGGER no_drop ON sql_drop EXECUTE FUNCTION forbid()",
        "CREATE EVENT TRIGGER no_rewrite ON table_rewrite EXECUTE FUNCTION forbid()",
    ):
        database.sql(statement)
    back_up(database, tmp_path)
    bring_back(database, tmp_path, role_map={"old_app": "new_app"})
    assert database.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == "new_app"
    assert database.value("SELECT count(*) FROM pg_event_trigger WHERE evtenabled = 'O'") == 3
    assert database.value("SELECT polroles::regrole[]::text FROM pg_policy") == "{new_app}"
    with pytest.raises(Exception, match="no CREATE TABLE"):
        database.sql("CREATE TABLE forbidden ()")
    lose(database)
    bring_back(database, tmp_path)
    assert database.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == "old_app"
