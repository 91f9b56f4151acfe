"""REPACK (CONCURRENTLY) of PostgreSQL 19 on one table, so that nobody waits longer for it than for us.

The server copies the table beside its users and follows their changes by a replication slot of its own. It needs ACCESS
EXCLUSIVE once, at the very end: `lock_timeout` limits how long others queue behind that, but not how long it applies
the latest changes while it holds the lock. So `_Guard` watches it from a session of ours, and cancels it where somebody
has waited for longer than the lock budget. A cancelled or killed one leaves nothing: slot, worker and copy go with its
session.

At the beginning it waits for every transaction of the cluster that has written something. Each wait has the same short
limit, but costs no copy, so it is begun again until the deadline.

The copy is not MVCC-safe, as PostgreSQL calls it: a transaction whose snapshot is older than the end of the copy finds
the table empty. It is not begun, and not ended, beside a session that keeps its snapshot, or may keep one.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..connection import SQL, Connection, DriverError, Literal, Query, connect, fetch, is_lock_timeout, scalar
from ..lockbudget import LockRecord, who_blocks
from ..standbylag import standby_lag, standbys_hidden
from .competing_sessions import older_writer, repack_workers, snapshot_keeper
from .measure import TableMeasure
from .plan import MIB, pretty
from .result import Blocked, Means
from .rewrite import make_autovacuum_yield

SLOW_POLL_S = 0.1
POLL_S = 0.02
TELL_S = 1.0
LAG_BYTES = 64 * MIB  # a standby that is further behind is given time first, and is told of afterwards
NO_SLOT = "53400"  # of replication or of workers: somebody else's REPACK or backup has the last one
BEGINNING = ("initializing",)
NEAR_THE_END = ("rebuilding index", "catch-up")
AT_THE_END = ("swapping relation files", "performing final cleanup")

# The session at work, whether it has the strong lock, and whether somebody waits for the table.
AT_WORK = """
SELECT p.phase, p.heap_blks_scanned AS done, p.heap_blks_total AS total,
       EXISTS (SELECT FROM pg_locks l WHERE l.pid = p.pid AND l.locktype = 'relation' AND l.relation = p.relid
                  AND l.mode = 'AccessExclusiveLock' AND l.granted) AS strong,
       EXISTS (SELECT FROM pg_locks l WHERE l.pid <> p.pid AND l.locktype = 'relation' AND l.relation = p.relid
                  AND l.database = p.datid AND NOT l.granted) AS queue
  FROM pg_stat_progress_repack p WHERE p.pid = %s
"""


def repack(conn: Connection, query: Query, measure: TableMeasure, means: Means, record: LockRecord) -> str:
    """Rewrite a table; returns what is to be said of it. Raises `Blocked` where somebody is in the way."""
    deadline = time.monotonic() + means.budget.deadline_s
    _refuse_snapshots(conn)
    _let_standbys_catch_up(conn, deadline)
    while True:
        guard = _Guard(means, measure, conn, record)
        try:
            make_autovacuum_yield(conn, measure, means.budget)
            with _impatient(conn, means.budget.timeout_ms), guard.watching():
                conn.execute(query)
            return guard.note
        except DriverError as error:
            if guard.gave_up:
                raise Blocked(guard.gave_up) from error
            if getattr(error, "sqlstate", "") == NO_SLOT and not guard.copied:
                raise Blocked(f"the server has no more for REPACK: {error}") from error
            if not is_lock_timeout(error):
                raise
            if guard.copied or time.monotonic() > deadline:
                raise Blocked(_who(conn, measure)) from error
        record.retries += 1
        time.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - jitter, not a secret


@contextlib.contextmanager
def _impatient(conn: Connection, timeout_ms: int) -> Iterator[None]:
    """A short wait for locks during the block, outside of a transaction."""
    conn.execute(SQL("SET lock_timeout = {}").format(Literal(timeout_ms)))
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("RESET lock_timeout")


def _who(conn: Connection, measure: TableMeasure) -> str:
    """Who was in the way: of the strong lock, or of a beginning."""
    writer = older_writer(conn)
    return f"it is locked, {who_blocks(conn, [(measure.schema, measure.name)])}" + (
        f"; REPACK waits for {writer}, too" if writer else ""
    )


def _refuse_snapshots(conn: Connection) -> None:
    keeper = snapshot_keeper(conn)
    if keeper:
        raise Blocked(f"after REPACK it would look empty to {keeper}")


def _let_standbys_catch_up(conn: Connection, deadline: float) -> None:
    """The copy is WAL, as large as the table: not on top of what standbys have not replayed yet."""
    while standby_lag(conn) > LAG_BYTES:
        if time.monotonic() > deadline:
            raise Blocked(f"a standby is {pretty(standby_lag(conn))} behind, and REPACK would add to that")
        time.sleep(0.2)


@dataclass
class _Guard:
    """Watches one REPACK; `record` gets how long it was seen to hold the strong lock.

    `gave_up` says why it was cancelled, `copied` whether it had begun to copy, `peak` how far a standby fell behind,
    `blind` whether that is hidden from this role, `workers` the processes that follow changes for REPACK.
    """

    means: Means
    measure: TableMeasure
    conn: Connection
    record: LockRecord
    gave_up: str = ""
    copied: bool = False
    peak: int = 0
    blind: bool = False
    workers: set[int] = field(default_factory=set)
    held_since: float = 0.0
    told: float = field(default_factory=time.monotonic)

    @property
    def note(self) -> str:
        """What is worth saying afterwards."""
        if self.blind:
            return "how far standbys fell behind is not to be seen without pg_read_all_stats"
        return f"a standby fell {pretty(self.peak)} behind" if self.peak > LAG_BYTES else ""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block. The session is opened before, for a REPACK that nobody watches is not begun."""
        stop = threading.Event()
        with connect(self.means.options, purpose="vacuum guard") as own:
            self.blind = standbys_hidden(own)
            thread = threading.Thread(target=self._watch, args=(own, stop), daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def _watch(self, own: Connection, stop: threading.Event) -> None:
        try:
            self._look_again_and_again(own, stop)
        except Exception as error:  # whatever it is: nobody may wait for what nobody watches
            self._without_eyes(stop, error)
        if self.held_since:
            self.record.held(time.monotonic() - self.held_since)

    def _look_again_and_again(self, own: Connection, stop: threading.Event) -> None:
        pause = SLOW_POLL_S
        while not stop.wait(pause):
            rows = fetch(own, AT_WORK, [self.conn.info.backend_pid])
            phase = str(rows[0]["phase"]) if rows else ""
            self.copied = self.copied or bool(rows and phase not in BEGINNING)
            pause = POLL_S if phase in (*NEAR_THE_END, *AT_THE_END) else SLOW_POLL_S
            self._look_at_lock(own, phase, bool(rows and rows[0]["strong"]), bool(rows and rows[0]["queue"]))
            if rows and time.monotonic() - self.told > TELL_S:
                self.told = time.monotonic()
                self.means.tell(f"rewrite: {phase}", int(rows[0]["done"]), int(rows[0]["total"]))
                self.peak = max(self.peak, standby_lag(own))

    def _look_at_lock(self, own: Connection, phase: str, strong: bool, queue: bool) -> None:
        """Cancel it where it keeps somebody waiting, or would end under somebody's snapshot."""
        now = time.monotonic()
        if strong and not self.held_since:
            self.held_since = now
        self.workers |= repack_workers(own)  # one that ends is seen for longer than its slot
        keeper = snapshot_keeper(own, self.workers) if strong or phase in NEAR_THE_END else ""
        if keeper:
            self._cancel(own, f"it would have looked empty to {keeper}")
        held_ms = (now - self.held_since) * 1000 if self.held_since else 0.0
        if strong and queue and phase not in AT_THE_END and held_ms >= self.means.budget.timeout_ms:
            self._cancel(own, "it is written faster than REPACK can catch up within the lock budget")

    def _cancel(self, own: Connection, why: str) -> None:
        if not self.gave_up:
            self.gave_up = why
            scalar(own, "SELECT pg_cancel_backend(%s)", [self.conn.info.backend_pid])

    def _without_eyes(self, stop: threading.Event, error: Exception) -> None:
        """Cancel it past the session that watched; again, until it has ended: a first try may not arrive."""
        why = str(error).strip().partition("\n")[0]
        self.gave_up = self.gave_up or f"the session that watches it could look no longer: {why}"
        while not stop.is_set():
            with contextlib.suppress(DriverError):
                self.conn.cancel()
            stop.wait(SLOW_POLL_S)
