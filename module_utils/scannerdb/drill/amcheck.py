"""Looks into every heap and B-tree of a restored database with PostgreSQL's own amcheck, where that is installed."""

from __future__ import annotations

from ..connection import Connection, DriverError, explained, fetch, scalar

_INDEXES = """
SELECT c.oid, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
  JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid AND n.nspname !~ '^pg_toast'
 ORDER BY 2
"""
_HEAPS = """
SELECT c.oid, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
 WHERE c.relkind IN ('r', 'm') AND m.amname = 'heap' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2
"""
SCHEMA = "scannerdb_amcheck"  # of the scratch database, so nothing of the backup's own is in the way


def why_not(conn: Connection, superuser: bool) -> str:
    """Why amcheck cannot be run here; empty where it can."""
    if not scalar(conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"):
        return "the extension amcheck is not installed on the server (postgresql-contrib)"
    return "" if superuser else "only a superuser may create the extension amcheck"


def check_storage(conn: Connection) -> list[str]:
    """Check every table and index of a scratch database; what is wrong, as sentences."""
    with explained("Preparing amcheck"):
        if scalar(conn, "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'"):
            schema = scalar(
                conn,
                "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
                " WHERE extname = 'amcheck'",
            )
        else:
            conn.execute(f"CREATE SCHEMA {SCHEMA}")
            conn.execute(f"CREATE EXTENSION amcheck SCHEMA {SCHEMA}")
            schema = SCHEMA
        indexes, heaps = fetch(conn, _INDEXES), fetch(conn, _HEAPS)
    problems = []
    for row in indexes:
        try:
            conn.execute(f"SELECT {schema}.bt_index_check(%s::oid::regclass, true)", [row["oid"]])
        except DriverError as error:
            problems.append(f"amcheck: index {row['name']}: {str(error).splitlines()[0]}.")
    for row in heaps:
        try:
            query = f"SELECT blkno, msg FROM {schema}.verify_heapam(%s::oid::regclass) LIMIT 1"  # noqa: S608
            found = fetch(conn, query, [row["oid"]])
        except DriverError as error:
            found = [{"blkno": "?", "msg": str(error).splitlines()[0]}]
        problems += [f"amcheck: table {row['name']}, block {f['blkno']}: {f['msg']}." for f in found]
    return problems
