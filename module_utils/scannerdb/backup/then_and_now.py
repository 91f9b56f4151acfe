"""What the tables of a database hold, to lay beside another moment's: rows, and when the newest of them is from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ..connection import SQL, Connection, Identifier, Options, Row, connect, explained, fetch
from .snapshot import rows_unplanned, unplanned_tables

TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
              ORDER BY a.attnum) AS times
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence = 'p' AND NOT c.relrowsecurity
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> 'scannerdb_maintenance'
   AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class TableFacts:
    """How many rows a table has, and the latest of all times in it."""

    name: str
    rows: int
    newest: str = ""


def table_facts(options: Options) -> list[TableFacts]:
    """Of every table that this role may read, in one snapshot."""
    session = contextlib.closing(connect(options, purpose="then and now", allow_standby=True))
    with session as conn, explained("Counting the rows"), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        unplanned = unplanned_tables(conn)
        return [_facts(conn, row, (row["schema"], row["name"]) in unplanned) for row in fetch(conn, TABLES)]


def _facts(conn: Connection, found: Row, unplanned: bool) -> TableFacts:
    schema, name = found["schema"], found["name"]
    if unplanned:
        return TableFacts(f"{schema}.{name}", rows_unplanned(conn, schema, name))
    newest = [SQL("max({}::timestamptz)").format(Identifier(column)) for column in found["times"]]
    latest = SQL("greatest({})::text").format(SQL(", ").join(newest)) if newest else SQL("''")
    query = SQL("SELECT count(*) AS rows, {} AS newest FROM ONLY {}.{}")
    row = fetch(conn, query.format(latest, Identifier(schema), Identifier(name)))[0]
    return TableFacts(f"{schema}.{name}", int(row["rows"]), row["newest"] or "")
