"""The vacuum decision: pure, so tried on many made-up tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.vacuum.decide import decide, density, in_order
from scannerdb.vacuum.ladder import leftovers
from scannerdb.vacuum.measure import IndexMeasure, TableMeasure
from scannerdb.vacuum.plan import (
    METHODS,
    PG_REPACK,
    REPACK,
    REWRITE_BYTES_PER_S,
    OnlineRewrite,
    VacuumRequest,
    pretty,
    vacuum_request_for,
)
from scannerdb.vacuum.thresholds import VacuumThresholds, is_bloated, is_dead_heavy

LIMITS = VacuumThresholds()
MIB = 1 << 20
WEEKLY, MONTHLY = VacuumRequest(), VacuumRequest(compaction=True)
EXCLUSIVE = VacuumRequest(compaction=True, allow_exclusive=True)


def table(live: int = 1000, dead: int = 0, heap: int = 8192, bloat: int = 0, **more: object) -> TableMeasure:
    values: dict[str, object] = {
        "schema": "public",
        "name": "t",
        "live": live,
        "dead": dead,
        "dead_ratio": dead / (live + dead) if dead else 0.0,
        "bytes": heap,
        "index_bytes": 0,
        "heap_bytes": heap,
        "bloat_bytes": bloat,
        "bloat_ratio": bloat / heap,
        "waste_bytes": bloat,
        "waste_ratio": bloat / heap,
        "bloat_known": True,
        "has_statistics": True,
        "owner": "somebody",
        **more,
    }
    return TableMeasure(**values)  # type: ignore[arg-type]


def index(name: str = "t_i", size: int = 100 * MIB, bloat: int = 80 * MIB, **more: object) -> IndexMeasure:
    known = {"bloat_bytes": bloat, "bloat_ratio": bloat / size, "bloat_known": True}
    return IndexMeasure("public", name, size, 1000.0, **{**known, **more})  # type: ignore[arg-type]


def kinds(measure: TableMeasure, request: VacuumRequest = WEEKLY, **more: object) -> list[str]:
    return [action.kind for action in decide(measure, LIMITS, request, **more).actions]  # type: ignore[arg-type]


tables = st.builds(
    table,
    live=st.integers(0, 10**9),
    dead=st.integers(0, 10**9),
    heap=st.integers(8192, 10**12),
    xid_age=st.integers(0, 2 * 10**9),
    mod_since_analyze=st.integers(0, 10**9),
    autovacuum_off=st.booleans(),
    may_vacuum=st.booleans(),
    may_rebuild=st.booleans(),
    indexes=st.lists(st.builds(index, bloat=st.integers(0, 100 * MIB), valid=st.booleans()), max_size=3).map(tuple),
)
requests = st.builds(VacuumRequest, st.sampled_from(METHODS), st.booleans(), st.booleans())


@given(tables, requests)
def test_every_decision_gives_reasons_and_never_an_exclusive_lock_without_leave(
    measure: TableMeasure, request: VacuumRequest
) -> None:
    decision = decide(measure, LIMITS, request)
    assert all(action.reasons for action in decision.actions)
    if not measure.may_vacuum:
        assert not decision.actions and decision.notes
    asked_to_rewrite = request.compaction or request.method == "repack"
    if request.method != "full" and not (asked_to_rewrite and request.allow_exclusive):
        assert "full" not in [action.kind for action in decision.actions]
    strong = [action.kind for action in decision.actions if action.lock.startswith("ACCESS EXCLUSIVE")]
    assert set(strong) <= {"full"}


@given(tables.filter(lambda m: m.may_vacuum))
def test_the_weekly_vacuum_mends_whatever_the_check_calls_dead(measure: TableMeasure) -> None:
    if is_dead_heavy(measure, LIMITS):
        assert "vacuum" in kinds(measure)


@given(tables, st.sampled_from([WEEKLY, MONTHLY]))
def test_what_a_perfect_vacuum_leaves_needs_no_second_one(measure: TableMeasure, request: VacuumRequest) -> None:
    after = replace(
        measure, dead=0, dead_ratio=0.0, xid_age=0, mod_since_analyze=0, bloat_bytes=0, waste_bytes=0, indexes=()
    )
    assert kinds(after, request) == []


@given(st.integers(0, 10**10), st.integers(0, 10**10))
def test_limits_fall_and_never_below_their_least(one: int, other: int) -> None:
    small, large = sorted((one, other))
    for limit, least in (
        (LIMITS.dead_limit, LIMITS.dead_least),
        (LIMITS.changed_limit, LIMITS.changed_least),
        (LIMITS.bloat_limit, LIMITS.bloat_least),
        (LIMITS.index_bloat_limit, LIMITS.index_bloat_least),
    ):
        assert limit(small) >= limit(large) >= least
        # A share that falls must not mean fewer rows or bytes: else a table could get out of it by growing.
        assert small * limit(small) <= large * limit(large) + 1e-6


def test_the_fields_small_metadata_table_is_vacuumed() -> None:
    assert kinds(table(live=30, dead=17)) == ["vacuum"]
    assert kinds(table(live=13, dead=17)) == ["vacuum"]


@pytest.mark.parametrize(("live", "dead"), [(5, 9), (100, 20), (0, 0), (1_000_000, 20_000)])
def test_a_few_dead_rows_are_left_alone(live: int, dead: int) -> None:
    assert kinds(table(live=live, dead=dead)) == []


def test_large_tables_are_vacuumed_sooner() -> None:
    assert kinds(table(live=10_000_000, dead=500_000)) == ["vacuum"]
    assert kinds(table(live=1000, dead=50)) == []


def test_statistics() -> None:
    assert kinds(table(has_statistics=False)) == ["analyze"]
    assert kinds(table(has_statistics=False, heap=8192, mod_since_analyze=5000, dead=900)) == ["vacuum"]
    assert kinds(table(mod_since_analyze=199)) == []
    assert kinds(table(mod_since_analyze=200)) == ["analyze"]
    assert kinds(table(live=10, mod_since_analyze=49)) == []


def test_an_old_table_is_frozen_before_autovacuum_would_have_to() -> None:
    decision = decide(table(xid_age=150_000_000), LIMITS, WEEKLY)
    assert [(action.kind, action.freeze) for action in decision.actions] == [("vacuum", True)]
    assert kinds(table(xid_age=149_000_000)) == []
    assert kinds(table(mxid_age=300_000_000)) == ["vacuum"]


def test_bloat_is_for_the_monthly_run_and_needs_leave() -> None:
    bloated = table(heap=100 * MIB, bloat=60 * MIB)
    assert is_bloated(bloated, LIMITS)
    assert kinds(bloated, WEEKLY) == []
    decision = decide(bloated, LIMITS, MONTHLY)
    assert not decision.actions
    assert "scannerdb_vacuum_allow_exclusive" in decision.notes[0]
    full = decide(bloated, LIMITS, EXCLUSIVE).actions
    assert [action.kind for action in full] == ["full"]
    assert "100.0 MB of free disk and locks the table for about 1 s" in full[0].reasons[-1]
    assert (full[0].room, full[0].lock_s) == (100 * MIB, round(40 * MIB / REWRITE_BYTES_PER_S, 1))


def able_to(kind: str, **more: object) -> VacuumRequest:
    return VacuumRequest(compaction=True, online=OnlineRewrite(kind, "/usr/bin/pg_repack"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [REPACK, PG_REPACK])
def test_the_ladder_takes_the_first_rung_that_holds(kind: str) -> None:
    bloated = table(heap=100 * MIB, bloat=60 * MIB, indexes=(index(),))
    for request in (able_to(kind), able_to(kind, allow_exclusive=True)):
        (action,) = decide(bloated, LIMITS, request).actions  # a rewrite rebuilds the indexes too
        assert action.kind == kind and action.room == bloated.bytes and not action.lock.startswith("ACCESS EXCLUSIVE")
    unlogged = replace(bloated, persistence="u")
    assert kinds(unlogged, able_to(kind, allow_exclusive=True)) == ["full"]
    decision = decide(unlogged, LIMITS, able_to(kind))
    assert [action.kind for action in decision.actions] == ["reindex"]
    assert "does not rewrite an unlogged table" in decision.notes[0]
    assert "allow_exclusive" in decision.notes[0]
    assert kinds(bloated, replace(able_to(kind), compaction=False)) == []


def test_what_a_rewrite_needs_of_a_table() -> None:
    bloated = table(heap=100 * MIB, bloat=60 * MIB)
    keyless = replace(bloated, has_key=False, has_identity=False)
    assert "primary key" in decide(keyless, LIMITS, able_to(PG_REPACK)).notes[0]
    theirs = replace(bloated, owner="ollama", owner_is_superuser=False)
    assert "what 'ollama', who owns it, gives it to run" in decide(theirs, LIMITS, able_to(PG_REPACK)).notes[0]
    assert kinds(theirs, able_to(REPACK)) == [REPACK], "it builds with the owner's rights"
    assert kinds(theirs, replace(able_to(PG_REPACK), method="repack")) == [PG_REPACK], "by name he is trusted"
    assert "replica identity" in decide(keyless, LIMITS, able_to(REPACK)).notes[0]
    assert "may not maintain it" in decide(replace(bloated, may_rebuild=False), LIMITS, able_to(REPACK)).notes[0]
    broken = replace(bloated, indexes=(replace(index(), name="broken", valid=False),))
    assert "invalid index, which broken is" in decide(broken, LIMITS, able_to(REPACK)).notes[0]
    half = replace(bloated, indexes=(index(), replace(index(), name=f"{index().name}_ccnew", valid=False)))
    assert kinds(half, able_to(REPACK)) == ["drop_index", REPACK], "what an interrupted rebuild left goes first"
    view = replace(bloated, kind="m")
    assert "materialized view" in decide(view, LIMITS, able_to(PG_REPACK)).notes[0]
    fine = table(heap=100 * MIB)
    assert kinds(fine, replace(able_to(PG_REPACK), method="repack")) == [PG_REPACK]
    refused = decide(fine, LIMITS, VacuumRequest("repack", online=OnlineRewrite(why_not="there is no such tool")))
    assert not refused.actions and "there is no such tool" in refused.notes[0]
    assert kinds(fine, VacuumRequest("repack", allow_exclusive=True)) == ["full"]


def test_what_pg_repack_left_is_cleared_by_every_method_first() -> None:
    for request in (
        WEEKLY,
        MONTHLY,
        VacuumRequest("vacuum"),
        VacuumRequest("reindex"),
        VacuumRequest("full", allow_exclusive=True),
    ):
        assert kinds(table(repack_debris=True), request)[0] == "drop_repack"


def test_a_rewrite_carries_what_the_table_gets_where_it_is_refused() -> None:
    needy = table(dead=500, heap=100 * MIB, bloat=60 * MIB, xid_age=150_000_000, indexes=(index(),))
    for request in (EXCLUSIVE, able_to(PG_REPACK)):
        (rewrite,) = decide(needy, LIMITS, request).actions
        assert [(a.kind, a.freeze, a.index) for a in rewrite.instead] == [
            ("vacuum", True, ""),
            ("reindex", False, "t_i"),
        ]
        assert list(rewrite.instead) == list(decide(needy, LIMITS, MONTHLY).actions), "as if there were no rewrite"
    by_name = decide(needy, LIMITS, vacuum_request_for("full", "monthly", True)).actions
    assert by_name[0].instead == (), "who asked for it by name gets that or nothing"


def test_the_lock_is_foretold_from_what_was_timed() -> None:
    bloated = table(heap=100 * MIB, bloat=60 * MIB)
    (slow,) = decide(bloated, LIMITS, VacuumRequest(compaction=True, allow_exclusive=True, rate=MIB)).actions
    assert slow.lock_s == 40.0 and "about 40 s" in slow.reasons[-1]


def test_small_bloat_and_unknown_bloat_are_left_alone() -> None:
    assert not is_bloated(table(heap=MIB, bloat=MIB - 8192), LIMITS)
    assert not is_bloated(table(heap=100 * MIB, bloat=60 * MIB, bloat_known=False), LIMITS)


def test_bloated_indexes_are_rebuilt_online() -> None:
    assert kinds(table(indexes=(index(),)), WEEKLY) == []
    assert kinds(table(indexes=(index(),)), MONTHLY) == ["reindex"]
    assert kinds(table(indexes=(index(bloat=30 * MIB),)), MONTHLY) == []
    assert kinds(table(indexes=(index(exclusion=True),)), MONTHLY) == []
    assert kinds(table(indexes=(index(valid=False),)), MONTHLY) == []
    decision = decide(table(indexes=(index(),), may_rebuild=False), LIMITS, MONTHLY)
    assert not decision.actions and "it belongs to somebody" in decision.notes[0]


def test_a_rebuild_that_reached_no_more_is_not_repeated() -> None:
    dense, bloated = index(), table(live=1000, heap=100 * MIB, bloat=60 * MIB, indexes=(index(),))
    reached = {"public.t_i": density(dense.bytes, dense.rows), "public.t": density(100 * MIB, 1000)}
    assert kinds(bloated, EXCLUSIVE) == ["full"]
    assert kinds(bloated, EXCLUSIVE, rebuilt=reached) == []
    half = {name: size / 2 for name, size in reached.items()}
    assert kinds(bloated, EXCLUSIVE, rebuilt=half) == ["full"]


def test_methods_by_name_do_what_they_say() -> None:
    fine = table(indexes=(index("a", bloat=0), index("b", bloat=0)))
    assert kinds(fine, vacuum_request_for("vacuum", "weekly", False)) == ["vacuum"]
    assert kinds(fine, vacuum_request_for("full", "weekly", True)) == ["full"]
    assert kinds(fine, vacuum_request_for("vacuum_full", "weekly", True)) == ["full"]
    assert kinds(fine, vacuum_request_for("reindex", "weekly", False)) == ["reindex", "reindex"]
    assert kinds(fine, vacuum_request_for("compact", "weekly", False)) == []


def test_profiles() -> None:
    assert not vacuum_request_for("auto", "weekly", False).compaction
    assert vacuum_request_for("auto", "monthly", False).compaction
    assert vacuum_request_for("compact", "weekly", False).compaction


@pytest.mark.parametrize(
    ("method", "profile", "exclusive", "word"),
    [("full", "weekly", False, "allow_exclusive"), ("x", "weekly", True, "'x'"), ("auto", "yearly", True, "'yearly'")],
)
def test_senseless_requests_are_refused(method: str, profile: str, exclusive: bool, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        vacuum_request_for(method, profile, exclusive)


def test_leftovers_of_an_interrupted_rebuild() -> None:
    long = "i" * 63
    assert leftovers([("a", True), ("a_ccnew", False), ("a_ccnew1", False), ("a_ccold", False)]) == [
        "a_ccnew",
        "a_ccnew1",
        "a_ccold",
    ]
    assert leftovers([(long, True), (f"{long[:57]}_ccnew", False)]) == [f"{long[:57]}_ccnew"]
    # Somebody's own index, valid, or with no index it could have come from, is not ours to drop.
    assert leftovers([("a", True), ("a_ccnew", True)]) == []
    assert leftovers([("b", True), ("a_ccnew", False)]) == []
    assert leftovers([("a", False), ("a_ccnew", False)]) == []
    assert leftovers([("a", True), ("accnew", False), ("a_ccnew_x", False)]) == []


def test_leftovers_are_dropped_by_every_method_first() -> None:
    left = (index("t_i", bloat=0), index("t_i_ccnew", valid=False))
    for request in (
        WEEKLY,
        MONTHLY,
        VacuumRequest("vacuum"),
        VacuumRequest("reindex"),
        VacuumRequest("full", allow_exclusive=True),
    ):
        assert kinds(table(indexes=left), request)[0] == "drop_index"
    decision = decide(table(indexes=left, may_rebuild=False), LIMITS, WEEKLY)
    assert not decision.actions and "t_i_ccnew" in decision.notes[0]


def test_the_oldest_come_first() -> None:
    decisions = [decide(table(name=n, xid_age=a), LIMITS, WEEKLY) for n, a in (("young", 5), ("old", 90), ("b", 5))]
    assert [d.measure.name for d in in_order(decisions)] == ["old", "b", "young"]


def test_sizes_for_people() -> None:
    assert [pretty(n) for n in (0, 1023, 1024, MIB, 3 << 29)] == ["0 bytes", "1023 bytes", "1.0 kB", "1.0 MB", "1.5 GB"]
