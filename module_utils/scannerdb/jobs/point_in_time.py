"""A restore's source out of physical backups: a database read out of a copy of the cluster, paused at a point in time.

Nothing but the copy is touched. What is read out is a backup set as any other, so all that follows is a restore as any
other: side database, validation, cutover, undo.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from ..backup.make import make_set
from ..backup.plan import BackupRequest, get_ready
from ..connection import Connection, Options, explained, fetch
from ..disposable import sweep
from ..errors import DatabaseMissing, InvalidInput, RestoreRefused
from ..files import ensure_folder, free_bytes
from ..physical.copy_folder import COPY_DIR, PREFIX, Copy, copy_folder
from ..physical.engine import PhysicalEngine
from ..physical.facts import read_facts
from ..physical.judged import judged
from ..physical.recovery import Paused, restore_copy, run_paused, server_programs
from ..physical.request import Stanza, stanza_from
from ..physical.target import DUMP, PHYSICAL, TIME, Target, parse_target
from ..physical.transactions import WalReader
from ..restore.options import RestoreOptions
from ..restore.request import RestoreRequest
from ..runs import Run
from ..sets.catalogue import BackupSet
from ..sets.signing import Trust
from ..sets.staging import borrowed
from .physical_state import engine_for
from .point_plan import PointPlan

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
STAGED = "pre_restore"  # never becomes the latest, wherever it lies


@dataclass(frozen=True)
class PointRequest:
    """What is asked of physical backups, beside the restore's own request."""

    stanza: Stanza = field(default_factory=Stanza)
    target: Optional[Target] = None  # what the source names, where that is no dump
    timeline: int = 0
    show: bool = False
    copy_dir: str = COPY_DIR


def point_request_from(asked: RestoreOptions) -> PointRequest:
    """The request out of the module's options; raises `InvalidInput` where the source asks for what there is not."""
    source, where, target = asked.source, stanza_from(asked), parse_target(asked.source)
    if asked.timeline < 0 or not Path(asked.copy_dir).is_absolute():
        raise InvalidInput("A timeline is a number from 1 on, and copy_dir an absolute path.")
    if target and not where.wanted:
        if target.kind != TIME or source.startswith(PHYSICAL):
            raise InvalidInput(
                f"{source!r} asks for physical backups, and none are configured.",
                "Where there are some, set scannerdb_backup_method to [dump, pgbackrest].",
            )
        target = None  # a time: that of the newest dump before it
    if where.wanted:
        _refuse_day(source.strip())
    if target is None and (asked.show or asked.timeline):
        raise InvalidInput(
            f"{source!r} names no point in time of physical backups, and only such is shown, or has a timeline.",
            "Leave scannerdb_restore_show and scannerdb_restore_timeline out.",
        )
    return PointRequest(where, target, asked.timeline, asked.show, asked.copy_dir)


def _refuse_day(source: str) -> None:
    """Raise `InvalidInput` for a day alone: it may be what is left of a time that was not quoted."""
    if DAY.fullmatch(source):
        raise InvalidInput(
            f"{source!r} is a day without a time. What follows a space in -e is lost, unless it is quoted twice.",
            f"Write the time with a T, such as {source}T03:10:00Z, or dump:{source} for the newest dump of that day or "
            "before.",
        )


def dump_of(source: str) -> str:
    """The source without the word that asks for a dump."""
    return source[len(DUMP) :].strip() if source.startswith(DUMP) else source


@dataclass(frozen=True)
class Point:
    """A target that was judged, with the folder in which the copy is made."""

    plan: PointPlan
    copy: Copy
    engine: PhysicalEngine
    superusers: Sequence[str]


@contextlib.contextmanager
def judged_point(
    conn: Connection, options: Options, ask: PointRequest, run: Run, *, may_switch: bool = True
) -> Iterator[Point]:
    """The target, judged; its folder is gone after the block. Raises `RestoreRefused` where it cannot be reached."""
    parent, target = Path(ask.copy_dir), ask.target
    if target is None:
        raise InvalidInput("No point in time is named.")
    if may_switch:
        for name in sweep(parent, PREFIX):
            run.log(f"removed the copy of an earlier run: {name}")
            run.note_change(f"What an earlier run left was removed: {parent / name}.")
    server = read_facts(conn)
    engine = engine_for(conn, ask.stanza, server)
    programs = server_programs(options.pg_bin_dir, server.major)
    with copy_folder(parent, programs, engine.user) as copy:
        reader = WalReader(engine.fetch, programs, copy.wal, server.segment_bytes, copy.user)
        reader.on_read = lambda number: run.progress("read the WAL", number)
        run.progress("judge the target")
        landing = judged(
            conn,
            engine,
            target,
            reader,
            ask.timeline,
            may_switch=may_switch,
            log=run.log,
            on_change=run.note_change,
        )
        plan = PointPlan(target, landing, server, free_bytes(copy.home))
        for line in plan.lines():
            run.log(f"plan: {line}")
        yield Point(plan, copy, engine, _superusers(conn, options))


def _superusers(conn: Connection, options: Options) -> Sequence[str]:
    """Roles that may have been superusers then: those of today, and whoever is logged in."""
    with explained("Listing the superusers"):
        rows = fetch(conn, "SELECT rolname::text AS name FROM pg_roles WHERE rolsuper ORDER BY oid")
    return list(dict.fromkeys([*(row["name"] for row in rows), *filter(None, [options.user]), "postgres"]))


def at_point(point: Point, options: Options, run: Run, work: Callable[[Paused], object]) -> float:
    """Make the copy, recover it to its target, do the work in it and end it; the seconds until it stood there."""
    plan = point.plan
    began = time.monotonic()
    run.progress("restore the copy")

    def tick() -> None:
        run.progress("restore the copy", 0, plan.landing.base.size_bytes, unit="bytes")

    restore_copy(point.copy, point.engine, plan.landing, plan.server.segment_bytes, tick)
    run.log(f"the copy's files are there after {time.monotonic() - began:.1f} s")
    first = plan.landing.base.start_lsn

    def replayed(lsn: int) -> None:
        run.progress("replay", max(0, lsn - first), max(1, plan.landing.stop - first), unit="bytes")

    standing = 0.0

    def at_target(paused: Paused) -> None:
        nonlocal standing
        standing = time.monotonic() - began
        run.log(f"the copy stands at its target after {standing:.1f} s")
        try:
            work(paused)
        except DatabaseMissing as error:
            raise RestoreRefused(
                f"There was no database {options.db!r} at {plan.moment}.", "Choose a later moment."
            ) from error

    run_paused(point.copy, plan.landing, options, point.superusers, at_target, replayed)
    return standing


@contextlib.contextmanager
def read_out(
    conn: Connection, options: Options, request: RestoreRequest, ask: PointRequest, run: Run
) -> Iterator[RestoreRequest]:
    """The request with a set that was read out of a copy at the target; it is gone after the block."""
    with borrowed(ensure_folder(request.backup_dir), options.db) as folder:
        made: list[BackupSet] = []
        with judged_point(conn, options, ask, run) as point:
            run.facts["point_in_time"] = point.plan.values()

            def dump(paused: Paused) -> None:
                run.progress("read out")
                made.append(_set_out_of(paused.options, request, folder, run))

            seconds = at_point(point, options, run, dump)
            run.facts["point_in_time"]["standing_s"] = round(seconds, 1)
            name = point.plan.name
        trust = Trust(request.trust.state_dir, request.trust.signers, made[0].manifest_sha256)
        yield replace(request, source=str(made[0].path), told=name, trust=trust)


def _set_out_of(there: Options, request: RestoreRequest, folder: Path, run: Run) -> BackupSet:
    """A set of the database in the copy; it is no backup to keep, so nothing remembers it."""
    staged = BackupRequest(backup_dir=folder, purpose=STAGED, verify_level="none", jobs=request.jobs)
    before = dict(run.changes)
    made = make_set(staged, get_ready(there, staged, []), run)
    run.changes = before
    return made
