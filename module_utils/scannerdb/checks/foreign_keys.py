"""Foreign keys of large tables whose own side has no index."""

from __future__ import annotations

from collections.abc import Iterator

from ..connection import SQL, Identifier, fetch, text_of
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from .context import Context, place
from .thresholds import threshold
from .unit import check

UNINDEXED_ROWS = threshold("unindexed_rows", 10_000, "a foreign key without an index, in a table of so many rows")

QUERY = """
SELECT n.nspname::text AS schema, c.relname::text AS table, c.reltuples::bigint AS rows, rn.nspname::text AS ref_schema,
       r.relname::text AS parent, k.conname::text AS name,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(num, pos)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.pos) AS columns
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class r ON r.oid = k.confrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace
 WHERE k.contype = 'f' AND c.relkind = 'r' AND c.reltuples >= %s
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (
       SELECT FROM pg_index i
        WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
          AND k.conkey <@ (i.indkey::int2[])[0:cardinality(k.conkey) - 1])
 ORDER BY 1, 2, 6
"""


@check(
    "foreign keys without an index",
    FindingKind(
        "index.foreign_key.unindexed",
        "warning",
        "A foreign key of a large table has no index: each delete of a parent row reads the whole table.",
        how="Create the index; CONCURRENTLY stops no writer.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
)
def unindexed(context: Context) -> Iterator[Finding]:
    """One finding for each; where the contract asks for the index itself, that finding is enough."""
    for row in fetch(context.conn, QUERY, [int(context.limits[UNINDEXED_ROWS])]):
        columns = tuple(row["columns"])
        if row["schema"] == context.schema and (row["table"], columns) in context.index_columns:
            continue
        table = place(row["schema"], row["table"])
        statement = SQL("CREATE INDEX CONCURRENTLY ON {} ({})").format(
            Identifier(row["schema"], row["table"]), SQL(", ").join(map(Identifier, columns))
        )
        yield finding(
            "index.foreign_key.unindexed",
            f"{table}({', '.join(columns)})",
            f"{table}({', '.join(columns)}) references {place(row['ref_schema'], row['parent'])} and has no index.",
            {"constraint": row["name"], "rows": row["rows"]},
            by_hand("index.foreign_key.unindexed", text_of(statement)),
        )
