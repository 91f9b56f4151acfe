"""The physical backup job: look, choose the kind that is due, make it, look again, and only then let old ones go."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..connection import Connection, Options, connect, job_entry
from ..errors import BackupUnseen, PhysicalRefused, ScannerDbError
from ..finding import Finding
from ..joblock import job_lock
from ..partial import telling_changes
from ..physical.engine import MadeBackup, PhysicalEngine, Repository
from ..physical.options import AUTO, PhysicalBackupOptions
from ..physical.request import Stanza, checked_kind, policy_of, stanza_from
from ..physical.schedule import BackupPolicy, begin_after, choose_kind
from ..physical.words import current, public_backup, restorable, sentence
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
def physical_backup(options: Options, told: PhysicalBackupOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Back up the cluster, then let old backups go; returns the module's result.

    In check mode everything is looked at and nothing is made. Each repository gets a backup; where one got none, that
    is in the result's `failures`. What pgBackRest made is believed once it is in its list and all its WAL in the
    archive; retention waits where it is not.
    """
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
    """What there is; raises `PhysicalRefused` where no backup could be made of it in any repository."""
    state = look(conn, stanza)
    if state.why:
        raise PhysicalRefused(f"The physical backups cannot be looked at: {state.why}")
    stopped = [_stopping(state, repository) for repository in state.repositories]
    anywhere = next(
        (problem for problem in state.problems if problem.id in FATAL and not _of_repository(problem)), None
    )
    stopping = anywhere or next(filter(None, stopped), None)
    if stopping and (anywhere or all(stopped)):
        raise PhysicalRefused(stopping.message, stopping.why_no_fix)
    if not state.repositories:
        raise PhysicalRefused("pgBackRest names no repository of the stanza.", "playbooks/deploy.yml configures one.")
    return state


def _of_repository(problem: Finding) -> int:
    """The repository that a finding is about; 0 for one about all of it."""
    word, _, number = problem.object.partition(" ")
    return int(number) if word == "repository" and number.isdigit() else 0


def _stopping(state: PhysicalState, repository: Repository) -> Finding | None:
    """What stops a backup in that repository alone."""
    found = (p for p in state.problems if p.id in FATAL and _of_repository(p) == repository.key)
    return next(found, None)


def _due(asked: Asked, repository: Repository) -> tuple[str, str]:
    """The kind to make in a repository, and why: pgBackRest builds upon what lies in the same one."""
    if asked.kind != AUTO:
        return asked.kind, "it was asked for"
    return choose_kind(restorable(repository), utc_now(), asked.policy)


def _plan(asked: Asked, state: PhysicalState, run: Run) -> dict[str, Any]:
    due = {one.key: _due(asked, one) for one in state.repositories if not _stopping(state, one)}
    several = len(state.repositories) > 1
    told = [f"A {kind} physical backup would be made{_where(key, several)}: {why}." for key, (kind, why) in due.items()]
    planned = [{"kind": kind, "why": why, "repository": key} for key, (kind, why) in due.items()]
    refused = [f"Repository {k} would get no backup: {why}" for k, why in _refused(state).items()]
    return {
        "changed": True,
        "msg": " ".join([*told, *refused]),
        "backup": planned[0],
        "backups": planned,
        "removed": [],
        "physical": public_state(state, asked.stanza.name),
        "warnings": [*refused, *_warnings(asked, state)],
        "run_id": run.run_id,
    }


def _where(key: int, several: bool) -> str:
    return f" in repository {key}" if several else ""


def _refused(state: PhysicalState) -> dict[int, str]:
    """Why a repository gets no backup, by its number."""
    stopped = {one.key: _stopping(state, one) for one in state.repositories}
    return {key: f"{problem.message} {problem.why_no_fix}".strip() for key, problem in stopped.items() if problem}


@dataclass
class Made:
    """What was made in the repositories, with why that kind; and why one got none, by its number."""

    backups: list[tuple[MadeBackup, str]] = field(default_factory=list)
    failed: dict[int, ScannerDbError] = field(default_factory=dict)


def _make_each(engine: PhysicalEngine, asked: Asked, before: PhysicalState, run: Run) -> Made:
    """One backup in each repository; raises where there is only one, and it got none."""
    made = Made(failed={key: PhysicalRefused(why) for key, why in _refused(before).items()})
    several = len(before.repositories) > 1
    for key in (one.key for one in before.repositories if one.key not in made.failed):
        kind, why = _due(asked, next(one for one in before.repositories if one.key == key))
        run.log(f"making a {kind} physical backup{_where(key, several)}: {why}")
        run.progress(f"{kind} backup")
        try:
            done = engine.make(kind, key, on_tick=partial(run.progress, f"{kind} backup"))
        except ScannerDbError as error:
            if isinstance(error, BackupUnseen):
                run.note_change(f"A {kind} physical backup was made{_where(key, several)}, which could not be listed.")
            if not several:
                raise
            made.failed[key] = error
            continue
        label = done.backup.label
        run.note_change(f"The physical backup {label} was made{_where(key, several)}.")
        run.log(f"made {label}: {done.backup.delta_bytes} bytes in the repository, {done.duration_s:.1f} s")
        made.backups.append((done, why))
        run.facts.setdefault("backup", _public(done, why))
    if not made.backups:
        raise next(iter(made.failed.values()))
    return made


def _backup(conn: Connection, asked: Asked, run: Run) -> dict[str, Any]:
    """Make them, look at what was made, and let older ones go where nothing speaks against it."""
    before = _sound(conn, asked.stanza)
    assert before.server is not None
    engine = engine_for(conn, asked.stanza, before.server)
    made = _make_each(engine, asked, before, run)
    state = look(conn, asked.stanza)
    backups: list[dict[str, Any]] = []
    removed: list[str] = []
    warnings: list[str] = []
    for done, why in made.backups:
        sound = not _speaks_against(state, done)
        gone, said = _expire(engine, state, done.backup.repository, sound, run)
        backups.append({**_public(done, why), "sound": sound})
        removed += gone
        warnings += [*done.warnings, *said]
    if removed:
        state = look(conn, asked.stanza)
    failures = [f"Repository {key} got no backup: {error}" for key, error in made.failed.items()]
    warnings += _warnings(asked, state)
    for line in [*failures, *(f"warning: {warning}" for warning in warnings)]:
        run.log(line)
    run.progress("done")
    several = len(before.repositories) > 1
    told = [f"{b['label']} was made{_where(b['repository'], several)} ({b['kind']}: {b['why']})." for b in backups]
    return {
        "changed": True,
        "msg": " ".join([*told, *failures, f"Restorable: {_window(state)}."]),
        "backup": backups[0],
        "backups": backups,
        "removed": removed,
        "physical": public_state(state, asked.stanza.name),
        "warnings": warnings,
        **({"failures": failures} if failures else {}),
        "run_id": run.run_id,
    }


def _public(made: MadeBackup, why: str) -> dict[str, Any]:
    return {**public_backup(made.backup, utc_now()), "duration_s": round(made.duration_s, 3), "why": why}


def _speaks_against(state: PhysicalState, made: MadeBackup) -> bool:
    """Whether something says that the new backup cannot be restored."""
    key = made.backup.repository
    usable = {
        b.label for window in state.windows if window.repository == key for s in window.stretches for b in s.backups
    }
    chain = {made.backup.label, *made.backup.references}
    doubtful = {b.label for one in state.repositories if one.key == key for b in one.backups if b.page_errors}
    return bool(state.why) or made.backup.label not in usable or bool(chain & doubtful)


def _expire(
    engine: PhysicalEngine, state: PhysicalState, key: int, sound: bool, run: Run
) -> tuple[Sequence[str], list[str]]:
    """What retention removed of a repository, and warnings. The new backup is safe: a failure here is a warning."""
    frozen = [p for p in state.problems if p.id in FREEZING and _of_repository(p) in (0, key)]
    if state.why or frozen or not sound:
        reason = state.why or (
            frozen[0].message if frozen else "the new one holds pages that are damaged, or lacks WAL."
        )
        return [], [f"No older physical backup was removed: {reason}"]
    try:
        done = engine.expire(key)
    except ScannerDbError as error:
        return [], [f"No older physical backup was removed: {error}"]
    for label in done.removed:
        run.note_change(f"The old physical backup {label} was removed.")
        run.log(f"removed {label}")
    return done.removed, [done.why] if done.why else []


def _warnings(asked: Asked, state: PhysicalState) -> list[str]:
    """What people should know: what is wrong, and that a window will begin later."""
    said = [problem.message for problem in state.problems]
    now, several = utc_now(), len(state.repositories) > 1
    for repository in state.repositories:
        later = begin_after(restorable(repository), asked.policy, now)
        begins = next((one.begins for one in state.windows if one.repository == repository.key), None)
        if later is not None and begins is not None:
            said.append(
                f"The next full backup lets the oldest one go{_where(repository.key, several)}: the window then begins "
                f"at {later:%Y-%m-%d %H:%M} UTC, not at {begins:%Y-%m-%d %H:%M}."
            )
    return said


def _window(state: PhysicalState) -> str:
    if state.why:
        return f"could not be looked at, because {state.why.rstrip('.')}"
    main = current(state.windows)
    return sentence(main, utc_now()) if main else "nothing"
