"""A second session that keeps the server from napping in the middle of a cutover.

RENAME waits until nobody is left in the database. While it waits it already holds the lock that keeps newcomers out,
but it looks only every 100 ms, and a client that was just turned away is counted until its process has gone: often a
millisecond too long. Any signal ends the server's nap early, and a notification is a signal that every role may send.
Nothing depends on it: without these nudges the cutover takes a nap or two longer.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Optional

from ..connection import SQL, Connection, DriverError, Identifier, Options, connect
from ..errors import ScannerDbError

PURPOSE = "cutover nudge"
PAUSE_S = 0.003  # RENAME looks 50 times before it gives up; the cutover then begins again


class CutoverWaker:
    """Notifies the session of `conn` every few milliseconds while the block runs; both are in the maintenance database.

    Use it as a context manager around `switch_over`.
    """

    def __init__(self, conn: Connection, options: Options, run_id: str) -> None:
        self._conn = conn
        self._options = options
        self._channel = Identifier(f"scannerdb_{run_id}")
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> CutoverWaker:
        with contextlib.suppress(DriverError):
            self._conn.execute(SQL("LISTEN {}").format(self._channel))
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stop.set()
        self._thread.join(15)
        with contextlib.suppress(DriverError):
            self._conn.execute(SQL("UNLISTEN {}").format(self._channel))

    def _run(self) -> None:
        notify = SQL("NOTIFY {}").format(self._channel)
        try:
            session = connect(self._options, dbname=self._options.maintenance_db, purpose=PURPOSE)
            with contextlib.closing(session) as conn:
                conn.execute("SET synchronous_commit = off")
                self._ready.set()
                while not self._stop.wait(PAUSE_S):
                    conn.execute(notify)
        except (ScannerDbError, DriverError):
            self._ready.set()
