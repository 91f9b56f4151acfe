"""Which backups go, and that the promises about it hold for whatever is in the folder."""

from __future__ import annotations

import datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from scannerdb.sets.catalogue import BackupSet, load_set
from scannerdb.sets.retention import RetentionPolicy, old_logs, plan_retention, remove_set

from tests.backup_sets import NOW, make_set, old


def removed(sets: list[BackupSet], policy: RetentionPolicy, latest: str = "") -> set[str]:
    return {d.set.name for d in plan_retention(sets, policy, NOW, latest) if d.action == "remove"}


def days(*ages: int) -> list[BackupSet]:
    return [old(24 * age) for age in ages]


def test_old_ones_go_and_young_ones_stay() -> None:
    sets = days(0, 1, 29, 30, 31, 400)
    assert removed(sets, RetentionPolicy(30, 1)) == {sets[3].name, sets[4].name, sets[5].name}


def test_the_minimum_stays_whatever_its_age() -> None:
    sets = days(100, 200, 300)
    assert removed(sets, RetentionPolicy(30, 2)) == {sets[2].name}
    assert removed(sets, RetentionPolicy(30, 7)) == set()


def test_pre_restore_and_damaged_sets_do_not_count_toward_the_minimum() -> None:
    sets = [old(2400), old(2500, purpose="pre_restore"), old(2600, "none", problems=("broken",)), old(2700)]
    assert removed(sets, RetentionPolicy(30, 2)) == {sets[1].name, sets[2].name}


def test_nothing_younger_than_the_newest_verified_goes() -> None:
    sets = [old(1000, "none"), old(2000, "none"), old(3000, "read"), old(4000, "read")]
    assert removed(sets, RetentionPolicy(1, 0)) == {sets[3].name}


def test_what_latest_leads_to_stays() -> None:
    sets = days(100, 200, 300)
    assert removed(sets, RetentionPolicy(1, 0), sets[2].name) == {sets[1].name}


def test_the_newest_that_a_restore_has_proven_stays() -> None:
    sets = [*days(*range(45)), old(24 * 60, "restore"), old(24 * 70, "restore")]
    gone = removed(sets, RetentionPolicy())
    assert sets[-2].name not in gone and sets[-1].name in gone


def test_without_any_verified_set_age_and_minimum_decide() -> None:
    sets = [old(1000, "none"), old(2000, "none"), old(3000, "none")]
    assert removed(sets, RetentionPolicy(1, 1)) == {sets[1].name, sets[2].name}


def test_a_clock_that_was_ahead_removes_nothing_young() -> None:
    assert removed([old(-500, "none"), old(1)], RetentionPolicy(1, 0)) == set()


some_sets = st.lists(
    st.builds(
        old,
        st.integers(-50, 5000),
        st.sampled_from(["none", "checksum", "read", "restore"]),
        st.sampled_from(["regular", "pre_restore"]),
        st.sampled_from([(), ("broken",)]),
    ),
    max_size=25,
    unique_by=lambda s: s.name,
)
counts = st.integers(0, 6)
policies = st.builds(RetentionPolicy, st.integers(0, 60), st.integers(0, 10), counts, counts, counts, counts)


@given(some_sets, policies)
def test_the_promises(sets: list[BackupSet], policy: RetentionPolicy) -> None:
    plan = plan_retention(sets, policy, NOW)
    gone = {d.set.name for d in plan if d.action == "remove"}
    assert sorted(d.set.name for d in plan) == sorted(s.name for s in sets)
    assert all(d.why for d in plan)
    verified = [s for s in sets if s.verified != "none" and not s.damaged]
    if verified:
        assert max(verified, key=lambda s: s.created).name not in gone
    restored = [s for s in verified if s.verified == "restore"]
    if restored:
        assert max(restored, key=lambda s: s.created).name not in gone
    regular = [s for s in verified if s.manifest.purpose == "regular"]
    if regular:
        newest = max(s.created for s in regular)
        assert all(s.created < newest for s in sets if s.name in gone)
    assert all(NOW - s.created >= datetime.timedelta(days=policy.days) for s in sets if s.name in gone)
    sound = [s for s in sets if s.manifest.purpose == "regular" and not s.damaged]
    left = [s for s in sound if s.name not in gone]
    assert len(left) >= min(policy.minimum, len(sound))


@given(some_sets, policies)
def test_the_plan_is_stable_and_settles(sets: list[BackupSet], policy: RetentionPolicy) -> None:
    gone = removed(sets, policy)
    assert removed(list(reversed(sets)), policy) == gone
    assert removed([s for s in sets if s.name not in gone], policy) == set()


@given(some_sets, policies)
def test_every_generation_keeps_one_of_each_of_its_periods(sets: list[BackupSet], policy: RetentionPolicy) -> None:
    gone = removed(sets, policy)
    sound = [s for s in sets if s.manifest.purpose == "regular" and not s.damaged]
    left = [s for s in sound if s.name not in gone]
    for count, form in (
        (policy.daily, "%j %Y"),
        (policy.weekly, "%G %V"),
        (policy.monthly, "%Y %m"),
        (policy.yearly, "%Y"),
    ):
        periods = list(
            dict.fromkeys(s.created.strftime(form) for s in sorted(sound, key=lambda s: s.created, reverse=True))
        )
        assert set(periods[:count]) <= {s.created.strftime(form) for s in left}


@given(some_sets, policies)
def test_generations_only_ever_keep_more_and_no_more_than_asked(sets: list[BackupSet], policy: RetentionPolicy) -> None:
    without = removed(sets, RetentionPolicy(policy.days, policy.minimum))
    gone = removed(sets, policy)
    assert gone <= without
    assert len(without - gone) <= policy.daily + policy.weekly + policy.monthly + policy.yearly


def test_generations_are_explained() -> None:
    sets = [old(24 * age) for age in (0, 40, 41, 75, 76, 200, 420)]
    plan = {d.set.name: (d.action, d.why) for d in plan_retention(sets, RetentionPolicy(7, 1, 0, 2, 4, 2), NOW)}
    assert [plan[s.name] for s in sets] == [
        ("keep", "the newest verified one (read)"),
        ("keep", "the newest of week 2025-W17 and month 2025-04"),
        ("remove", "41 days old; 7 are kept"),
        ("keep", "the newest of month 2025-03"),
        ("remove", "76 days old; 7 are kept"),
        ("keep", "the newest of month 2024-11 and year 2024"),
        ("remove", "420 days old; 7 are kept"),
    ]


def test_a_verified_set_stands_for_its_period_rather_than_a_younger_one() -> None:
    sets = [old(0), old(1000, "none"), old(1001, "read")]
    assert removed(sets, RetentionPolicy(1, 0, monthly=2)) == {sets[1].name}


def test_removing_a_set_takes_it_all(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    remove_set(load_set(path), str(tmp_path / "state"))
    assert list(tmp_path.iterdir()) == []


def test_only_our_own_old_logs_go(tmp_path: Path) -> None:
    line = "2025-01-01T00:00:00Z 20250101T000000Z-0a1b2c3d backup: made\n"
    for name, text in (
        ("backup_20250101_000000.log", line),
        ("backup_20250102_000000.log", "Starting backup of ollama_scanner...\n"),  # the old script's
        ("backup_20250531_000000.log", line),  # young
        ("restore_20250101_000000.log", line),
        ("backup_x.log", line),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "backup_20250103_000000.log").symlink_to("backup_20250101_000000.log")
    assert [path.name for path in old_logs(tmp_path, 30, NOW)] == ["backup_20250101_000000.log"]
