"""The fence before a write: no other server is the primary by now.

A session is bound to one server, and a server becomes a standby, or changes its timeline, only by a restart that ends
the session; so what has to be asked are the others. A primary that was cut off from them goes on as if nothing were.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from .errors import ConnectionFailed, PrimaryMoved, ScannerDbError
from .login import Options
from .patroni import look

EVERY_S = 0.2  # between two questions to Patroni, for statements that stand alone
AGAIN_S = 10.0  # before one that did not answer is asked again
_Open = Callable[[Options], Any]


@dataclass
class Fence:
    """Asks Patroni, and every other member over a session that stays open."""

    member: Options
    timeline: int
    others: tuple[Options, ...]
    patroni_urls: tuple[str, ...]
    reach: _Open
    state: Callable[[Any, Options], Any]
    _sessions: dict[Options, Any] = field(default_factory=dict)
    _not_before: dict[Optional[Options], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: float = 0.0

    def __call__(self, transaction: bool = False) -> None:
        """Raise `PrimaryMoved` where another server is the primary; Patroni is asked for every transaction."""
        with self._lock:
            if transaction or time.monotonic() >= self._next:
                self._ask_patroni()
                self._next = time.monotonic() + EVERY_S
            for other in self.others:
                self._ask(other)

    def close(self) -> None:
        """End the sessions."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _due(self, whom: Optional[Options]) -> bool:
        return time.monotonic() >= self._not_before.get(whom, 0.0)

    def _ask_patroni(self) -> None:
        if not self.patroni_urls or not self._due(None):
            return
        try:
            leader = look(self.patroni_urls, self.member.ca_cert).leader
        except ConnectionFailed:
            self._not_before[None] = time.monotonic() + AGAIN_S
            return
        if leader and leader.place != (self.member.host, self.member.port):
            raise PrimaryMoved(
                f"Patroni's leader is {leader.host} port {leader.port}, and no longer {self.member.server}: nothing is "
                "written there any more."
            )

    def _ask(self, other: Options) -> None:
        if not self._due(other):
            return
        state = None
        try:
            if other not in self._sessions:
                self._sessions[other] = self.reach(other)
            state = self.state(self._sessions[other], other)
        except ScannerDbError:
            self._not_before[other] = time.monotonic() + AGAIN_S
            session = self._sessions.pop(other, None)
            if session:
                with contextlib.suppress(Exception):
                    session.close()
        if state and not state.standby:
            raise PrimaryMoved(
                f"The server on {state.words}, and no longer {self.member.server} (timeline {self.timeline}): nothing "
                "is written there any more."
            )
