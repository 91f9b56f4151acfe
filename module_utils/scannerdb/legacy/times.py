"""When the old scripts ran, out of their lines in a crontab, in the words of `scannerdb_schedule`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

JOBS = {  # of the schedule, by what a line starts; the old set-up's three lines
    "backup_database.sh": "daily",
    "apply_db_maintenance_fixes.sh": "weekly",
}
FULL = re.compile(r"--full\b|vacuum[_ -]full|cron_full_maintenance\.log", re.IGNORECASE)
DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WORDS = {
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}
_FIELDS = re.compile(r"\s*(@\w+|(?:\S+\s+){4}\S+)\s+\S")


def run_time(line: str) -> dict[str, Any]:
    """When a line runs, as an override of one job of the schedule; empty where the schedule cannot say it."""
    match = _FIELDS.match(line)
    if not match:
        return {}
    fields = WORDS.get(match.group(1), match.group(1)).split()
    if len(fields) != 5:
        return {}
    minute, hour, day, month, weekday = fields
    if not (_is(minute, 59) and _is(hour, 23) and month == "*"):
        return {}
    found: dict[str, Any] = {"hour": int(hour), "minute": int(minute)}
    if _is(day, 31) and weekday == "*" and int(day) > 0:
        return {**found, "day": int(day)}
    if day == "*" and (name := _weekday(weekday)):
        return {**found, "weekday": name}
    return found if (day, weekday) == ("*", "*") else {}


def _is(field: str, most: int) -> bool:
    return field.isascii() and field.isdigit() and int(field) <= most


def _weekday(field: str) -> str:
    if _is(field, 7):
        return DAYS[int(field)]
    return next((name for name in DAYS if len(field) == 3 and name.startswith(field.lower())), "")


def offered(lines: Iterable[str]) -> Mapping[str, dict[str, Any]]:
    """The times that the jobs of the schedule would keep, by job; the first line of each counts."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        job = "monthly" if FULL.search(line) else next((job for script, job in JOBS.items() if script in line), "")
        when = run_time(line)
        if job and when:  # a job's own day would stand beside another weekday
            found.setdefault(job, {**when, "day": ""} if "weekday" in when else when)
    return found
