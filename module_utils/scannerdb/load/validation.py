"""Proof that the side database holds what it should, before anybody sees it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..connection import SQL, Connection, Identifier, explained, fetch, scalar
from ..errors import ValidationFailed
from ..sets.manifest import TableCount
from ..sets.scattered import gathered, partition_roots

# Findings that mean that something got lost: unless the live database has them too, they stop a restore. Others (a
# trigger that was never there, say) belong to the backup as it was made; they are reported, and fixed afterwards.
LOSSES = (
    "schema.table.missing",
    "schema.column.missing",
    "schema.view.missing",
    "schema.primary_key.missing",
)


def count_rows(conn: Connection, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Rows of each table, by (schema, name); -1 where there is no such table."""
    counts = {}
    with explained("Counting the restored rows"):
        for schema, name in tables:
            there = scalar(
                conn,
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
                [schema, name],
            )
            query = SQL("SELECT count(*) FROM ONLY {}.{}").format(Identifier(schema), Identifier(name))
            counts[schema, name] = int(scalar(conn, query)) if there else -1
    return counts


def counts_of(
    side: Connection, tables: Sequence[TableCount]
) -> tuple[list[tuple[str, str, int]], dict[tuple[str, str], int]]:
    """The rows that are expected, and those that are there; partitions by hash as one."""
    counts, roots = count_rows(side, [(t.schema, t.name) for t in tables]), partition_roots(side)
    found = gathered([replace(t, rows=counts[t.schema, t.name]) for t in tables], roots)
    expected = [(t.schema, t.name, t.rows) for t in gathered(tables, roots)]
    return expected, {(t.schema, t.name): t.rows for t in found}


def plain_tables(conn: Connection) -> set[tuple[str, str]]:
    """The tables, as (schema, name), whose rows are their own: partitioned ones have none, extensions fill theirs."""
    query = """
        SELECT n.nspname::text AS schema, c.relname::text AS name
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND NOT EXISTS (
               SELECT FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_class'::regclass AND objid = c.oid)
    """
    with explained("Listing the restored tables"):
        return {(row["schema"], row["name"]) for row in fetch(conn, query)}


def check_counts(expected: Sequence[tuple[str, str, int]], found: dict[tuple[str, str], int]) -> None:
    """Raise `ValidationFailed` where rows are missing, or too many. Pure."""
    wrong = [
        f"{schema}.{name} has {'no table' if found[schema, name] < 0 else found[schema, name]} instead of {rows} rows"
        for schema, name, rows in expected
        if found[schema, name] != rows
    ]
    if wrong:
        raise ValidationFailed(
            f"The restored database differs from the backup's record: {'; '.join(wrong[:5])}.",
            "The live database was not touched; verify the backup, or use another.",
        )


def new_losses(restored: Iterable[tuple[str, str]], live: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The losses, as (finding id, object), that the live database does not have as well. Pure.

    A live database without a table has none of its columns either.
    """
    known = set(live)
    gone = {name for finding, name in known if finding == "schema.table.missing"}
    return [
        item
        for item in restored
        if item[0] in LOSSES and item not in known and re.split(r"[.(]", item[1])[0] not in gone
    ]


@contextlib.contextmanager
def sequences_kept(conn: Connection) -> Iterator[None]:
    """Give every sequence its value back after the block: a rolled back insert does not."""
    query = (
        "SELECT schemaname::text AS schema, sequencename::text AS name FROM pg_sequences"
        " WHERE has_sequence_privilege(format('%I.%I', schemaname, sequencename), 'UPDATE')"
    )
    with explained("Reading the sequences"):
        before = {(row["schema"], row["name"]): _state(conn, row["schema"], row["name"]) for row in fetch(conn, query)}
    try:
        yield
    finally:
        with explained("Putting the sequences back"):
            for (schema, name), state in before.items():
                if _state(conn, schema, name) != state:
                    conn.execute(
                        "SELECT setval(format('%%I.%%I', %s::text, %s::text)::regclass, %s, %s)",
                        [schema, name, *state],
                    )


def _state(conn: Connection, schema: str, name: str) -> tuple[int, bool]:
    query = SQL("SELECT last_value, is_called FROM {}.{}").format(Identifier(schema), Identifier(name))
    row = fetch(conn, query)[0]
    return int(row["last_value"]), bool(row["is_called"])
