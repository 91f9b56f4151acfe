"""Take back what a fix run did to rows, out of the journal: backwards, and only rows nobody has changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..connection import Options, connect, job_entry, text_of
from ..contract.introspect import read_catalog
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..contract.reversal import changes_of
from ..errors import InvalidInput, ScannerDbError
from ..finding import Reversal
from ..fixes.apply import Applier
from ..fixes.convert_back import convert_back, said_back
from ..fixes.journal import ensure_journal, journal_exists, journal_report
from ..fixes.retyped import KIND as CONVERSION
from ..fixes.seals import keys_of
from ..fixes.undo import Undoer
from ..frame import Frames
from ..joblock import job_lock
from ..lockbudget import Budget
from ..partial import telling
from ..restorepoint import set_restore_point
from ..runs import Run, checked_run_id

BATCH_ROWS = 2000


@job_entry("The undo")
def undo(
    options: Options,
    *,
    run_id: str,
    only: tuple[str, ...] = (),
    overlay: Mapping[str, Any] | None = None,
    unsealed: bool = False,
    budget: Budget | None = None,
    lock_wait_s: int = 0,
    log_path: str = "",
    state_dir: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Undo the rows of run `run_id`, or of its fixes that match `only`.

    Returns changed, run_id, fixed (rows and structures put back for each fix), conflicts (what was left, each with the
    reason). A run that is undone already changes nothing. Tables, columns and the view are never dropped. Entries that
    this host did not write are left, unless `unsealed` says otherwise.
    """
    checked_run_id(run_id)
    contract = contract_with(overlay)
    run = Run("undo", options.db, state_dir="" if check_mode else state_dir, log_path="" if check_mode else log_path)
    session = connect(options, purpose=f"undo {run.run_id}")
    with job_lock(options, "undo", run.run_id, lock_wait_s), session as conn:
        frames = Frames(conn)
        if not journal_exists(conn):
            raise InvalidInput(f"Database {options.db!r} has no journal, so no run can be undone.")
        if check_mode:
            journal_report(conn)  # refuses one that is not as we make it
        else:
            ensure_journal(conn, read_catalog(conn, contract).owner, contract.application_role)
        undoer = _undoer(frames, contract, run, run_id, only, budget or Budget())
        undoer.keys, undoer.unsealed = keys_of(state_dir, make=False), unsealed
        if not undoer.known():
            raise InvalidInput(
                f"The journal of {options.db!r} knows no run {run_id}.",
                f"It knows {', '.join(undoer.others()) or 'none'}.",
            )
        planned = undoer.pending()
        shown = _shown(undoer, planned)
        if check_mode:
            return _result(undoer, planned, shown, check_mode=True)
        if planned:
            set_restore_point(conn, run)
        undoer.progress = _progress(run, sum(planned.values()))
        with telling(lambda: _result(undoer, dict(undoer.done), shown, check_mode=False)):
            result = _result(undoer, undoer.run(), shown, check_mode=False)
        run.log(result["msg"])
        run.progress("done")
        return result


def _undoer(frames: Frames, contract: Contract, run: Run, run_id: str, only: tuple[str, ...], budget: Budget) -> Undoer:
    application = contract.application_role
    applier = Applier(frames, run.run_id, "", application, budget, 0, {}, run.log, run.progress, journal=False)

    def reverse(reversal: Reversal, what: str) -> None:
        if reversal.kind == CONVERSION:
            convert_back(frames, reversal, application, budget, applier.record)
            return
        for change in changes_of(reversal):
            applier.change(change, what)

    return Undoer(frames, run_id, only, budget, BATCH_ROWS, application, reverse, record=applier.record)


def _shown(undoer: Undoer, planned: Mapping[str, int]) -> list[str]:
    """What would be done, for `--diff`: entries to put back, the SQL of structures, and entries that are not ours."""
    lines = [f"-- {fix_id}: {count} journalled entries to put back" for fix_id, count in sorted(planned.items())]
    for reversal in undoer.reversals():
        try:
            if reversal.kind == CONVERSION:
                lines += [f"-- {said_back(reversal)}"]
                continue
            lines += [text_of(statement) + ";" for change in changes_of(reversal) for statement in change.statements]
        except ScannerDbError as error:
            lines.append(f"-- left: {error}")
    strange = {} if undoer.unsealed else undoer.unproven()
    return lines + [
        f"-- {fix_id}: {count} entries that this host did not write are left (scannerdb_undo_unsealed)"
        for fix_id, count in sorted(strange.items())
    ]


def _progress(run: Run, total: int) -> Callable[[int], None]:
    return lambda rows: run.progress("undoing", rows, total)


def _result(undoer: Undoer, done: dict[str, int], lines: list[str], check_mode: bool) -> dict[str, Any]:
    rows, conflicts = sum(done.values()), undoer.conflicts
    verb = "would be looked at" if check_mode else "put back"
    message = f"{rows} rows {verb}" + (
        f", {len(conflicts)} left, each with its reason in conflicts" if conflicts else ""
    )
    return {
        "changed": rows > 0,
        "run_id": undoer.run_id,
        "msg": message + ".",
        "fixed": [{"id": fix_id, "rows": count} for fix_id, count in sorted(done.items()) if count],
        "conflicts": conflicts,
        "left_undone": [],
        "statements": [],
        "failures": [],
        **undoer.record.public(undoer.budget.timeout_ms, f"at most {BATCH_ROWS} in one transaction"),
        "diff": {"before": "", "after": "\n".join(lines) + ("\n" if lines else "")},
    }
