"""What runs out: transaction ids, sequences, connections, disk."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, Row, fetch, scalar, text_of
from ..errors import PrivilegeMissing
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from ..serverdisk import data_folder, is_local, room_on
from .context import Context, amount, place
from .history import growth, pace
from .thresholds import threshold
from .unit import check

XID_WARNING_PERCENT = threshold(
    "xid_warning_percent", 25, "so much used of the transaction ids between two freezes (autovacuum starts at 10 %)"
)
XID_CRITICAL_PERCENT = threshold("xid_critical_percent", 75, "so much of them, critical", above=XID_WARNING_PERCENT)
SEQUENCE_WARNING_PERCENT = threshold(
    "sequence_warning_percent", 50, "so much used of what a sequence and its column can hold"
)
SEQUENCE_CRITICAL_PERCENT = threshold(
    "sequence_critical_percent", 85, "so much of it, critical", above=SEQUENCE_WARNING_PERCENT
)
SEQUENCE_WARNING_DAYS = threshold(
    "sequence_warning_days", 365, "a sequence that is full within so many days at the pace of the last week"
)
CONNECTIONS_PERCENT = threshold("connections_percent", 80, "so many of the connection slots for ordinary roles in use")
DISK_FREE_PERCENT = threshold("disk_free_percent", 10, "less than this free on the data directory's disk")
GROWTH_PERCENT = threshold("growth_percent", 20, "the database grew by more in a week (and by 64 MB)", share=False)

WRAP_AROUND = 2**31
REMEMBERED = 50  # sequences, the fullest ones
LONG = 2**63 - 1
CHUNK = 500  # relations in one query
LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1}

XIDS = """
SELECT d.datname::text AS database, age(d.datfrozenxid)::bigint AS xids, mxid_age(d.datminmxid)::bigint AS multixacts,
       d.datname = current_database() AS here
  FROM pg_database d
 ORDER BY greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) DESC LIMIT 1
"""
OLDEST = """
SELECT n.nspname::text AS schema, c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> 0
 ORDER BY greatest(age(c.relfrozenxid), mxid_age(c.relminmxid)) DESC LIMIT 3
"""
SEQUENCES = """
WITH takers AS (
    SELECT objid AS sequence, refobjid AS relation, refobjsubid AS number FROM pg_depend
     WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjsubid > 0
       AND deptype IN ('a', 'i')
    UNION
    SELECT u.refobjid, d.adrelid, d.adnum FROM pg_attrdef d
      JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
           AND u.refclassid = 'pg_class'::regclass AND u.refobjid <> d.adrelid)
SELECT p.schemaname::text AS schema, p.sequencename::text AS name, p.last_value::bigint AS last,
       p.max_value::bigint AS largest, tn.nspname::text AS table_schema, t.relname::text AS table,
       a.attname::text AS column, format_type(a.atttypid, NULL) AS type
  FROM pg_sequences p
  JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class s ON s.relnamespace = n.oid AND s.relname = p.sequencename
  LEFT JOIN takers d ON d.sequence = s.oid
  LEFT JOIN pg_class t ON t.oid = d.relation
  LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = d.relation AND a.attnum = d.number
 WHERE p.increment_by > 0 AND NOT p.cycle AND has_sequence_privilege(s.oid, 'SELECT')
   AND (p.last_value IS NOT NULL OR s.relpersistence <> 'u' OR NOT pg_is_in_recovery())
 ORDER BY 1, 2
"""
# What points at a key, level after level: its columns have to become bigint with it.
POINTING = """
WITH RECURSIVE pointing(relation, number) AS (
    SELECT c.oid, a.attnum
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s
    UNION
    SELECT k.conrelid, k.conkey[i] FROM pointing p
      JOIN pg_constraint k ON k.contype = 'f' AND k.confrelid = p.relation
      CROSS JOIN LATERAL generate_subscripts(k.confkey, 1) i
     WHERE k.confkey[i] = p.number AND k.conparentid = 0)
SELECT n.nspname::text AS schema, c.relname::text AS table, a.attname::text AS column
  FROM pointing p JOIN pg_class c ON c.oid = p.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = p.number
 WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype) AND NOT c.relispartition
 ORDER BY 1, 2, 3
"""
# Views over a column: its type cannot be changed while they are there.
VIEWS = """
SELECT DISTINCT vn.nspname::text AS schema, v.relname::text AS view
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
       AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
  JOIN pg_namespace vn ON vn.oid = v.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s
"""
CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved
"""


@check(
    "transaction ids",
    FindingKind(
        "capacity.xid.age",
        "warning",
        "Freezing does not keep up: transaction ids (or multixacts) grow old; at the end the server refuses writes.",
        how="Find out what stops autovacuum (what holds back vacuum is a finding of its own), then VACUUM (FREEZE).",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "capacity.xid.exhaustion",
        "critical",
        "The server will soon refuse every write, until the oldest tables are frozen.",
        how="VACUUM (FREEZE) the oldest tables now.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
)
def transaction_ids(context: Context) -> Iterator[Finding]:
    """The oldest database of the server: any one of them stops all writes in itself."""
    row = fetch(context.conn, XIDS)[0]
    age = max(row["xids"], row["multixacts"])
    percent = round(100 * age / WRAP_AROUND, 1)
    if percent < context.limits[XID_WARNING_PERCENT]:
        return
    severe = percent >= context.limits[XID_CRITICAL_PERCENT]
    kind = "capacity.xid.exhaustion" if severe else "capacity.xid.age"
    what = "transaction ids" if row["xids"] >= row["multixacts"] else "multixacts"
    evidence = {"percent": percent, "transaction_ids": row["xids"], "multixacts": row["multixacts"]}
    if row["here"]:
        evidence["oldest"] = [place(r["schema"], r["name"]) for r in fetch(context.conn, OLDEST)]
    message = f"Database {row['database']} has used {percent:g} % of the {what} that fit between two freezes."
    yield finding(kind, row["database"], message, evidence, by_hand(kind, "VACUUM (FREEZE)"))


def ceiling(row: Mapping[str, Any]) -> int:
    """The last value that a sequence, and the column it feeds, can take. Pure."""
    return min(int(row["largest"]), LARGEST.get(row["type"] or "", int(row["largest"])))


def tightest(rows: Sequence[Row]) -> list[Row]:
    """Each sequence once, with the column that holds least of those that take from it. Pure."""
    least: dict[tuple[str, str], Row] = {}
    for row in rows:
        name = (row["schema"], row["name"])
        if name not in least or ceiling(row) < ceiling(least[name]):
            least[name] = row
    return list(least.values())


@check(
    "sequences near their end",
    FindingKind(
        "capacity.sequence.filling",
        "warning",
        "A sequence has used much of what it, or its key column, can hold.",
        how="Plan the move of the key and of everything that references it to bigint; make views over them again.",
        lock="ACCESS EXCLUSIVE, rewrites the table",
    ),
    FindingKind(
        "capacity.sequence.exhausted",
        "critical",
        "A sequence is close to its end: after that every insert fails.",
        how="Move the key and everything that references it to bigint now; views over them are made again after.",
        lock="ACCESS EXCLUSIVE, rewrites the table",
    ),
)
def sequences(context: Context) -> Iterator[Finding]:
    """Sequences that come to their end, by what is used or by their present pace."""
    rows = tightest(_with_uncalled(context, fetch(context.conn, SEQUENCES)))
    fullest = sorted(rows, key=lambda row: row["last"] / ceiling(row), reverse=True)[:REMEMBERED]
    context.seen["sequences"] = {place(row["schema"], row["name"]): row["last"] for row in fullest}
    for row in rows:
        found = judge_sequence(context, row)
        if found:
            yield _with_migration(context, row, found) if row["table"] else found


def _with_uncalled(context: Context, rows: Sequence[Row]) -> list[Row]:
    """The rows, with the position of sequences that were never called since they were (re)started: no view has it."""
    uncalled = sorted({(row["schema"], row["name"]) for row in rows if row["last"] is None})
    places: dict[tuple[str, str], int] = {}
    for start in range(0, len(uncalled), CHUNK):
        part = uncalled[start : start + CHUNK]
        query = SQL("SELECT {}::int AS n, last_value::bigint AS last FROM {}")
        union = SQL(" UNION ALL ").join(query.format(Literal(n), Identifier(*name)) for n, name in enumerate(part))
        places.update({part[row["n"]]: row["last"] for row in _no_views(context.conn, union)})
    found = [{**row, "last": places.get((row["schema"], row["name"]), row["last"])} for row in rows]
    return [row for row in found if row["last"] is not None]


def _no_views(conn: Connection, query: Composable) -> list[Row]:
    """The rows of a query over sequences: a view that took one's name meanwhile would run functions of its own.

    Servers without that setting (before 2024) are not asked by a superuser: the sequences were never called.
    """
    with conn.transaction():
        if scalar(conn, "SELECT current_setting('restrict_nonsystem_relation_kind', true)") is not None:
            conn.execute("SET LOCAL restrict_nonsystem_relation_kind = 'view, foreign-table'")
        elif scalar(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            return []
        return fetch(conn, query)


def _with_migration(context: Context, row: Row, found: Finding) -> Finding:
    """The finding with what makes the sequence, its column and all that point at it bigint, and what is in the way."""
    columns = fetch(context.conn, POINTING, [row["table_schema"], row["table"], row["column"]])
    change = SQL("ALTER TABLE {} ALTER COLUMN {} TYPE bigint")
    statements = [text_of(change.format(Identifier(c["schema"], c["table"]), Identifier(c["column"]))) for c in columns]
    if row["largest"] < LONG:
        sequence = Identifier(row["schema"], row["name"])
        statements.insert(0, text_of(SQL("ALTER SEQUENCE {} AS bigint").format(sequence)))
    if not statements:
        return found
    views = {place(v["schema"], v["view"]) for c in columns for v in fetch(context.conn, VIEWS, [*c.values()])}
    evidence = {**found.evidence, **({"views_to_make_again": sorted(views)} if views else {})}
    return replace(found, evidence=evidence, fix=by_hand(found.id, *statements), why_no_fix="")


def judge_sequence(context: Context, row: Row) -> Finding | None:
    """A finding where a sequence is too full, or soon will be. Pure."""
    limits, name, end = context.limits, place(row["schema"], row["name"]), ceiling(row)
    percent = round(100 * row["last"] / end, 2)
    per_day = pace(context.past, name, context.now, row["last"])
    days = (end - row["last"]) / per_day if per_day else None
    soon = days is not None and days <= limits[SEQUENCE_WARNING_DAYS]
    if percent >= limits[SEQUENCE_CRITICAL_PERCENT]:
        kind = "capacity.sequence.exhausted"
    elif percent >= limits[SEQUENCE_WARNING_PERCENT] or soon:
        kind = "capacity.sequence.filling"
    else:
        return None
    column = f"{row['table']}.{row['column']}" if row["table"] else name
    message = f"{name} has used {percent:g} % of what {column} can hold"
    evidence: dict[str, Any] = {"percent": percent, "last": row["last"], "end": end}
    if days is not None and days < 36500:
        day = (context.now + datetime.timedelta(days=days)).date().isoformat()
        evidence.update(full_on=day, per_day=round(per_day or 0, 1))
        message += f"; at the present pace it is full on {day}"
    return finding(kind, name, message + ".", evidence)


@check(
    "connections",
    FindingKind(
        "capacity.connections.high",
        "warning",
        "Few connection slots are left for ordinary roles.",
        how="End idle sessions, use a pooler, or raise max_connections.",
    ),
)
def connections(context: Context) -> Iterator[Finding]:
    """Slots in use, of those that ordinary roles can have."""
    row = fetch(context.conn, CONNECTIONS)[0]
    room = max(row["most"] - row["reserved"], 1)
    percent = round(100 * row["used"] / room)
    if percent >= context.limits[CONNECTIONS_PERCENT]:
        message = f"{row['used']} of {room} connection slots for ordinary roles are in use ({percent} %)."
        yield finding("capacity.connections.high", "max_connections", message, {"used": row["used"], "slots": room})


@check(
    "growth",
    FindingKind(
        "capacity.database.growth",
        "info",
        "The database grew fast. The report's chart shows since when.",
        how="Look at the tables that grew most.",
    ),
)
def database_growth(context: Context) -> Iterator[Finding]:
    """How much the database grew since the oldest run of the last week."""
    size = context.seen["bytes"] = _database_bytes(context)
    yield from judge_growth(context.past, context.now, size, context.limits[GROWTH_PERCENT])


def judge_growth(
    past: Sequence[Mapping[str, Any]], now: datetime.datetime, size: int, most: float
) -> Iterator[Finding]:
    """A finding where the database grew by more than `most` percent (and 64 MB). Pure."""
    seen = growth(past, now, size)
    if seen and seen["percent"] > most and seen["bytes"] > 64 << 20:
        message = f"The database grew by {amount(seen['bytes'])} ({seen['percent']:g} %) since {seen['since']}."
        yield finding("capacity.database.growth", "database", message, seen)


@check(
    "disk",
    FindingKind(
        "capacity.disk.low",
        "warning",
        "The disk of the data directory is almost full (known only where the check runs on the database's host).",
        how="Free some space; see the table sizes in the report.",
    ),
    FindingKind(
        "capacity.disk.no_copy",
        "info",
        "The disk has no room for a second copy of the database, which a restore beside the live one needs.",
        how="Enlarge the disk before you have to restore.",
    ),
    restricted=True,
)
def disk(context: Context) -> Iterator[Finding]:
    """Room on the data directory's disk, where that disk is this host's."""
    folder = data_folder(context.conn)
    if not folder:
        raise PrivilegeMissing("permission denied to see where the data directory is")
    if is_local(context.conn):
        size = context.seen.get("bytes") or _database_bytes(context)
        yield from judge_disk(folder, size, room_on(folder), context.limits[DISK_FREE_PERCENT])


def _database_bytes(context: Context) -> int:
    return int(scalar(context.conn, "SELECT pg_database_size(current_database())"))


def judge_disk(folder: str, size: int, room: tuple[int, int] | None, least_percent: float) -> Iterator[Finding]:
    """Findings about a disk with so much room, beside a database of `size` bytes. Pure."""
    if room is None or not room[1]:
        return
    free, whole = room
    percent = round(100 * free / whole, 1)
    evidence = {"free_bytes": free, "free_percent": percent, "database_bytes": size, "folder": folder}
    if percent < least_percent:
        message = f"Only {amount(free)} ({percent:g} %) of the data directory's disk are free."
        yield finding("capacity.disk.low", "disk", message, evidence)
    if free < size:
        message = f"The disk has {amount(free)} free; a copy of the database needs {amount(size)}."
        yield finding("capacity.disk.no_copy", "disk", message, evidence)
