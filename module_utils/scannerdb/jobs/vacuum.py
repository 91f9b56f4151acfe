"""The vacuum job: measure, decide, do, and say what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..argspec import budget_from, window_from
from ..connection import Connection, Options, connect, explained, job_entry
from ..errors import FileProblem, QueryFailed
from ..joblock import job_lock
from ..partial import telling_changes
from ..runs import Run, checked_run_id, new_run_id, now_text, utc_now
from ..vacuum import memory, report
from ..vacuum.competing_sessions import oldest_snapshot, outlast_dead_runs
from ..vacuum.confirm import confirmed
from ..vacuum.decide import decide, in_order
from ..vacuum.measure import TableMeasure, measure
from ..vacuum.online_rewrite import find_online_rewrite
from ..vacuum.options import VacuumOptions
from ..vacuum.plan import Action, TableDecision, VacuumRequest, vacuum_request_for
from ..vacuum.result import ActionResult, Means, VacuumStep
from ..vacuum.run import perform, texts_for
from ..vacuum.select import select
from ..vacuum.thresholds import VacuumThresholds, is_dead_heavy
from ..window import Window, outside
from .remains import remove_remains, with_remains

DEFAULT_THRESHOLDS = VacuumThresholds()


@job_entry("The vacuum")
def vacuum(
    options: Options,
    asked: VacuumOptions,
    *,
    thresholds: VacuumThresholds = DEFAULT_THRESHOLDS,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Vacuum what needs it; returns `changed`, `msg`, `diff`, `run_id`, `tables`, `left_undone` and `examined`.

    In check mode the plan is the result, whatever the time of day. Raises `InvalidInput`, `JobLocked`, any connection
    error, and `QueryFailed` when a statement failed on some table (the others have had their turn then).
    """
    request = vacuum_request_for(asked.method, asked.profile, asked.allow_exclusive)
    window = window_from(asked)
    folder, log = ("", "") if check_mode else (asked.state_dir, asked.log_path)
    run_id = checked_run_id(asked.run_id) if asked.run_id else new_run_id()
    run = Run("vacuum", options.db, run_id, folder, log)
    remains: list[str] = []
    with telling_changes(run), contextlib.ExitStack() as stack:
        if not check_mode:
            held = stack.enter_context(job_lock(options, run.job, run.run_id, asked.lock_wait_s))
            too_late = outside(window, utc_now())  # after the wait for other runs, not before
            if too_late:
                return _not_now(run, too_late)
            remains = remove_remains(held, options, run)
        conn = stack.enter_context(contextlib.closing(_session(options, run, check_mode)))
        known = memory.read_memory(asked.state_dir)
        request = dataclasses.replace(request, rate=known.rate)
        if request.compaction or request.method == "repack":
            request = dataclasses.replace(request, online=find_online_rewrite(conn, options))
        decisions = _plan(conn, asked.tables, thresholds, request, known)
        means = _means(run, options, asked, window, request.online.program)
        outcomes, after = ([], {}) if check_mode else _work(conn, decisions, means, thresholds)
        result = with_remains(_result(conn, decisions, outcomes, after, means, check_mode), remains)
        _remember(run, asked.state_dir, known, outcomes, after, result)
        run.facts.update(result)
        _close(run, outcomes, result)
    return {"run_id": run.run_id, **result}


def _remember(
    run: Run,
    state_dir: str,
    known: memory.Memory,
    outcomes: Sequence[ActionResult],
    after: Mapping[str, TableMeasure],
    result: Mapping[str, Any],
) -> None:
    """Keep what this run measured for the next one's estimates; what was done stays done where that fails."""
    if not outcomes:
        return
    entry = report.run_entry(run.run_id, now_text(), result["tables"])
    try:
        memory.remember(state_dir, memory.with_run(memory.learn(known, outcomes, after), entry))
    except FileProblem as error:
        run.log(f"what this run measured is not remembered: {error}")


def _session(options: Options, run: Run, check_mode: bool) -> Connection:
    """A session to work in, once nothing of an earlier run that was killed is at work any more."""
    conn = connect(options, purpose="vacuum plan" if check_mode else f"vacuum {run.run_id}")
    if not check_mode:
        outlast_dead_runs(conn)
    return conn


def _work(
    conn: Connection, decisions: Sequence[TableDecision], means: Means, thresholds: VacuumThresholds
) -> tuple[list[ActionResult], dict[str, TableMeasure]]:
    """Do what was decided; what came of it, and the tables measured again. Where nothing is to do, neither."""
    if not any(decision.actions for decision in decisions):
        return [], {}
    outcomes = perform(conn, decisions, means)
    after = {table.qualified: table for table in measure(conn)}
    _explain_the_rest(conn, outcomes, after, thresholds)
    return outcomes, after


def _not_now(run: Run, why: str) -> dict[str, Any]:
    """The result of a run that was begun outside its window."""
    message = f"Nothing was done. {why}"
    run.log(message)
    run.progress("outside the window", 0, 0)
    undone = [{"table": "", "action": "", "reason": why}]
    empty: dict[str, Any] = {"tables": [], "left_undone": undone, "examined": 0}
    return {"run_id": run.run_id, "changed": False, "msg": message, "diff": {"before": "", "after": ""}, **empty}


def _plan(
    conn: Connection, tables: Sequence[str], thresholds: VacuumThresholds, request: VacuumRequest, known: memory.Memory
) -> list[TableDecision]:
    chosen = select(measure(conn), tables)
    if request.compaction:
        with explained("Measuring bloat"):
            chosen = confirmed(conn, chosen, thresholds)
    return in_order([decide(table, thresholds, request, known.rebuilt) for table in chosen])


def _means(run: Run, options: Options, asked: VacuumOptions, window: Window | None, pg_repack: str) -> Means:
    """What doing needs, with the window as its gate and the run's progress file as who is told.

    What the operator says of the server's disk counts where nobody can look.
    """
    current: dict[str, Any] = {"what": "", "done": 0, "total": 0}
    free_bytes = int(asked.free_gb * (1 << 30))

    def watch(step: VacuumStep) -> None:
        current.update(what=_words(step), done=step.number - 1, total=step.total)
        run.progress(current["what"], current["done"], current["total"])
        run.log(f"{current['what']}: {'; '.join(step.action.reasons)}")

    def tell(phase: str, done: int, total: int) -> None:
        blocks = {"phase": phase, "blocks_done": done, "blocks_total": total}
        run.progress(current["what"], current["done"], current["total"], **blocks)

    def gate(action: Action) -> str:
        return why_not_now(window, action)

    def finished(outcome: ActionResult) -> None:
        run.note_change(f"{outcome.decision.measure.qualified}: {outcome.action.words} is done.")

    return Means(options, budget_from(asked), pg_repack, gate, watch, tell, free_bytes, finished)


def _words(step: VacuumStep) -> str:
    return f"{step.action.kind} {step.decision.measure.qualified} {step.action.index}".strip()


def why_not_now(window: Window | None, action: Action) -> str:
    """Why an action may not be begun at this moment; empty where it may."""
    now = utc_now()
    closed = outside(window, now)
    if closed or window is None:
        return closed
    end = window.closes(now)
    left = (end - now).total_seconds() if end else 0.0
    if action.lock_s > left:
        return f"its lock would last about {action.lock_s:.0f} s, and the window {window} closes in {left:.0f} s"
    return ""


def _explain_the_rest(
    conn: Connection, outcomes: Sequence[ActionResult], after: dict[str, TableMeasure], thresholds: VacuumThresholds
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
    decisions: Sequence[TableDecision],
    outcomes: Sequence[ActionResult],
    after: Mapping[str, TableMeasure],
    means: Means,
    check_mode: bool,
) -> dict[str, Any]:
    def texts(table: TableMeasure, action: Action) -> list[str]:
        return texts_for(conn, table, action, means)

    with explained("Putting the statements into words"):
        rows = report.table_rows(decisions, outcomes, after, texts)
        diff = report.difference(decisions, outcomes, texts)
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


def _close(run: Run, outcomes: Sequence[ActionResult], result: dict[str, Any]) -> None:
    for row in result["tables"] if outcomes else ():
        run.log(
            f"done: {row['table']}: {row['action']} in {row['duration_s']} s; dead rows {row['dead_before']} to "
            f"{row['dead_after']}, bytes {row['bytes_before']} to {row['bytes_after']}. {row['note']}".rstrip()
        )
    for row in result["left_undone"]:
        run.log(f"left undone: {row['table']}: {row['reason']}")
    run.log(result["msg"])
    failed = [f"{o.decision.measure.qualified}: {o.why_not}" for o in outcomes if o.error]
    run.progress("failed" if failed else "done", len(outcomes), len(outcomes))
    if failed:
        raise QueryFailed(
            f"{len(failed)} of {len(outcomes)} steps failed: {' '.join(failed)}",
            "The other tables have had their turn; run again when the cause is gone.",
        )
