"""Rows that are the same where the contract demands a key and no unique index watches, and the SQL that merges them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..connection import SQL, Composable, Identifier, Query, fetch, text_of
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from ..lockbudget import relation
from .context import Context
from .remedies import transaction
from .unit import check

# Every column, in any schema, that points at an id of this schema, with the unique keys that it is part of.
CHILDREN = """
SELECT n.nspname::text AS schema, c.relname::text AS table, a.attname::text AS column, r.relname::text AS parent,
       EXISTS (SELECT FROM pg_attribute i WHERE i.attrelid = c.oid AND i.attname = 'id') AS has_id,
       (SELECT coalesce(jsonb_agg((SELECT jsonb_agg(x.attname ORDER BY x.attnum) FROM pg_attribute x
                                    WHERE x.attrelid = c.oid AND x.attnum = ANY (u.indkey::int2[]))), '[]')
          FROM pg_index u
         WHERE u.indrelid = c.oid AND u.indisunique AND a.attnum = ANY (u.indkey::int2[])
           AND u.indpred IS NULL AND u.indexprs IS NULL) AS keys
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class r ON r.oid = k.confrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace AND rn.nspname = %s
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
  JOIN pg_attribute p ON p.attrelid = r.oid AND p.attnum = k.confkey[1] AND p.attname = 'id'
 WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND k.conparentid = 0
 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class DuplicateChild:
    """A column that points at the id of `parent`. `keys` are those of its table that hold it, watched or demanded."""

    schema: str
    table: str
    column: str
    parent: str
    has_id: bool
    keys: frozenset[tuple[str, ...]]


@check(
    "duplicates",
    FindingKind(
        "data.duplicate",
        "warning",
        "Rows are the same in columns that should be unique; the missing constraint cannot be added before they go.",
        how="The SQL keeps the oldest row (a verified one first; without ids the newest) and moves all that points at"
        " the others to it. Then run fix.yml to add the constraint.",
        lock="ROW EXCLUSIVE",
    ),
)
def repeated_rows(context: Context) -> Iterator[Finding]:
    """Duplicates of the demanded keys that nothing guards."""
    for table, columns in context.unguarded:
        if not columns or not set(columns) <= set(context.tables.get(table, {})):
            continue
        names = SQL(", ").join(Identifier(column) for column in columns)
        known = SQL(" AND ").join(SQL("{} IS NOT NULL").format(Identifier(column)) for column in columns)
        groups = SQL("SELECT {}, count(*) AS n FROM {} WHERE {} GROUP BY {} HAVING count(*) > 1").format(
            names, relation(context.schema, table), known, names
        )
        query = SQL("SELECT count(*) AS groups, coalesce(sum(n - 1), 0)::bigint AS extra FROM ({}) d").format(groups)
        row = context.read(query)[0]
        if row["groups"]:
            yield finding(
                "data.duplicate",
                f"{table}({', '.join(columns)})",
                f"{row['extra']} rows of {table} repeat another row's {', '.join(columns)}.",
                {"rows": row["extra"], "groups": row["groups"], "query": text_of(groups)},
                by_hand("data.duplicate", *transaction(*_one_of_each(context, table, columns)), rows=row["extra"]),
            )


def _one_of_each(context: Context, table: str, columns: Sequence[str]) -> list[Query]:
    has = context.tables[table]
    if columns == ("id",):
        return renumbered(relation(context.schema, table))
    if "id" not in has:
        return newest(relation(context.schema, table), columns, "updated_at" in has)
    # A verified endpoint stays before another one, so that its link is right.
    rank = SQL("(t.verified = 1) IS NOT TRUE, t.id" if table == "endpoints" and "verified" in has else "t.id")
    key = [SQL("t.{}").format(Identifier(column)) for column in columns]
    return Merger(context.schema, _children(context)).merged(context.schema, table, key, SQL(""), SQL("true"), rank)


def _children(context: Context) -> list[DuplicateChild]:
    """What points at the schema's ids, by foreign keys or (`unproven`) by the contract alone."""
    rows = fetch(context.conn, CHILDREN, [context.schema])
    known = {(row["schema"], row["table"], row["column"], row["parent"]): row for row in rows}
    for ref in context.unproven:
        if ref.parent_column == "id" and ref.column in context.tables.get(ref.table, {}):
            place = (context.schema, ref.table, ref.column, ref.parent)
            known.setdefault(place, {"has_id": "id" in context.tables[ref.table], "keys": []})
    children = []
    for (schema, table, column, parent), row in known.items():
        demanded = [key for name, key in context.unguarded if (schema, name) == (context.schema, table)]
        keys = {tuple(key) for key in [*row["keys"], *demanded] if column in key}
        children.append(DuplicateChild(schema, table, column, parent, row["has_id"], frozenset(keys)))
    return children


@dataclass
class Merger:
    """Writes the statements that make one row of several: what points at those that go points at the one that stays."""

    home: str
    children: Sequence[DuplicateChild]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def merged(
        self,
        schema: str,
        table: str,
        key: Sequence[Composable],
        joined: Composable,
        where: Composable,
        rank: Composable,
    ) -> list[Query]:
        """Merge the rows `t` of a table that are the same in `key`; of each group the first by `rank` stays."""
        gone, name = Identifier(f"gone_{next(self.numbers)}"), relation(schema, table)
        known = SQL(" AND ").join([where, *(SQL("{} IS NOT NULL").format(part) for part in key)])
        made: list[Query] = [
            SQL(
                "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT id AS gone, keep FROM (SELECT t.id,"
                " first_value(t.id) OVER (PARTITION BY {} ORDER BY {}) AS keep FROM {} t{} WHERE {}) d WHERE id <> keep"
            ).format(gone, SQL(", ").join(key), rank, name, joined, known)
        ]
        for child in self.children:
            if schema == self.home and child.parent == table:
                made += self._repointed(child, gone)
        return [
            *made,
            SQL("SELECT g.keep, t.* FROM {} t JOIN {} g ON g.gone = t.id").format(name, gone),
            SQL("DELETE FROM {} t USING {} g WHERE g.gone = t.id").format(name, gone),
        ]

    def _repointed(self, child: DuplicateChild, gone: Identifier) -> list[Query]:
        """A child's rows follow; those that would then be the same as another one are merged first."""
        column, made = Identifier(child.column), []
        moved = SQL("coalesce(g.keep, t.{})").format(column)
        for key in sorted(child.keys) if child.has_id else ():
            parts = [moved if name == child.column else SQL("t.{}").format(Identifier(name)) for name in key]
            joined = SQL(" LEFT JOIN {} g ON g.gone = t.{}").format(gone, column)
            where = SQL("{} IN (SELECT keep FROM {})").format(moved, gone)
            made += self.merged(child.schema, child.table, parts, joined, where, SQL("g.gone IS NOT NULL, t.id"))
        table = relation(child.schema, child.table)
        return [
            *made,
            SQL("UPDATE {} t SET {} = g.keep FROM {} g WHERE g.gone = t.{}").format(table, column, gone, column),
        ]


def _later(table: Composable, same: Composable, order: Composable) -> Composable:
    """The rows of each group of the same but the first, as a table `r` of their places."""
    return SQL(
        "(SELECT tableoid AS part, ctid AS place, row_number() OVER (PARTITION BY {} ORDER BY {}) AS number"
        " FROM {} k) r WHERE t.tableoid = r.part AND t.ctid = r.place AND r.number > 1"
    ).format(same, order, table)


def newest(table: Composable, columns: Sequence[str], dated: bool) -> list[Query]:
    """Of rows without an id, the one changed last stays."""
    known = SQL(" AND ").join(SQL("t.{} IS NOT NULL").format(Identifier(column)) for column in columns)
    order = SQL("k.updated_at DESC NULLS LAST, k.ctid DESC" if dated else "k.ctid DESC")
    later = _later(table, SQL(", ").join(map(Identifier, columns)), order)
    return [
        SQL("SELECT t.* FROM {} t, {} AND {}").format(table, later, known),
        SQL("DELETE FROM {} t USING {} AND {}").format(table, later, known),
    ]


def renumbered(table: Composable) -> list[Query]:
    """Of rows with one id, exact copies go and others get an id of their own; who points at the id means the first."""
    copies = _later(table, SQL("k.id, to_jsonb(k)"), SQL("k.tableoid, k.ctid"))
    later = _later(table, SQL("k.id"), SQL("k.tableoid, k.ctid"))
    return [
        SQL("DELETE FROM {} t USING {}").format(table, copies),
        SQL("SELECT t.* FROM {} t, {}").format(table, later),
        SQL("UPDATE {} t SET id = DEFAULT FROM {}").format(table, later),
    ]
