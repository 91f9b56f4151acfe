"""Short words for the tests of the vacuum job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from scannerdb.connection import Options

from tests.servers import Database


def options(database: Database, **more: Any) -> Options:
    args = database.kwargs
    values = {"unix_socket": str(args["host"]), "port": args["port"], "user": "postgres", "db": database.name}
    return Options(**{**values, **more})


def fill(database: Database, name: str = "bloated", rows: int = 20_000, keep: int = 4) -> None:
    """A table of which only every `keep`th row lives, analyzed and not vacuumed."""
    with database.connect() as conn:
        table = psycopg.sql.Identifier(name)
        sql = psycopg.sql.SQL
        conn.execute(
            sql("CREATE TABLE {} (id serial PRIMARY KEY, t text) WITH (autovacuum_enabled = off)").format(table)
        )
        conn.execute(
            sql("INSERT INTO {} (t) SELECT repeat('x', 50) || i FROM generate_series(1, {}) i").format(table, rows)
        )
        conn.execute(sql("CREATE INDEX ON {} (t)").format(table))
        conn.execute(sql("DELETE FROM {} WHERE id % {} <> 0").format(table, keep))
        if conn.info.server_version >= 150000:
            conn.execute("SELECT pg_stat_force_next_flush()")
        conn.execute(sql("ANALYZE {}").format(table))


def dead(database: Database, name: str = "bloated") -> int:
    return int(database.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s", name))


def row(result: dict[str, Any], table: str) -> dict[str, Any]:
    return next(row for row in result["tables"] if row["table"] == table)


@contextlib.contextmanager
def locked(database: Database, lock: str, name: str = "bloated") -> Iterator[psycopg.Connection[Any]]:
    with database.connect(autocommit=False, application_name="the holder") as conn:
        conn.execute(f'LOCK TABLE "{name}" IN {lock} MODE'.encode())
        yield conn


def invalid_indexes(database: Database) -> list[str]:
    found = database.sql("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
    return [name for (name,) in found]
