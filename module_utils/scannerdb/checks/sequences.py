"""Sequences that would hand out ids which exist already, and what moves them: only forwards, safely beside writers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from ..connection import (
    SQL,
    Composable,
    Connection,
    DriverError,
    Identifier,
    Literal,
    Query,
    Row,
    fetch,
    scalar,
    text_of,
)
from ..errors import PrivilegeMissing
from ..finding import Change, Finding, Fix
from ..finding_kinds import BY_FIX, FindingKind, finding
from ..lockbudget import relation
from .context import Context
from .unit import check

KIND = "data.sequence.behind"
LOCK = "SHARE ROW EXCLUSIVE"
ORDER = 13  # after defaults, before anything that inserts

# The sequences that columns of the schema's tables own or take from, where an index leads with the column. Tables that
# the contract does not name and this role may not read are nobody's business here.
TAKEN = """
WITH takers AS (
    SELECT objid AS sequence, refobjid AS relation, refobjsubid AS number FROM pg_depend
     WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjsubid > 0
       AND deptype IN ('a', 'i')
    UNION
    SELECT u.refobjid, d.adrelid, d.adnum FROM pg_attrdef d
      JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
           AND u.refclassid = 'pg_class'::regclass AND u.refobjid <> d.adrelid)
SELECT t.relname::text AS table, a.attname::text AS column, sn.nspname::text AS sequence_schema,
       s.relname::text AS sequence, q.seqincrement::bigint AS step, q.seqcycle AS cycle,
       s.oid::bigint AS number, q.seqstart::bigint AS start
  FROM takers d
  JOIN pg_class t ON t.oid = d.relation AND t.relkind IN ('r', 'p')
  JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = %(schema)s
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.number AND NOT a.attisdropped
       AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
  JOIN pg_class s ON s.oid = d.sequence AND s.relkind = 'S'
  JOIN pg_namespace sn ON sn.oid = s.relnamespace
  JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
 WHERE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisvalid AND i.indkey[0] = a.attnum)
   AND (t.relname = ANY (%(demanded)s)
        OR has_table_privilege(t.oid, 'SELECT') AND has_sequence_privilege(s.oid, 'SELECT'))
 ORDER BY t.relname, a.attname
"""
# Where a sequence is behind, read and moved in one statement under the locks; otherwise nothing.
MOVE = """
SELECT setval({name}, seen.largest)
  FROM (SELECT max({column})::bigint AS largest FROM {table}) seen, {sequence} s, pg_sequence q
 WHERE q.seqrelid = {name}::regclass
   AND seen.largest >= s.last_value + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END
"""


@check(
    "sequences behind their tables",
    FindingKind(
        "data.sequence.behind",
        "critical",
        "A sequence is behind the largest id of its table: the next inserts fail as duplicates.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    deep=False,
)
def late_sequences(context: Context) -> Iterator[Finding]:
    """The sequences behind their tables, in the contract's schema."""
    yield from behind(context.conn, context.read, context.schema, context.contract_tables)


def behind(
    conn: Connection, read: Callable[[Composable], list[Row]], schema: str, demanded: Collection[str]
) -> Iterator[Finding]:
    """One finding for each sequence that is behind, with its fix; `read` reads the tables."""
    for row in fetch(conn, TAKEN, {"schema": schema, "demanded": sorted(demanded)}):
        sequence, table = Identifier(row["sequence_schema"], row["sequence"]), relation(schema, row["table"])
        try:
            seen = _seen(conn, read, row, Identifier(row["column"]), table, sequence)
        except (PrivilegeMissing, DriverError) as error:
            if row["table"] in demanded or not _refused(error):
                raise
            continue  # a table beside the contract that whoever reads for us may not see
        coming = seen["last"] + (row["step"] if seen["is_called"] else 0)
        if seen["used"] is not None and coming <= seen["used"]:
            yield finding(
                KIND,
                f"{row['table']}.{row['column']}",
                f"The next {row['table']}.{row['column']} would be {coming}, but {seen['used']} is in use already.",
                {"next": coming, "largest": seen["used"], "sequence": row["sequence"]},
                _moved(schema, row),
            )


def _seen(
    conn: Connection,
    read: Callable[[Composable], list[Row]],
    row: Row,
    column: Composable,
    table: Composable,
    sequence: Composable,
) -> Row:
    """The largest id in use and where the sequence stands; it is read later, so a busy table can't look behind."""
    used = SQL("SELECT max({})::bigint AS used FROM {}").format(column, table)
    both = SQL("SELECT ({})::bigint AS used, last_value::bigint AS last, is_called FROM {}").format(used, sequence)
    try:
        return read(both)[0]
    except (PrivilegeMissing, DriverError) as error:
        if not _refused(error):
            raise
    # Whoever the table is read as may not read this sequence. By its number this role can, and no name leads it astray.
    largest = read(used)[0]["used"]
    last = scalar(conn, "SELECT pg_sequence_last_value(%s::oid::regclass)", [row["number"]])
    return {"used": largest, "last": row["start"] if last is None else last, "is_called": last is not None}


def _refused(error: Exception) -> bool:
    return isinstance(error, PrivilegeMissing) or getattr(error, "sqlstate", "") == "42501"


def _moved(schema: str, row: dict[str, Any]) -> Fix:
    """The table's lock stops new rows for an instant; altering the sequence, into what it is, stops nextval()."""
    sequence, table = Identifier(row["sequence_schema"], row["sequence"]), relation(schema, row["table"])
    name = Literal(text_of(sequence))
    statements: tuple[Query, ...] = (
        SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table),
        SQL("ALTER SEQUENCE {} {}").format(sequence, SQL("CYCLE" if row["cycle"] else "NO CYCLE")),
        SQL(MOVE.strip()).format(name=name, column=Identifier(row["column"]), table=table, sequence=sequence),
    )
    change = Change(statements, LOCK, "strong", ((schema, row["table"]),))
    sql = ("BEGIN", *map(text_of, statements), "COMMIT")
    return Fix(KIND, sql, None, LOCK, (change,), order=ORDER)
