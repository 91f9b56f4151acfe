"""Points in time: what people write, which timeline is meant, and what pg_waldump prints."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.disposable import setting_text
from scannerdb.drill.amcheck import read_report
from scannerdb.errors import BackupInvalid, InvalidInput, RestoreRefused, TargetNotReached
from scannerdb.jobs.point_in_time import point_request_from
from scannerdb.physical.archive import Range
from scannerdb.physical.copy_folder import copy_folder
from scannerdb.physical.recovery import not_reached
from scannerdb.physical.target import Landing, choose, parse_target, reach, stamp
from scannerdb.physical.transactions import Ending, Line, parse_endings, parse_points
from scannerdb.physical.window import Fork, Gap, PhysicalBackup, Stretch, Window
from scannerdb.process import Finished
from scannerdb.restore.options import RestoreOptions
from scannerdb.sets.locate import parse_moment
from scannerdb.tools import Tools

UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SEGMENT = 16 << 20
WALDUMP = """\
rmgr: Transaction len (rec/tot):     34/    34, tx:        741, lsn: 0/040000A8, prev 0/04000060, desc: COMMIT \
2026-11-30 16:18:21.587762 UTC
rmgr: Transaction len (rec/tot):    114/   114, tx:        742, lsn: 1/04000118, prev 0/040000D0, desc: COMMIT \
2026-11-30 16:18:21 UTC; inval msgs: catcache 63
rmgr: Transaction len (rec/tot):     34/    34, tx:        743, lsn: 1/04000188, prev 0/04000140, desc: ABORT \
2026-11-30 16:18:22.5 UTC; rels: base/5/16400
rmgr: Transaction len (rec/tot):     82/    82, tx:          0, lsn: 1/04000200, prev 0/04000140, desc: \
COMMIT_PREPARED 744: 2026-11-30 16:18:23.000001 UTC
rmgr: Transaction len (rec/tot):     82/    82, tx:        745, lsn: 1/04000300, prev 0/04000140, desc: PREPARE gid x: \
2026-11-30 16:18:23.000001 UTC
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/040001B0, prev 0/04000188, desc: RESTORE_POINT \
before it, of: 2026
"""


def at(second: float) -> datetime.datetime:
    return NOON + datetime.timedelta(seconds=second)


def window(timeline: int, *gaps: Gap) -> Window:
    base = PhysicalBackup("20261124-120000F", "full", NOON, NOON, SEGMENT, SEGMENT + 1, 1, 1, 1, 0, 0)
    return Window(timeline, (Stretch(NOON, at(600), (base,), Range(1, 9)),), gaps)


def landing(timeline: int, written_by: int, lsn: int) -> Landing:
    there = window(timeline)
    ended = Ending(lsn, 700 + lsn, at(lsn))
    return Landing(there, there.first_backup, lsn + 100, ended, None, ended, written_by)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-24 03:10:00+00", "2026-11-24 03:10:00+00"),
        ("2026-11-24T03:10:00.25Z", "2026-11-24 03:10:00.25+00"),
        ("2026-11-24 03:10", "2026-11-24 03:10:00+00"),
        ("2026-11-24 03:10:00 +05:30", "2026-11-23 21:40:00+00"),
        ("2026-11-24 03:10:00-0100", "2026-11-24 04:10:00+00"),
        ("physical:2026-11-24 03:10:00.000001 UTC", "2026-11-24 03:10:00.000001+00"),
    ],
)
def test_a_time_has_a_zone_or_is_utc(text: str, wanted: str) -> None:
    target = parse_target(text)
    assert target and target.moment
    assert stamp(target.moment) == wanted


@given(st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_what_we_write_as_a_time_is_read_as_the_same(moment: datetime.datetime) -> None:
    target = parse_target(stamp(moment))
    assert target
    assert target.moment == moment


@pytest.mark.parametrize(
    "text", ["latest", "2026-11-24", "x.backup", "/a/path", "dump:2026-11-24 03:10", "offsite:latest"]
)
def test_what_names_a_dump_stays_one(text: str) -> None:
    assert parse_target(text) is None


@pytest.mark.parametrize(
    "text", ["physical:2026-11-24", "physical:x", "xid:2", "xid:abc", "lsn:1", "2026-13-01 00:00", "before-xid:-4"]
)
def test_what_is_no_point_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_target(text)


def test_a_time_for_dumps_takes_a_short_zone_too() -> None:
    assert parse_moment("2026-11-24 03:10:00+01") == parse_moment("2026-11-24T02:10:00Z")


def test_without_physical_backups_a_time_means_a_dump_and_nothing_else_is_a_point() -> None:
    physical: Any = {"backup_method": ["pgbackrest"]}
    assert point_request_from(RestoreOptions(source="2026-11-24 03:10")).target is None
    assert point_request_from(RestoreOptions(source="2026-11-24 03:10", **physical)).target
    assert point_request_from(RestoreOptions(source="dump:2026-11-24 03:10", **physical)).target is None
    for source in ("physical:2026-11-24 03:10", "lsn:0/3000028", "physical:latest"):
        with pytest.raises(InvalidInput, match="none are configured"):
            point_request_from(RestoreOptions(source=source))
    with pytest.raises(InvalidInput, match="is a day without a time") as told:
        point_request_from(RestoreOptions(source="2026-11-24", **physical))
    assert "2026-11-24T03:10:00Z" in str(told.value)
    assert point_request_from(RestoreOptions(source="2026-11-24")).target is None
    with pytest.raises(InvalidInput, match="names no point in time"):
        point_request_from(RestoreOptions(source="latest", show=True, **physical))


def test_a_child_that_holds_the_same_is_taken_without_a_question() -> None:
    target = parse_target("2026-11-24 12:00:05")
    assert target
    chosen = choose(target, [landing(1, 1, 5), landing(2, 1, 5)], [window(1), window(2)])
    assert chosen.window.timeline == 2


def test_timelines_with_other_contents_are_asked_about() -> None:
    target = parse_target("2026-11-24 12:00:05")
    assert target
    several = [landing(1, 1, 5), landing(2, 2, 4)]
    with pytest.raises(RestoreRefused, match="More than one timeline holds") as told:
        choose(target, several, [window(1), window(2)])
    assert "timeline 1 (its last transaction then is 705 of 2026-11-24 12:00:05+00)" in str(told.value)
    assert choose(target, several, [window(1), window(2)], timeline=1).window.timeline == 1
    with pytest.raises(RestoreRefused, match="cannot be reached along timeline 3"):
        choose(target, several, [window(1), window(2)], timeline=3)


def test_what_can_be_reached_is_told_with_its_gaps() -> None:
    told = reach([window(1, Gap(at(10), at(20), Range(4, 4))), window(2, Gap(at(30), None, Range(7, 7)))])
    assert (
        "timeline 1 from 2026-11-24 12:00:00+00 to 2026-11-24 12:10:00+00, not from 2026-11-24 12:00:10+00 to" in told
    )
    assert "to the next backup (WAL is missing)" in told
    assert reach([]) == "There is no usable physical backup."


def test_ends_of_transactions_are_read_as_pg_waldump_prints_them() -> None:
    found = parse_endings(WALDUMP)
    assert [(one.xid, one.committed) for one in found] == [(741, True), (742, True), (743, False), (744, True)]
    assert found[0].lsn == 0x040000A8
    assert found[1].lsn == (1 << 32) + 0x04000118
    assert found[0].at.microsecond == 587762
    assert [(point.lsn, point.name) for point in parse_points(WALDUMP)] == [(0x040001B0, "before it, of: 2026")]


def test_from_the_segment_of_a_fork_on_the_files_of_the_child_are_read() -> None:
    line = Line(3, (Fork(1, 4 * SEGMENT + 100), Fork(2, 6 * SEGMENT)))
    assert [line.reads(number) for number in (3, 4, 5, 6, 7)] == [1, 2, 2, 3, 3]
    assert [line.wrote(lsn) for lsn in (0, 4 * SEGMENT + 99, 4 * SEGMENT + 100, 6 * SEGMENT)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("FATAL:  recovery ended before configured recovery target was reached", "is not archived yet"),
        ("FATAL:  requested recovery stop point is before consistent recovery point", "an older one is needed"),
        ("FATAL:  WAL was generated with wal_level=minimal, cannot continue", "wal_level=minimal"),
        ("PANIC:  could not locate a valid checkpoint record at 0/2000028", "is damaged or missing"),
    ],
)
def test_why_a_backup_did_not_reach_its_target_is_a_sentence(log: str, hint: str) -> None:
    cut = f"{log}\nFATAL:  terminating connection due to administrator command"
    error = not_reached(cut, landing(1, 1, 5))
    assert isinstance(error, TargetNotReached) and hint in str(error)
    assert "Nothing was changed" in str(error)


@pytest.mark.parametrize(
    ("log", "code", "words"),
    [
        ('FATAL:  could not write to file "pg_wal/x": No space left on device', 1, "No space left on device"),
        ("ERROR: No space left on device\nFATAL:  recovery ended before configured recovery target", 1, "No space"),
        ('FATAL:  could not create lock file "/x/.s.PGSQL.5432.lock": Permission denied', 1, "Permission denied"),
        ('FATAL:  could not bind Unix address "/x": Address already in use', 1, "Address already in use"),
        ("FATAL:  could not map anonymous shared memory: Cannot allocate memory", 1, "Cannot allocate memory"),
        ("LOG:  startup process (PID 7) was terminated by signal 9: Killed", 1, "terminated by signal 9"),
        ("", -9, "ended by signal 9"),
        ("", 0, "it ended and said nothing"),
        ("FATAL:  something new", 1, "something new"),
        ("FATAL:  recovery aborted because of insufficient parameter settings", 1, "max_connections"),
    ],
)  # fmt: skip
def test_what_the_machine_is_to_blame_for_refutes_no_backup(log: str, code: int, words: str) -> None:
    error = not_reached(log, landing(1, 1, 5), code)
    assert not isinstance(error, (TargetNotReached, BackupInvalid)) and words in str(error)
    assert "Nothing was changed" in str(error)


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))))
def test_a_setting_reads_back_as_it_was(value: str) -> None:
    text = setting_text(value)
    assert re.fullmatch(r"'(?:[^'\\\n]|\\.|'')*'", text)  # as PostgreSQL reads one
    assert re.sub(r"\\(.)|''", lambda m: {"n": "\n", None: "'"}.get(m[1], m[1]), text[1:-1]) == value


def test_a_folder_that_pgbackrest_would_misread_is_refused(tmp_path: Path) -> None:
    for name in ("it's", "100%", 'a"b', "a\\b", "$HOME"):
        with (
            pytest.raises(InvalidInput, match="pgBackRest writes"),
            copy_folder(tmp_path / name, Tools("", "15.1"), ""),
        ):
            raise AssertionError(name)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "out", "err", "damage", "unseen"),
    [
        (0, "", "", 0, ""),
        (2, 'btree index "d.s.i":\n    ERROR:  item order invariant violated\n    DETAIL:  x\n', "", 1, ""),
        (2, 'heap table "d.s.t", block 1:\n    ERROR:  read: Input/output error\n', "", 0, "Input/output error"),
        (2, 'heap table "d.s.t", block 1:\n    xmin is wrong\nbtree index "d.s.i":\n    ERROR:  out of memory\n', "", 1,
         "out of memory"),
        (0, "", 'pg_amcheck: warning: skipping database "d": amcheck is not installed', 0, 'skipping database "d"'),
        (1, "", "pg_amcheck: error: permission denied to create extension", 0, "permission denied to create extension"),
        (1, "", "pg_amcheck: error: server closed the connection unexpectedly", 0, "closed"),
    ],
)  # fmt: skip
def test_pages_are_whole_damaged_or_were_not_looked_at(code: int, out: str, err: str, damage: int, unseen: str) -> None:
    found = read_report(Finished(out, err, code))
    assert len(found.damage) == damage and unseen in found.unseen and bool(unseen) == bool(found.unseen)
