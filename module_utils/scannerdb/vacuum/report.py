"""The result of a run, and its plan in check mode, in the same shape. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from .measure import TableMeasure
from .plan import LOCKS, REWRITES, SHARE_UPDATE_EXCLUSIVE, Action, TableDecision, pretty
from .result import ActionResult

FROZEN_ENOUGH = 1_000_000  # transaction ids: that much younger counts as an effect
WORDS = {
    "vacuum": "vacuumed",
    "analyze": "analyzed",
    "full": "rewritten by VACUUM FULL",
    "repack": "rewritten by REPACK (CONCURRENTLY)",
    "pg_repack": "rewritten by pg_repack",
    "reindex": "index(es) rebuilt",
    "drop_index": "left-over index(es) dropped",
    "drop_repack": "cleared of what pg_repack left",
}

Texts = Callable[[TableMeasure, Action], Sequence[str]]  # the SQL of an action, for people


def had_effect(outcome: ActionResult, after: Optional[TableMeasure]) -> bool:
    """True where an action did something: a vacuum that an old snapshot made useless did not."""
    if not outcome.done:
        return False
    before = outcome.decision.measure
    if outcome.action.forced or outcome.action.kind not in ("vacuum", "analyze") or after is None:
        return True
    return (
        after.dead < before.dead
        or after.bytes < before.bytes
        or after.mod_since_analyze < before.mod_since_analyze
        or (before.analyzed is None and after.analyzed is not None)
        or before.xid_age - after.xid_age > FROZEN_ENOUGH
        or before.mxid_age - after.mxid_age > FROZEN_ENOUGH
    )


def table_rows(
    decisions: Sequence[TableDecision],
    outcomes: Sequence[ActionResult],
    after: Mapping[str, TableMeasure],
    texts: Texts,
) -> list[dict[str, Any]]:
    """One entry per table that something was (or, without outcomes, would be) done to."""
    rows = []
    for decision in decisions:
        mine = [outcome for outcome in outcomes if outcome.decision is decision]
        actions = _shown(decision, outcomes)
        if actions:
            rows.append(_row(decision.measure, actions, mine, after.get(decision.measure.qualified), texts))
    return rows


def _shown(decision: TableDecision, outcomes: Sequence[ActionResult]) -> list[Action]:
    """What was done to a table; without outcomes, what would be."""
    if not outcomes:
        return list(decision.actions)
    return [outcome.action for outcome in outcomes if outcome.decision is decision and outcome.done]


def _row(
    before: TableMeasure,
    actions: Sequence[Action],
    mine: Sequence[ActionResult],
    after: Optional[TableMeasure],
    texts: Texts,
) -> dict[str, Any]:
    done = bool(mine)
    return {
        "table": before.qualified,
        "schema": before.schema,
        "name": before.name,
        "action": ", ".join(action.words for action in actions),
        "reason": "; ".join(dict.fromkeys(reason for a in actions for reason in a.reasons)),
        "statements": [text for a in actions for text in texts(before, a)],
        "lock": max((a.lock for a in actions), key=LOCKS.index),
        "bytes_before": before.bytes,
        "bytes_after": after.bytes if done and after else None,
        "dead_before": before.dead,
        "dead_after": after.dead if done and after else None,
        "duration_s": round(sum(outcome.seconds for outcome in mine), 3) if done else None,
        "max_lock_ms": max((outcome.lock.max_lock_ms for outcome in mine), default=0.0),
        "max_wait_ms": max((outcome.lock.max_wait_ms for outcome in mine), default=0.0),
        "note": "; ".join(outcome.note for outcome in mine if outcome.done and outcome.note),
    }


def run_entry(run_id: str, at: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run is remembered by: in all, and for each table. Seconds, bytes, and the longest strong lock in ms."""
    kept = ("table", "action", "duration_s", "bytes_before", "bytes_after", "max_lock_ms", "max_wait_ms")
    return {
        "run_id": run_id,
        "at": at,
        "seconds": round(sum(row["duration_s"] or 0.0 for row in rows), 3),
        "bytes_before": sum(row["bytes_before"] for row in rows),
        "bytes_after": sum(row["bytes_before"] if row["bytes_after"] is None else row["bytes_after"] for row in rows),
        "max_lock_ms": max((row["max_lock_ms"] for row in rows), default=0.0),
        "tables": [{key: row[key] for key in kept} for row in rows],
    }


def undone_rows(decisions: Sequence[TableDecision], outcomes: Sequence[ActionResult]) -> list[dict[str, str]]:
    """What was left undone, and why: by decision, or because somebody held a lock or a right was missing.

    (Not called `skipped` in the result: Ansible takes a task with that key for one that did not run.)
    """
    rows = [{"table": d.measure.qualified, "action": "", "reason": note} for d in decisions for note in d.notes]
    for outcome in outcomes:
        if not outcome.done:
            table = outcome.decision.measure.qualified
            rows.append({"table": table, "action": outcome.action.words, "reason": outcome.why_not})
    return rows


def difference(decisions: Sequence[TableDecision], outcomes: Sequence[ActionResult], texts: Texts) -> dict[str, str]:
    """What `--diff` shows: before, why each table needs something; after, the SQL and the lock it takes."""
    before, after = [], []
    for decision in decisions:
        for action in _shown(decision, outcomes):
            before += [f"{decision.measure.qualified}: {reason}" for reason in action.reasons]
            after += [f"{text}  -- {lock}" for text, lock in _with_locks(action, texts(decision.measure, action))]
    return {
        "before_header": "what the tables need",
        "after_header": "what is done about it",
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }


def _with_locks(action: Action, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Each statement with the lock it takes: the VACUUM after a rewrite stops nobody."""
    gentle = [SHARE_UPDATE_EXCLUSIVE] if action.kind in REWRITES else []
    strong = [action.lock] * (len(texts) - len(gentle))
    return list(zip(texts, strong + gentle))


def sentence(
    examined: int, actions: Sequence[Action], given_back: Optional[int], undone: Sequence[Any], check_mode: bool
) -> str:
    """The run in one line."""
    tables = f"{examined} table{'' if examined == 1 else 's'} examined"
    counts = [
        f"{sum(action.kind == kind for action in actions)} {word}"
        for kind, word in WORDS.items()
        if any(action.kind == kind for action in actions)
    ]
    doing = "would be " if check_mode else ""
    parts = [f"{doing}{', '.join(counts)}" if counts else "nothing to do"]
    if given_back:
        parts.append(f"{pretty(given_back)} given back")
    if undone:
        parts.append(f"{len(undone)} left undone")
    return f"{tables}: {'; '.join(parts)}."
