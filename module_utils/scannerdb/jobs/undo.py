"""Take back what a fix run did to rows, out of the journal: backwards, and only rows nobody has changed since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connection import Options, connect, explained
from ..errors import InvalidInput
from ..fixes.apply import Applier
from ..fixes.journal import journal_exists
from ..fixes.undo import Undoer
from ..joblock import job_lock
from ..lockbudget import Budget
from ..runs import Run, checked_run_id

BATCH_ROWS = 2000


@explained("The undo")
def undo(
    options: Options,
    *,
    run_id: str,
    only: tuple[str, ...] = (),
    budget: Budget | None = None,
    lock_wait_s: int = 0,
    log_path: str = "",
    state_dir: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Undo the rows of run `run_id`, or of its fixes that match `only`.

    Returns changed, run_id, fixed (rows and structures put back for each fix), conflicts (what was left, each with the
    reason). A run that is undone already changes nothing. Tables, columns and the view are never dropped.
    """
    checked_run_id(run_id)
    run = Run("undo", options.db, state_dir="" if check_mode else state_dir, log_path="" if check_mode else log_path)
    session = connect(options, purpose=f"undo {run.run_id}", role_search_path=True)
    with job_lock(options, "undo", run.run_id, lock_wait_s), session as conn:
        if not journal_exists(conn):
            raise InvalidInput(f"Database {options.db!r} has no journal, so no run can be undone.")
        budget = budget or Budget()
        applier = Applier(conn, run.run_id, "", budget, 0, {}, run.log, run.progress, journal=False)
        undoer = Undoer(conn, run_id, only, budget, BATCH_ROWS, applier.change)
        if not undoer.known():
            raise InvalidInput(
                f"The journal of {options.db!r} knows no run {run_id}.",
                f"It knows {', '.join(undoer.others()) or 'none'}.",
            )
        planned = undoer.pending()
        if check_mode:
            return _result(run_id, planned, [], planned, check_mode=True)
        undoer.progress = _progress(run, sum(planned.values()))
        done = undoer.run()
        result = _result(run_id, done, undoer.conflicts, planned, check_mode=False)
        run.log(result["msg"])
        run.progress("done")
        return result


def _progress(run: Run, total: int) -> Callable[[int], None]:
    return lambda rows: run.progress("undoing", rows, total)


def _result(
    run_id: str, done: dict[str, int], conflicts: list[dict[str, Any]], planned: dict[str, int], check_mode: bool
) -> dict[str, Any]:
    rows = sum(done.values())
    verb = "would be looked at" if check_mode else "put back"
    message = f"{rows} rows {verb}" + (
        f", {len(conflicts)} left because somebody has changed them" if conflicts else ""
    )
    lines = [f"-- {fix_id}: {count} journalled entries to put back" for fix_id, count in sorted(planned.items())]
    return {
        "changed": rows > 0,
        "run_id": run_id,
        "msg": message + ".",
        "fixed": [{"id": fix_id, "rows": count} for fix_id, count in sorted(done.items()) if count],
        "conflicts": conflicts,
        "left_undone": [],
        "statements": [],
        "failures": [],
        "max_lock_ms": 0.0,
        "diff": {"before": "", "after": "\n".join(lines) + ("\n" if lines else "")},
    }
