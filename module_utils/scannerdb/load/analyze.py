"""Statistics of what was restored: an index on a function that cannot run must not cost the restore."""

from __future__ import annotations

from collections.abc import Sequence

from ..connection import Connection, DriverError, Identifier, execute, explained, fetch, text_of

_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
   AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY 1, 2
"""


def analyze(conn: Connection, paths: Sequence[str]) -> list[str]:
    """Analyze the database of a connection; warnings on tables that cannot be.

    Where a function in an index or in statistics stops it, each table is tried by itself, under the search_paths that
    the original has.
    """
    with explained("Analyzing the restored database"):
        try:
            execute(conn, "ANALYZE")
            return []
        except DriverError as error:
            if not str(getattr(error, "sqlstate", None) or "").startswith(("42", "22", "P0")):
                raise
        tables = fetch(conn, _TABLES)
    told = []
    for row in tables:
        name = text_of(Identifier(row["schema"], row["name"]))
        why = _analyze_one(conn, name, paths)
        if why:
            told.append(f"Table {name} has no statistics: {why}.")
    return told


def _analyze_one(conn: Connection, name: str, paths: Sequence[str]) -> str:
    """Why a table cannot be analyzed; empty where it was."""
    why = ""
    for path in ("pg_catalog", *paths):
        try:
            with conn.transaction():
                execute(conn, "SELECT set_config('search_path', %s, true)", [path])
                execute(conn, f"ANALYZE {name}")
            return ""
        except DriverError as error:
            if conn.closed:
                raise
            why = why or str(error).splitlines()[0].rstrip(".")
    return why
