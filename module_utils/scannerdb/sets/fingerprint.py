"""Fingerprints of a table's rows: the same content gives the same value, in whatever order it is stored.

A row's text under pinned settings is hashed to 64 bits, and the hashes are summed up. It finds what went wrong by
accident in a dump and a restore; against people who forge, there are the files' SHA-256.

The text comes from the types' output functions, which only a superuser can make. A cast could be the table owner's, and
would run with the rights of whoever looks. Both give the same text where nobody made one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..connection import SQL, Composable, Connection, Identifier, execute, explained, fetch, scalar
from ..lockbudget import relation
from .manifest import TableCount
from .scattered import gathered, partition_roots

# The first part of every value: another way of computing needs another name. `h1`, of older sets, has the columns in
# their own order, which a restore lawfully changes in tables that inherit.
SCHEME, OLD_SCHEME = "h2", "h1"
_COLUMNS = """
SELECT a.attname::text AS name
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attname COLLATE "C"
"""
# Whatever the database, the role or the server says: the text of a value may not depend on it.
PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "search_path": "pg_catalog",
    "row_security": "off",
    "constraint_exclusion": "off",  # or the planner would run the functions of CHECKs
}
# Where the server knows it: no view of the same name may take a table's place, for it would run functions of its own.
TABLES_ONLY = ("restrict_nonsystem_relation_kind", "view, foreign-table")


def pin_settings(conn: Connection) -> None:
    """Fix what the text of a value depends on, to the end of the transaction."""
    with explained("Fixing how values are written"):
        for name, value in PINNED.items():
            execute(conn, "SELECT set_config(%s, %s, true)", [name, value])
        if scalar(conn, "SELECT current_setting(%s, true)", [TABLES_ONLY[0]]) is not None:
            execute(conn, "SELECT set_config(%s, %s, true)", list(TABLES_ONLY))


def fingerprint_query(schema: str, name: str, columns: Sequence[str] | None) -> Composable:
    """One row with one text column: the fingerprint of a table without its children. Pure.

    The columns are in the order of their names; None stands for the scheme that has them in their own. The text of a
    row comes from the types' output functions, which only a superuser can make; a cast could be anybody's.
    """
    row: Composable = SQL("content.*")
    if columns is not None:
        row = SQL("ROW({})").format(SQL(", ").join(Identifier("content", column) for column in columns))
    return SQL(
        "SELECT {} OPERATOR(pg_catalog.||) coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
        'pg_catalog.textin(pg_catalog.record_out({})) COLLATE pg_catalog."C", 0)::pg_catalog.numeric), 0)'
        "::pg_catalog.text FROM ONLY {} AS content"
    ).format(SQL(f"'{OLD_SCHEME if columns is None else SCHEME}:'"), row, relation(schema, name))


def fingerprint(conn: Connection, schema: str, name: str, scheme: str = SCHEME) -> str:
    """The fingerprint of a table; `pin_settings` comes first, in the same transaction."""
    columns = None if scheme == OLD_SCHEME else [row["name"] for row in fetch(conn, _COLUMNS, [schema, name])]
    return str(scalar(conn, fingerprint_query(schema, name, columns)))


def fingerprint_differences(
    conn: Connection, expected: Sequence[TableCount], tell: Callable[[int, int], object]
) -> list[str]:
    """Compare tables with their recorded fingerprints; those without one, or of an unknown scheme, are passed over."""
    known = [table for table in expected if table.fingerprint.partition(":")[0] in (SCHEME, OLD_SCHEME)]
    found = []
    with explained("Computing the fingerprints"), conn.transaction():
        pin_settings(conn)
        roots = partition_roots(conn)
        for number, table in enumerate(known):
            tell(number, len(known))
            scheme = table.fingerprint.partition(":")[0]
            found.append(replace(table, fingerprint=fingerprint(conn, table.schema, table.name, scheme)))
    return [
        f"The content of {before.schema}.{before.name} differs from what was backed up."
        for before, after in zip(gathered(known, roots), gathered(found, roots))
        if before.fingerprint != after.fingerprint
    ]
