"""A scheduled job, as the data of `scannerdb_schedule` describes it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..argspec import PROFILES
from ..errors import InvalidInput

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")  # as datetime.weekday()
PLAYBOOK = "maintain.yml"
DAY_MINUTES = 24 * 60
KEYS = {"name", "profile", "hour", "minute", "weekday", "day", "log", "enabled", "playbook"}
# A name becomes part of file and unit names; the log is a file in the folder of backups, not elsewhere.
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.log")
TRUE = {"true", "yes", "on", "1"}
FALSE = {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Job:
    """A job at `hour`:`minute`, of every day, of one `weekday` (0 is Monday) or of one `day` of the month.

    `offset` is the host's share of the spread, in minutes, which is part of when the job is due.
    """

    name: str
    profile: str
    hour: int
    minute: int
    weekday: int | None
    day: int | None
    log: str
    enabled: bool = True
    playbook: str = PLAYBOOK
    offset: int = 0

    @property
    def start(self) -> tuple[int, int]:
        """Hour and minute at which this host starts it."""
        return divmod(self.hour * 60 + self.minute + self.offset, 60)

    @property
    def cron(self) -> str:
        """The five fields of cron."""
        hour, minute = self.start
        weekday = "*" if self.weekday is None else str((self.weekday + 1) % 7)
        return f"{minute} {hour} {self.day or '*'} * {weekday}"

    @property
    def calendar(self) -> str:
        """systemd's OnCalendar, without a time zone."""
        hour, minute = self.start
        weekday = "" if self.weekday is None else f"{WEEKDAYS[self.weekday][:3].capitalize()} "
        return f"{weekday}*-*-{f'{self.day:02}' if self.day else '*'} {hour:02}:{minute:02}:00"

    @property
    def rrule(self) -> str:
        """The recurrence of iCalendar (RFC 5545), without DTSTART, as AWX takes it."""
        hour, minute = self.start
        rule = "DAILY" if self.weekday is None else f"WEEKLY;BYDAY={WEEKDAYS[self.weekday][:2].upper()}"
        rule = f"MONTHLY;BYMONTHDAY={self.day}" if self.day else rule
        return f"FREQ={rule};INTERVAL=1;BYHOUR={hour};BYMINUTE={minute};BYSECOND=0"


def read_jobs(schedule: Sequence[Mapping[str, Any]], offset: int = 0) -> list[Job]:
    """The jobs of a schedule; raises `InvalidInput` naming the job and its flaw. Numbers may be strings."""
    jobs = [read_job(entry, offset) for entry in schedule]
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"scannerdb_schedule has {twice[0]!r} twice.", "Give every job a name of its own.")
    return jobs


def read_job(entry: Mapping[str, Any], offset: int = 0) -> Job:
    """One entry of a schedule as a job."""
    name = str(entry.get("name", ""))
    if not NAME.fullmatch(name):
        raise _flaw(name, "name", name, "lower-case letters, digits, - and _")
    unknown = sorted(set(entry) - KEYS)
    if unknown:
        raise InvalidInput(
            f"Job {name!r} of the schedule has {unknown[0]!r}.", f"It may have {', '.join(sorted(KEYS))}."
        )
    job = Job(
        name=name,
        profile=_one_of(name, "profile", entry.get("profile", ""), PROFILES),
        hour=_number(name, "hour", entry.get("hour", 0), 0, 23),
        minute=_number(name, "minute", entry.get("minute", 0), 0, 59),
        weekday=_weekday(name, entry.get("weekday")),
        day=_number(name, "day", entry["day"], 1, 31) if entry.get("day") not in (None, "", "*") else None,
        log=_log(name, entry.get("log", "")),
        enabled=_flag(name, entry.get("enabled", True)),
        playbook=_playbook(name, entry.get("playbook") or PLAYBOOK),
        offset=offset,
    )
    if job.weekday is not None and job.day is not None:
        raise InvalidInput(
            f"Job {name!r} of the schedule has a weekday and a day of the month.",
            "cron would run it on either; leave one of the two empty.",
        )
    if job.hour * 60 + job.minute + offset >= DAY_MINUTES:
        raise InvalidInput(
            f"Job {name!r} would start after midnight, because this host's share of the spread is {offset} minutes.",
            "Move it to an earlier hour, or lower scannerdb_schedule_spread_minutes.",
        )
    return job


def _flaw(job: str, key: str, value: object, wanted: str) -> InvalidInput:
    return InvalidInput(f"{key} of job {job!r} in the schedule is {value!r}.", f"It takes {wanted}.")


def _number(job: str, key: str, value: object, low: int, high: int) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,2}", text) or not low <= int(text) <= high:
        raise _flaw(job, key, value, f"a whole number from {low} to {high}")
    return int(text)


def _weekday(job: str, value: object) -> int | None:
    text = str(value or "").strip().lower()
    if text in ("", "*"):
        return None
    found = [number for number, name in enumerate(WEEKDAYS) if name == text or name[:3] == text]
    if not found:
        raise _flaw(job, "weekday", value, f"one of {', '.join(WEEKDAYS)}, or nothing")
    return found[0]


def _one_of(job: str, key: str, value: object, choices: Sequence[str]) -> str:
    if value not in choices:
        raise _flaw(job, key, value, f"one of {', '.join(choices)}")
    return str(value)


def _log(job: str, value: object) -> str:
    if not LOG.fullmatch(str(value)):
        raise _flaw(job, "log", value, "the name of a file that ends in .log, without a folder")
    return str(value)


def _playbook(job: str, value: object) -> str:
    text = str(value)
    if not re.fullmatch(r"(playbooks/)?[a-z][a-z_]*\.yml", text):
        raise _flaw(job, "playbook", value, "a playbook of the bundle, such as playbooks/verify.yml")
    return text


def _flag(job: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise _flaw(job, "enabled", value, "true or false")
