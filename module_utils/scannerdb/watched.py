"""The connections of the driver, on which nothing is waited for without an end. `connection.py` alone uses this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Optional

import psycopg
from psycopg import pq

from .watch import WATCH

LOOK_S = 30.0  # what a short question may take, and how much later than the server the client gives a statement up


class Watched(psycopg.Connection[Any]):
    """A connection on which nothing is waited for without an end, and nothing is written behind a fence."""

    limit_s: float = LOOK_S
    pooled = False  # whether a pooler, in session mode, is in between
    any_bytes = False  # whether the database knows no encoding, so that texts may be any bytes
    language = ""  # of the server's messages, before anything is set
    english = True  # whether they are, since then
    prepared: Mapping[str, str] = MappingProxyType({})  # the settings that the session was given
    fence: Optional[Callable[[bool], object]] = None  # raises unless no other server is the primary

    def wait(self, *args: Any, **more: Any) -> Any:
        """Wait as psycopg does, for `limit_s` at most."""
        if self.closed:
            return super().wait(*args, **more)
        with WATCH.limited(self.fileno(), self.limit_s):
            return super().wait(*args, **more)

    def execute(self, *args: Any, **more: Any) -> Any:
        """Run a statement as psycopg does; one outside of a transaction is fenced."""
        if not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE:
            self._fenced()
        return super().execute(*args, **more)

    @contextlib.contextmanager
    def transaction(self, *args: Any, **more: Any) -> Iterator[Any]:
        """A transaction as psycopg makes it: the fence is looked at before it, in peace, and before it is committed."""
        outermost = not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE
        if outermost:
            self._fenced()
        with super().transaction(*args, **more) as made:
            yield made
            if outermost:
                self._fenced(inside=True)

    def _fenced(self, inside: bool = False) -> None:
        """Look at the fence; a session behind it is of no more use, and is closed."""
        if self.fence and not self.closed:
            try:
                self.fence(inside)
            except BaseException:
                self.close()
                raise
