"""What each table needs, and why: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .ladder import full, leftovers, rewrite
from .measure import IndexMeasure, TableMeasure
from .plan import MOMENTS, Action, TableDecision, VacuumRequest, pretty
from .thresholds import VacuumThresholds, is_dead_heavy, is_index_bloated, is_worth_rewriting

SAME_DENSITY = 1.2  # bytes per row within this factor of the last rebuild's: a further one would gain nothing


def density(size: int, rows: float) -> float:
    """Bytes per row: what `decide` remembers of a rebuild."""
    return size / max(rows, 1.0)


def decide(
    measure: TableMeasure,
    thresholds: VacuumThresholds,
    request: VacuumRequest,
    rebuilt: Mapping[str, float] | None = None,
) -> TableDecision:
    """What one table needs under `request`.

    `rebuilt` holds the bytes per row right after the last rebuild, by the qualified name of a table or an index: where
    an object is still about as dense as then, the estimate is wrong and another rebuild would gain nothing.
    """
    if not measure.may_vacuum:
        return TableDecision(measure, notes=(_not_allowed(measure),))
    notes: list[str] = []
    left = leftovers((index.name, index.valid) for index in measure.indexes)
    actions = [_drop(name) for name in left if measure.may_rebuild]
    if measure.repack_debris:
        said = "an interrupted pg_repack left its trigger and its tables behind"
        actions.append(Action("drop_repack", (said,), lock=MOMENTS))
    if left and not measure.may_rebuild:
        notes.append(f"an interrupted REINDEX left {', '.join(left)} invalid, but {_not_allowed(measure)}")
    if request.method == "full":
        actions.append(full(measure, request, "asked for by name", forced=True))
    elif request.method == "repack":
        action = _rewritten(measure, request, "asked for by name", notes, forced=True)
        actions += [action] if action else []
    elif request.method == "reindex":
        _reindex_all(measure, actions, notes)
    elif request.method == "vacuum":
        actions.append(Action("vacuum", ("asked for by name", *_vacuum_reasons(measure, thresholds)), forced=True))
    else:
        _by_need(measure, thresholds, request, rebuilt or {}, actions, notes)
    return TableDecision(measure, tuple(actions), tuple(notes))


def in_order(decisions: Sequence[TableDecision]) -> list[TableDecision]:
    """The tables with the oldest transaction ids first: they are the ones that must not wait."""
    return sorted(decisions, key=lambda d: (-d.measure.xid_age, d.measure.schema, d.measure.name))


def _by_need(
    measure: TableMeasure,
    thresholds: VacuumThresholds,
    request: VacuumRequest,
    rebuilt: Mapping[str, float],
    actions: list[Action],
    notes: list[str],
) -> None:
    gentle, unable = _gentle(measure, thresholds, request, rebuilt)
    if request.compaction and is_worth_rewriting(measure, thresholds) and not _still_dense(measure, rebuilt):
        action = _rewritten(measure, request, _waste_sentence(measure, thresholds), notes)
        if action:
            actions.append(replace(action, instead=tuple(gentle)))
            return
    actions += gentle
    notes += unable


def _gentle(
    measure: TableMeasure, thresholds: VacuumThresholds, request: VacuumRequest, rebuilt: Mapping[str, float]
) -> tuple[list[Action], list[str]]:
    """What a table needs that stops nobody, and what of it this role may not do."""
    actions: list[Action] = []
    notes: list[str] = []
    old = _old_age(measure, thresholds)
    reasons = _vacuum_reasons(measure, thresholds)
    stale = _stale_statistics(measure, thresholds)
    if reasons:
        actions.append(Action("vacuum", tuple(reasons + stale), freeze=bool(old)))
    elif stale:
        actions.append(Action("analyze", tuple(stale)))
    if request.compaction:
        _reindex_bloated(measure, thresholds, rebuilt, actions, notes)
    return actions, notes


def _rewritten(
    measure: TableMeasure, request: VacuumRequest, reason: str, notes: list[str], forced: bool = False
) -> Action | None:
    """The rewrite of a table; None and a note where there is none."""
    action, why_not = rewrite(measure, request, reason, forced)
    if action is None:
        notes.append(f"{reason}; but {why_not}")
    return action


def _vacuum_reasons(measure: TableMeasure, thresholds: VacuumThresholds) -> list[str]:
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


def _old_age(measure: TableMeasure, thresholds: VacuumThresholds) -> list[str]:
    ages = (
        ("transaction", measure.xid_age, measure.freeze_max_age),
        ("multixact", measure.mxid_age, measure.mxid_freeze_max_age),
    )
    return [
        f"its oldest {what} id is {age} old, near the {limit} at which a vacuum is forced"
        for what, age, limit in ages
        if age >= thresholds.freeze_share * limit
    ]


def _stale_statistics(measure: TableMeasure, thresholds: VacuumThresholds) -> list[str]:
    if measure.heap_bytes and measure.analyzed is None and not measure.has_statistics:
        return ["it was never analyzed"]
    limit = max(thresholds.changed_rows, thresholds.changed_limit(measure.live) * measure.live)
    if measure.mod_since_analyze >= limit:
        return [f"{measure.mod_since_analyze} rows have changed since its statistics were made (limit {limit:.0f})"]
    return []


def _waste_sentence(measure: TableMeasure, thresholds: VacuumThresholds) -> str:
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return (
        f"a rewrite would give back about {pretty(measure.waste_bytes)} of its {pretty(measure.heap_bytes)} "
        f"({measure.waste_ratio:.0%}; the limit at this size is {limit:.0%})"
    )


def _drop(name: str) -> Action:
    return Action("drop_index", (f"{name} is invalid: an interrupted REINDEX CONCURRENTLY left it",), index=name)


def _rebuild(index: IndexMeasure, reason: str, forced: bool = False) -> Action:
    return Action("reindex", (reason,), index=index.name, forced=forced, room=index.bytes)


def _rebuildable(index: IndexMeasure) -> bool:
    """REINDEX CONCURRENTLY refuses exclusion constraints; an invalid index is a finding, not bloat."""
    return index.valid and not index.exclusion


def _reindex_all(measure: TableMeasure, actions: list[Action], notes: list[str]) -> None:
    if not measure.may_rebuild:
        notes.append(_not_allowed(measure))
        return
    for index in measure.indexes:
        if _rebuildable(index):
            actions.append(_rebuild(index, "asked for by name", forced=True))
        elif index.valid:
            notes.append(f"{index.name} belongs to an exclusion constraint, which cannot be rebuilt online")
    if not measure.indexes:
        notes.append("it has no index")


def _reindex_bloated(
    measure: TableMeasure,
    thresholds: VacuumThresholds,
    rebuilt: Mapping[str, float],
    actions: list[Action],
    notes: list[str],
) -> None:
    for index in measure.indexes:
        before = rebuilt.get(index.qualified)
        dense = before is not None and density(index.bytes, index.rows) <= before * SAME_DENSITY
        if dense or not _rebuildable(index) or not is_index_bloated(index, thresholds):
            continue
        share = f"{index.bloat_ratio:.0%}; the limit at this size is {thresholds.index_bloat_limit(index.bytes):.0%}"
        reason = f"about {pretty(index.bloat_bytes)} of the {pretty(index.bytes)} of {index.name} are bloat ({share})"
        if measure.may_rebuild:
            actions.append(_rebuild(index, reason))
        else:
            notes.append(f"{reason}, but {_not_allowed(measure)}")


def _still_dense(measure: TableMeasure, rebuilt: Mapping[str, float]) -> bool:
    before = rebuilt.get(measure.qualified)
    return before is not None and density(measure.heap_bytes, measure.live) <= before * SAME_DENSITY


def _not_allowed(measure: TableMeasure) -> str:
    return (
        f"this role may not maintain it: it belongs to {measure.owner}; "
        "be a member of that role, or on PostgreSQL 17 and newer of pg_maintain"
    )
