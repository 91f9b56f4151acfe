"""The hours of the day in which a job may work: `{start: "04:00", duration_h: 3}`, or as one word "04:00/3h". Pure.

A window opens every day at its start by the clock of its time zone, and stays open for its length in real time: where
the clocks change meanwhile, it is still that long. A start that the clocks skip comes as much later as they
jump; one that comes twice is the first. Without a zone the clock of the system counts, on which the job runs.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from .errors import InvalidInput

VARIABLE = "scannerdb_window"
KEYS = ("start", "duration_h", "timezone")
CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
EXAMPLE = 'For example "04:00/3h", "04:00/3h/Europe/Berlin" or {start: "04:00", duration_h: 3}.'
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """Open every day from `start` on for `duration`; `timezone` is a name such as Europe/Berlin, or '' for local."""

    start: datetime.time
    duration: datetime.timedelta
    timezone: str = ""

    def __str__(self) -> str:
        hours = self.duration.total_seconds() / 3600
        return f"{self.start:%H:%M}/{hours:g}h" + (f" {self.timezone}" if self.timezone else "")

    def closes(self, now: datetime.datetime) -> datetime.datetime | None:
        """When the window that is open at `now` (aware) ends; None where it is closed."""
        ends = [begin + self.duration for begin in self._starts(now) if begin <= now < begin + self.duration]
        return max(ends, default=None)

    def opens(self, now: datetime.datetime) -> datetime.datetime:
        """When the next window after `now` (aware) begins."""
        return min(begin for begin in self._starts(now) if begin > now)

    def _starts(self, now: datetime.datetime) -> list[datetime.datetime]:
        """The starts of the days around `now`, in UTC."""
        zone = ZoneInfo(self.timezone) if self.timezone else None
        today = now.astimezone(zone).date()
        days = [today + n * DAY for n in range(-2, 4)]
        local = [datetime.datetime.combine(day, self.start, zone) for day in days]
        return [moment.astimezone(datetime.timezone.utc) for moment in local]


def parse_window(given: Any) -> Window | None:
    """The window out of a variable; None where there is none. Raises `InvalidInput` that names what is wrong."""
    if given is None or given in ("", {}):
        return None
    if isinstance(given, str):
        start, _, rest = given.strip().partition("/")
        hours, _, zone = rest.partition("/")
        given = {"start": start, "duration_h": hours.strip().removesuffix("h"), "timezone": zone}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{VARIABLE} is {given!r}, which is no window.", EXAMPLE)
    unknown = [str(key) for key in given if key not in KEYS]
    if unknown or "start" not in given or "duration_h" not in given:
        wrong = f"has no entry {unknown[0]!r}" if unknown else "needs start and duration_h"
        raise InvalidInput(f"{VARIABLE} {wrong}.", EXAMPLE)
    return Window(_clock(given["start"]), _length(given["duration_h"]), _zone(str(given.get("timezone") or "").strip()))


def _clock(given: Any) -> datetime.time:
    # YAML 1.1 reads an unquoted 22:30 as a number to the base of sixty.
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 24 * 60:
        return datetime.time(given // 60, given % 60)
    match = CLOCK.fullmatch(str(given).strip())
    if not match:
        raise InvalidInput(f"{VARIABLE}: start is {given!r}, which is no time of day.", EXAMPLE)
    return datetime.time(int(match.group(1)), int(match.group(2)))


def _length(given: Any) -> datetime.timedelta:
    try:
        hours = float("nan") if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        hours = float("nan")
    if not math.isfinite(hours) or not 0 < hours <= 24:
        raise InvalidInput(f"{VARIABLE}: duration_h is {given!r}; it is a number of hours, at most 24.", EXAMPLE)
    return datetime.timedelta(hours=hours)


def _zone(name: str) -> str:
    if name:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise InvalidInput(
                f"{VARIABLE}: there is no time zone {name!r} on the machine that runs this.",
                "Name one such as Europe/Berlin, and install the package tzdata if it knows none.",
            ) from error
    return name


def outside(window: Window | None, now: datetime.datetime) -> str:
    """Why a job may not work at `now`, as a sentence; empty where it may."""
    if window is None or window.closes(now):
        return ""
    return (
        f"It is outside the window {window} ({VARIABLE}), which opens next at {window.opens(now):%Y-%m-%d %H:%M} UTC."
    )
