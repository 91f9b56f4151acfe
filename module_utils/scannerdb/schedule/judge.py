"""What a job's runs say: did it run when it was due, and how did it go. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from ..runs import STAMP
from .due import last_due, next_due
from .model import Job
from .records import OK, RUNNING, Record, last_of

EARLY = datetime.timedelta(minutes=1)  # clocks that were set back a little


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment. `state` is ok, running, waiting (never due so far), due, late, failed, missing or off.

    `problem` is a sentence where the state is red: a job that did not run when it was due is, though nothing failed.
    """

    job: Job
    state: str
    next_due: datetime.datetime | None
    last: Record | None
    last_ok: Record | None
    problem: str = ""


def judge(
    job: Job,
    records: Sequence[Record],
    *,
    now: datetime.datetime,
    zone: datetime.tzinfo | None,
    since: datetime.datetime,
    grace: datetime.timedelta,
    time_limit_s: int = 0,
    entry: bool = True,
) -> JobStatus:
    """Where a job stands at `now`. What was due less than `grace` ago may still begin; `since` as in `Installed`."""
    last = last_of(records, job.name)
    fine = last_of([record for record in records if record.outcome == OK], job.name)
    due = last_due(job, now, zone)
    state, problem = _state(job, last, due, now, since, grace, time_limit_s)
    if job.enabled and not entry:
        state = "missing"
        problem = f"Job {job.name!r} is scheduled, but its entry is gone, so nothing starts it."
    return JobStatus(job, state, next_due(job, now, zone), last, fine, problem)


def _state(
    job: Job,
    last: Record | None,
    due: datetime.datetime | None,
    now: datetime.datetime,
    since: datetime.datetime,
    grace: datetime.timedelta,
    time_limit_s: int,
) -> tuple[str, str]:
    if not job.enabled:
        return "off", ""
    if due and due >= since and (last is None or last.started_at < due - EARLY):
        if now < due + grace:
            return "due", ""
        ran = f"it last ran at {last.started}" if last else "it has never run"
        return "late", f"Job {job.name!r} was due at {due:{STAMP}} and did not run; {ran}."
    return _outcome(job, last, now, grace, time_limit_s) if last else ("waiting", "")


def _outcome(
    job: Job, last: Record, now: datetime.datetime, grace: datetime.timedelta, time_limit_s: int
) -> tuple[str, str]:
    if last.outcome == RUNNING:
        if time_limit_s and now - last.started_at > datetime.timedelta(seconds=time_limit_s) + grace:
            return "failed", f"Job {job.name!r} has been running since {last.started}, beyond its time limit."
        return "running", ""
    if last.outcome == OK:
        return "ok", ""
    return "failed", f"Job {job.name!r} {last.outcome} at {last.started}: {last.message} Its log is {last.log}."
