"""Fingerprints of a table's rows: the same content gives the same value, in whatever order it is stored.

A row's text under pinned settings is hashed to 64 bits, and the hashes are summed up. It finds what went wrong by
accident in a dump and a restore; against people who forge, there are the files' SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..connection import SQL, Composable, Connection, execute, explained, scalar
from ..lockbudget import relation
from .manifest import TableCount

SCHEME = "h1"  # the first part of every value: another way of computing needs another name
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
}


def pin_settings(conn: Connection) -> None:
    """Fix what the text of a value depends on, to the end of the transaction."""
    with explained("Fixing how values are written"):
        for name, value in PINNED.items():
            execute(conn, "SELECT set_config(%s, %s, true)", [name, value])


def fingerprint_query(schema: str, name: str) -> Composable:
    """One row with one text column: the fingerprint of a table without its children. Pure."""
    return SQL(
        "SELECT {} || ':' || coalesce(sum(hashtextextended((content.*)::text COLLATE \"C\", 0)::numeric), 0)::text"
        " FROM ONLY {} AS content"
    ).format(SQL(f"'{SCHEME}'"), relation(schema, name))


def fingerprint(conn: Connection, schema: str, name: str) -> str:
    """The fingerprint of a table; `pin_settings` comes first, in the same transaction."""
    return str(scalar(conn, fingerprint_query(schema, name)))


def fingerprint_differences(
    conn: Connection, expected: Sequence[TableCount], tell: Callable[[int, int], object]
) -> list[str]:
    """Compare tables with their recorded fingerprints; those without one, or of an unknown scheme, are passed over."""
    known = [table for table in expected if table.fingerprint.startswith(f"{SCHEME}:")]
    problems = []
    with explained("Computing the fingerprints"), conn.transaction():
        pin_settings(conn)
        for number, table in enumerate(known):
            tell(number, len(known))
            if fingerprint(conn, table.schema, table.name) != table.fingerprint:
                problems.append(f"The content of {table.schema}.{table.name} differs from what was backed up.")
    return problems
