"""The window of a job: by the clock, over midnight, and when the clocks change."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.window import Window, outside, parse_window

UTC = datetime.timezone.utc
HOUR = datetime.timedelta(hours=1)
BERLIN = "Europe/Berlin"

zones = st.sampled_from(["", "UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"])
windows = st.builds(
    Window,
    st.builds(datetime.time, st.integers(0, 23), st.integers(0, 59)),
    st.integers(1, 24 * 60).map(lambda minutes: datetime.timedelta(minutes=minutes)),
    zones,
)
moments = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2037, 1, 1), timezones=st.just(UTC))


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


@given(windows, moments)
def test_it_opens_at_its_start_and_closes_after_its_length(window: Window, now: datetime.datetime) -> None:
    begin = window.opens(now)
    tick = datetime.timedelta(microseconds=1)
    assert now < begin <= now + 25 * HOUR + HOUR
    assert window.closes(begin) == begin + window.duration
    assert window.closes(begin + window.duration - tick) is not None
    following = window.opens(begin)
    if begin + window.duration < following:
        assert window.closes(begin + window.duration) is None
        assert window.opens(begin + window.duration) == following
    local = begin.astimezone(ZoneInfo(window.timezone) if window.timezone else None)
    skipped = local.time() != window.start  # only where the clocks jump over the start
    assert not skipped or local.utcoffset() != (local - 24 * HOUR).astimezone(local.tzinfo).utcoffset()


@given(windows, moments)
def test_it_is_open_or_says_when_it_will_be(window: Window, now: datetime.datetime) -> None:
    end, said = window.closes(now), outside(window, now)
    assert bool(said) == (end is None)
    if end is None:
        assert str(window) in said and f"{window.opens(now):%H:%M} UTC" in said
    else:
        assert now < end <= now + window.duration
        assert window.closes(end - (end - now) / 2) is not None


@given(windows)
def test_it_reads_what_it_says(window: Window) -> None:
    hours = window.duration.total_seconds() / 3600
    known = {"start": f"{window.start:%H:%M}", "duration_h": hours, "timezone": window.timezone}
    assert parse_window(known) == window
    assert parse_window(f"{window.start:%H:%M}/{hours!r}h/{window.timezone}") == window


def test_over_midnight() -> None:
    window = parse_window("23:00/3h/UTC")
    assert window is not None
    assert window.closes(at("2026-05-01 22:59")) is None
    assert window.closes(at("2026-05-01 23:00")) == at("2026-05-02 02:00")
    assert window.closes(at("2026-05-02 01:59")) == at("2026-05-02 02:00")
    assert window.closes(at("2026-05-02 02:00")) is None


def test_when_the_clocks_change() -> None:
    spring = parse_window(f"02:30/1h/{BERLIN}")  # 29 March 2026 has no 02:30: the clocks go from 02:00 to 03:00
    assert spring is not None
    assert spring.closes(at("2026-03-29 03:29", BERLIN)) is None
    assert spring.closes(at("2026-03-29 03:30", BERLIN)) == at("2026-03-29 04:30", BERLIN).astimezone(UTC)
    # 25 October 2026 has 02:30 twice: it counts once, and three hours are three hours.
    autumn = parse_window(f"02:30/3h/{BERLIN}")
    assert autumn is not None
    first, second = at("2026-10-25 02:30", BERLIN), at("2026-10-25 02:30", BERLIN, fold=1)
    assert autumn.closes(first) == (first.astimezone(UTC) + 3 * HOUR) == autumn.closes(second)
    assert autumn.closes(at("2026-10-25 04:29", BERLIN)) is not None
    assert autumn.closes(at("2026-10-25 04:30", BERLIN)) is None


def test_all_day_is_all_day() -> None:
    window = parse_window({"start": "00:00", "duration_h": "24", "timezone": BERLIN})
    assert window is not None
    for hour in range(24 * 400):
        moment = at("2026-01-01 00:30") + hour * HOUR
        if not window.closes(moment):  # the day of autumn has 25 hours, the window 24
            assert moment.astimezone(ZoneInfo(BERLIN)).strftime("%m-%d %H") == "10-25 23"


def test_what_yaml_makes_of_an_unquoted_time() -> None:
    assert parse_window({"start": 22 * 60 + 30, "duration_h": 2}) == parse_window("22:30/2h")
    assert parse_window("4:05/1.5h") == Window(datetime.time(4, 5), datetime.timedelta(hours=1.5))


@pytest.mark.parametrize("nothing", ["", None, {}])
def test_no_window_is_always_open(nothing: object) -> None:
    assert parse_window(nothing) is None
    assert outside(None, at("2026-01-01 00:00")) == ""


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("04:00", "duration_h is ''"),
        ("25:00/3h", "start is '25:00'"),
        ("04:00/0h", "at most 24"),
        ("04:00/nanh", "at most 24"),
        ("04:00/3h/Europe/Atlantis", "no time zone 'Europe/Atlantis'"),
        ("04:00/3h/../../etc/passwd", "no time zone"),
        ({"start": "04:00"}, "needs start and duration_h"),
        ({"start": "04:00", "duration_h": 3, "days": "mon"}, "no entry 'days'"),
        ({"start": "04:00", "duration_h": True}, "at most 24"),
        ([4], "no window"),
    ],
)
def test_nonsense_is_refused(given: object, wrong: str) -> None:
    with pytest.raises(InvalidInput, match=wrong):
        parse_window(given)
