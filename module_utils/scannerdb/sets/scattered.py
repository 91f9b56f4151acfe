"""Partitions whose rows lawfully lie elsewhere after a restore: those by a hash that the rows' own values do not fix.

The hash of an enum's value hangs on its oid, that of a text on its collation's provider. pg_dump loads such rows
through the root, so what can be compared is the whole of the partitioned table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..connection import Connection, explained, fetch
from .manifest import TableCount

Table = tuple[str, str]
_ROOTS = """
WITH RECURSIVE hashed (root, member) AS (
    SELECT p.partrelid, i.inhrelid FROM pg_partitioned_table p JOIN pg_inherits i ON i.inhparent = p.partrelid
     WHERE p.partstrat = 'h'
    UNION SELECT h.root, i.inhrelid FROM hashed h JOIN pg_inherits i ON i.inhparent = h.member)
SELECT n.nspname::text AS schema, c.relname::text AS name, rn.nspname::text AS root_schema, r.relname::text AS root_name
  FROM hashed h
  JOIN pg_class c ON c.oid = h.member AND c.relkind = 'r' JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class r ON r.oid = pg_partition_root(h.root) JOIN pg_namespace rn ON rn.oid = r.relnamespace
"""


def partition_roots(conn: Connection) -> dict[Table, Table]:
    """The partitioned table that each partition by hash belongs to, both as (schema, name)."""
    with explained("Listing the partitions"):
        rows = fetch(conn, _ROOTS)
    return {(row["schema"], row["name"]): (row["root_schema"], row["root_name"]) for row in rows}


def gathered(tables: Sequence[TableCount], roots: Mapping[Table, Table]) -> list[TableCount]:
    """The same with the partitions of one root as one table; the sums of fingerprints are fingerprints. Pure."""
    found: dict[Table, TableCount] = {}
    for table in tables:
        place = roots.get((table.schema, table.name), (table.schema, table.name))
        so_far = found.get(place)
        one = replace(table, schema=place[0], name=place[1])
        found[place] = one if so_far is None else _sum(so_far, one)
    return list(found.values())


def _sum(one: TableCount, other: TableCount) -> TableCount:
    scheme, _, value = one.fingerprint.partition(":")
    other_scheme, _, other_value = other.fingerprint.partition(":")
    both = f"{scheme}:{int(value) + int(other_value)}" if scheme and scheme == other_scheme else ""
    return replace(one, rows=one.rows + other.rows, fingerprint=both)
