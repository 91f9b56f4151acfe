"""The restore job: prove the source, build it beside the live database, prove that, then cut over; and the way back."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

from ..connection import Connection, Options, connect, job_entry
from ..contract.overlay import contract_with
from ..joblock import job_lock
from ..load.preflight import check_replication
from ..partial import telling_changes
from ..restore.build import clear_up, create_side, fill_side, give_properties, validate
from ..restore.cloning import clone
from ..restore.fetch import at_hand
from ..restore.heal import diagnose, find, heal
from ..restore.options import RestoreOptions
from ..restore.plan import RestorePlan, check_sessions, make_plan, plan_values, steps
from ..restore.request import (
    RestoreRequest,
    RestoreTask,
    backup_folder,
    check_request,
    counted,
    restore_request_from,
    result_of,
    state_line,
)
from ..restore.sessions import connected, named
from ..restore.switch import cut_over, require_standbys, switch_of, undo
from ..restore.tables import bring_tables
from ..restorepoint import set_restore_point
from ..runs import Run, checked_run_id, new_run_id, utc_now
from ..standbylag import standbys_missing
from .point_in_time import PointRequest, dump_of, point_request_from, read_out
from .point_shown import look_at_point
from .restore_before import pre_restore_backup

JOB = "restore"


@job_entry("The restore")
def restore(options: Options, asked: RestoreOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Restore the database, or with state `undone` swap back to the one kept by a restore; the module's result.

    In check mode the source is verified, everything that could stop the restore is looked at, the whole plan is told
    and nothing is written; likewise for a point in time that is not confirmed. Raises one of our errors; up to the
    cutover the live database is untouched then, and a cutover that fails puts everything back.
    """
    request, ask = _requests(asked)
    looks = bool(ask.target) and (ask.show or check_mode or not request.confirm)
    if not looks:
        check_request(options, request)
    state_dir = "" if check_mode else request.state_dir
    run = Run(JOB, options.db, checked_run_id(asked.run_id) if asked.run_id else new_run_id(), state_dir)
    contract = contract_with(asked.contract_overlay)  # a wrong overlay is said in check mode too
    if looks:
        return look_at_point(options, request, ask, run, check_mode)
    if check_mode:  # no lock is taken, since nothing is written
        with contextlib.closing(connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan")) as conn:
            told = diagnose(find(conn, options.db), options.db)
            return _work(conn, RestoreTask(options, request, run, contract, tuple(told), True), ask, asked)
    with telling_changes(run), job_lock(options, JOB, run.run_id, asked.lock_wait_s) as conn:
        run.log_path = asked.log_path or str(backup_folder(request) / f"restore_{utc_now():%Y%m%d_%H%M%S}.log")
        with run.failure_told():
            told = heal(conn, options.db, options)
            for line in told:
                run.log(line)
                run.note_change(line)
            began = time.monotonic()
            result = _work(conn, RestoreTask(options, request, run, contract, tuple(told)), ask, asked)
            result["restore"]["duration_s"] = round(time.monotonic() - began, 1)
            run.progress("done", replaced=not (request.tables or request.into_database))
            return result


def _requests(asked: RestoreOptions) -> tuple[RestoreRequest, PointRequest]:
    """What is asked of a restore, and of physical backups. An undo swaps the live database, whatever else is set."""
    request = restore_request_from(asked)
    if asked.state == "undone":
        return replace(request, tables=(), into_database="", masking_sql=""), PointRequest()
    return replace(request, source=dump_of(request.source)), point_request_from(asked)


def _work(conn: Connection, task: RestoreTask, ask: PointRequest, asked: RestoreOptions) -> dict[str, Any]:
    """The kind of restore that is wanted."""
    if asked.state == "undone":
        set_restore_point(conn, task.run)
        return undo(conn, task, asked.undo_run_id)
    with contextlib.ExitStack() as stack:
        request = task.request
        if ask.target:
            if not (request.tables or request.into_database):
                check_sessions(conn, task.options, request, request.grace_s)  # said before the copy is made
            request = stack.enter_context(read_out(conn, task.options, request, ask, task.run))
        ready = stack.enter_context(at_hand(task.options, request, task.run, task.check_mode))
        here = RestoreTask(task.options, ready, task.run, task.contract, task.told, task.check_mode)
        if ready.tables:
            return bring_tables(conn, here)
        if ready.into_database:
            return clone(conn, here)
        return _planned(conn, here) if task.check_mode else _restore(conn, here)


def _planned(conn: Connection, task: RestoreTask) -> dict[str, Any]:
    options, request = task.options, task.request
    plan = make_plan(conn, options, request, task.run, record=False)
    warnings = [*task.told, *plan.warnings, *plan.dependents.sentences(options.db)]
    if plan.live and not request.terminate:
        people = connected(conn, options.db)
        if people:
            warnings.append(f"These sessions would stop the restore: {named(people)}.")
    missing = standbys_missing(conn, options)
    if missing:
        warnings.append(f"This would stop the restore: {missing}")
    if request.replication != "cut" and plan.dependents.logical:
        warnings.append("This would stop the restore; scannerdb_restore_replication=cut lets it go on.")
    lines = steps(plan, request, conn, options)
    return {
        **result_of(options, task.run, plan.source.place, plan.previous, None, warnings),
        "plan": plan_values(plan, lines),
        "diff": {"before": state_line(options.db, "as it is"), "after": "".join(f"{line}\n" for line in lines)},
        "msg": f"Would restore database {options.db!r} from {plan.source.name}.",
    }


def _restore(conn: Connection, task: RestoreTask) -> dict[str, Any]:
    options, request, run = task.options, task.request, task.run
    plan = make_plan(conn, options, request, run, record=True)
    replication = plan.dependents.sentences(options.db)
    for line in [*(f"plan: {step}" for step in steps(plan, request, conn, options)), *replication]:
        run.log(line)
    check_replication(plan.dependents, options.db, request.replication == "cut")
    require_standbys(conn, options)
    if plan.live:
        check_sessions(conn, options, request, request.grace_s)  # said now, not after an hour of loading
    try:
        properties = create_side(conn, options, request, plan, run)
        backup = pre_restore_backup(options, request, plan, run)
        ignored = fill_side(conn, options, request, plan, run, task.contract)
        warnings = [*task.told, *plan.warnings, *replication, *ignored]
        warnings += validate(options, request, plan, run, task.contract)
        give_properties(conn, options, properties)
        set_restore_point(conn, run)
        done, gap = cut_over(conn, options, request, run, switch_of(task, plan))
    except BaseException:
        clear_up(conn, options, run)
        raise
    result = result_of(options, run, plan.source.place, plan.previous, gap, warnings)
    result["msg"] = f"Restored database {options.db!r} from {plan.source.name}{aftermath(plan, request.keep_hours)}."
    result["restore"]["left_out"] = request.leave_out.texts
    result["restore"].update(sessions_ended=done.ended, closed_ms=done.closed_ms, backup=backup, **counted(plan.rows))
    result["diff"] = {
        "before": state_line(options.db, "as it was" if plan.live else "missing"),
        "after": state_line(options.db, f"from {plan.source.place}"),
    }
    return result


def aftermath(plan: RestorePlan, keep_hours: float) -> str:
    """What became of the database that was there, as the end of a sentence. Pure."""
    if not plan.live:
        return "; there was nothing to back up"
    until = f" for {keep_hours:g} hours" if keep_hours > 0 else ""
    return f"; the database it replaced is kept as {plan.kept!r}{until}"
