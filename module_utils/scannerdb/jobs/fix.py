"""The fix job: plan from the findings, make sure there is a way back, apply, prove."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks.expiry import DUE as EXPIRED
from ..clock import clocks_apart
from ..connection import Options, connect, job_entry, survived
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import FileProblem, FixRefused, ScannerDbError
from ..finding import Finding, matches
from ..fixes.apply import Applier, table_rows
from ..fixes.attempts import ROWS, broken_off, finished
from ..fixes.journal import ensure_journal, journal_report, purge
from ..fixes.journal_rights import require_journal_rights
from ..fixes.options import FixOptions
from ..fixes.policy import (
    FixPlan,
    FixPolicy,
    FixStep,
    make_plan,
    plan_diff,
    skipped,
    too_large,
)
from ..fixes.seals import Keys, keys_of
from ..frame import Frames
from ..joblock import job_lock
from ..lockbudget import Budget, LockRecord
from ..partial import telling, way_back
from ..restorepoint import set_restore_point
from ..runs import Run, utc_now
from ..sets.catalogue import BackupSet, list_sets, newest_verified
from ..sets.signing import NOBODY, Trust
from ..standbylag import MOST_BEHIND, standbys_missing
from ..window import Window, outside
from .inspect import Inspection, inspect
from .remains import remove_remains, with_remains
from .schema import prove, write_probe_of

MAKES_ROOM_FOR_MORE = [
    *("schema.table.missing", "schema.column.missing", "schema.column.type", "schema.foreign_key.*", "index.invalid"),
]
PASSES = 3
VIEW_LOG = "view_update_fix.log"


@dataclass(frozen=True)
class Working:
    """How rows are changed: the first batch's rows, whether and for how long the journal keeps them, and how many
    bytes a standby may be behind before the run pauses."""

    batch_rows: int = FixOptions.batch_rows
    journal: bool = FixOptions.journal
    journal_days: int = FixOptions.journal_days
    max_lag_bytes: int = MOST_BEHIND


@dataclass(frozen=True)
class Safety:
    """The backup that must exist before anything is changed."""

    require_backup: bool = FixOptions.require_backup
    backup_dir: str = FixOptions.backup_dir
    max_age_h: float = FixOptions.backup_max_age_h
    level: str = FixOptions.backup_level
    trust: Trust = NOBODY


CONSENTS = ("replace_foreign", "drop_indexes", "counters")  # options without which a fix is only offered


def policy_from(request: FixOptions) -> FixPolicy:
    """The site's choices."""
    consents = {f"scannerdb_fix_{name}" for name in CONSENTS if getattr(request, name)}
    return FixPolicy(
        only=tuple(request.only),
        skip=tuple(request.skip),
        dates=request.dates,
        honeypots=request.honeypots,
        inactive=request.inactive,
        types=request.types,
        types_zone=request.types_zone,
        consents=frozenset(consents),
        max_share=request.max_share,
    )


def safety_from(request: FixOptions) -> Safety:
    """The backup that must exist."""
    return Safety(
        require_backup=request.require_backup,
        backup_dir=request.backup_dir or "",
        max_age_h=request.backup_max_age_h,
        level=request.backup_level,
        trust=Trust(request.state_dir or "", tuple(request.trusted_signers)).checked(),
    )


def working_from(request: FixOptions) -> Working:
    """How rows are changed."""
    return Working(request.batch_rows, request.journal, request.journal_days, request.max_lag_mb << 20)


@job_entry("The fix")
def fix(
    options: Options,
    *,
    overlay: Mapping[str, Any] | None = None,
    policy: FixPolicy | None = None,
    safety: Safety | None = None,
    budget: Budget | None = None,
    working: Working | None = None,
    window: Window | None = None,
    lock_wait_s: int = 0,
    log_path: str = "",
    state_dir: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Repair what the checks find, as far as the policy goes.

    Returns changed, run_id, fixed, left_undone, statements, failures, max_lock_ms, max_wait_ms, diff. A second run
    right after changes nothing. Outside of `window` no fix is begun, and what was to be done is left. Raises
    `FixRefused` before anything is changed.
    """
    task = FixTask(
        options,
        contract_with(overlay),
        policy or FixPolicy(),
        safety or Safety(),
        budget or Budget(),
        working or Working(),
        window,
        lock_wait_s,
        state_dir,
        check_mode,
    )
    run = Run("fix", options.db, state_dir="" if check_mode else state_dir, log_path="" if check_mode else log_path)
    return _in_attempts(task, run)


def _in_attempts(task: FixTask, run: Run) -> dict[str, Any]:
    """The fix, which begins again where the primary was replaced. What was done before is told however it ends."""
    parts: list[dict[str, Any]] = []  # what each attempt that broke off had done

    def attempt() -> dict[str, Any]:
        try:
            return _fix(task, run)
        except ScannerDbError as error:
            parts.extend([error.done] if error.done else [])
            raise

    try:
        result = survived("The fix", attempt, run.log)
    except ScannerDbError as error:
        if len(parts) > bool(error.done):  # more than the error tells by itself
            back = way_back(run.run_id) if task.working.journal else ""
            error.done = broken_off(parts, str(error), back, task.budget.timeout_ms)
        raise
    return finished(parts, result, task.budget.timeout_ms)


@dataclass(frozen=True)
class FixTask:
    """All that a fix was given."""

    options: Options
    contract: Contract
    policy: FixPolicy
    safety: Safety
    budget: Budget
    working: Working
    window: Window | None
    lock_wait_s: int
    state_dir: str
    check_mode: bool


def _fix(task: FixTask, run: Run) -> dict[str, Any]:
    options, contract, policy, budget, working = task.options, task.contract, task.policy, task.budget, task.working
    window = task.window
    with (
        job_lock(options, "fix", run.run_id, task.lock_wait_s) as held,
        connect(options, purpose=f"fix {run.run_id}") as conn,
    ):
        require_journal_rights(conn)
        frames = Frames(conn)
        inspection = inspect(conn, contract, policy)
        rows = table_rows(conn, contract.schema)
        plan = make_plan(_only_own_database(contract, inspection), policy, rows)
        _refuse_large(plan, rows, policy)
        _leave_without_backup(options, task.safety, plan)
        if task.check_mode:
            return {**_planned(plan, run), "journal": journal_report(conn)}
        closed = outside(window, utc_now()) or standbys_missing(held, options)
        if plan.steps and not closed:
            _require_backup(options, task.safety, run)
            set_restore_point(conn, run)
        wanted = working.journal and bool(plan.steps) and not closed
        ensure_journal(conn, inspection.catalog.owner, contract.application_role, make=wanted)
        applier = _applier(frames, contract, inspection, budget, working, run)
        applier.keys = _keys(task.state_dir, wanted, run)
        applier.gate = lambda: closed or outside(window, utc_now()) or standbys_missing(held, options)  # as it began
        with telling(lambda: _told(_applied(plan, applier, run, {"purged": 0}), applier)):
            plan = _apply_all(applier, contract, policy, plan)
            purged = 0 if applier.gate() or clocks_apart(conn) else purge(conn, working.journal_days)
            result = _applied(plan, applier, run, {**journal_report(conn), "purged": purged})
            if any(matches(done["id"], ["schema.*"]) for done in applier.fixed):
                prove(result, write_probe_of(conn, contract, inspect(conn, contract, policy).findings), run)
            remains = remove_remains(held, options, run)
        result = _told(result, applier) if result["failures"] else result
        run.log(result["msg"])
        _log_view(run, applier.fixed)
        run.progress("done", len(applier.fixed), len(applier.fixed))
        return with_remains(result, remains)


def _log_view(run: Run, fixed: Sequence[Mapping[str, Any]]) -> None:
    """The old view script's log has what was done to the view, whoever does it."""
    view = [done for done in fixed if matches(done["id"], ["schema.view.*"])]
    if view and run.log_path:
        log = dataclasses.replace(run, log_path=str(Path(run.log_path).with_name(VIEW_LOG)))
        for done in view:
            log.log(f"fixed {done['id']} on {done['object']}: {done['message']}")


def _keys(state_dir: str, wanted: bool, run: Run) -> Keys | None:
    """The key that seals the journal. A full or read-only state folder stops no fix; its undo is insisted on then."""
    try:
        return keys_of(state_dir, make=wanted)
    except FileProblem as error:
        run.log(f"The journal is not sealed, so that undo.yml asks for scannerdb_undo_unsealed=true: {error}")
        return None


def _only_own_database(contract: Contract, inspection: Inspection) -> list[Finding]:
    """The findings; without their fixes where not one table of the contract is here.

    That is an empty database, or somebody else's under a mistyped name: making tables in it is for deploy.yml.
    """
    if any(name in inspection.catalog.tables for name in contract.tables):
        return inspection.findings
    why = "none of the contract's tables is in this database; if it is the right one, playbooks/deploy.yml makes them"
    return [dataclasses.replace(f, fix=None, why_no_fix=why) for f in inspection.findings]


def _applier(
    frames: Frames, contract: Contract, inspection: Inspection, budget: Budget, working: Working, run: Run
) -> Applier:
    return Applier(
        frames,
        run.run_id,
        contract.schema,
        contract.application_role,
        budget,
        working.batch_rows,
        inspection.data_fixes,
        run.log,
        run.progress,
        working.journal,
        working.max_lag_bytes,
    )


def _apply_all(applier: Applier, contract: Contract, policy: FixPolicy, plan: FixPlan) -> FixPlan:
    """Apply, and look again where a fix made others possible (a new column has rows to fill). Returns the last plan."""
    tried: set[tuple[str, str]] = set()
    first = plan
    for _ in range(PASSES):
        steps = [s for s in plan.steps if (s.finding.id, s.finding.object) not in tried]
        before = len(applier.fixed)
        applier.apply(steps)
        tried |= {(s.finding.id, s.finding.object) for s in steps}
        if not any(matches(done["id"], MAKES_ROOM_FOR_MORE) for done in applier.fixed[before:]):
            break
        inspection = inspect(applier.conn, contract, policy)
        applier.data_fixes = inspection.data_fixes
        plan = make_plan(inspection.findings, policy)
    return FixPlan(first.steps, plan.skipped)


def _refuse_large(plan: FixPlan, rows: Mapping[str, int], policy: FixPolicy) -> None:
    large = too_large(plan.steps, rows, policy)
    if large:
        raise FixRefused(
            f"{'; '.join(large)}, more than scannerdb_fix_max_share allows.",
            "Look at the report; raise scannerdb_fix_max_share if it is right.",
        )


def _require_backup(options: Options, safety: Safety, run: Run) -> None:
    if not safety.require_backup:
        run.log("scannerdb_fix_require_backup is false: no backup was asked for")
        return
    backup = _fresh_backup(options, safety)
    if backup is None:
        raise FixRefused(
            f"There is no backup of {options.db!r} in {safety.backup_dir or '(no folder given)'} that is younger than "
            f"{safety.max_age_h:g} h and verified by '{safety.level}' or better; nothing was changed.",
            "Run playbooks/backup.yml first (maintain.yml does), or set scannerdb_fix_require_backup=false.",
        )
    run.log(f"way back: backup {backup.name}, verified by {backup.verified}")


def _fresh_backup(options: Options, safety: Safety) -> BackupSet | None:
    if not (safety.backup_dir and Path(safety.backup_dir).is_dir()):
        return None
    sets = list_sets(safety.backup_dir, options.db, safety.trust).sets
    return newest_verified(sets, safety.level, datetime.timedelta(hours=safety.max_age_h), utc_now())


def _leave_without_backup(options: Options, safety: Safety, plan: FixPlan) -> None:
    """Rows that no journal can bring back are left without a backup, whatever scannerdb_fix_require_backup says."""
    final = [step for step in plan.steps if step.finding.id == EXPIRED]
    if final and not safety.require_backup and _fresh_backup(options, safety) is None:
        why = "it removes rows for good, and there is no fresh, verified backup in scannerdb_backup_dir"
        plan.steps = [step for step in plan.steps if step not in final]
        plan.skipped += [
            {**skipped(step.finding, why), "severity": "warning"} for step in final
        ]  # asked for, and not done


def _step(step: FixStep) -> dict[str, Any]:
    return {
        "id": step.finding.id,
        "object": step.finding.object,
        "message": step.finding.message,
        "rows": step.fix.rows,
        "lock": step.fix.lock,
        "expected_s": step.expected_s,
    }


def _planned(plan: FixPlan, run: Run) -> dict[str, Any]:
    return {
        "changed": bool(plan.steps),
        "run_id": run.run_id,
        "msg": f"{len(plan.steps)} fixes would be applied, {len(plan.skipped)} findings would be left."
        + _leaving(plan),
        "fixed": [_step(step) for step in plan.steps],
        "left_undone": plan.skipped,
        "statements": [sql for step in plan.steps for sql in step.fix.sql],
        "failures": [],
        **LockRecord().public(0, ""),
        "locks": "",
        "diff": plan_diff(plan),
    }


def _leaving(plan: FixPlan) -> str:
    """How many rows the view `servers` loses by a plan, as a sentence: its readers will see that first."""
    rows = sum(step.finding.evidence.get("leave_servers", 0) for step in plan.steps)
    return f" {rows} endpoints would leave servers." if rows else ""


def _told(result: dict[str, Any], applier: Applier) -> dict[str, Any]:
    """The result of a run that failed, with the way back where something was changed."""
    back = way_back(applier.run_id) if applier.changed and applier.journal else ""
    return {**result, "msg": result["msg"] + back}


def _applied(plan: FixPlan, applier: Applier, run: Run, journal: Mapping[str, Any]) -> dict[str, Any]:
    left = plan.skipped + applier.left
    message = f"{len(applier.fixed)} fixes applied, {len(left)} findings left."
    if applier.failures:
        message = f"{len(applier.failures)} fixes failed: {' '.join(applier.failures)} " + message
    return {
        "changed": applier.changed or journal["purged"] > 0,
        "run_id": run.run_id,
        "msg": message + applier.unknown,
        "journal": dict(journal),
        "fixed": applier.fixed,
        "left_undone": left,
        "statements": applier.statements,
        "failures": applier.failures,
        **applier.record.public(applier.budget.timeout_ms, ROWS),
        "diff": plan_diff(plan) if applier.fixed else {"before": "", "after": ""},
    }
