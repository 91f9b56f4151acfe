"""What the tables of a database hold, to lay beside another moment's: rows, and when the newest of them is from.

Everything is read by COPY, which takes no plan and reads nothing but tables: whoever owns one could put a view in its
place, or give it an index with a function of his, between the list and the look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..connection import SQL, Connection, DriverError, Identifier, Options, connect, explained, fetch
from ..lockbudget import relation

LOCK_WAIT = "30s"
NO_TABLE = ("42809", "42P01", "3F000", "42703")  # it became something else, or went, after it was listed
NULL = b"\\N"
TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
              ORDER BY a.attnum) AS times,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.attlen <= 0, a.attnum LIMIT 1) AS short
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relrowsecurity
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
        conn.execute("SET LOCAL row_security = off")  # an error: policies run with the rights of whoever reads
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        return list(_each(conn))


def _each(conn: Connection) -> Iterator[TableFacts]:
    for row in fetch(conn, TABLES):
        try:
            with conn.transaction():
                found = _facts(conn, row["schema"], row["name"], row["times"], row["short"])
        except DriverError as error:
            if getattr(error, "sqlstate", None) not in NO_TABLE:
                raise
        else:
            yield found


def _facts(conn: Connection, schema: str, name: str, times: Sequence[str], short: Sequence[str]) -> TableFacts:
    """The facts of one table; of one without times a column that is short says how many rows there are."""
    columns = SQL(", ").join(Identifier(column) for column in times or short)
    listed = SQL("({})").format(columns) if times or short else SQL("")
    rows, newest = 0, b""
    with (
        conn.cursor() as cursor,
        cursor.copy(SQL("COPY {} {} TO STDOUT").format(relation(schema, name), listed)) as copy,
    ):
        for block in map(bytes, copy):
            rows += block.count(b"\n")
            if times:
                values = block.rstrip(b"\n").replace(b"\n", b"\t").split(b"\t")
                newest = max([newest, *(value for value in values if value != NULL)])
    return TableFacts(f"{schema}.{name}", rows, newest.decode())
