"""The length of a cutover as a client sees it: somebody who connects again and again, by the database's name."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Optional

from ..connection import Connection, DriverError, Options, connect, scalar
from ..errors import ScannerDbError

PURPOSE = "cutover probe"
PAUSE_S = 0.004  # a client that hammers without a pause is itself in the way of the rename
APPLICATION = f"scannerdb {PURPOSE}"


class DowntimeProbe:
    """Connects in a loop on a thread of its own, and notes when it last met one database and first met the next.

    Use it as a context manager around the cutover, then ask `cutover_ms()`.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._meetings: list[tuple[float, int]] = []  # (when, the database's oid)
        self._enough: Optional[int] = None  # stop once a database other than this was met

    def __enter__(self) -> DowntimeProbe:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None and self._meetings:  # let it meet the new database
            deadline = time.monotonic() + 5
            while self._meetings[-1][1] == self._meetings[0][1] and time.monotonic() < deadline:
                time.sleep(0.005)
        self._stop.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                conn = connect(self._options, purpose=PURPOSE)
                try:
                    self._meetings.append((time.monotonic(), _oid(conn)))
                finally:
                    conn.close()
            except (ScannerDbError, DriverError):
                time.sleep(PAUSE_S)
            self._ready.set()
            time.sleep(PAUSE_S)

    def cutover_ms(self) -> Optional[float]:
        """Milliseconds from the last meeting with the old database to the first with the new; None without both."""
        return gap_ms(self._meetings)


def _oid(conn: Connection) -> int:
    return int(scalar(conn, "SELECT oid FROM pg_database WHERE datname = current_database()") or 0)


def gap_ms(meetings: list[tuple[float, int]]) -> Optional[float]:
    """The gap between the last meeting with the first database and the first with another. Pure."""
    for before, after in zip(meetings, meetings[1:]):
        if before[1] != after[1]:
            return round((after[0] - before[0]) * 1000, 1)
    return None
