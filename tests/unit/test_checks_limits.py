"""Thresholds, forecasts and the other judgements of the health check: pure."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.checks.capacity import judge_disk, judge_growth, judge_sequence
from scannerdb.checks.context import Context, amount
from scannerdb.checks.counters import contradictions, interrupted
from scannerdb.checks.history import growth, pace, read_history
from scannerdb.checks.holders import duration
from scannerdb.checks.registry import KINDS, THRESHOLDS
from scannerdb.checks.server import END_OF_SUPPORT, judge_version
from scannerdb.checks.thresholds import CheckThresholds, parse_thresholds
from scannerdb.checks.triggers import only_stamps
from scannerdb.connection import Options
from scannerdb.errors import FileProblem, InvalidInput
from scannerdb.finding import SEVERITIES
from scannerdb.jobs.standbys import found, place_of
from scannerdb.vacuum.memory import read_memory

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2026, 6, 10, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"nonsense": 1}, "has no entry 'nonsense'"),
        ({"disk_free_percent": "much"}, "disk_free_percent must be a number of 0 or more, not 'much'"),
        ({"disk_free_percent": True}, "must be a number"),
        ({"disk_free_percent": None}, "must be a number"),
        ({"disk_free_percent": -1}, "must be a number of 0 or more"),
        ({"disk_free_percent": 101}, "at most 100"),
        ({"holding_minutes": float("inf")}, "must be a number"),
        ({"xid_warning_percent": 80}, "a warning has to come first|above xid_critical_percent"),
        (["disk_free_percent"], "must be a dictionary"),
    ],
)
def test_wrong_thresholds_are_named(given_: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_thresholds(given_, THRESHOLDS)


@given(st.sampled_from(sorted(THRESHOLDS)), st.floats(0, 100))
def test_thresholds_from_extra_variables_are_strings(name: str, value: float) -> None:
    pairs = {"xid_warning_percent": 0, "sequence_warning_percent": 0}
    pairs.update(xid_critical_percent=100, sequence_critical_percent=100)
    assert parse_thresholds({**pairs, name: str(value)}, THRESHOLDS)[THRESHOLDS[name]] == value


def test_no_thresholds_are_the_defaults() -> None:
    assert parse_thresholds({}, THRESHOLDS) == parse_thresholds(None, THRESHOLDS) == CheckThresholds()


def test_every_entry_says_how_it_is_mended() -> None:
    for entry in KINDS.values():
        assert entry.severity in SEVERITIES and entry.meaning.endswith((".", ".)"))
        assert not entry.how or entry.how.endswith("."), entry.id
    known = ("capacity", "security", "server", "vacuum")
    assert [e.id for e in KINDS.values() if e.id.startswith(known) and not e.how] == []


def run_at(days_ago: float, **more: Any) -> dict[str, Any]:
    at = NOW - datetime.timedelta(days=days_ago)
    return {"at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "bytes": 1000, "tables": {}, "sequences": {"s": 100}, **more}


def test_the_pace_comes_from_the_oldest_run_of_the_week() -> None:
    past = [run_at(30, sequences={"s": 1}), run_at(5), run_at(1, sequences={"s": 190}), run_at(0.01)]
    assert pace(past, "s", NOW, 600) == pytest.approx(100)
    assert pace(past, "other", NOW, 600) is None
    assert pace(past, "s", NOW, 100) is None, "a sequence that stands still never fills"
    assert pace([run_at(0.01)], "s", NOW, 600) is None, "minutes tell nothing"
    assert pace([run_at(30)], "s", NOW, 400) == pytest.approx(10), "better an old run than none"
    assert pace([], "s", NOW, 600) is None


def judged_sequence(last: int, past: list[dict[str, Any]] | None = None, **more: Any) -> tuple[str, str] | None:
    row = {"schema": "public", "name": "s", "last": last, "largest": 2**63 - 1, "table": "t", "column": "id"}
    context = Context(None, "public", {}, now=NOW, past=past or [])
    found = judge_sequence(context, {**row, "type": "integer", **more})
    return (found.id, str(found.evidence.get("full_on", ""))) if found else None


def test_a_sequence_is_judged_by_its_column_too() -> None:
    assert judged_sequence(2**30 - 10_000_000) is None
    assert judged_sequence(2**30 + 10_000_000) == ("capacity.sequence.filling", "")
    assert judged_sequence(2_000_000_000) == ("capacity.sequence.exhausted", "")
    assert judged_sequence(2_000_000_000, type="bigint") is None
    assert judged_sequence(30_000, type="smallint") == ("capacity.sequence.exhausted", "")
    assert judged_sequence(90, largest=100, type=None, table=None, column=None) == ("capacity.sequence.exhausted", "")


def test_a_forecast_warns_before_the_share_does() -> None:
    fast = [run_at(5, sequences={"s": 500_000_000})]
    assert judged_sequence(600_000_000, fast) == ("capacity.sequence.filling", "2026-08-26")
    slow = [run_at(5, sequences={"s": 599_000_000})]
    assert judged_sequence(600_000_000, slow) is None


def test_growth() -> None:
    past = [run_at(3, bytes=100 << 20)]
    assert growth(past, NOW, 150 << 20) == {"bytes": 50 << 20, "percent": 50.0, "since": "2026-06-07T12:00:00Z"}
    assert list(judge_growth(past, NOW, 150 << 20, 20)) == [], "50 MB are nothing to speak of"
    assert [f.id for f in judge_growth(past, NOW, 250 << 20, 20)] == ["capacity.database.growth"]
    assert list(judge_growth(past, NOW, 110 << 20, 20)) == [] == list(judge_growth([], NOW, 1, 20))
    assert growth([run_at(3, bytes=0)], NOW, 5) is None


@pytest.mark.parametrize(
    ("room", "ids"),
    [
        (None, []),
        ((0, 0), []),
        ((50, 100), []),
        ((9, 100), ["capacity.disk.low"]),
        ((3, 100), ["capacity.disk.low", "capacity.disk.no_copy"]),
    ],
)
def test_the_disk(room: tuple[int, int] | None, ids: list[str]) -> None:
    assert [f.id for f in judge_disk("/data", 5, room, 10)] == ids


@pytest.mark.parametrize(
    ("major", "day", "finding_id"),
    [
        (15, "2027-11-11", "server.version.ending"),
        (15, "2027-11-12", "server.version.unsupported"),
        (15, "2026-11-24", None),
        (17, "2026-11-24", None),
        (13, "2026-01-01", "server.version.unsupported"),
        (99, "2026-01-01", None),
    ],
)
def test_support_ends(major: int, day: str, finding_id: str | None) -> None:
    found = [f.id for f in judge_version(major, datetime.date.fromisoformat(day), 180)]
    assert found == ([finding_id] if finding_id else [])


def test_every_tested_version_has_a_date() -> None:
    assert set(END_OF_SUPPORT) >= {14, 15, 16, 17, 18}


STAMPS = {"scan_date": frozenset({"ip", "port"}), "verification_date": frozenset({"verified"})}


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        ("\nBEGIN\n    NEW.scan_date := CURRENT_TIMESTAMP;\n    RETURN NEW;\nEND;\n", True),
        ("begin new.scan_date = now(); return new; end", True),
        ("BEGIN -- a comment; DELETE\n NEW.scan_date := now(); /* DROP */ RETURN NEW; END;", True),
        ("BEGIN IF OLD.ip <> NEW.ip THEN NEW.scan_date := now(); END IF; RETURN NEW; END;", True),
        ("BEGIN NEW.ip := '1.1.1.1'; RETURN NEW; END;", False),
        ("BEGIN NEW.port := now(); RETURN NEW; END;", False),
        ("BEGIN NEW.scan_date := now(); DELETE FROM models; RETURN NEW; END;", False),
        ("BEGIN NEW.scan_date := now(); RETURN NULL; END;", False),
        ("BEGIN PERFORM evil(); NEW.scan_date := now(); RETURN NEW; END;", False),
        ("", False),
    ],
)
def test_a_body_that_only_stamps(source: str, fine: bool) -> None:
    assert only_stamps(source, ["ip", "port"], STAMPS) is fine


def test_a_stamp_has_its_moment() -> None:
    always = "BEGIN NEW.verification_date := now(); RETURN NEW; END"
    guarded = (
        "BEGIN IF OLD.verified IS DISTINCT FROM NEW.verified THEN NEW.verification_date := now(); END IF;"
        " RETURN NEW; END"
    )
    assert not only_stamps(always, ["ip"], STAMPS)
    assert only_stamps(always, ["ip", "verified"], STAMPS)
    assert only_stamps(guarded, [], STAMPS)
    assert not only_stamps(
        guarded.replace("OLD.verified IS DISTINCT FROM NEW.verified", "OLD.ip <> NEW.ip"), [], STAMPS
    )


def test_counters() -> None:
    actual = {"server_count": 100, "model_count": 5}
    assert contradictions({"server_count": "100", "model_count": " 5 "}, actual, 0) == {}
    assert contradictions({"server_count": "97"}, actual, 3) == {}
    assert contradictions({"server_count": "96"}, actual, 3) == {"server_count": ("96", 100)}
    assert contradictions({"server_count": None}, actual, 9) == {"server_count": (None, 100)}
    assert contradictions({"server_count": "²", "verified_server_count": "1"}, actual, 9) == {
        "server_count": ("²", 100)
    }
    assert contradictions({"server_count": "0"}, actual, 0) == {}  # its program has not run yet


@pytest.mark.parametrize(
    ("start", "end", "is_interrupted"),
    [
        ("2026-01-01T00:00:00", "2026-01-01T03:00:00", False),
        ("2026-01-01T00:00:00", "2025-12-25 03:00:00+00:00", True),
        ("2026-01-01T00:00:00Z", None, True),
        ("2026-01-09T12:00:00", None, False),  # it may well be running
        ("yesterday", None, False),
    ],
)
def test_an_interrupted_scan(start: str, end: str | None, is_interrupted: bool) -> None:
    now = datetime.datetime(2026, 1, 10, tzinfo=datetime.timezone.utc)
    said = list(interrupted({"last_scan_start": start, "last_scan_end": end}, now))
    assert [f.object for f in said] == (["metadata.last_scan_start"] if is_interrupted else [])


def test_numbers_for_people() -> None:
    assert [amount(n) for n in (0, 1023, 1536, 5 << 20, 300 << 20, 5 << 40)] == [
        *("0 bytes", "1023 bytes", "1.5 kB", "5.0 MB", "300 MB", "5120 GB")
    ]
    assert [duration(s) for s in (5, 60, 7300, 200000)] == ["5 seconds", "1 minute", "2 hours", "2 days"]


@pytest.mark.parametrize(
    ("name", "host", "socket", "port"),
    [
        ("db2", "db2", "", 6000),
        ("db2:5433", "db2", "", 5433),
        ("10.0.0.7", "10.0.0.7", "", 6000),
        ("2001:db8::2", "2001:db8::2", "", 6000),
        ("[2001:db8::2]:5433", "2001:db8::2", "", 5433),
        ("/run/pg", "", "/run/pg", 6000),
        ("/run/pg:5433", "", "/run/pg", 5433),
    ],
)
def test_where_a_standby_is(name: str, host: str, socket: str, port: int) -> None:
    primary = Options(host="db1", port=6000, user="me", db="x")
    place = place_of(name, primary)
    assert (place.host, place.unix_socket, place.port, place.user, place.db) == (host, socket, port, "me", "x")
    assert [p.host for p in found(["", "10.1.1.1", host], [place], primary)] == ["10.1.1.1"]


def test_a_folder_that_cannot_be_looked_into_is_a_sentence(tmp_path: Path) -> None:
    """Root may look everywhere; a name that is too long fails the same way for everybody."""
    with pytest.raises(FileProblem, match=r"^Reading .* failed: File name too long\."):
        read_history(str(tmp_path / ("n" * 300)), "db")
    with pytest.raises(FileProblem, match=r"^Reading .* failed: File name too long\."):
        read_memory(str(tmp_path / ("n" * 300)))
    assert read_history(str(tmp_path / "absent"), "db") == []
