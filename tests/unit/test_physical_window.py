"""Physical backups, the pure part: names of segments, ranges, and what can be restored."""

from __future__ import annotations

import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import BackupInvalid, InvalidInput, ToolFailed
from scannerdb.physical.archive import (
    Range,
    lsn_text,
    parse_lsn,
    parse_segment,
    range_from,
    ranges,
    segment_name,
    segment_of,
    start_of,
)
from scannerdb.physical.engine import Recovery
from scannerdb.physical.pgbackrest import (
    PgBackRest,
    command_error,
    parse_info,
    parse_listing,
    recovery_arguments,
    windows_of,
)
from scannerdb.physical.window import (
    ArchiveSegment,
    Fork,
    PhysicalBackup,
    Window,
    broken_backups,
    parse_history,
    windows,
)
from scannerdb.process import Finished

EPOCH = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
SIZES = st.sampled_from([1 << power for power in range(20, 31)])
SIZE = 1 << 24
numbers = st.sets(st.integers(0, 40))


def at(minute: float) -> datetime.datetime:
    return EPOCH + datetime.timedelta(minutes=minute)


def segment(number: int, timeline: int = 1, minute: float | None = None) -> ArchiveSegment:
    return ArchiveSegment(timeline, number, at(number if minute is None else minute))


def backup(first: int, last: int, timeline: int = 1, **more: object) -> PhysicalBackup:
    facts: dict[str, object] = {
        "label": f"b{timeline}-{first}",
        "kind": "full",
        "started": at(first - 0.9),
        "stopped": at(last - 0.5),
        "start_lsn": start_of(first, SIZE) + 40,
        "stop_lsn": start_of(last, SIZE) + 80,
        "start_segment": first,
        "stop_segment": last,
        "timeline": timeline,
        "size_bytes": 1,
        "repository_bytes": 1,
    }
    return PhysicalBackup(**{**facts, **more})  # type: ignore[arg-type]


def only(found: list[Window]) -> Window:
    assert len(found) == 1
    return found[0]


@given(st.integers(1, 0xFFFFFFFF), st.integers(0, (1 << 34) - 1), SIZES)
def test_a_segments_name_says_its_timeline_and_number(timeline: int, number: int, size: int) -> None:
    number %= (1 << 64) // size
    assert parse_segment(segment_name(timeline, number, size), size) == (timeline, number)
    assert segment_of(start_of(number, size), size) == number == segment_of(start_of(number + 1, size) - 1, size)


@given(st.integers(0, (1 << 64) - 1))
def test_a_position_reads_back(lsn: int) -> None:
    assert parse_lsn(lsn_text(lsn)) == lsn


def test_names_that_are_none() -> None:
    assert segment_name(1, 255) == "0000000100000000000000FF"
    assert segment_name(1, 256) == "000000010000000100000000"
    for name in ("", "00000002.history", "000000010000000000000100", "000000010000000000000001.partial", "g" * 24):
        with pytest.raises(InvalidInput):
            parse_segment(name)
    for size in (0, 3 << 20, 1 << 19, 1 << 31):
        with pytest.raises(InvalidInput):
            parse_segment("000000010000000000000001", size)
    with pytest.raises(InvalidInput):
        parse_lsn("0/123456789")


@given(numbers)
def test_ranges_hold_what_is_there(present: set[int]) -> None:
    found = ranges(present)
    assert [n for r in found for n in range(r.first, r.last + 1)] == sorted(present)
    assert all(before.last + 1 < after.first for before, after in itertools.pairwise(found))
    for number in range(41):
        reached = range_from(number, found)
        assert (reached is not None) == (number in present)
        assert reached is None or reached.last + 1 not in present


@given(numbers, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=5, unique_by=lambda b: b[0]))
def test_a_moment_is_in_the_window_exactly_where_a_backup_and_all_that_follows_is_there(
    present: set[int], made: list[tuple[int, int]]
) -> None:
    backups = [backup(first, first + length) for first, length in made]
    found = windows(backups, [segment(n) for n in sorted(present)], {})
    for number in range(46):
        can = any(first + length <= number and present >= set(range(first, number + 1)) for first, length in made)
        assert any(window.holds(at(number)) for window in found) == can


@given(st.integers(2, 10), st.integers(0, 8), st.booleans())
def test_along_a_fork_the_parents_segments_count_up_to_where_it_was_left(left: int, more: int, copied: bool) -> None:
    parent = [segment(n) for n in range(left + 3)]
    child = [segment(n, 2, n + 0.1) for n in range(left + (0 if copied else 1), left + 1 + more)]
    histories = {2: (Fork(1, start_of(left, SIZE) + 500),)}
    by_timeline = {w.timeline: w for w in windows([backup(0, 0)], [*parent, *child], histories)}
    assert by_timeline[1].ends == at(left + 2)
    # The child's first file is the one in which it left its parent.
    assert by_timeline[2].ends == (at(left + more + 0.1) if copied else at(left - 1))


def test_a_backup_after_the_fork_belongs_to_one_side_only() -> None:
    histories = {2: (Fork(1, start_of(5, SIZE)),)}
    segments = [*map(segment, range(9)), *(segment(n, 2, n + 20) for n in range(5, 9))]
    made = [backup(1, 1), backup(6, 6), backup(7, 7, 2)]
    by_timeline = {w.timeline: w for w in windows(made, segments, histories)}
    assert [b.label for s in by_timeline[1].stretches for b in s.backups] == ["b1-1", "b1-6"]
    assert [b.label for s in by_timeline[2].stretches for b in s.backups] == ["b1-1", "b2-7"]


def test_a_hole_on_a_timeline_that_was_left_is_closed_by_a_backup_on_a_newer_one() -> None:
    histories = {2: (Fork(1, start_of(6, SIZE)),)}
    old = [segment(n) for n in range(9) if n != 3]
    new = [segment(n, 2, n + 20) for n in range(6, 12)]
    made = [backup(1, 1)]
    first = windows(made, [*old, *new], histories)
    assert all(window.open_gap for window in first)  # no backup since
    since = backup(8, 9, 2, stopped=at(29.5))
    closed = windows([*made, since], [*old, *new], histories)
    assert [window.open_gap for window in closed] == [None, None]
    assert [gap.ends for gap in closed[0].gaps] == [since.consistent] and closed[0].gaps[0].missing == Range(3, 3)
    assert not closed[0].holds(at(5))  # it is still told, and nothing in it can be restored
    alive = [*old, segment(9, 1, 40)]  # somebody still archives there
    assert windows([*made, since], [*alive, *new], histories)[0].open_gap
    broken = backup(8, 9, 2, stopped=at(29.5), kind="incr", prior="gone")
    assert windows([*made, broken], [*old, *new], histories)[0].open_gap
    expired = windows([since], [*old, *new], histories)
    assert [(window.timeline, window.gaps) for window in expired] == [(2, ())]


def test_a_hole_is_a_gap_until_the_next_backup() -> None:
    present = [segment(n) for n in range(10) if n not in (4, 5)]
    window = only(windows([backup(1, 1)], present, {}))
    assert window.open_gap is not None and window.open_gap.missing == Range(4, 5)
    assert (window.begins, window.ends) == (backup(1, 1).consistent, at(3))
    window = only(windows([backup(1, 1), backup(7, 8)], present, {}))
    assert window.open_gap is None
    assert [(gap.begins, gap.ends) for gap in window.gaps] == [(at(3), backup(7, 8).consistent)]
    assert not window.holds(at(6)) and window.holds(at(9))


def test_a_backup_that_cannot_be_restored_begins_no_window() -> None:
    lacking = backup(3, 5)
    orphan = backup(1, 1, kind="incr", prior="gone", label="gone_1")
    segments = [segment(n) for n in (1, 2, 3, 5, 6)]
    reasons = broken_backups([lacking, orphan], segments)
    assert "lacks WAL" in reasons[lacking.label] and "gone" in reasons["gone_1"]
    assert windows([lacking, orphan], segments, {}) == []


def test_a_history_names_the_ancestors() -> None:
    text = "1\t0/5000000\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2026-11-23\n"
    assert parse_history(text) == (Fork(1, 0x5000000), Fork(2, 0x1000000A0))
    with pytest.raises(BackupInvalid):
        parse_history("one 0/1 nonsense")


def answer(**more: object) -> list[dict[str, object]]:
    facts = {
        "archive": {"start": "000000010000000000000004", "stop": "000000010000000000000005"},
        "database": {"id": 1, "repo-key": 1},
        "error": True,
        "info": {"delta": 1523978, "repository": {"delta": 157072, "size": 2998768}, "size": 23255204},
        "label": "20261130-161251F_20261130-161253I",
        "lsn": {"start": "0/4000028", "stop": "0/5000050"},
        "prior": "20261130-161251F",
        "reference": ["20261130-161251F"],
        "timestamp": {"start": 1796055173, "stop": 1796055174},
        "type": "incr",
    }
    stanza = {
        "backup": [{**facts, **more}],
        "db": [{"id": 1, "repo-key": 1, "system-id": 7713998216699724802, "version": "15"}],
        "repo": [
            {"cipher": "aes-256-cbc", "key": 1, "status": {"code": 0, "message": "ok"}},
            {"cipher": "none", "key": 2, "status": {"code": 1, "message": "missing stanza path"}},
        ],
    }
    return [stanza]


def test_what_pgbackrest_answers_is_read() -> None:
    first, second = parse_info(answer())
    assert first.encrypted and first.archive_id == "15-1" and not first.problem
    assert (second.problem, second.archive_id, second.backups) == ("missing stanza path", "", ())
    (made,) = first.backups
    assert made.page_errors and made.prior == "20261130-161251F" and made.archive_id == "15-1"
    assert (made.start_segment, made.stop_segment, made.timeline) == (4, 5, 1)
    assert windows_of(first) == []
    # Block bundles of later versions leave the size of the set out.
    (later,) = parse_info(answer(info={"size": 9, "repository": {"delta": 3}}))[0].backups
    assert later.repository_bytes == 3


@pytest.mark.parametrize("wrong", [{}, [{}], [{"repo": [{}]}], "text", answer(lsn={"start": "x", "stop": "0/1"})])
def test_an_answer_of_another_shape_is_said_to_be_one(wrong: object) -> None:
    if wrong == {}:
        assert parse_info(wrong) == []
        return
    with pytest.raises(ToolFailed, match="cannot be read"):
        parse_info(wrong)


def test_only_whole_segments_of_a_listing_count() -> None:
    sha, facts = "6216ef280e9365a971f8183912c3a36696aa2ba7", {"type": "file", "size": 7, "time": 1796055171}
    folder = "15-1/0000000100000000"
    listing = {
        ".": {"type": "path"},
        folder: {"type": "path"},
        f"{folder}/000000010000000000000002-{sha}.zst": facts,
        f"{folder}/000000010000000000000001-{sha}": facts,
        f"{folder}/000000010000000000000003.partial-{sha}.zst": facts,
        f"{folder}/000000010000000000000002.00000028.backup": facts,
        f"{folder}/000000010000000000000004-{sha}.zst.pgbackrest.tmp": facts,
        "15-1/00000002.history": facts,
        "archive.info": facts,
    }
    (archived,) = parse_listing(listing).values()
    assert [s.number for s in archived] == [1, 2]


def test_a_target_becomes_options() -> None:
    assert recovery_arguments(Recovery()) == ["--type=default"]
    recovery = Recovery("time", "2026-11-24 03:10:00+00", timeline="1", inclusive=False)
    assert recovery_arguments(recovery) == [
        "--type=time",
        "--target=2026-11-24 03:10:00+00",
        "--target-action=pause",
        "--target-timeline=1",
        "--target-exclusive",
    ]
    with pytest.raises(InvalidInput):
        PgBackRest("a b")


def test_only_what_is_wrong_with_the_files_speaks_against_a_backup() -> None:
    assert isinstance(command_error("restore", Finished("", "ERROR: [026]: checksum", 26)), BackupInvalid)
    for command, code in (("restore", 41), ("restore", 53), ("backup", 26), ("restore", -9)):
        assert isinstance(command_error(command, Finished("", "ERROR: [053]: denied", code)), ToolFailed)
