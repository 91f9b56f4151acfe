"""The backup job: lock, sweep, one new set, retention. `make_backup` is its core, for callers that hold the lock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..backup.make import Drill, make_set
from ..backup.options import BackupOptions
from ..backup.plan import BackupRequest, Ready, ensure_room, get_ready
from ..backup.request import Request, request_from
from ..backup.snapshot import StandbyConflict
from ..backup.standby import DumpSource, find_place
from ..clock import clocks_apart
from ..connection import Connection, Options, connect, job_entry, member_of, survived
from ..errors import ScannerDbError
from ..files import ensure_folder, remove_tree, tree_bytes
from ..joblock import job_lock
from ..partial import telling_changes
from ..runs import Run, utc_now
from ..sets.adopted import Adopted, remove_adopted
from ..sets.catalogue import BackupSet, adopt_all, latest_target, list_sets
from ..sets.encryption import check_recipients
from ..sets.names import format_time, log_name
from ..sets.offsite import ensure_rclone
from ..sets.retention import KEEP, Retainable, RetentionDecision, old_logs, plan_retention, removable, remove_set
from ..sets.staging import debris, free_name, sweep
from .around_backup import Hooked, adopted_dumps, copy_away, with_copy
from .backup_drill import check_drill, drill_of
from .backup_result import Made, as_if_made, made_result, planned_result, public_set, unprinted

JOB = "backup"


@job_entry("The backup")
def backup(options: Options, told: BackupOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Back up the database, then let old backups go; returns the module's result.

    In check mode the real plan is made (tools, room, what would be removed and why) and nothing is written. A new set
    is always a change. Raises one of our errors where no new set could be made; a set that was made but whose older
    ones could not be removed is a result with `warnings`.
    """
    asked = request_from(told)
    run = Run(JOB, options.db, asked.run_id, "" if check_mode else asked.backup.state_dir)
    if check_mode:
        return _plan_only(options, asked, run)
    hooks = Hooked(asked.hooks, options, asked.backup, run)
    with telling_changes(run), hooks.around():
        result = survived("The backup", lambda: _backup(options, asked, run), run.log)
        hooks.finish(result)
    return result


def _ready(options: Options, asked: Request, before: Sequence[BackupSet]) -> tuple[DumpSource, Ready]:
    """Choose the server, and look at all that could stop a backup, without writing."""
    check_recipients(asked.backup.recipients)
    ensure_rclone(asked.offsite)
    asked.storage.ensure_kept(asked.offsite.remote)
    member_of(options)  # the primary, where there is one: whoever takes its place is found by what was asked for
    place = find_place(options, asked.origin)
    ready = get_ready(place.options, asked.backup, before)
    check_drill(asked, place, ready)
    return place, ready


def _backup(options: Options, asked: Request, run: Run) -> dict[str, Any]:
    """The real run: under the job lock sweep, make a set, let old ones go; then copy it."""
    request = asked.backup
    before = list_sets(request.backup_dir, options.db, request.trust).sets
    place, ready = _ready(options, asked, before)  # whatever stops a backup is said before anything is touched
    holder = place.primary or place.options
    lock = job_lock(holder, JOB, run.run_id, asked.lock_wait_s, allow_standby=True)  # it writes nothing there
    with lock as conn, _logged(asked, run):
        swept = sweep(request.backup_dir, options.db)
        if swept:
            run.log(f"removed the debris of earlier runs: {', '.join(swept)}")
            run.note_change(f"The debris of earlier runs was removed: {', '.join(swept)}.")
        adopt_all(request.backup_dir, options.db, request.state_dir)
        started = time.monotonic()
        notes = [*place.notes, *ready.notes]
        made = _make(place, ready, request, run, drill_of(conn, holder, asked, run, notes), notes)
        notes += unprinted(made.manifest.tables, request.fingerprints)
        seconds = round(time.monotonic() - started, 3)
        done = Made(made, seconds, *_retain(conn, options, asked, run), swept)
        done.warnings[:0] = notes
    # Without the lock: an upload may take hours, and no other job has to wait for it.
    copied = copy_away(asked.offsite, made, list_sets(request.backup_dir, options.db, request.trust).sets, run)
    run.progress("done")
    return with_copy(made_result(options.db, request, run, before, done), copied, made, asked.storage.why_lost())


@contextlib.contextmanager
def _logged(asked: Request, run: Run) -> Iterator[None]:
    """Give the run its log, and write there why the block failed."""
    ensure_folder(asked.backup.backup_dir)
    run.log_path = asked.log_path or str(asked.backup.backup_dir / log_name(utc_now()))
    with run.failure_told():
        yield


def _make(
    place: DumpSource, ready: Ready, request: BackupRequest, run: Run, drill: Drill | None, notes: list[str]
) -> BackupSet:
    """Make the set; on the primary, and with a note, where the chosen standby does not let a dump end."""
    try:
        return _make_set(ready, request, run, drill)
    except StandbyConflict as error:
        if not place.other:
            raise
        notes.append(f"{error.message} The dump was taken from the primary. {error.hint}")
        run.log(f"warning: {notes[-1]}")
    ready = get_ready(place.other, request, list_sets(request.backup_dir, place.other.db, request.trust).sets)
    return _make_set(ready, request, run, drill)


def make_backup(options: Options, request: BackupRequest, run: Run) -> BackupSet:
    """Make one set, for a caller that holds the job lock: a restore before its cutover.

    Looks at tools and room first. No sweep, no retention.
    """
    check_recipients(request.recipients)
    return _make_set(
        get_ready(options, request, list_sets(request.backup_dir, options.db, request.trust).sets), request, run
    )


def _make_set(ready: Ready, request: BackupRequest, run: Run, drill: Drill | None = None) -> BackupSet:
    free = ensure_room(ready, request.backup_dir)
    run.log(
        f"backing up database {ready.facts.name!r} of PostgreSQL {ready.server.version} on {ready.options.server}: "
        f"{ready.facts.size_bytes} bytes, about {ready.estimate_bytes} expected, {free} free"
    )
    made = make_set(request, ready, run, drill)
    run.facts["backup"] = public_set(made)
    run.log(
        f"made {made.name}: {made.manifest.size_bytes} bytes, {made.manifest.rows} rows in {len(made.manifest.tables)} "
        f"tables, {made.manifest.duration_s} s, verified: {made.verified}"
    )
    return made


def _retain(
    conn: Connection, options: Options, asked: Request, run: Run
) -> tuple[list[RetentionDecision[Retainable]], list[str], list[str]]:
    """Remove what the plan removes; with the plan, the names of what went, and warnings.

    The new set is safe by now, so a failure here is a warning, not an error.
    """
    folder, now = asked.backup.backup_dir, utc_now()
    dumps, warnings = adopted_dumps(asked, options.db)
    sets: list[Retainable] = [*list_sets(folder, options.db, asked.backup.trust).sets, *dumps]
    decisions, why_none = _by_both_clocks(conn, plan_retention(sets, asked.policy, now, latest_target(folder)))
    warnings += [why_none] if why_none else []
    removed = []
    for decision in removable(decisions):
        try:
            _remove(decision.set, asked.backup.state_dir)
            removed.append(decision.set.name)
            run.note_change(f"The old backup {decision.set.name} was removed.")
            run.log(f"removed {decision.set.name}: {decision.why}")
        except ScannerDbError as error:
            warnings.append(str(error))
    try:
        for path in [] if why_none else old_logs(folder, asked.policy.days, now):
            remove_tree(path)
    except ScannerDbError as error:
        warnings.append(str(error))
    for warning in warnings:
        run.log(f"warning: {warning}")
    return decisions, removed, warnings


def _by_both_clocks(
    conn: Connection, decisions: list[RetentionDecision[Retainable]]
) -> tuple[list[RetentionDecision[Retainable]], str]:
    """The plan, in which nothing goes where one of two clocks is wrong; and why."""
    try:
        why = clocks_apart(conn)
    except ScannerDbError as error:  # a new set is made by now
        why = str(error)
    return ([replace(d, action=KEEP, why="the clocks differ") for d in decisions] if why else decisions), why


def _remove(item: Retainable, state_dir: str) -> None:
    if isinstance(item, Adopted):
        remove_adopted(item)
    elif isinstance(item, BackupSet):
        remove_set(item, state_dir)


def _plan_only(options: Options, asked: Request, run: Run) -> dict[str, Any]:
    """What a run would do now, from the real servers and the real folder."""
    request = asked.backup
    sets = list_sets(request.backup_dir, options.db, request.trust).sets
    place, ready = _ready(options, asked, sets)
    left = debris(request.backup_dir, options.db)
    free = ensure_room(ready, request.backup_dir, sum(map(tree_bytes, left)))
    now = utc_now()
    name = free_name(request.backup_dir, options.db, now)
    dumps, warnings = adopted_dumps(asked, options.db)
    coming = [as_if_made(request, name, format_time(now), sets[0])] if sets else []
    latest = name if request.purpose == "regular" else latest_target(request.backup_dir)
    everything: list[Retainable] = [*coming, *sets, *dumps]
    with contextlib.closing(
        connect(place.options, dbname=options.maintenance_db, purpose=f"{JOB} plan", allow_standby=True)
    ) as conn:
        decisions, why_none = _by_both_clocks(conn, plan_retention(everything, asked.policy, now, latest))
    warnings += [why_none] if why_none else []
    decisions = [d for d in decisions if d.set.name != name]
    result = planned_result(request, run, ready, free, sets, name, decisions)
    return {**result, "swept": [path.name for path in left], "warnings": [*place.notes, *warnings]}
