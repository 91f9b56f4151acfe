"""The vacuum job: measure, decide, do, and say what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..connection import Connection, Options, connect, explained
from ..errors import QueryFailed
from ..files import ensure_folder, file_errors, write_atomic
from ..joblock import job_lock
from ..lockbudget import Budget
from ..runs import Run, checked_run_id, new_run_id
from ..vacuum import memory, report
from ..vacuum.decide import (
    Action,
    Decision,
    Thresholds,
    Wish,
    decide,
    in_order,
    is_dead_heavy,
    wish_for,
)
from ..vacuum.measure import TableMeasure, measure
from ..vacuum.run import Outcome, Step, oldest_snapshot, perform, queries_for
from ..vacuum.select import select
from ..vacuum.statements import as_text

MEMORY_FILE = "vacuum.json"
DEFAULT_BUDGET = Budget()
DEFAULT_THRESHOLDS = Thresholds()


def vacuum(
    options: Options,
    *,
    method: str = "auto",
    profile: str = "weekly",
    tables: Sequence[str] = (),
    allow_exclusive: bool = False,
    budget: Budget = DEFAULT_BUDGET,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    lock_wait_s: float = 0,
    log_path: str = "",
    state_dir: str = "",
    run_id: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Vacuum what needs it; returns `changed`, `msg`, `diff`, `run_id`, `tables`, `left_undone` and `examined`.

    `method` auto does what each table needs, with compaction where `profile` is monthly or `method` is compact; the
    other methods do to the chosen `tables` what their name says, need or not. In check mode the plan is the result.
    Raises `InvalidInput`, `JobLocked`, any connection error, and `QueryFailed` when a statement failed on some table
    (the others have had their turn then).
    """
    wish = wish_for(method, profile, allow_exclusive)
    folder, log = ("", "") if check_mode else (state_dir, log_path)
    run = Run("vacuum", options.db, checked_run_id(run_id) if run_id else new_run_id(), folder, log)
    with contextlib.ExitStack() as stack:
        if not check_mode:
            stack.enter_context(job_lock(options, run.job, run.run_id, lock_wait_s))
        conn = stack.enter_context(contextlib.closing(connect(options, purpose=f"vacuum {run.run_id}")))
        known = memory.parse(_read(state_dir))
        decisions = _plan(conn, tables, thresholds, wish, known)
        outcomes: list[Outcome] = []
        after: dict[str, TableMeasure] = {}
        if not check_mode and any(decision.actions for decision in decisions):
            outcomes = perform(conn, decisions, budget, lambda step: _tell(run, step))
            after = {table.qualified: table for table in measure(conn)}
            _explain_the_rest(conn, outcomes, after, thresholds)
            _remember(state_dir, known, memory.learn(known, outcomes, after))
        result = _result(conn, decisions, outcomes, after, check_mode)
    _close(run, outcomes, result)
    return {"run_id": run.run_id, **result}


def _plan(
    conn: Connection, tables: Sequence[str], thresholds: Thresholds, wish: Wish, known: dict[str, float]
) -> list[Decision]:
    chosen = select(measure(conn), tables)
    return in_order([decide(table, thresholds, wish, known) for table in chosen])


def _read(state_dir: str) -> str:
    path = Path(state_dir, MEMORY_FILE)
    if not state_dir or not path.exists():
        return ""
    with file_errors("Reading", path):
        return path.read_text(encoding="utf-8", errors="replace")


def _remember(state_dir: str, known: dict[str, float], learnt: dict[str, float]) -> None:
    if state_dir and learnt != known:
        write_atomic(ensure_folder(state_dir) / MEMORY_FILE, memory.render(learnt))


def _tell(run: Run, step: Step) -> None:
    what = f"{step.action.kind} {step.decision.measure.qualified} {step.action.index}".strip()
    run.progress(what, step.number - 1, step.total)
    run.log(f"{what}: {'; '.join(step.action.reasons)}")


def _explain_the_rest(
    conn: Connection, outcomes: Sequence[Outcome], after: dict[str, TableMeasure], thresholds: Thresholds
) -> None:
    """Say why dead rows are still there after a vacuum."""
    holder = None
    for outcome in outcomes:
        now = after.get(outcome.decision.measure.qualified)
        if outcome.action.kind != "vacuum" or not outcome.done or now is None or not is_dead_heavy(now, thresholds):
            continue
        holder = oldest_snapshot(conn) if holder is None else holder
        whom = f"{holder} may still see them" if holder else "somebody may still see them, or writes very fast"
        outcome.note = "; ".join(filter(None, (outcome.note, f"{now.dead} dead rows could not be removed: {whom}")))


def _result(
    conn: Connection,
    decisions: Sequence[Decision],
    outcomes: Sequence[Outcome],
    after: dict[str, TableMeasure],
    check_mode: bool,
) -> dict[str, Any]:
    def texts(table: TableMeasure, action: Action) -> list[str]:
        return [as_text(query) for query in queries_for(conn, table, action)]

    with explained("Putting the statements into words"):
        rows = report.table_rows(decisions, outcomes, after, texts)
        diff = report.difference(rows, decisions, outcomes, texts)
    undone = report.undone_rows(decisions, outcomes)
    planned = [action for decision in decisions for action in decision.actions]
    done = [o.action for o in outcomes if o.done]
    saved = sum(max(0, row["bytes_before"] - row["bytes_after"]) for row in rows if row["bytes_after"] is not None)
    effects = [report.had_effect(o, after.get(o.decision.measure.qualified)) for o in outcomes]
    actions = planned if check_mode else done
    return {
        "changed": bool(planned) if check_mode else any(effects),
        "msg": report.sentence(len(decisions), actions, saved, undone, check_mode),
        "diff": diff,
        "tables": rows,
        "left_undone": undone,
        "examined": len(decisions),
    }


def _close(run: Run, outcomes: Sequence[Outcome], result: dict[str, Any]) -> None:
    for row in result["tables"] if outcomes else ():
        run.log(
            f"done: {row['table']}: {row['action']} in {row['duration_s']} s; dead rows {row['dead_before']} to "
            f"{row['dead_after']}, bytes {row['bytes_before']} to {row['bytes_after']}. {row['note']}".rstrip()
        )
    for row in result["left_undone"]:
        run.log(f"left undone: {row['table']}: {row['reason']}")
    run.log(result["msg"])
    run.progress("done", len(outcomes), len(outcomes))
    failed = [f"{o.decision.measure.qualified}: {o.error}" for o in outcomes if o.error]
    if failed:
        raise QueryFailed(
            f"{len(failed)} of {len(outcomes)} steps failed: {' '.join(failed)}",
            "The other tables have had their turn; run again when the cause is gone.",
        )
