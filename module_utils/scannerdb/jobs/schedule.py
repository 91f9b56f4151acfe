"""What a schedule means: its jobs, checked, in the words of cron, systemd and iCalendar. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runs import STAMP, utc_now
from ..schedule.due import next_due, zone_of
from ..schedule.model import Job, read_jobs


def schedule_info(*, schedule: Sequence[Mapping[str, Any]], offset: int = 0, timezone: str = "") -> dict[str, Any]:
    """Read a schedule and say when each job runs; returns the module's result. Raises `InvalidInput`."""
    zone = zone_of(timezone)
    now = utc_now()
    jobs = []
    for job in read_jobs(schedule, offset):
        due = next_due(job, now, zone)
        jobs.append({**described(job), "next_due": f"{due:{STAMP}}" if due else ""})
    on = [job["name"] for job in jobs if job["enabled"]]
    return {"changed": False, "jobs": jobs, "msg": f"Scheduled: {', '.join(on) or 'nothing'}."}


def described(job: Job) -> dict[str, Any]:
    """A job's fields, as plain values."""
    return {
        "name": job.name,
        "profile": job.profile,
        "playbook": job.playbook,
        "log": job.log,
        "enabled": job.enabled,
        "cron": job.cron,
        "calendar": job.calendar,
        "rrule": job.rrule,
    }
