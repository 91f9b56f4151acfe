"""The physical backup job: look, choose the kind that is due, make it, look again, and only then let old ones go."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import Connection, Options, connect, job_entry
from ..errors import PhysicalRefused, ScannerDbError
from ..joblock import job_lock
from ..partial import telling_changes
from ..physical.engine import MadeBackup, PhysicalEngine
from ..physical.options import AUTO, PhysicalBackupOptions
from ..physical.request import Stanza, checked_kind, policy_of, stanza_from
from ..physical.schedule import BackupPolicy, begin_after, choose_kind
from ..physical.window import PhysicalBackup
from ..physical.words import public_backup, restorable
from ..runs import Run, checked_run_id, new_run_id, utc_now
from .physical_state import PhysicalState, engine_for, look, public_state

JOB = "physical backup"
# What stops a backup: it would fail, or be of no use.
FATAL = (
    "archive.mode.off",
    "physical.stanza.missing",
    "physical.stanza.foreign",
    "physical.key.wrong",
    "physical.repository.unreadable",
)
# What keeps older backups: while it holds, the new one has not proven that it can take their place.
FREEZING = (*FATAL, "archive.segment.absent", "archive.gap.open", "physical.clock.differs")


@dataclass(frozen=True)
class Asked:
    """What is wanted, checked."""

    stanza: Stanza
    policy: BackupPolicy
    kind: str
    lock_wait_s: float


@job_entry("The physical backup")
def physical_backup(options: Options, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Back up the cluster, then let old backups go; returns the module's result. `given` are
    `PhysicalBackupOptions`.

    In check mode everything is looked at and nothing is made. What pgBackRest made is believed once it is in its list
    and all its WAL in the archive; retention waits where it is not.
    """
    told = PhysicalBackupOptions(**given)
    asked = _asked(told)
    run_id = checked_run_id(told.run_id) if told.run_id else new_run_id()
    folder, log = ("", "") if check_mode else (told.state_dir, told.log_path)
    run = Run(JOB, options.db, run_id, folder, log)
    if check_mode:
        with contextlib.closing(connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan")) as conn:
            return _plan(asked, _sound(conn, asked.stanza), run)
    with telling_changes(run), run.failure_told(), job_lock(options, JOB, run_id, asked.lock_wait_s) as conn:
        return _backup(conn, asked, run)


def _asked(told: PhysicalBackupOptions) -> Asked:
    return Asked(stanza_from(told), policy_of(told), checked_kind(told.kind), told.lock_wait_s)


def _sound(conn: Connection, stanza: Stanza) -> PhysicalState:
    """What there is; raises `PhysicalRefused` where no backup could be made of it."""
    state = look(conn, stanza)
    if state.why:
        raise PhysicalRefused(f"The physical backups cannot be looked at: {state.why}")
    stopping = next((problem for problem in state.problems if problem.id in FATAL), None)
    if stopping:
        raise PhysicalRefused(stopping.message, stopping.why_no_fix)
    return state


def _due(asked: Asked, state: PhysicalState) -> tuple[str, str]:
    """The kind to make, and why."""
    if asked.kind != AUTO:
        return asked.kind, "it was asked for"
    return choose_kind(_restorable(state), utc_now(), asked.policy)


def _restorable(state: PhysicalState) -> Sequence[PhysicalBackup]:
    """Those that can be restored, of the first repository: pgBackRest builds upon these."""
    return restorable(state.repositories[0]) if state.repositories else ()


def _plan(asked: Asked, state: PhysicalState, run: Run) -> dict[str, Any]:
    kind, why = _due(asked, state)
    return {
        "changed": True,
        "msg": f"A {kind} physical backup would be made: {why}.",
        "backup": {"kind": kind, "why": why},
        "removed": [],
        "physical": public_state(state, asked.stanza.name),
        "warnings": _warnings(asked, state),
        "run_id": run.run_id,
    }


def _backup(conn: Connection, asked: Asked, run: Run) -> dict[str, Any]:
    """Make it, look at what was made, and let older ones go where nothing speaks against it."""
    before = _sound(conn, asked.stanza)
    assert before.server is not None
    engine = engine_for(conn, asked.stanza, before.server)
    kind, why = _due(asked, before)
    run.log(f"making a {kind} physical backup: {why}")
    run.progress(f"{kind} backup")
    made = engine.make(kind, on_tick=lambda: run.progress(f"{kind} backup"))
    run.note_change(f"The physical backup {made.backup.label} was made.")
    run.facts["backup"] = _public(made, why)
    run.log(f"made {made.backup.label}: {made.backup.delta_bytes} bytes in the repository, {made.duration_s:.1f} s")
    state = look(conn, asked.stanza)
    sound = not _speaks_against(state, made)
    removed, warnings = _expire(engine, state, sound, run)
    if removed:
        state = look(conn, asked.stanza)
    warnings = [*made.warnings, *warnings, *_warnings(asked, state)]
    for warning in warnings:
        run.log(f"warning: {warning}")
    run.progress("done")
    seen = public_state(state, asked.stanza.name)
    return {
        "changed": True,
        "msg": f"{made.backup.label} was made ({kind}: {why}). Restorable: {_window(seen)}.",
        "backup": {**_public(made, why), "sound": sound},
        "removed": removed,
        "physical": seen,
        "warnings": warnings,
        "run_id": run.run_id,
    }


def _public(made: MadeBackup, why: str) -> dict[str, Any]:
    return {**public_backup(made.backup, utc_now()), "duration_s": round(made.duration_s, 3), "why": why}


def _speaks_against(state: PhysicalState, made: MadeBackup) -> bool:
    """Whether something says that the new backup cannot be restored."""
    usable = {backup.label for window in state.windows for s in window.stretches for backup in s.backups}
    chain = {made.backup.label, *made.backup.references}
    doubtful = {b.label for repository in state.repositories for b in repository.backups if b.page_errors}
    return bool(state.why) or made.backup.label not in usable or bool(chain & doubtful)


def _expire(engine: PhysicalEngine, state: PhysicalState, sound: bool, run: Run) -> tuple[Sequence[str], list[str]]:
    """What retention removed, and warnings. The new backup is safe by now, so a failure here is a warning."""
    frozen = [problem for problem in state.problems if problem.id in FREEZING]
    if state.why or frozen or not sound:
        reason = state.why or (
            frozen[0].message if frozen else "the new one holds pages that are damaged, or lacks WAL."
        )
        return [], [f"No older physical backup was removed: {reason}"]
    try:
        removed = engine.expire()
    except ScannerDbError as error:
        return [], [str(error)]
    for label in removed:
        run.note_change(f"The old physical backup {label} was removed.")
        run.log(f"removed {label}")
    return removed, []


def _warnings(asked: Asked, state: PhysicalState) -> list[str]:
    """What people should know: what is wrong, and that the window will begin later."""
    said = [problem.message for problem in state.problems]
    backups, now = _restorable(state), utc_now()
    later = begin_after(backups, asked.policy, now)
    if later is not None and state.windows:
        begins = state.windows[0].begins
        said.append(
            f"The next full backup lets the oldest one go: the window then begins at {later:%Y-%m-%d %H:%M} UTC, "
            f"not at {begins:%Y-%m-%d %H:%M}."
        )
    return said


def _window(seen: Mapping[str, Any]) -> str:
    return str(seen["window"]["sentence"]) if seen["window"] else "nothing"
