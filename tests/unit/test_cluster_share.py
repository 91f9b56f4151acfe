"""Which member works where each is an inventory host, and which server a dump is taken from: pure choices."""

from __future__ import annotations

from typing import Any

import pytest
from scannerdb.backup.standby import Candidate, SourcePolicy, choose
from scannerdb.cluster.share import MIB, share
from scannerdb.errors import ServerUnsupported
from scannerdb.login import Options

PLACES: dict[str, tuple[list[str], int | None]] = {
    "db1": (["db1", "10.0.0.1"], None),
    "db2": (["db2", "10.0.0.2"], None),
    "db3": (["db3", "10.0.0.3"], None),
    "other": (["other", "10.0.0.9"], 5432),
}
ASKED = {"job": "maintain", "dump_from": "auto", "max_lag_mb": 64, "gives_way": False}
DUMP = {**ASKED, "job": "backup", "dump_from": "standby"}


def primary(position: int = 1000 * MIB, **more: Any) -> dict[str, Any]:
    said = {"key": "7/db", "standby": False, "streaming": False, "follows": "", "followers": [], "behind_bytes": 0}
    return {**said, "position": position, **more}


def standby(position: int = 1000 * MIB, **more: Any) -> dict[str, Any]:
    follows = {"standby": True, "streaming": True, "follows": "10.0.0.1 port 5432", **more}
    return primary(position, **follows)


def decided(answers: dict[str, Any], request: dict[str, Any] = ASKED) -> dict[str, str]:
    return {me: share(me, answers, PLACES, request, lambda name: frozenset({name}))["left_to"] for me in answers}


def test_the_primary_works_and_else_the_standby_that_is_least_behind() -> None:
    assert decided({"db1": primary(), "db2": standby(), "other": primary(key="8/db")}) == {
        "db1": "",
        "db2": "db1",
        "other": "",
    }
    gone = {"streaming": False, "follows": ""}
    assert decided({"db2": standby(5, **gone), "db3": standby(9, **gone), "db1": {}}) == {
        "db2": "db3",
        "db3": "",
        "db1": "",
    }


def test_the_rule_holds_beyond_a_limit_and_in_slices() -> None:
    for request in (ASKED, DUMP):
        assert decided({"db2": standby()}, request) == {"db2": "db1"}
        assert decided({"db2": standby(), "db3": standby(9)}, request) == {"db2": "db1", "db3": "db1"}
    assert decided({"db2": standby(key=""), "other": primary(key="8/db")}) == {"db2": "db1", "other": ""}
    # In this run, and not to be asked: nobody else does the work.
    assert decided({"db1": {}, "db2": standby()}) == {"db1": "", "db2": ""}
    # The primary is none of ours.
    assert decided({"db2": standby(follows="192.0.2.1 port 5432")}) == {"db2": ""}
    assert decided({"db2": standby(follows="10.0.0.9 port 5433")}) == {"db2": ""}, "another server of that machine"


def test_the_schedule_of_one_member_gives_way_whoever_else_was_asked() -> None:
    schedule = {**ASKED, "job": "schedule"}

    def member(answers: dict[str, Any], me: str) -> bool:
        return bool(share(me, answers, PLACES, schedule, lambda name: frozenset({name}))["member"])

    assert member({"db1": {}, "db2": standby()}, "db2"), "the primary is down for us"
    assert member({"db1": primary(followers=["10.0.0.2"])}, "db1"), "a primary is a standby after the next failover"
    assert not member({"db1": primary(followers=["192.0.2.1"]), "other": primary(key="8/db")}, "db1")
    assert not member({"db2": standby(follows="192.0.2.1 port 5432"), "other": {}}, "db2")
    alone = {**ASKED, "gives_way": True}
    assert decided({"db2": standby(follows="192.0.2.1 port 5432")}, alone) == {"db2": "192.0.2.1 port 5432"}
    assert decided({"db2": standby(streaming=False, follows="")}, alone) == {"db2": ""}


def test_a_dump_from_a_standby_is_one_dump_whatever_the_standbys_do() -> None:
    kept = {"db1": primary(), "db2": standby(990 * MIB), "db3": standby(999 * MIB)}
    assert decided(kept, DUMP) == {"db1": "db3", "db2": "db3", "db3": ""}
    far = {"db1": primary(), "db2": standby(900 * MIB), "db3": standby(10 * MIB)}
    assert decided(far, DUMP) == {"db1": "", "db2": "db1", "db3": "db1"}
    why = share("db1", far, PLACES, DUMP, lambda name: frozenset({name}))["why"]
    assert why == "no standby keeps up: db2 is 100 MiB behind, db3 is 990 MiB behind"
    copies = {"db1": primary(), "db2": primary(999 * MIB), "db3": standby()}
    assert decided(copies, DUMP) == {"db1": "", "db2": "", "db3": "db1"}, "two primaries are no cluster"


def test_many_hosts_of_one_run_are_told_apart_without_their_variables() -> None:
    answers = {"db1": primary(followers=["10.0.0.2"]), "db2": standby()}
    places = dict.fromkeys(answers, ("never", "unpacked", "so"))
    assert share("db2", answers, places, ASKED, lambda name: frozenset({name}))["left_to"] == "db1"  # type: ignore[arg-type]


A, B = Options(host="a"), Options(host="b")


def test_a_lone_standby_says_how_far_it_is_behind() -> None:
    policy = SourcePolicy("auto", 64 * MIB)
    assert choose([Candidate(A, True)], policy).notes == ()
    (far,) = choose([Candidate(A, True, unreplayed=100 * MIB, newest="2026-01-01 00:00:00")], policy).notes
    assert far == (
        "The standby on a port 5432 is behind: it has 100 MiB received and not replayed, and its newest transaction is "
        "of 2026-01-01 00:00:00 UTC."
    )
    assert "follows no server just now" in choose([Candidate(A, True, streaming=False)], policy).notes[0]
    (unknown,) = choose([Candidate(A, True, unreplayed=9), Candidate(B, True, unreplayed=5)], policy).notes
    assert unknown.startswith("No primary answered: how far the standby is behind is not known")


def test_a_primary_that_is_named_alone_is_dumped_and_several_without_a_standby_are_refused() -> None:
    policy = SourcePolicy("standby", 64 * MIB)
    alone = choose([Candidate(A)], policy)
    assert alone.options == A
    assert alone.notes == ("The dump was wanted from a standby, but a port 5432 is a primary and named alone.",)
    with pytest.raises(
        ServerUnsupported, match="There is no standby to dump from: The standby on b port 5432 is 65 Mi"
    ):
        choose([Candidate(A, position=70 * MIB), Candidate(B, True, 5 * MIB)], policy)
