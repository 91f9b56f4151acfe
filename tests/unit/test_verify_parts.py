"""The pure parts of restore drills: names and marks, comparing structures, what a record proves."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import OperationalError, errors
from scannerdb.connection import text_of
from scannerdb.disposable import debris, sweep
from scannerdb.drill.amcheck import spares
from scannerdb.drill.cluster import PREFIX
from scannerdb.drill.scratch import ScratchMark, is_left_over, scratch_name
from scannerdb.errors import FileProblem
from scannerdb.sets.catalogue import CLOCKS_DIFFER, list_sets, load_set, newest_proven, newest_verified
from scannerdb.sets.fingerprint import fingerprint_query
from scannerdb.sets.manifest import ObjectPrint
from scannerdb.sets.retention import remove_set
from scannerdb.sets.signing import Trust
from scannerdb.sets.staging import in_use
from scannerdb.sets.structure import structure_differences, structure_fingerprint
from scannerdb.sets.verification_log import (
    NOT_TRIED,
    Verification,
    VerificationStatus,
    append_history,
    append_record,
    last_drill,
    read_records,
    standing,
)

from tests.backup_sets import HOUR, NOON, NOW, make_set, old

names = st.text(min_size=1, max_size=63)


@given(names, names)
def test_a_scratch_database_is_known_by_name_and_mark(database: str, run_id: str) -> None:
    name = scratch_name(database, run_id)
    assert len(name.encode()) < 64
    assert is_left_over(name, None, database)
    assert is_left_over("any", ScratchMark(database, run_id, "now", "set").text(), database)
    assert not is_left_over(name, None, database + "x")
    assert not is_left_over(name, ScratchMark(database + "x", run_id, "now", "set").text(), database)
    assert not is_left_over(name + "0", None, database)


@given(st.text())
def test_any_other_comment_is_somebody_elses(comment: str) -> None:
    assert not is_left_over(scratch_name("a", "b"), comment, "a")


def test_a_fingerprint_names_its_table_safely() -> None:
    query = text_of(fingerprint_query('we"ird', "t; drop", ["b", 'a"']))
    assert 'FROM ONLY "we""ird"."t; drop" AS content' in query
    assert 'ROW("content"."b", "content"."a""")' in query


def test_structures_are_compared_by_object() -> None:
    before = [ObjectPrint("table", "a", "1"), ObjectPrint("table", "b", "1"), ObjectPrint("view", "a", "1")]
    after = [ObjectPrint("table", "a", "2"), ObjectPrint("view", "a", "1"), ObjectPrint("view", "c", "1")]
    assert structure_differences(before, before) == []
    told = structure_differences(before, after)
    assert [t.split(" (")[0] for t in told] == [
        "The table b is missing after the restore.",
        "The restore made a view c, which was not backed up.",
        "The table a was restored otherwise than it was",
    ]
    assert structure_fingerprint(before) != structure_fingerprint(after)
    assert structure_fingerprint([]) == ""


def record(level: str, ok: bool = True, **more: float) -> Verification:
    return Verification(level, ok, f"at {level}", "d", problems=() if ok else ("broken",), **more)  # type: ignore[arg-type]


def test_a_proof_by_restoring_outlasts_later_reading_but_no_failure() -> None:
    drilled = record("restore", restore_s=12.5)
    assert standing([drilled, record("read")], "d") == VerificationStatus("restore", "at restore", (), 12.5)
    assert standing([drilled, record("checksum", ok=False)], "d").level == "none"
    assert standing([drilled, record("checksum", ok=False), record("read")], "d").level == "read"
    failed = standing([drilled, record("restore", ok=False), record("read")], "d")
    assert (failed.level, failed.problems) == ("none", ("broken",)), "reading does not lift a failed restore"


def test_what_could_not_be_tried_changes_nothing(tmp_path: Path) -> None:
    """And status knows of it, whatever else is in the history."""
    drilled = record("restore", restore_s=12.5)
    tried = replace(record("restore", ok=False), outcome=NOT_TRIED)
    assert standing([drilled, tried], "d") == standing([drilled], "d")
    assert (drilled.outcome, record("read", ok=False).outcome) == ("proven", "refuted")
    assert last_drill(str(tmp_path), "db") == {}
    for name, one in (("db_20250418_120000.backup", tried), ("other_20250418_120000.backup", drilled)):
        append_history(str(tmp_path), name, one)
    append_history(str(tmp_path), "db_20250418_130000.backup", record("read"))
    with (tmp_path / "verification.jsonl").open("a") as stream:
        stream.write("{torn\n")
    assert last_drill(str(tmp_path), "db")["outcome"] == "not_tried"
    assert last_drill(str(tmp_path), "other")["outcome"] == "proven"


def test_the_newest_proven_set(tmp_path: Path) -> None:
    for day, level, ok in ((1, "restore", True), (2, "restore", True), (3, "restore", False), (4, "read", True)):
        path = make_set(tmp_path, NOON.replace(day=day))
        done = Verification(level, ok, "now", load_set(path).manifest_sha256, problems=() if ok else ("no",))
        append_record(path, done)
        append_history(str(tmp_path / "s"), path.name, done)
    assert newest_proven(list_sets(tmp_path).sets) is None, "nobody is believed where nothing says whom"
    best = newest_proven(list_sets(tmp_path, None, Trust(str(tmp_path / "s"))).sets)
    assert best
    assert best.created.day == 2
    assert newest_proven([]) is None


@given(st.lists(st.integers(-9000, 9000)), st.integers(0, 9000))
def test_a_set_that_is_fresh_enough_is_neither_too_old_nor_from_the_future(ages: list[int], most: int) -> None:
    found = newest_verified([old(age) for age in ages], "read", most * HOUR, NOW)
    good = [age for age in ages if 0 <= age <= most]
    assert (found.created if found else None) == (NOW - min(good) * HOUR if good else None)


def test_clocks_may_differ_a_little() -> None:
    made = [old(0)]
    assert newest_verified(made, "read", HOUR, NOW - CLOCKS_DIFFER)
    assert not newest_verified(made, "read", HOUR, NOW - CLOCKS_DIFFER - HOUR / 3600)


def test_the_history_outlives_the_set(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    append_history(str(tmp_path / "state"), path.name, record("restore", restore_s=1.5))
    append_history("", path.name, record("read"))
    (line,) = read_records(tmp_path / "state")
    assert (line.level, line.restore_s) == ("restore", 1.5)


def test_a_set_in_use_is_not_removed(tmp_path: Path) -> None:
    item = load_set(make_set(tmp_path))
    with in_use(item.path), in_use(item.path), pytest.raises(FileProblem, match="is being read by another run"):
        remove_set(item, "")
    assert item.path.exists()
    remove_set(item, "")
    assert not item.path.exists()


def test_only_free_folders_of_ours_are_debris(tmp_path: Path) -> None:
    for name in (f"{PREFIX}dead", f"{PREFIX}alive", "another"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{PREFIX}file").write_text("", encoding="ascii")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "another")
    handle = os.open(tmp_path / f"{PREFIX}alive", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert [p.name for p in debris(tmp_path, PREFIX)] == sweep(tmp_path, PREFIX) == [f"{PREFIX}dead"]
    os.close(handle)
    assert sweep(tmp_path, PREFIX) == [f"{PREFIX}alive"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another", f"{PREFIX}file", f"{PREFIX}link"]
    assert sweep(tmp_path / "missing", PREFIX) == []


def test_what_kept_amcheck_from_looking_is_no_damage() -> None:
    kept = (errors.DiskFull, errors.OutOfMemory, errors.QueryCanceled, errors.IoError, errors.InsufficientPrivilege)
    assert all(spares(kind("x")) for kind in (*kept, OperationalError))  # a connection that was cut has no state
    found = (errors.DataCorrupted, errors.IndexCorrupted, errors.InternalError_)
    assert not any(spares(kind("x")) for kind in found)
