"""Which member of a cluster is worked on: choices that need no server."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scannerdb.errors import AuthenticationFailed, ConnectionFailed, InvalidInput, ScannerDbError, ServerUnsupported
from scannerdb.login import Options
from scannerdb.memberstate import MemberState, timeline_of
from scannerdb.patroni import parse_view
from scannerdb.primary import choose
from scannerdb.together import ask_all

A, B, C = (Options(host=name) for name in "abc")
REFUSED = ConnectionFailed("The server on c port 5432 cannot be reached: Connection refused.")
CLUSTER = {
    "members": [
        {"name": "m1", "role": "leader", "state": "running", "host": "a", "port": 5432, "timeline": 3},
        {"name": "m2", "role": "replica", "state": "streaming", "host": "b", "port": 5432, "timeline": 3, "lag": 0},
        {"name": "m3", "role": "replica", "state": "stopped", "host": "c", "port": 5432, "timeline": "unknown"},
    ],
    "pause": True,
}


def primary(options: Options, timeline: int = 3) -> MemberState:
    return MemberState(options, timeline=timeline)


def test_the_primary_is_chosen_wherever_it_stands() -> None:
    for asked in ([A, B, C], [C, B, A]):
        answers = {A: MemberState(A, True), B: primary(B), C: REFUSED}
        assert choose({one: answers[one] for one in asked}, asked, None, False).options == B


def test_a_standby_where_that_will_do() -> None:
    assert choose({A: MemberState(A, True), C: REFUSED}, [A, C], None, True).options == A


def test_who_said_what() -> None:
    with pytest.raises(ServerUnsupported) as error:
        choose({A: MemberState(A, True), C: REFUSED}, [A, B, C], parse_view(CLUSTER), False)
    assert error.value.message == (
        "None of the servers a port 5432, b port 5432, c port 5432 is a primary that can be reached: a port 5432 is a "
        "standby; the server on b port 5432 does not answer; the server on c port 5432 cannot be reached: Connection "
        "refused; Patroni's leader is a port 5432, and is paused: no other member takes over."
    )
    with pytest.raises(ConnectionFailed, match=r"a port 5432 does not answer; the server on c port 5432 cannot"):
        choose({C: REFUSED}, [A, C], None, True)
    wrong = AuthenticationFailed("The server on a refused the login of role 'x'.")
    with pytest.raises(AuthenticationFailed, match="refused the login"):
        choose({A: wrong, B: wrong}, [A, B], None, False)


def test_two_primaries_are_written_by_nobody_but_patroni_knows_its_leader() -> None:
    answers = {A: primary(A, 4), B: primary(B, 3)}
    with pytest.raises(ServerUnsupported, match="both say that they are the primary: a port 5432 is a primary on tim"):
        choose(answers, [A, B], None, True)
    assert choose(answers, [A, B], parse_view(CLUSTER), False).options == A


def test_what_patroni_says() -> None:
    view = parse_view(CLUSTER)
    assert (view.paused, view.standbys, view.leader and view.leader.place) == (True, 1, ("a", 5432))
    assert [member.timeline for member in view.members] == [3, 3, 0]
    nonsense: list[Any] = [None, {}, {"members": [{}]}, {"members": 1}, [], "x"]
    for document in nonsense:
        with pytest.raises(InvalidInput, match="no answer of Patroni"):
            parse_view(document)


def test_a_dead_place_costs_the_grace_only() -> None:
    def ask(place: str) -> str:
        if place == "dead":
            time.sleep(60)
        if place == "refusing":
            raise REFUSED
        return place

    def told(answers: dict[str, str | ScannerDbError]) -> list[str]:
        return list(answers)

    started = time.monotonic()
    assert told(ask_all(["dead", "refusing", "up"], ask, lambda answer: True, 30, 0.1)) == ["refusing", "up"]
    assert time.monotonic() - started < 20


def test_a_timeline_is_in_the_name_of_a_segment() -> None:
    assert [timeline_of(name) for name in ("0000000A0000000100000042", None)] == [10, 0]
