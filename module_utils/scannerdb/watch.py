"""Ends a connection whose server has stopped answering in the middle of a statement.

Keepalives find a machine that is gone. They do not find a frozen process, or a proxy that keeps the line open: there,
the client would wait for ever. So every statement has a limit on the client's side, a little above the server's own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

TICK_S = 1.0


class Watch:
    """One thread for all connections of the process; started when the first statement is waited for."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def limited(self, descriptor: int, seconds: float) -> Iterator[None]:
        """Shut the socket `descriptor` down where the block takes longer than that; whoever reads finds it closed."""
        with self._lock:
            self._ends[descriptor] = time.monotonic() + seconds
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="scannerdb-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(descriptor, None)

    def _run(self) -> None:
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            with self._lock:
                for descriptor in [d for d, end in self._ends.items() if end < now]:
                    del self._ends[descriptor]
                    _shut(descriptor)


def _shut(descriptor: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)


WATCH = Watch()
