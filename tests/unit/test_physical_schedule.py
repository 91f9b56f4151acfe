"""Which physical backup is due, what retention takes from the window, and what is wrong: the pure parts."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.physical.archive import segment_name, start_of
from scannerdb.physical.engine import ClusterIdentity, Repository
from scannerdb.physical.judge import PhysicalLimits, ServerFacts, judge
from scannerdb.physical.options import MethodOptions, PhysicalBackupOptions
from scannerdb.physical.pgbackrest import parse_info
from scannerdb.physical.request import Stanza, checked_kind, policy_of, stanza_from
from scannerdb.physical.schedule import BackupPolicy, begin_after, choose_kind, expiring_fulls
from scannerdb.physical.window import ArchiveSegment, PhysicalBackup, windows
from scannerdb.physical.words import sentence

NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
SIZE = 1 << 24


def backup(kind: str, days: float, number: int = 1, **more: object) -> PhysicalBackup:
    stopped = NOW - days * DAY
    facts: dict[str, object] = {
        "label": f"{kind}-{days:g}",
        "kind": kind,
        "started": stopped - datetime.timedelta(minutes=5),
        "stopped": stopped,
        "start_lsn": start_of(number, SIZE) + 40,
        "stop_lsn": start_of(number, SIZE) + 80,
        "start_segment": number,
        "stop_segment": number,
        "timeline": 1,
        "size_bytes": 1,
        "repository_bytes": 1,
        "archive_id": "15-1",
    }
    return PhysicalBackup(**{**facts, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ([], "full"),
        ([backup("diff", 0.1)], "full"),  # what it builds upon is gone
        ([backup("full", 6.95)], "full"),  # the job of every seventh night started a minute earlier this time
        ([backup("full", 3)], "diff"),
        ([backup("full", 3), backup("diff", 0.5)], "incr"),
        ([backup("full", 3), backup("diff", 1), backup("incr", 0.2)], "diff"),
        ([backup("full", 0.1)], "incr"),
        ([backup("full", 0.5, page_errors=True)], "full"),
        ([backup("full", 2), backup("incr", 0.1, page_errors=True)], "full"),
        ([backup("full", 3, page_errors=True), backup("full", 0.5)], "incr"),
    ],
)
def test_the_kind_that_is_due(made: list[PhysicalBackup], kind: str) -> None:
    chosen, why = choose_kind(made, NOW, BackupPolicy())
    assert chosen == kind and why


def test_without_differential_ones() -> None:
    assert choose_kind([backup("full", 5)], NOW, BackupPolicy(diff_days=0))[0] == "incr"


@pytest.mark.parametrize("wrong", [{"full_days": 0}, {"diff_days": -1}, {"retention_full": 0}, {"retention_type": "x"}])
def test_a_policy_that_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        dataclasses.replace(BackupPolicy(), **wrong).checked()  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 60), max_size=8, unique=True), st.integers(1, 20))
def test_retention_by_days_covers_its_days(ages: list[int], days: int) -> None:
    fulls = [backup("full", age) for age in ages]
    going = expiring_fulls(fulls, BackupPolicy(retention_full=days, retention_type="time"), NOW, with_next=True)
    left = [full for full in fulls if full not in going]
    if any(age >= days for age in ages):
        assert max(NOW - full.stopped for full in left) >= days * DAY
    assert all(NOW - full.stopped > days * DAY for full in going)


@given(st.lists(st.integers(0, 60), max_size=8, unique=True), st.integers(1, 5))
def test_retention_by_number_leaves_that_many(ages: list[int], count: int) -> None:
    fulls = [backup("full", age) for age in ages]
    going = expiring_fulls(fulls, BackupPolicy(retention_full=count), NOW, with_next=True)
    assert len(fulls) - len(going) + 1 == min(count, len(fulls) + 1)
    assert sorted(fulls, key=lambda full: full.stopped)[: len(going)] == list(going)


def test_the_window_will_begin_later() -> None:
    made = [backup("full", 10), backup("diff", 9), backup("full", 3)]
    assert begin_after(made, BackupPolicy(), NOW) == made[2].consistent
    assert begin_after(made, BackupPolicy(retention_full=3), NOW) is None
    assert begin_after(made[:1], BackupPolicy(retention_full=1), NOW) == NOW


def archived(*numbers: int) -> tuple[ArchiveSegment, ...]:
    made = [(n, NOW - (40 - n) * DAY / 24) for n in numbers]
    return tuple(ArchiveSegment(1, n, at, segment_name(1, n)) for n, at in made)


SERVER = ServerFacts(
    system_id=7,
    major=15,
    timeline=1,
    now=NOW,
    archive_mode="on",
    archive_how="pgbackrest …",
    last_archived=segment_name(1, 5),
    last_archived_at=NOW - datetime.timedelta(seconds=40),
)
SOUND = Repository(1, (ClusterIdentity("15-1", 7, "15"),), (backup("full", 0.5, 2),), {"15-1": archived(1, 2, 3, 4, 5)})


def test_nothing_is_wrong_where_all_is_there() -> None:
    assert judge(SERVER, [SOUND], PhysicalLimits(), NOW) == []


MINUTE = datetime.timedelta(minutes=1)
WRONG: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("archive.mode.off", {"archive_mode": "off"}, {}),
    ("archive.mode.off", {"archive_how": ""}, {}),
    ("archive.wal.failing", {"last_failed_at": NOW, "last_failed": segment_name(1, 6), "waiting": 9}, {}),
    ("archive.wal.quiet", {"last_archived_at": NOW - 16 * MINUTE}, {}),
    ("archive.wal.quiet", {"last_archived_at": None, "last_archived": ""}, {}),
    ("archive.segment.absent", {"last_archived": segment_name(1, 6)}, {}),
    ("archive.segment.duplicate", {}, {"segments": {"15-1": archived(1, 2, 3, 3, 4, 5)}}),
    ("archive.gap.open", {}, {"segments": {"15-1": archived(1, 2, 3, 5)}}),
    (
        "archive.gap.closed",
        {},
        {"segments": {"15-1": archived(2, 4, 5)}, "backups": (backup("full", 0.9, 2), backup("full", 0.1, 4))},
    ),
    ("physical.stanza.missing", {}, {"clusters": ()}),
    ("physical.stanza.missing", {}, {"code": 1, "problem": "missing stanza path"}),
    ("physical.stanza.foreign", {"system_id": 8}, {}),
    ("physical.repository.unreadable", {}, {"code": 99, "problem": "[PathOpenError] Permission denied"}),
    ("physical.key.wrong", {}, {"code": 99, "problem": "[CryptoError] unable to load info file"}),
    ("physical.backup.missing", {}, {"backups": (), "code": 2, "problem": "no valid backups"}),
    ("physical.backup.broken", {}, {"backups": (*SOUND.backups, backup("incr", 0.2, 4, prior="gone"))}),
    ("physical.backup.page_errors", {}, {"backups": (backup("full", 0.5, 2, page_errors=True),)}),
    ("physical.backup.stale", {}, {"backups": (backup("full", 1.5, 2),)}),
    ("physical.clock.differs", {}, {"backups": (backup("full", -0.5, 2),)}),
    ("physical.clock.differs", {"now": NOW - 6 * MINUTE}, {}),
]


@pytest.mark.parametrize(("wanted", "asked", "seen"), WRONG, ids=[f"{n}-{w[0]}" for n, w in enumerate(WRONG)])
def test_each_fault_is_found_and_no_other(wanted: str, asked: dict[str, object], seen: dict[str, object]) -> None:
    server = dataclasses.replace(SERVER, **asked)  # type: ignore[arg-type]
    repository = dataclasses.replace(SOUND, **seen)  # type: ignore[arg-type]
    found = judge(server, [repository], PhysicalLimits(), NOW)
    assert [problem.id for problem in found] == [wanted]
    assert found[0].message.endswith(".") and found[0].why_no_fix


def test_a_failing_archive_says_when_the_disk_is_full() -> None:
    held = dataclasses.replace(
        SERVER,
        last_archived_at=NOW - 60 * MINUTE,
        last_failed=segment_name(1, 6),
        last_failed_at=NOW,
        waiting=64,
        free_bytes=1 << 32,
    )
    (problem,) = judge(held, [SOUND], PhysicalLimits(), NOW)
    assert "full in 4.0 hours" in problem.message


def test_a_window_is_a_sentence() -> None:
    (window,) = windows([backup("full", 3, 2)], [ArchiveSegment(1, 2, NOW - datetime.timedelta(seconds=40))], {})
    assert sentence(window, NOW) == "27 Nov 12:00 to now -40 s, no gaps"
    (window,) = windows([backup("full", 3, 2)], [*archived(2, 3, 5)], {})
    assert "NOTHING after 28 Nov 23:00: 1 WAL segments" in sentence(window, NOW)


def test_methods_and_kinds_are_checked() -> None:
    asked = PhysicalBackupOptions(backup_method=["dump", "pgbackrest"], stanza="other")
    assert stanza_from(asked) == Stanza(True, "other", "")
    assert not stanza_from(MethodOptions()).wanted
    for wrong in ([], ["tape"]):
        with pytest.raises(InvalidInput, match="scannerdb_backup_method"):
            stanza_from(MethodOptions(backup_method=wrong))
    with pytest.raises(InvalidInput):
        checked_kind("half")
    assert policy_of(PhysicalBackupOptions(retention_full=3)) == BackupPolicy(7, 1, 3, "count")
    with pytest.raises(InvalidInput):
        policy_of(PhysicalBackupOptions(full_days=0))


def test_a_message_of_pgbackrest_is_one_printable_line() -> None:
    status = {"code": 99, "message": "[FormatError] unable to load\x07 info file:\n\x00\x16 garbage"}
    answer = [{"repo": [{"key": 1, "cipher": "aes-256-cbc", "status": status}], "db": [], "backup": []}]
    (repository,) = parse_info(answer)
    assert repository.problem == "[FormatError] unable to load info file"
    (problem,) = judge(SERVER, [repository], PhysicalLimits(), NOW)
    assert problem.id == "physical.key.wrong"
