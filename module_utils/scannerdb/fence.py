"""The fence before a write: no other server is the primary by now.

A session is bound to one server, and a server becomes a standby, or changes its timeline, only by a restart that ends
the session; so what has to be asked are the others. A primary that was cut off from them goes on as if nothing were.

There are three answers. Only "no other one is" lets a write pass; where the others could not be looked at, and neither
Patroni nor a majority that follows this primary says so, nothing is written.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from .addresses import nobody_listens
from .errors import ConnectionFailed, PrimaryMoved, PrimaryUnseen, ScannerDbError
from .login import Options
from .memberstate import MemberState
from .patroni import PatroniView, look
from .together import ask_all

BEFORE_S = 3.0  # what a look may take before anything is locked
INSIDE_S = 1.0  # and at the end of a transaction, for whose locks others wait
GRACE_S = 0.1  # for the members, once Patroni has said that this one leads
EVERY_S = 0.2  # for how long a look before a statement counts for the next
AGAIN_S = 10.0  # before one that did not answer is waited for again, where the others will do
Answer = Optional[MemberState]  # None: nobody listens there
_Place = Union[Options, str]
PATRONI = "Patroni"


def judge(mine: MemberState, others: tuple[Options, ...], view: Optional[PatroniView], seen: Mapping[Any, Any]) -> None:
    """Raise `PrimaryMoved` where another server is the primary, `PrimaryUnseen` where that is not known. Pure.

    `seen` holds what others answered, None for one where nobody listens; one that could not be asked is not in it.
    """
    states = [one for one in seen.values() if isinstance(one, MemberState) and not one.is_same_as(mine)]
    for one in states:
        if (one.following if one.standby else one.timeline) > mine.timeline:
            kind = f"follows timeline {one.following}" if one.standby else f"is a primary on timeline {one.timeline}"
            raise _moved(mine, f"The server on {one.options.server} {kind}")
    leader = view.leader if view else None
    itself = [one for one in seen.values() if isinstance(one, MemberState) and one.is_same_as(mine)]
    if leader and any(one.is_at(leader.place) for one in (mine, *itself)):
        return
    if leader:
        raise _moved(mine, f"Patroni's leader is {leader.host} port {leader.port}")
    for one in states:
        if not one.standby:
            raise _moved(mine, f"The server on {one.words}")
    if view:
        raise _unseen(mine, "Patroni has no leader just now")
    missing = [other.server for other in others if other not in seen]
    followers = sum(one.following == mine.timeline for one in states)
    if missing and 2 * (1 + followers) <= 1 + len(others) - len(itself):
        raise _unseen(mine, f"no answer came from {', '.join(missing)}")


def _moved(mine: MemberState, instead: str) -> PrimaryMoved:
    return PrimaryMoved(
        f"{instead}, and no longer {mine.options.server} (timeline {mine.timeline}): nothing is written there any more."
    )


def _unseen(mine: MemberState, why: str) -> PrimaryUnseen:
    return PrimaryUnseen(
        f"Nothing is written on {mine.options.server}, because it could not be seen whether it is the primary still: "
        f"{why}.",
        "Bring that member back, or take it out of scannerdb_login_host while it is gone; with scannerdb_patroni_url, "
        "Patroni's word is enough.",
    )


@dataclass
class Witness:
    """Another member, and the session in which it is asked; one question at a time."""

    options: Options
    reach: Callable[[Options], Any]
    state: Callable[[Any, Options], MemberState]
    session: Any = None
    ended: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, limit_s: float) -> Answer:
        """What it says by now; None where nobody listens. Raises where it cannot be asked."""
        if not self.turn.acquire(timeout=limit_s):
            raise ConnectionFailed(f"The server on {self.options.server} has not answered an earlier question.")
        try:
            return self._ask()
        finally:
            if self.ended:
                self._drop()
            self.turn.release()

    def _ask(self) -> Answer:
        for fresh in (self.session is None, True):
            try:
                self.session = self.session or self.reach(self.options)
                return self.state(self.session, self.options)
            except ScannerDbError:
                self._drop()
                if fresh:
                    if nobody_listens(self.options.host or self.options.unix_socket, self.options.port):
                        return None
                    raise
        raise AssertionError("a fresh session answers or raises")

    def _drop(self) -> None:
        if self.session is not None:
            with contextlib.suppress(Exception):
                self.session.close()
        self.session = None

    def end(self) -> None:
        """End the session; one that still waits for an answer ends with that."""
        self.ended = True
        if self.turn.acquire(blocking=False):
            self._drop()
            self.turn.release()


@dataclass
class Fence:
    """Asks Patroni, and every other member over a session that stays open, all at once and within a limit."""

    mine: MemberState
    witnesses: dict[Options, Witness]
    patroni_urls: tuple[str, ...]
    _patroni_turn: threading.Lock = field(default_factory=threading.Lock)
    _silent: dict[_Place, float] = field(default_factory=dict)
    _looked: float = float("-inf")

    def __call__(self, inside: bool = False) -> None:
        """Raise one of our errors unless no other server is the primary; `inside` a transaction the look is short."""
        started = time.monotonic()
        if not inside and started < self._looked + EVERY_S:
            return
        end = started + (INSIDE_S if inside else BEFORE_S)
        places: list[_Place] = [*([PATRONI] if self.patroni_urls else []), *self.witnesses]
        ready = [place for place in places if started >= self._silent.get(place, started)]
        try:
            self._look(ready, end)
        except PrimaryUnseen:
            if len(ready) == len(places) or time.monotonic() >= end:
                raise
            self._look(places, end)
        self._looked = started

    def _look(self, places: list[_Place], end: float) -> None:
        limit = max(0.0, end - time.monotonic())
        answers = ask_all(places, lambda place: self._ask(place, limit), self._enough, limit, GRACE_S)
        seen: dict[Any, Any] = {place: one for place, one in answers.items() if not isinstance(one, ScannerDbError)}
        for place in places:
            if place in seen:
                self._silent.pop(place, None)
            else:
                self._silent[place] = time.monotonic() + AGAIN_S
        judge(self.mine, tuple(self.witnesses), seen.pop(PATRONI, None), seen)

    def _enough(self, answer: Union[Answer, PatroniView]) -> bool:
        return isinstance(answer, PatroniView) and bool(answer.leader and self.mine.is_at(answer.leader.place))

    def _ask(self, place: _Place, limit_s: float) -> Union[Answer, PatroniView]:
        if isinstance(place, Options):
            return self.witnesses[place].ask(limit_s)
        if not self._patroni_turn.acquire(timeout=limit_s):
            raise ConnectionFailed("Patroni has not answered an earlier question.")
        try:
            return look(self.patroni_urls, self.mine.options.ca_cert, limit_s)
        finally:
            self._patroni_turn.release()

    def close(self) -> None:
        """End the sessions."""
        for witness in self.witnesses.values():
            witness.end()
