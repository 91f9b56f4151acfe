"""When a job is due, and when it was. Pure: a job, a moment and a time zone in, moments out.

Written here and not taken from a library, because managed hosts have the standard library and psycopg only; the tests
hold it against systemd's own calendar. A local time that comes twice counts once, the first time. One that the clocks
skip is not due, as with systemd (cron of Debian makes up for it): nobody is blamed for a job that could not start.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Iterator

from ..errors import InvalidInput
from .model import Job

DAY = datetime.timedelta(days=1)
REACH_DAYS = 400  # a day that not every month has comes back within a year (29 February aside: 30 and 31 do)


def zone_of(name: str) -> datetime.tzinfo | None:
    """A time zone by its name; None, which stands for the machine's own, where it is empty."""
    if not name:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"There is no time zone {name!r} on this machine.",
            "Correct scannerdb_schedule_timezone (as in Europe/Berlin), or install the package tzdata.",
        ) from error


def next_due(job: Job, after: datetime.datetime, zone: datetime.tzinfo | None) -> datetime.datetime | None:
    """The first moment later than `after` at which an enabled job is due, in UTC; None for one that is switched off."""
    return next((at for at in _moments(job, after, zone, 1) if at > after), None)


def last_due(job: Job, before: datetime.datetime, zone: datetime.tzinfo | None) -> datetime.datetime | None:
    """The last moment not later than `before`, in UTC."""
    return next((at for at in _moments(job, before, zone, -1) if at <= before), None)


def _moments(
    job: Job, around: datetime.datetime, zone: datetime.tzinfo | None, step: int
) -> Iterator[datetime.datetime]:
    """The job's moments forwards (1) or backwards (-1), beginning a day on the other side of `around`."""
    if not job.enabled:
        return
    hour, minute = job.start
    first = around.astimezone(zone).date() - step * DAY
    for days in range(REACH_DAYS):
        date = first + step * days * DAY
        if (job.weekday is None or date.weekday() == job.weekday) and (job.day is None or date.day == job.day):
            local = datetime.datetime.combine(date, datetime.time(hour, minute))
            # For a naive time, astimezone() means the machine's own zone.
            moment = (local.replace(tzinfo=zone) if zone else local).astimezone(datetime.timezone.utc)
            if moment.astimezone(zone).replace(tzinfo=None) == local:
                yield moment
