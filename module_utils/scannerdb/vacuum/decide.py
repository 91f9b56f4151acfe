"""What each table needs, and why: values in, values out.

Small tables are left alone unless they are grossly bad, and the limits fall as a table grows: a fifth of dead rows is
nothing in a table of a hundred rows and a lot in one of ten million. `table.dead_tuples` and `table.bloat` of the check
ask `is_dead_heavy` and `is_bloated` here, so that what a check reports is what a vacuum would mend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InvalidInput
from .measure import IndexMeasure, TableMeasure

METHODS = ("auto", "vacuum", "full", "reindex", "compact")
PROFILES = ("daily", "weekly", "monthly")
MIB = 1 << 20
LEFTOVER = re.compile(r"_cc(new|old)\d*$")
SAME_DENSITY = 1.2  # bytes per row within this factor of the last rebuild's: a further one would gain nothing
REWRITE_BYTES_PER_S = 50 * MIB  # a cautious guess at how fast VACUUM FULL copies, with its indexes

SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE: stops no reader and no writer"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE: stops every reader and writer of the table"


@dataclass(frozen=True)
class Thresholds:
    """From where on a table is worth the work.

    The shares are limits for small objects (up to `small_rows` rows or `small_bytes` bytes); for larger ones they fall
    with the fourth root of the size, but not below their `_least`.
    """

    dead_rows: int = 10
    dead_share: float = 0.30
    dead_least: float = 0.02
    changed_rows: int = 50
    changed_share: float = 0.20
    changed_least: float = 0.02
    small_rows: int = 1000
    bloat_bytes: int = MIB
    bloat_share: float = 0.50
    bloat_least: float = 0.25
    index_bloat_bytes: int = MIB
    index_bloat_share: float = 0.50
    index_bloat_least: float = 0.40  # a btree under random inserts settles at two thirds full: not worth a rebuild
    small_bytes: int = 64 * MIB
    freeze_share: float = 0.75  # of autovacuum_freeze_max_age, where autovacuum would start on its own

    def dead_limit(self, rows: int) -> float:
        """The share of dead rows from which a table of `rows` rows, live and dead, needs a vacuum."""
        return _falling(self.dead_share, self.dead_least, rows, self.small_rows)

    def changed_limit(self, rows: int) -> float:
        """The changed rows since the last ANALYZE, as a share of the live ones, that make its statistics stale."""
        return _falling(self.changed_share, self.changed_least, rows, self.small_rows)

    def bloat_limit(self, size: int) -> float:
        """The share of bloat from which a table of `size` bytes is worth compacting."""
        return _falling(self.bloat_share, self.bloat_least, size, self.small_bytes)

    def index_bloat_limit(self, size: int) -> float:
        """The share of bloat from which an index of `size` bytes is worth rebuilding."""
        return _falling(self.index_bloat_share, self.index_bloat_least, size, self.small_bytes)


def _falling(share: float, least: float, size: int, small: int) -> float:
    return share if size <= small else max(least, share * (small / size) ** 0.25)


@dataclass(frozen=True)
class Wish:
    """What was asked for. `compaction` allows rebuilding tables and indexes, `allow_exclusive` even by VACUUM FULL."""

    method: str = "auto"
    compaction: bool = False
    allow_exclusive: bool = False


@dataclass(frozen=True)
class Action:
    """One thing to do to one table: `analyze`, `vacuum`, `full`, `reindex` or `drop_index` (of `index`)."""

    kind: str
    reasons: tuple[str, ...]
    lock: str = SHARE_UPDATE_EXCLUSIVE
    index: str = ""
    freeze: bool = False
    forced: bool = False  # asked for by name, so done without need


@dataclass(frozen=True)
class Decision:
    """What is to be done to a table, in order, and what is not and why (`notes`)."""

    measure: TableMeasure
    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = field(default=())


def wish_for(method: str, profile: str, allow_exclusive: bool) -> Wish:
    """The wish behind the options; raises `InvalidInput` where they make no sense."""
    name = "full" if method == "vacuum_full" else method
    if name not in METHODS:
        raise InvalidInput(f"{method!r} is not a method of vacuum.", f"Choose one of {', '.join(METHODS)}.")
    if profile not in PROFILES:
        raise InvalidInput(f"{profile!r} is not a profile.", f"Choose one of {', '.join(PROFILES)}.")
    if name == "full" and not allow_exclusive:
        raise InvalidInput(
            "Method full (VACUUM FULL) stops every reader and writer of a table while it copies it.",
            "Set scannerdb_vacuum_allow_exclusive to true to allow that, or choose method compact.",
        )
    compaction = name == "compact" or (name == "auto" and profile == "monthly")
    return Wish(name, compaction, allow_exclusive)


def is_dead_heavy(measure: TableMeasure, thresholds: Thresholds) -> bool:
    """True where a table's dead rows are worth a vacuum."""
    limit = thresholds.dead_limit(measure.live + measure.dead)
    return measure.dead >= thresholds.dead_rows and measure.dead_ratio >= limit


def is_bloated(measure: TableMeasure, thresholds: Thresholds) -> bool:
    """True where much of a table is room that neither live nor dead rows fill, as far as can be estimated."""
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return measure.bloat_known and measure.bloat_bytes >= thresholds.bloat_bytes and measure.bloat_ratio >= limit


def is_worth_rewriting(measure: TableMeasure, thresholds: Thresholds) -> bool:
    """True where writing a table anew would give enough back: the room of its dead rows counts too."""
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return measure.bloat_known and measure.waste_bytes >= thresholds.bloat_bytes and measure.waste_ratio >= limit


def is_index_bloated(index: IndexMeasure, thresholds: Thresholds) -> bool:
    """True where an index is worth rebuilding, as far as can be estimated."""
    limit = thresholds.index_bloat_limit(index.bytes)
    return index.bloat_known and index.bloat_bytes >= thresholds.index_bloat_bytes and index.bloat_ratio >= limit


def density(size: int, rows: float) -> float:
    """Bytes per row: what `decide` remembers of a rebuild."""
    return size / max(rows, 1.0)


def leftovers(indexes: Iterable[tuple[str, bool]]) -> list[str]:
    """Names of the invalid indexes that an interrupted REINDEX CONCURRENTLY left on a table.

    `indexes` are all indexes of one table: name, and whether it is valid. PostgreSQL cuts a long name to make room for
    the ending, so the index that was being rebuilt is one whose name begins like the leftover's.
    """
    known = list(indexes)
    valid = [name for name, is_valid in known if is_valid]
    found = []
    for name, is_valid in known:
        match = None if is_valid else LEFTOVER.search(name)
        if match and any(other.startswith(name[: match.start()]) for other in valid):
            found.append(name)
    return found


def decide(
    measure: TableMeasure,
    thresholds: Thresholds,
    wish: Wish,
    rebuilt: Mapping[str, float] | None = None,
) -> Decision:
    """What one table needs under `wish`.

    `rebuilt` holds the bytes per row right after the last rebuild, by the qualified name of a table or an index: where
    an object is still about as dense as then, the estimate is wrong and another rebuild would gain nothing.
    """
    if not measure.may_vacuum:
        return Decision(measure, notes=(_not_allowed(measure),))
    notes: list[str] = []
    left = leftovers((index.name, index.valid) for index in measure.indexes)
    actions = [_drop(name) for name in left if measure.may_rebuild]
    if left and not actions:
        notes.append(f"an interrupted REINDEX left {', '.join(left)} invalid, but {_not_allowed(measure)}")
    if wish.method == "full":
        actions.append(_full(measure, ["asked for by name"], forced=True))
    elif wish.method == "reindex":
        _reindex_all(measure, actions, notes)
    elif wish.method == "vacuum":
        actions.append(Action("vacuum", ("asked for by name", *_vacuum_reasons(measure, thresholds)), forced=True))
    else:
        _by_need(measure, thresholds, wish, rebuilt or {}, actions, notes)
    return Decision(measure, tuple(actions), tuple(notes))


def in_order(decisions: Sequence[Decision]) -> list[Decision]:
    """The tables with the oldest transaction ids first: they are the ones that must not wait."""
    return sorted(decisions, key=lambda d: (-d.measure.xid_age, d.measure.schema, d.measure.name))


def _by_need(
    measure: TableMeasure,
    thresholds: Thresholds,
    wish: Wish,
    rebuilt: Mapping[str, float],
    actions: list[Action],
    notes: list[str],
) -> None:
    compact = wish.compaction and is_worth_rewriting(measure, thresholds) and not _still_dense(measure, rebuilt)
    if compact and wish.allow_exclusive:
        actions.append(_full(measure, [_waste_sentence(measure, thresholds)]))
        return
    old = _old_age(measure, thresholds)
    reasons = _vacuum_reasons(measure, thresholds)
    stale = _stale_statistics(measure, thresholds)
    if reasons:
        actions.append(Action("vacuum", tuple(reasons + stale), freeze=bool(old)))
    elif stale:
        actions.append(Action("analyze", tuple(stale)))
    if wish.compaction:
        _reindex_bloated(measure, thresholds, rebuilt, actions, notes)
    if compact:
        notes.append(
            f"{_waste_sentence(measure, thresholds)}; only VACUUM FULL does that on this server, and it is not "
            "allowed (scannerdb_vacuum_allow_exclusive)"
        )


def _vacuum_reasons(measure: TableMeasure, thresholds: Thresholds) -> list[str]:
    reasons = _old_age(measure, thresholds)
    if is_dead_heavy(measure, thresholds):
        rows = measure.live + measure.dead
        limit = thresholds.dead_limit(rows)
        reasons.append(
            f"{measure.dead} of {rows} rows are dead ({measure.dead_ratio:.0%}; the limit at this size is {limit:.0%})"
        )
    if reasons and measure.autovacuum_off:
        reasons.append("autovacuum is switched off on this table")
    return reasons


def _old_age(measure: TableMeasure, thresholds: Thresholds) -> list[str]:
    ages = (
        ("transaction", measure.xid_age, measure.freeze_max_age),
        ("multixact", measure.mxid_age, measure.mxid_freeze_max_age),
    )
    return [
        f"its oldest {what} id is {age} old, near the {limit} at which a vacuum is forced"
        for what, age, limit in ages
        if age >= thresholds.freeze_share * limit
    ]


def _stale_statistics(measure: TableMeasure, thresholds: Thresholds) -> list[str]:
    if measure.heap_bytes and measure.analyzed is None and not measure.has_statistics:
        return ["it was never analyzed"]
    limit = max(thresholds.changed_rows, thresholds.changed_limit(measure.live) * measure.live)
    if measure.mod_since_analyze >= limit:
        return [f"{measure.mod_since_analyze} rows have changed since its statistics were made (limit {limit:.0f})"]
    return []


def _waste_sentence(measure: TableMeasure, thresholds: Thresholds) -> str:
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return (
        f"a rewrite would give back about {pretty(measure.waste_bytes)} of its {pretty(measure.heap_bytes)} "
        f"({measure.waste_ratio:.0%}; the limit at this size is {limit:.0%})"
    )


def _full(measure: TableMeasure, reasons: list[str], forced: bool = False) -> Action:
    needed = max(0, measure.bytes - measure.waste_bytes)
    reasons.append(
        f"the copy needs up to {pretty(needed)} of free disk and locks the table for about "
        f"{max(1, round(needed / REWRITE_BYTES_PER_S))} s"
    )
    return Action("full", tuple(reasons), lock=ACCESS_EXCLUSIVE, forced=forced)


def _drop(name: str) -> Action:
    return Action("drop_index", (f"{name} is invalid: an interrupted REINDEX CONCURRENTLY left it",), index=name)


def _rebuildable(index: IndexMeasure) -> bool:
    """REINDEX CONCURRENTLY refuses exclusion constraints; an invalid index is a finding, not bloat."""
    return index.valid and not index.exclusion


def _reindex_all(measure: TableMeasure, actions: list[Action], notes: list[str]) -> None:
    if not measure.may_rebuild:
        notes.append(_not_allowed(measure))
        return
    for index in measure.indexes:
        if _rebuildable(index):
            actions.append(Action("reindex", ("asked for by name",), index=index.name, forced=True))
        elif index.valid:
            notes.append(f"{index.name} belongs to an exclusion constraint, which cannot be rebuilt online")
    if not measure.indexes:
        notes.append("it has no index")


def _reindex_bloated(
    measure: TableMeasure,
    thresholds: Thresholds,
    rebuilt: Mapping[str, float],
    actions: list[Action],
    notes: list[str],
) -> None:
    for index in measure.indexes:
        before = rebuilt.get(index.qualified)
        dense = before is not None and density(index.bytes, index.rows) <= before * SAME_DENSITY
        if dense or not _rebuildable(index) or not is_index_bloated(index, thresholds):
            continue
        reason = f"about {pretty(index.bloat_bytes)} of its {pretty(index.bytes)} are bloat ({index.bloat_ratio:.0%})"
        if measure.may_rebuild:
            actions.append(Action("reindex", (reason,), index=index.name))
        else:
            notes.append(f"index {index.name}: {reason}, but {_not_allowed(measure)}")


def _still_dense(measure: TableMeasure, rebuilt: Mapping[str, float]) -> bool:
    before = rebuilt.get(measure.qualified)
    return before is not None and density(measure.heap_bytes, measure.live) <= before * SAME_DENSITY


def _not_allowed(measure: TableMeasure) -> str:
    return (
        f"this role may not maintain it: it belongs to {measure.owner}; "
        "be a member of that role, or on PostgreSQL 17 and newer of pg_maintain"
    )


def pretty(size: int) -> str:
    """Bytes for people."""
    for limit, unit in ((1 << 30, "GB"), (MIB, "MB"), (1 << 10, "kB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} bytes"
