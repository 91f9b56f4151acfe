"""The drill of a physical backup: the newest one into a disposable cluster, its WAL replayed, and every page looked at.

The copy is of the moment when the drill began. It listens on a private socket, archives nothing and is gone afterwards;
the live cluster is asked to archive its last segment, and not touched otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..connection import Options, connect, explained, fetch, job_entry, scalar
from ..contract.difference import difference
from ..contract.introspect import read_catalog
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..drill.amcheck import look_at_pages
from ..errors import BackupInvalid, RestoreRefused, TargetNotReached, ToolFailed
from ..joblock import job_lock
from ..partial import telling_changes
from ..physical.options import PhysicalDrillOptions
from ..physical.recovery import Paused
from ..physical.request import Stanza, stanza_from
from ..physical.target import LATEST, PHYSICAL, parse_target
from ..physical.words import current
from ..runs import Run, checked_run_id, new_run_id, now_text
from .physical_state import look_from
from .point_in_time import Point, PointRequest, at_point, judged_point

JOB = "physical drill"
PASSED, FAILED, INCOMPLETE = "passed", "failed", "incomplete"
SHOWN = 5
# pg_amcheck passes over these without a word.
CLOSED = "SELECT datname::text AS name FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' ORDER BY 1"


@dataclass
class Seen:
    """What the copy showed: problems refute the backup, notes do not. `unseen` says what kept us from its pages."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unseen: str = ""
    check_s: float = 0.0


@job_entry("The physical drill")
def physical_drill(options: Options, told: PhysicalDrillOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Restore the newest physical backup and look at it; returns the module's result.

    It passed; it failed, which is in the result's `failures`; it is incomplete, for it was restored and its pages could
    not be looked at; or it could not be tried, which is one of our errors. The last two say nothing against the backup.
    In check mode nothing is restored.
    """
    contract = contract_with(told.contract_overlay)
    ask = PointRequest(stanza_from(told), parse_target(f"{PHYSICAL}{LATEST}"), copy_dir=told.copy_dir)
    run_id = checked_run_id(told.run_id) if told.run_id else new_run_id()
    run = Run(JOB, options.db, run_id, log_path="" if check_mode else told.log_path)
    if check_mode:
        return _planned(options, ask.stanza, run)
    lock = job_lock(options, JOB, run_id, told.lock_wait_s)
    with telling_changes(run), run.failure_told(), lock as conn, judged_point(conn, options, ask, run) as point:
        return _drilled(point, options, contract, run)


def _planned(options: Options, stanza: Stanza, run: Run) -> dict[str, Any]:
    """What would be restored; the drill itself has the server archive its last segment first."""
    state = look_from(options, stanza)
    window = current(state.windows)
    if window is None:
        raise RestoreRefused(f"No physical backup can be restored. {state.why}".strip(), "See playbooks/backups.yml.")
    replay = window.stretches[-1].segments.last - window.last_backup.start_segment + 1
    words = f"The drill would restore {window.last_backup.label} and replay {replay} segments."
    return {"changed": True, "msg": words, "drill": {}, "run_id": run.run_id}


def _drilled(point: Point, options: Options, contract: Contract, run: Run) -> dict[str, Any]:
    """Do it; what cannot be restored although the archive said so is a failure of the backup.

    A fault of the machine, or of what was asked, is none: it comes through as the error that it is.
    """
    seen, rto = Seen(), 0.0

    def work(paused: Paused) -> None:
        began = time.monotonic()
        _look(paused, point, contract, seen, run)
        seen.check_s = time.monotonic() - began

    try:
        rto = at_point(point, options, run, work)
    except (TargetNotReached, BackupInvalid) as error:
        seen.problems.append(str(error))
    drill = _public(point, seen, rto)
    run.log(f"{drill['outcome']}: {drill['label']}, RTO {drill['rto_s']} s, RPO {drill['rpo_s']} s")
    return {
        "changed": True,
        "msg": _sentence(drill),
        "drill": drill,
        "failures": list(seen.problems),
        "warnings": seen.notes,
        "run_id": run.run_id,
    }


def _public(point: Point, seen: Seen, rto: float) -> dict[str, Any]:
    plan = point.plan
    archived = plan.server.last_archived_at  # asked before the last segment was switched out
    lost = round(max(0.0, (plan.server.now - archived).total_seconds()), 1) if archived else None
    return {
        "label": plan.landing.base.label,
        "outcome": FAILED if seen.problems else INCOMPLETE if seen.unseen else PASSED,
        "at": now_text(),
        "rto_s": round(rto, 1),
        "rpo_s": lost,
        "check_s": round(seen.check_s, 1),
        "segments": plan.segments,
        "problems": list(seen.problems),
        "unseen": seen.unseen,
    }


def _sentence(drill: Mapping[str, Any]) -> str:
    if drill["outcome"] == FAILED:
        return f"Physical backup {drill['label']} cannot be relied upon: {drill['problems'][0]}"
    lost = f", RPO {drill['rpo_s']} s" if drill["rpo_s"] is not None else ""
    times = f"RTO {drill['rto_s']} s{lost}"
    if drill["outcome"] == INCOMPLETE:
        return (
            f"Physical backup {drill['label']} was restored ({times}). Whether its pages are whole could not be seen: "
            f"{drill['unseen']}."
        )
    return f"Physical backup {drill['label']} was restored and is whole: {times}."


def _look(paused: Paused, point: Point, contract: Contract, seen: Seen, run: Run) -> None:
    """End the copy's recovery, then look at every page, and hold the database against the contract."""
    run.progress("look at the copy")
    with contextlib.closing(connect(paused.options, purpose=JOB, allow_standby=True)) as conn:
        with explained("Ending the copy's recovery"):  # amcheck's functions have to be made in it
            promoted = scalar(conn, "SELECT pg_promote(true, 120)")
        if not promoted:
            raise ToolFailed("The copy did not end its recovery within 120 s.")
    _pages(paused.options, point, seen)
    with contextlib.closing(connect(paused.options, purpose=JOB)) as conn:
        serious = [f for f in difference(contract, read_catalog(conn, contract)) if f.severity == "critical"]
    if serious:
        said = "; ".join(f"{f.id} ({f.object})" for f in serious[:SHOWN])
        seen.notes.append(f"What was backed up has {len(serious)} critical findings against the contract: {said}.")


def _pages(there: Options, point: Point, seen: Seen) -> None:
    """Look into every page, and say what kept us from it."""
    found = look_at_pages(there, point.copy.programs.path("pg_amcheck"))
    with contextlib.closing(connect(there, purpose=JOB)) as conn:
        closed = [f"{row['name']} takes no connections" for row in fetch(conn, CLOSED)]
    seen.problems += [f"pg_amcheck: {words}" for words in found.damage[:SHOWN]]
    seen.unseen = "; ".join(filter(None, [found.unseen.rstrip("."), *closed]))
    if seen.unseen:
        seen.notes.append(f"Pages were not looked at, or not all of them: {seen.unseen}.")
