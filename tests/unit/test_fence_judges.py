"""Whether a primary may still be written, by what the others say: three answers, and which of them stops a write."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from scannerdb.addresses import nobody_listens
from scannerdb.errors import PrimaryMoved, PrimaryUnseen
from scannerdb.fence import judge
from scannerdb.login import Options
from scannerdb.memberstate import MemberState, primaries_of
from scannerdb.patroni import PatroniMember, PatroniView

A, B, C = (Options(host=f"192.0.2.{number}") for number in (1, 2, 3))
MINE = MemberState(A, timeline=3, started="100.5")
FOLLOWS = MemberState(B, True, started="200.5", following=3)
HIDDEN = MemberState(B, True, started="200.5")
NEWER = MemberState(B, timeline=4, started="200.5")


def led(*members: PatroniMember) -> PatroniView:
    return PatroniView(members)


def leader(host: str) -> PatroniView:
    return led(PatroniMember("m", host, 5432, leader=True))


@pytest.mark.parametrize(
    ("others", "view", "seen"),
    [
        ((), None, {}),
        ((B,), None, {B: FOLLOWS}),
        ((B,), None, {B: HIDDEN}),
        ((B,), None, {B: None}),  # nobody listens there
        ((B, C), None, {B: FOLLOWS}),  # two of three
        ((B,), leader(A.host), {}),
        ((B,), leader("198.51.100.7"), {B: MemberState(Options(host="198.51.100.7"), timeline=3, started="100.5")}),
        ((B,), None, {B: MemberState(B, timeline=3, started="100.5")}),  # itself, by another name
    ],
)
def test_a_write_passes(others: tuple[Options, ...], view: PatroniView | None, seen: dict[Options, Any]) -> None:
    judge(MINE, others, view, seen)


@pytest.mark.parametrize(
    ("others", "view", "seen", "why"),
    [
        ((B,), None, {}, "no answer came from 192.0.2.2 port 5432"),
        ((B, C), None, {B: HIDDEN}, "no answer came from 192.0.2.3"),  # whom B follows is not known
        ((B, C), None, {B: None}, "no answer came from 192.0.2.3"),
        ((B,), led(), {B: FOLLOWS}, "Patroni has no leader"),
    ],
)
def test_what_could_not_be_seen_stops_a_write(
    others: tuple[Options, ...], view: PatroniView | None, seen: dict[Options, Any], why: str
) -> None:
    with pytest.raises(PrimaryUnseen, match=why) as told:
        judge(MINE, others, view, seen)
    assert told.value.hint


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        (None, {B: NEWER}),
        (leader(A.host), {B: NEWER}),  # a REST API that was cut off from the others
        (leader(B.host), {}),
        (None, {B: MemberState(B, timeline=3, started="200.5")}),
        (None, {B: MemberState(B, True, started="200.5", following=4)}),
    ],
)
def test_another_primary_stops_a_write(view: PatroniView | None, seen: dict[Options, Any]) -> None:
    with pytest.raises(PrimaryMoved, match=r"and no longer 192.0.2.1 port 5432 \(timeline 3\)"):
        judge(MINE, (B, C), view, seen)


def test_one_server_by_several_names_is_one_primary() -> None:
    names = [MemberState(Options(host=host), timeline=3, started="100.5") for host in ("localhost", "db", "127.0.0.1")]
    assert primaries_of(names, None) == names[:1]
    assert primaries_of(names, leader("127.0.0.1")) == names[:1]
    restarted = MemberState(Options(host="127.0.0.1"), timeline=3, started="900.5")
    assert restarted.is_same_as(names[0])
    assert not NEWER.is_same_as(MINE)
    assert not MemberState(Options(host="localhost", port=5433), started="7.5").is_same_as(names[0])


def test_only_a_machine_that_says_so_has_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        assert not nobody_listens("localhost", port)
    assert nobody_listens("127.0.0.1", port)
    assert nobody_listens("/nowhere", port)
    assert not nobody_listens("no-such-host.invalid", port)
