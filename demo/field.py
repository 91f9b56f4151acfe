"""Databases as they are met in the field, before anybody fixed them.

Written without a look at the bundle's contract, so that the demo and the tests can't confirm themselves. Everything is
generated on the server, repeatably: the same scale and base date give the same rows.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Optional

import psycopg
from psycopg.sql import SQL, Identifier

from demo.damage import Damage, count_damage
from demo.kinds import KINDS, Plan, make_plan

Connection = psycopg.Connection[Any]

SQL_DIR = Path(__file__).parent / "sql"
OWNER = "scanner_owner"
APP_ROLE = "ollama"
APP_PASSWORD = "ollama-demo"  # noqa: S105 - a generated database on a private server
READ_ONLY_ROLE = "grafana_ro"
HOSTILE_NAMES = ('we"ird; drop', "a=b")  # a quoting trap, and what pg_dump takes for a connection string


def generate(
    conn: Connection,
    scale: float = 1.0,
    *,
    owner: str = OWNER,
    orphans: bool = False,
    base: Optional[dt.datetime] = None,
    plan: Optional[Plan] = None,
) -> Damage:
    """Fill the empty database behind an autocommit superuser connection; returns what is wrong with it.

    `owner` owns every object ("postgres" for a database that was never given away); `base` is the youngest date that
    may occur, by default today's midnight; `orphans` breaks foreign keys and adds rows without a parent;
    a `plan` with other proportions takes the place of the scale.
    """
    plan = plan or make_plan(scale)
    damage = count_damage(plan, orphans)
    midnight = dt.datetime.now(dt.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    _run(conn, "roles.sql")
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # foreign keys hold anyway; half the time
        _become(conn, owner)
        _run(conn, "tables.sql")
        _insert_kinds(conn, plan)
        _run(conn, "rows.sql", _row_parameters(plan, base or midnight))
        _insert_metadata(conn, damage, base or midnight)
        _run(conn, "objects.sql")
        if orphans:
            _run(conn, "orphans.sql")
    _break_an_index(conn, owner)
    conn.execute("VACUUM chat_history")  # its room becomes free, and stays
    take_statistics(conn)
    return damage


def take_statistics(conn: Connection) -> None:
    """Let the server count live and dead rows now; a database copied from a template starts without counts."""
    if conn.info.server_version >= 150000:
        conn.execute("SELECT pg_stat_force_next_flush()")  # or our own late counts would be added on top
    conn.execute("ANALYZE")


def older_layout(conn: Connection) -> None:
    """Fill an empty database with the layout of the first scanner: `servers` is a table with 60 rows."""
    _run(conn, "roles.sql")
    with conn.transaction():
        _become(conn, OWNER)
        _run(conn, "older_layout.sql")


def missing_tables(conn: Connection) -> tuple[str, ...]:
    """Fill an empty database with only a part of the schema; returns the names of what is missing.

    What is there stands as in the field, with three endpoints and a model each.
    """
    gone = ("verified_endpoints", "benchmark_results", "metadata", "servers")
    _run(conn, "roles.sql")
    with conn.transaction():
        _become(conn, OWNER)
        _run(conn, "tables.sql")
        for table in gone[:-1]:
            conn.execute(SQL("DROP TABLE {}").format(Identifier(table)))
        conn.execute(
            "INSERT INTO endpoints (ip, port, verified) "
            "SELECT '95.217.3.' || j, 11434, j - 1 FROM generate_series(1, 3) AS j"
        )
        conn.execute("INSERT INTO models (endpoint_id, name) SELECT id, 'mistral:7b' FROM endpoints")
    return gone


def run_file(conn: Connection, file: str) -> None:
    """Let the owner of the objects run one of our files, in one transaction."""
    with conn.transaction():
        _become(conn, OWNER)
        _run(conn, file)


def _run(conn: Connection, file: str, parameters: Optional[dict[str, Any]] = None) -> None:
    """Execute one of our SQL files, all statements at once."""
    text = (SQL_DIR / file).read_text(encoding="utf-8")
    psycopg.ClientCursor(conn).execute(text.encode(), parameters)


def _become(conn: Connection, owner: str) -> None:
    """Let the owner make the objects until the end of the transaction."""
    grant = SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}, {}")  # the application makes tables at every start
    conn.execute(grant.format(Identifier(owner), Identifier(APP_ROLE)))
    database = SQL("GRANT TEMPORARY ON DATABASE {} TO {}")
    conn.execute(database.format(Identifier(conn.info.dbname), Identifier(owner)))
    conn.execute(SQL("SET LOCAL ROLE {}").format(Identifier(owner)))


def _insert_kinds(conn: Connection, plan: Plan) -> None:
    """Hand the kinds and their slots to the server."""
    conn.execute(
        "CREATE TEMPORARY TABLE field_kinds (first integer, last integer, verified integer, dated boolean, "
        "linked boolean, link_dated boolean, is_honeypot boolean, is_active boolean, scanned boolean, checked boolean)"
    )
    with conn.cursor().copy("COPY field_kinds FROM STDIN") as copy:
        for k in KINDS:
            first, end = plan.slots[k.name]
            flags = (k.dated, k.linked, k.link_dated, k.is_honeypot, k.is_active, k.scanned, k.checked)
            copy.write_row((first, end - 1, k.verified, *flags))


def _row_parameters(plan: Plan, base: dt.datetime) -> dict[str, Any]:
    return {
        "base": base,
        "total": plan.endpoints,
        "stride": plan.stride,
        "models": plan.models,
        "junk": plan.junk_models,
        "benchmarks": plan.benchmarks,
        "chats": plan.chats,
    }


def _insert_metadata(conn: Connection, damage: Damage, base: dt.datetime) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metadata (key, value, updated_at) VALUES (%s, %s, %s)",
            [(key, stored, base - dt.timedelta(days=3)) for key, (stored, _) in damage.metadata.items()],
        )


def _break_an_index(conn: Connection, owner: str) -> None:
    """Leave an invalid index behind, the way it happens: CREATE INDEX CONCURRENTLY gave up waiting for a writer."""
    with conn.transaction():
        conn.execute("LOCK TABLE endpoints IN ROW EXCLUSIVE MODE")
        with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True) as second:
            second.execute(SQL("SET ROLE {}").format(Identifier(owner)))
            second.execute("SET lock_timeout = '20ms'")
            try:
                second.execute(
                    "CREATE INDEX CONCURRENTLY idx_endpoints_verified_active ON endpoints (verified, is_active)"
                )
            except psycopg.errors.LockNotAvailable:
                return
    raise AssertionError("CREATE INDEX CONCURRENTLY did not wait for the writer; no index is invalid")
