"""The schedule: what its data may be, and when a job is due, held against systemd's own calendar."""

from __future__ import annotations

import datetime
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.schedule.due import last_due, next_due, zone_of
from scannerdb.schedule.model import WEEKDAYS, Job, read_jobs

from tests.needs import needs

UTC = datetime.timezone.utc
MINUTE = datetime.timedelta(minutes=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")


def job(**more: Any) -> Job:
    entry = {"name": "nightly", "profile": "daily", "hour": 3, "minute": 0, "log": "cron_backup.log", **more}
    offset = entry.pop("offset", 0)
    return read_jobs([entry], offset)[0]


def moments(zone: str = "UTC") -> st.SearchStrategy[datetime.datetime]:
    low, high = datetime.datetime(2024, 1, 1), datetime.datetime(2030, 1, 1)
    return st.datetimes(low, high, timezones=st.just(UTC))


jobs = st.builds(
    job,
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    weekday=st.sampled_from(("", *WEEKDAYS)),
) | st.builds(job, hour=st.integers(0, 22), offset=st.integers(0, 59), day=st.integers(1, 31))


@given(jobs, moments(), st.sampled_from(ZONES))
def test_due_moments_are_where_the_job_says_and_in_order(one: Job, now: datetime.datetime, zone: str) -> None:
    where = zone_of(zone)
    following, previous = next_due(one, now, where), last_due(one, now, where)
    assert following is not None and previous is not None
    assert previous <= now < following
    for moment in (previous, following):
        local = moment.astimezone(where)
        assert (local.hour, local.minute) == one.start
        assert one.weekday in (None, local.weekday()) and one.day in (None, local.day)
    assert last_due(one, following, where) == following
    assert last_due(one, following - MINUTE, where) == previous
    assert next_due(one, previous - MINUTE, where) == previous


CALENDARS = [
    ({}, "*-*-* 03:00:00"),
    ({"weekday": "sunday", "hour": 4}, "Sun *-*-* 04:00:00"),
    ({"day": 1, "hour": 5}, "*-*-01 05:00:00"),
    ({"day": 31, "hour": 23, "minute": 59}, "*-*-31 23:59:00"),
    ({"hour": 2, "minute": 30}, "*-*-* 02:30:00"),  # comes twice in autumn, never on one day in spring
    ({"hour": 3, "minute": 10, "offset": 55}, "*-*-* 04:05:00"),
]


@needs("systemd-analyze")
@pytest.mark.parametrize("start", ["2026-03-27 12:00:00", "2026-10-23 12:00:00", "2027-12-30 23:59:00"])
@pytest.mark.parametrize(("fields", "calendar"), CALENDARS, ids=[c for _, c in CALENDARS])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_systemd_agrees(fields: dict[str, Any], calendar: str, start: str, zone: str) -> None:
    command = ["systemd-analyze", "calendar", f"--base-time={start} UTC", "--iterations=6", f"{calendar} {zone}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"TZ": "UTC", "LC_ALL": "C"}).stdout
    theirs = re.findall(r"(?:Next elapse|Iter(?:\.|ation) #\d+|\(in UTC\)): \w+ (\S+ \S+) UTC", said)
    at = datetime.datetime.strptime(start, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    ours = []
    for _ in range(6):
        at = next_due(job(**fields), at, zone_of(zone)) or at
        ours.append(f"{at:%Y-%m-%d %H:%M:%S}")
    assert ours == theirs


def test_the_machines_own_zone_counts_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        due = next_due(job(), datetime.datetime(2026, 1, 1, tzinfo=UTC), zone_of(""))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert due == datetime.datetime(2026, 1, 1, 21, 15, tzinfo=UTC)


def test_a_job_that_is_switched_off_is_never_due() -> None:
    off = job(enabled="no")
    now = datetime.datetime(2026, 1, 1, tzinfo=UTC)
    assert next_due(off, now, UTC) is None and last_due(off, now, UTC) is None


def test_strings_and_short_names_are_read() -> None:
    one = job(hour="4", minute="05", weekday="Sun", enabled="true")
    assert (one.start, one.weekday, one.enabled) == ((4, 5), 6, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hour": 24}, "hour of job 'nightly' in the schedule is 24"),
        ({"minute": "1-5"}, "minute of job"),
        ({"weekday": "sonntag"}, "one of monday, tuesday"),
        ({"day": 32}, "a whole number from 1 to 31"),
        ({"day": 1, "weekday": "sunday"}, "cron would run it on either"),
        ({"log": "../x.log"}, "without a folder"),
        ({"profile": "hourly"}, "one of daily, weekly, monthly"),
        ({"name": "a b"}, "name of job 'a b'"),
        ({"enabled": "perhaps"}, "true or false"),
        ({"playbook": "/etc/x.yml"}, "a playbook of the bundle"),
        ({"hours": 3}, "has 'hours'"),
        ({"hour": 23, "minute": 30, "offset": 30}, "would start after midnight"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        job(**fields)
    assert words in str(caught.value)


def test_two_jobs_of_one_name_are_refused() -> None:
    entry = {"name": "a", "profile": "daily", "hour": 3, "log": "x.log"}
    with pytest.raises(InvalidInput, match="'a' twice"):
        read_jobs([entry, entry])


def test_an_unknown_zone_is_a_sentence() -> None:
    with pytest.raises(InvalidInput, match="no time zone 'Mars/Olympus'"):
        zone_of("Mars/Olympus")
