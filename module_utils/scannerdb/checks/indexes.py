"""Indexes: invalid, duplicate, redundant, unused. The comparison is pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Identifier, fetch, text_of
from ..finding import Change, Finding, Fix
from ..finding_kinds import BY_FIX, FindingKind, by_hand, finding
from .context import Context, StandbyUse, place
from .thresholds import threshold
from .unit import check

MIN_STATISTICS_DAYS = threshold("min_statistics_days", 14, "`index.unused` from so many days of statistics on")

PAGE_BYTES = 8192
DROP_CONSENT = "scannerdb_fix_drop_indexes"
LEFT_OVERS = ("_ccnew", "_ccold")

# Indexes that something beside their own table leans on (a constraint, the partitioned index above, logical
# replication) count as a constraint's: they are never the one to drop.
OURS = """
       n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND t.relkind IN ('r', 'm')
   AND NOT EXISTS (SELECT FROM pg_depend x
                    WHERE x.classid = 'pg_class'::regclass AND x.objid = t.oid AND x.deptype = 'e')
"""

# Only indexes that begin with the column another one of the table begins with can be doubles of each other. In a
# database of thousands of tables these are few, so their details are read of them alone, and of the invalid ones.
QUERY = """
WITH rivals AS (SELECT indrelid, indkey[0] AS first FROM pg_index GROUP BY 1, 2 HAVING count(*) > 1)
SELECT n.nspname::text AS schema, t.relname::text AS table, c.relname::text AS name, i.indexrelid::bigint AS oid,
       i.indisunique AS unique, i.indisprimary AS primary, i.indisvalid AND i.indisready AS valid,
       m.amname::text AS method,
       c.relispartition OR i.indisreplident
         OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS constraint,
       i.indkey::text AS all_columns, i.indnkeyatts::int AS keys, i.indclass::text AS classes,
       i.indcollation::text AS collations, i.indoption::text AS options,
       coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
       coalesce(pg_get_expr(i.indexprs, i.indrelid), '') AS expressions,
       c.relpages::bigint AS pages, pg_stat_get_numscans(i.indexrelid) AS scans,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) AS building
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am m ON m.oid = c.relam
 WHERE ((i.indrelid, i.indkey[0]) IN (SELECT indrelid, first FROM rivals) OR NOT i.indisvalid OR NOT i.indisready)
   AND {ours}
 ORDER BY n.nspname, t.relname, c.relname
"""
IDLE = """
SELECT n.nspname::text AS schema, t.relname::text AS table, c.relname::text AS name, c.relpages::bigint AS pages
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indisvalid AND i.indisready AND NOT i.indisunique AND pg_stat_get_numscans(i.indexrelid) = 0
   AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
   AND n.nspname <> 'scannerdb_maintenance'
   AND {ours}
"""
STATISTICS_AGE = """
SELECT date_trunc('second', clock_timestamp() - coalesce(d.stats_reset, pg_postmaster_start_time()))::text AS age,
       extract(epoch FROM clock_timestamp() - coalesce(d.stats_reset, pg_postmaster_start_time()))::float8
         / 86400 AS days
  FROM pg_stat_database d WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class IndexInfo:
    """One index. The vectors (`columns`, `classes`, …) are as the catalog holds them."""

    schema: str
    table: str
    name: str
    oid: int
    unique: bool
    primary: bool
    valid: bool
    method: str
    constraint: bool
    columns: tuple[str, ...]
    included: tuple[str, ...]
    classes: tuple[str, ...]
    collations: tuple[str, ...]
    options: tuple[str, ...]
    predicate: str
    expressions: str
    pages: int
    scans: int
    building: bool

    @property
    def place(self) -> str:
        """The index for people: `table.index`."""
        return place(self.schema, self.table, self.name)

    @property
    def keys(self) -> tuple[tuple[str, str, str, str], ...]:
        """Each key column with everything that gives it its order."""
        return tuple(zip(self.columns, self.classes, self.collations, self.options))

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What two indexes that do the same have in common (one may be unique besides)."""
        order = (self.columns, self.classes, self.collations, self.options)
        return (self.schema, self.table, self.method, *order, self.included, self.predicate, self.expressions)

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        """Of two equal indexes, the one with the higher rank stays."""
        return (self.constraint, self.primary, self.unique, self.valid, -self.oid)


@dataclass(frozen=True)
class Idle:
    """An index that guards nothing, and that no query on this server has used."""

    schema: str
    table: str
    name: str
    pages: int


def read_indexes(context: Context) -> list[IndexInfo]:
    """The indexes that may be doubles of another one of their table, and the invalid ones."""
    indexes = []
    for row in fetch(context.conn, QUERY.format(ours=OURS)):
        vector, keys = row.pop("all_columns").split(), row.pop("keys")
        for name in ("classes", "collations", "options"):
            row[name] = tuple(row[name].split())
        indexes.append(IndexInfo(columns=tuple(vector[:keys]), included=tuple(vector[keys:]), **row))
    return indexes


@check(
    "indexes",
    FindingKind(
        "index.invalid",
        "critical",
        "An index is invalid: it is maintained but never used.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "index.duplicate",
        "warning",
        "Two indexes are the same. One is dropped only with consent.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "index.redundant",
        "info",
        "An index is a prefix of another one. Drop it if its queries run as well without.",
        how="Drop it; the longer index serves its queries, if somewhat slower where that one is much larger.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "index.unused",
        "info",
        "No query has used an index since statistics were reset, on this server or a standby that was seen.",
        how="Drop it, once statistics go back over a month's end and every standby was looked at.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    deep=False,
)
def all_indexes(context: Context) -> Iterator[Finding]:
    """All findings about indexes."""
    indexes = read_indexes(context)
    yield from invalid(indexes)
    valid = [index for index in indexes if index.valid]
    twins = duplicates(valid)
    for loser, keeper in twins:
        yield _duplicate(loser, keeper)
    losers = {loser.oid for loser, _ in twins}
    others = [i for i in valid if i.oid not in losers]
    for shorter, longer in redundant(others, context.demanded_indexes):
        yield finding(
            "index.redundant",
            shorter.place,
            f"{shorter.name} is a prefix of {longer.name}, which serves its queries as well.",
            {"covered_by": longer.name, "bytes": shorter.pages * PAGE_BYTES, "scans": shorter.scans},
            by_hand("index.redundant", _drop(shorter.schema, shorter.name)),
        )
    yield from _unused(context, frozenset((loser.schema, loser.name) for loser, _ in twins))


def _unused(context: Context, doubles: frozenset[tuple[str, str]]) -> Iterator[Finding]:
    """Findings about idle indexes; a double is a finding already."""
    age, days = fetch(context.conn, STATISTICS_AGE)[0].values()
    if days < context.limits[MIN_STATISTICS_DAYS]:
        return  # too short a time to say so of any index
    beyond = {"statistics_age": age, **_beyond(context.standbys)}
    where = "this server or its standbys" if context.standbys.seen else "this server"
    idle = [Idle(**row) for row in fetch(context.conn, IDLE.format(ours=OURS))]
    for index in unused(idle, context.demanded_indexes, context.standbys.used | doubles):
        yield finding(
            "index.unused",
            place(index.schema, index.table, index.name),
            f"No query on {where} has used {index.name} in {age}, as long as statistics go back.",
            {"bytes": index.pages * PAGE_BYTES, **beyond},
            by_hand("index.unused", _drop(index.schema, index.name)),
        )


def _drop(schema: str, name: str) -> str:
    return f"DROP INDEX CONCURRENTLY {text_of(Identifier(schema, name))}"


def _beyond(standbys: StandbyUse) -> dict[str, Any]:
    """What is known of the standbys, as evidence: how long each has counted, and which could not be looked at."""
    seen = {"standbys": dict(standbys.seen)} if standbys.seen else {}
    return {**seen, "standbys_not_seen": dict(standbys.unseen)} if standbys.unseen else seen


def invalid(indexes: Sequence[IndexInfo]) -> Iterator[Finding]:
    """Invalid indexes that nobody is building now: left-overs are dropped, others rebuilt."""
    for index in indexes:
        if index.valid or index.building:
            continue
        left_over = any(mark in index.name[-10:] for mark in LEFT_OVERS)
        verb = "DROP INDEX CONCURRENTLY IF EXISTS {}" if left_over else "REINDEX INDEX CONCURRENTLY {}"
        yield finding(
            "index.invalid",
            index.place,
            f"{index.name} is invalid: a build or rebuild of it was interrupted. It costs writes and serves no query.",
            {"left_over": left_over, "bytes": index.pages * PAGE_BYTES},
            _online_fix("index.invalid", verb, index, order=14),
        )


def _online_fix(fix_id: str, verb: str, index: IndexInfo, order: int, consent: str = "") -> Fix:
    name = SQL("{}.{}").format(Identifier(index.schema), Identifier(index.name))
    statement = SQL(verb).format(name)  # type: ignore[arg-type,unused-ignore]
    lock = "SHARE UPDATE EXCLUSIVE"
    return Fix(fix_id, (text_of(statement),), None, lock, (Change((statement,), lock, "online"),), consent, order)


def duplicates(indexes: Sequence[IndexInfo]) -> list[tuple[IndexInfo, IndexInfo]]:
    """Pairs (the one to drop, the one to keep); never a constraint's index, nor the only unique one. Pure."""
    pairs = []
    alike: dict[tuple[Any, ...], list[IndexInfo]] = {}
    for index in indexes:
        alike.setdefault(index.meaning, []).append(index)
    for twins in alike.values():
        for loser in twins if len(twins) > 1 else ():
            better = [i for i in twins if i.rank > loser.rank and (i.unique or not loser.unique)]
            if better and not loser.constraint:
                pairs.append((loser, max(better, key=lambda i: i.rank)))
    return pairs


def _duplicate(loser: IndexInfo, keeper: IndexInfo) -> Finding:
    return finding(
        "index.duplicate",
        loser.place,
        f"{loser.name} is the same as {keeper.name}.",
        {"same_as": keeper.name, "bytes": loser.pages * PAGE_BYTES, "scans": loser.scans},
        _online_fix("index.duplicate", "DROP INDEX CONCURRENTLY IF EXISTS {}", loser, 65, DROP_CONSENT),
    )


def covers(longer: IndexInfo, shorter: IndexInfo) -> bool:
    """True where a btree's keys begin with another's, with equal order, predicate and included columns. Pure."""
    return (
        (longer.schema, longer.table) == (shorter.schema, shorter.table)
        and longer.method == shorter.method == "btree"
        and not longer.expressions
        and not shorter.expressions
        and longer.predicate == shorter.predicate
        and len(longer.columns) > len(shorter.columns)
        and longer.columns[: len(shorter.columns)] == shorter.columns
        and longer.keys[: len(shorter.keys)] == shorter.keys
        and set(shorter.included) <= set(longer.columns) | set(longer.included)
    )


def redundant(
    indexes: Sequence[IndexInfo], demanded: frozenset[str] = frozenset()
) -> list[tuple[IndexInfo, IndexInfo]]:
    """Pairs (shorter, longer); what is unique, a constraint's, or demanded by the contract is never redundant. Pure."""
    pairs = []
    beside: dict[tuple[Any, ...], list[IndexInfo]] = {}
    for index in indexes:
        beside.setdefault((index.schema, index.table, index.columns[:1]), []).append(index)
    for shorter in indexes:
        if shorter.unique or shorter.constraint or shorter.name in demanded:
            continue
        alike = beside[shorter.schema, shorter.table, shorter.columns[:1]]
        longer = next((i for i in alike if covers(i, shorter)), None)
        if longer:
            pairs.append((shorter, longer))
    return pairs


def unused(
    idle: Sequence[Idle],
    demanded: frozenset[str] = frozenset(),
    elsewhere: frozenset[tuple[str, str]] = frozenset(),
) -> list[Idle]:
    """Of the idle indexes, those that nothing else needs: neither the contract nor `elsewhere` (schema, name). Pure."""
    return [i for i in idle if i.name not in demanded and (i.schema, i.name) not in elsewhere]
