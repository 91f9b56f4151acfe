"""How far a command is, out of PostgreSQL's own progress views, told while another session is at work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from ..connection import Connection, DriverError, Options, connect, fetch
from ..errors import ScannerDbError

FIRST_S = 1.0  # most commands are done before that
EVERY_S = 1.0

# PostgreSQL 19 calls its own pg_stat_progress_repack, and keeps pg_stat_progress_cluster for the same sessions.
PROGRESS = """
SELECT phase, done, total FROM (
    SELECT pid, 'vacuum: ' || phase AS phase, heap_blks_scanned AS done, heap_blks_total AS total
      FROM pg_stat_progress_vacuum
    UNION ALL
    SELECT pid, 'analyze: ' || phase, sample_blks_scanned, sample_blks_total FROM pg_stat_progress_analyze
    UNION ALL
    SELECT pid, 'index: ' || phase, blocks_done, blocks_total FROM pg_stat_progress_create_index
    UNION ALL
    SELECT pid, 'rewrite: ' || phase, heap_blks_scanned, heap_blks_total FROM pg_stat_progress_cluster) AS p
 WHERE pid = ANY(%s) LIMIT 1
"""

Tell = Callable[[str, int, int], None]


def look(conn: Connection, pids: Sequence[int]) -> tuple[str, int, int] | None:
    """The phase one of these sessions is in, with the blocks done and the blocks in all; None where none is seen."""
    rows = fetch(conn, PROGRESS, [list(pids)])
    return (rows[0]["phase"], int(rows[0]["done"]), int(rows[0]["total"])) if rows else None


@contextlib.contextmanager
def watched(options: Options, pid: int, tell: Tell) -> Iterator[None]:
    """Tell of the session's progress during the block, from a session of our own that opens only where it takes long.

    A watcher that cannot look says nothing: it must not fail the work.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(options, pid, tell, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(options: Options, pid: int, tell: Tell, stop: threading.Event) -> None:
    if stop.wait(FIRST_S):
        return
    with contextlib.suppress(DriverError, ScannerDbError), connect(options, purpose="vacuum progress") as conn:
        while not stop.wait(EVERY_S):
            seen = look(conn, [pid])
            if seen:
                tell(*seen)
