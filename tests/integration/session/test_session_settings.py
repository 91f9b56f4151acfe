"""Settings that somebody made for the role or the database: no job does or finds anything else because of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier, Literal
from scannerdb.connection import Options, connect, fetch, scalar, tool_settings
from scannerdb.errors import ServerUnsupported
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import fix
from scannerdb.jobs.undo import undo
from scannerdb.session import SETTINGS

from tests.integration.hostile_settings import HOSTILE, known_to
from tests.integration.own_server import own_databases, own_db, own_server
from tests.integration.support import NO_BACKUP, options, run_backup, run_restore, run_vacuum, run_verify
from tests.servers import Database, make_home

ROLE = "hostile_login"
__all__ = ["own_databases", "own_db", "own_server"]
# What a value looks like, and whether it comes back, is told by these.
ODD = """
CREATE TABLE public.odd (id int PRIMARY KEY, "Group" text, at timestamptz, span interval, raw bytea, real float8,
                         doc text, list int[], cost money, day date);
INSERT INTO public.odd VALUES
  (1, E'back\\\\slash ''quoted''', '2024-02-03 04:05:06.789+09', '1 day 2 hours 3 minutes', '\\x00ff5c27',
   0.1::float8 + 0.2, '<a/>', '{1,NULL,3}', 1234.56, '2024-02-03');
CREATE SCHEMA hostile;
CREATE VIEW hostile.pg_class AS SELECT 1 AS nothing;
CREATE VIEW hostile.pg_settings AS SELECT 1 AS nothing;
CREATE VIEW hostile.pg_database AS SELECT 1 AS nothing;
CREATE TABLE hostile.endpoints (nothing int);
"""


def timeouts(database: Database) -> dict[str, str]:
    """Each timeout of a session that the server has, at a tenth of a second."""
    names = "SELECT name FROM pg_settings WHERE name LIKE '%\\_timeout' AND context IN ('user', 'superuser')"
    return {name: "100" for (name,) in database.sql(names)}


def set_all(database: Database, level: str, settings: dict[str, str]) -> None:
    """Set them, as far as this version has them, for the login or for the database."""
    settings = known_to(int(database.value("SHOW server_version_num")) // 10000, settings)
    whom = SQL("ROLE {}").format(Identifier(ROLE))
    if level == "database":
        whom = SQL("DATABASE {}").format(Identifier(database.name))
    with database.connect(dbname="postgres") as conn:
        for name, value in settings.items():
            parts = [SQL(part.strip()) for part in value.split(",")] if name == "search_path" else [Literal(value)]
            conn.execute(SQL("ALTER {} SET {} = {}").format(whom, Identifier(name), SQL(", ").join(parts)))


@pytest.fixture
def cluster_dir() -> Iterator[Path]:
    """A folder in which a disposable cluster's own user can work."""
    folder = make_home("scannerdb-ct-")
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def hostile(field_db: Database, request: pytest.FixtureRequest) -> Iterator[Options]:
    """The options of a login, or a database, for which everything is set to what hurts."""
    field_db.sql(f"CREATE ROLE {ROLE} SUPERUSER LOGIN")
    with field_db.connect() as conn:
        conn.execute(ODD.encode())
    set_all(field_db, request.param, {**HOSTILE, **timeouts(field_db)})
    yield options(field_db, user=ROLE)


@pytest.mark.parametrize("hostile", ["role", "database"], indirect=True)
def test_every_job_does_what_it_does_elsewhere(
    field_db: Database, hostile: Options, tmp_path: Path, cluster_dir: Path
) -> None:
    expected, planned = _elsewhere(field_db)
    assert _findings(hostile) == expected
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    made = run_backup(hostile, fingerprints=True, **folder)
    assert made["changed"]
    for place in ("server", "cluster"):
        drilled = run_verify(hostile, place=place, cluster_dir=str(cluster_dir), **folder)
        assert (drilled["failed"], drilled["verification"]["problems"]) == (False, [])
    before = _content(field_db)
    fixed = fix(hostile, safety=NO_BACKUP, state_dir=str(tmp_path / "s"))
    assert [f["id"] for f in fixed["fixed"]] == planned
    assert not fix(hostile, safety=NO_BACKUP)["changed"]
    undone = undo(hostile, run_id=fixed["run_id"], state_dir=str(tmp_path / "s"))
    assert undone["changed"], undone
    assert run_vacuum(hostile)["changed"]
    restored = run_restore(hostile, source="latest", confirm=field_db.name, grace_s=0, **folder)
    assert restored["changed"] and _content(field_db) == before
    back = run_restore(hostile, state="undone", confirm=field_db.name, grace_s=0, **folder)
    assert back["changed"]


def _findings(login: Options) -> list[tuple[str, str, str]]:
    return [(f["id"], f["object"], f["severity"]) for f in check(login)["findings"]]


def _elsewhere(database: Database) -> tuple[list[tuple[str, str, str]], list[str]]:
    """What a check finds in the same database, and a fix plans, where nothing is set."""
    query = "SELECT setrole, setconfig FROM pg_catalog.pg_db_role_setting WHERE setrole OPERATOR(pg_catalog.=) 0"
    rows = database.sql(query)
    with database.connect(dbname="postgres") as conn:
        conn.execute(SQL("ALTER DATABASE {} RESET ALL").format(Identifier(database.name)))
    plan = fix(options(database), safety=NO_BACKUP, check_mode=True)
    found = _findings(options(database)), [f["id"] for f in plan["fixed"]]
    for _, config in rows:
        set_all(database, "database", dict(line.split("=", 1) for line in config))
    return found


def _content(database: Database) -> dict[str, str]:
    """Every row, whatever the database's own settings are."""
    settings, _ = tool_settings(options(database), database.name, {})
    with database.connect(options=settings) as conn:
        conn.execute("SET search_path = public")
        tables = conn.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").fetchall()
        query = "SELECT pg_catalog.md5(pg_catalog.string_agg(t::text, '|' ORDER BY t::text)) FROM public.{} t"
        return {name: conn.execute(SQL(query).format(Identifier(name))).fetchone()[0] for (name,) in tables}


def test_the_driver_and_the_tools_have_the_same_settings(hostile_role: tuple[Database, Options]) -> None:
    database, login = hostile_role
    with connect(login) as conn:
        rows = fetch(conn, "SELECT name, setting, unit FROM pg_settings WHERE context IN ('user', 'superuser')")
        ours = {row["name"]: row["setting"] for row in rows}
        ours = {name: ours[name] for name in conn.prepared}
    assert set(known_to(int(database.value("SHOW server_version_num")) // 10000, HOSTILE)) <= set(ours)
    startup, _ = tool_settings(login, database.name, {})
    with database.connect(login.user, options=startup) as tool:
        theirs = dict(tool.execute("SELECT name, setting FROM pg_catalog.pg_settings").fetchall())
    assert {n: theirs[n] for n in ours if n not in ("search_path", "statement_timeout")} == {
        n: v for n, v in ours.items() if n not in ("search_path", "statement_timeout")
    }
    assert theirs["statement_timeout"] == "0"


@pytest.fixture
def hostile_role(database: Database) -> tuple[Database, Options]:
    """An empty database, and the options of a login with hostile settings."""
    database.sql(f"CREATE ROLE {ROLE} SUPERUSER LOGIN")
    set_all(database, "role", {**HOSTILE, **timeouts(database)})
    return database, options(database, user=ROLE)


def test_what_the_tool_for_dumps_fixes_is_in_the_list(database: Database) -> None:
    """All that pg_dump sets in its own sessions, and what it writes at the head of a dump, is known here."""
    text = (database.server.bin_dir / "pg_dump").read_bytes().decode("latin-1")
    for name in ("synchronize_seqscans", "extra_float_digits", "quote_all_identifiers", "row_security", "xmloption"):
        assert name in text and name in SETTINGS


def test_a_role_without_power_gets_what_it_may_set(database: Database) -> None:
    database.sql(f"CREATE ROLE {ROLE} LOGIN")
    set_all(database, "role", {n: v for n, v in HOSTILE.items() if n != "session_replication_role"})
    with connect(options(database, user=ROLE)) as conn:
        assert "lc_messages" not in conn.prepared
        assert scalar(conn, "SELECT current_setting('search_path')") == "pg_catalog, pg_temp"
        assert scalar(conn, "SELECT current_setting('default_transaction_read_only')") == "off"
    startup, _ = tool_settings(options(database, user=ROLE), database.name, {})
    with database.connect(ROLE, options=startup) as tool:
        assert tool.execute("SHOW quote_all_identifiers").fetchone() == ("off",)


def test_a_server_that_is_read_only_on_purpose_stays_so(own_db: Database) -> None:
    own_db.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    own_db.sql("SELECT pg_reload_conf()")
    try:
        with pytest.raises(ServerUnsupported, match="set to be read only"):
            fix(options(own_db), safety=NO_BACKUP)
        assert check(options(own_db))["findings"]
    finally:
        with own_db.connect(options="-c default_transaction_read_only=off") as conn:
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            conn.execute("SELECT pg_reload_conf()")
