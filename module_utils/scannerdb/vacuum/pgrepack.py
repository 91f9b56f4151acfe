"""pg_repack on one table, so that nobody waits longer for it than for us, and nothing of it is left behind.

It copies the table behind a trigger that logs changes, and needs ACCESS EXCLUSIVE for moments: at the beginning, to
swap and to clear up. Its own attempts grow to a second each, with everybody else queued behind. So `_Guard` watches its
sessions from ours and cancels such an attempt once somebody has queued behind it for longer than the lock budget:
pg_repack takes that for its own time-out and asks again, until --wait-timeout. It never ends anybody's session, and it
waits for old transactions no longer than our deadline. Whatever it leaves behind is cleared up at once, or by the next
run where we were killed: the dead one's session ends within ten seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..connection import SQL, Connection, DriverError, Identifier, Query, Row, explained, fetch, scalar
from ..errors import ToolFailed
from ..foreigncode import foreign_code
from ..lockbudget import LockRecord, relation, run_strong
from ..process import run_tool
from .competing_sessions import older_transaction
from .measure import TableMeasure
from .progress import look
from .result import Blocked, Means, Refused

ADVISORY = 16185446  # pg_repack's own: the class of the lock that keeps two of them off one table
LEFT_TRIGGER = "repack_trigger"
POLL_S = 0.02
SLOW_POLL_S = 1.0
GIVE_UP_LOCK_S = 30.0  # a killed run's session notices within ten seconds that its client is gone
OLD_TRANSACTION_WAIT = "SELECT pid FROM pg_locks WHERE locktype = 'virtualxid'%"

# Sessions of pg_repack that have, or wait for, the strong lock on this table.
SESSIONS = """
SELECT a.pid, l.granted, coalesce(extract(epoch FROM clock_timestamp() - l.waitstart) * 1000, 0)::float8 AS waited_ms,
       EXISTS (SELECT FROM pg_locks q WHERE q.database = l.database AND q.relation = l.relation
                  AND NOT q.granted AND q.pid <> l.pid) AS queue
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = %s
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND a.application_name = 'pg_repack'
"""
# The session that does the work holds pg_repack's advisory lock on the table.
WORKING = """
SELECT a.pid, a.query LIKE %(waits)s AS waits
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = %(class)s::bigint::oid
   AND l.objid = ((%(oid)s::bigint + 2147483648) %% 4294967296)::oid
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
DEBRIS = """
SELECT to_regclass(format('repack.log_%%s', %(oid)s::bigint)) IS NOT NULL
    OR to_regclass(format('repack.table_%%s', %(oid)s::bigint)) IS NOT NULL
    OR to_regtype(format('repack.pk_%%s', %(oid)s::bigint)) IS NOT NULL
    OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = %(oid)s::oid AND tgname = %(trigger)s) AS debris
"""


def command(program: str, measure: TableMeasure, deadline_s: float) -> list[str]:
    """The command line for one table; where the server is, and its password, travel by the environment."""
    table = f"{_quoted(measure.schema)}.{_quoted(measure.name)}"
    wait = max(1, int(deadline_s))
    words = ["--no-kill-backend", f"--wait-timeout={wait}", "--no-order", "--no-analyze", "--no-password"]
    return [program, *words, f"--table={table}"]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class _Guard:
    """Watches one pg_repack; `record` gets how long it was seen to hold the strong lock, and to wait for it."""

    conn: Connection
    measure: TableMeasure
    means: Means
    record: LockRecord
    held_since: float = 0.0
    waiting_since: float = 0.0
    slow: float = field(default_factory=time.monotonic)

    def watch(self, poll: Callable[[], int | None]) -> None:
        """Until pg_repack ends."""
        while poll() is None:
            self._look_at_locks()
            if time.monotonic() - self.slow > SLOW_POLL_S:
                self.slow = time.monotonic()
                self._look_at_work()
            time.sleep(POLL_S)

    def _look_at_locks(self) -> None:
        rows = fetch(self.conn, SESSIONS, [self.measure.oid])
        now = time.monotonic()
        if any(row["granted"] for row in rows):
            self.held_since = self.held_since or now
        elif self.held_since:
            self.record.held(now - self.held_since)
            self.held_since = 0.0
        for row in rows:
            if not row["granted"] and row["queue"]:
                self._hold_back(row)

    def _hold_back(self, row: Row) -> None:
        self.record.waited(row["waited_ms"] / 1000)
        if row["waited_ms"] >= self.means.budget.timeout_ms:
            self.record.retries += 1
            scalar(self.conn, "SELECT pg_cancel_backend(%s)", [row["pid"]])

    def _look_at_work(self) -> None:
        about = {"waits": OLD_TRANSACTION_WAIT, "class": ADVISORY, "oid": self.measure.oid}
        rows = fetch(self.conn, WORKING, about)
        seen = look(self.conn, [row["pid"] for row in rows])
        if seen:
            self.means.tell(*seen)
        if not any(row["waits"] for row in rows):
            self.waiting_since = 0.0
            return
        self.waiting_since = self.waiting_since or time.monotonic()
        if time.monotonic() - self.waiting_since > self.means.budget.deadline_s:
            raise Refused(f"pg_repack waited in vain for an older transaction: {older_transaction(self.conn, 0)}")


def run_pg_repack(conn: Connection, measure: TableMeasure, means: Means, record: LockRecord) -> None:
    """Rewrite a table. Raises `Blocked` where somebody is in the way, `ToolFailed` where it fails otherwise."""
    older = older_transaction(conn, means.budget.deadline_s)
    if older:
        raise Blocked(f"pg_repack would wait for an older transaction: {older}")
    _refuse_foreign_code(conn, measure)
    before = _file_of(conn, measure)
    guard = _Guard(conn, measure, means, record)
    # It tells its own sessions from others' by this name, and so do we.
    try:
        finished = run_tool(
            command(means.program, measure, means.budget.deadline_s),
            means.options,
            check=False,
            extra_environment={"PGAPPNAME": "pg_repack"},
            meanwhile=guard.watch,
        )
    finally:
        if not conn.closed:
            clear_up(conn, measure, means, record)
    if _file_of(conn, measure) != before:
        return
    said = " ".join(line.strip() for line in finished.stderr.splitlines() if not line.startswith("INFO: repacking"))
    if "timed out" in said or "unsafe queries" in said:
        raise Refused(f"pg_repack did not get its lock within {means.budget.deadline_s:g} s")
    raise ToolFailed(f"pg_repack left {measure.qualified} as it was: {said or 'it said nothing'}")


def _refuse_foreign_code(conn: Connection, measure: TableMeasure) -> None:
    """PostgreSQL's own rewrites build indexes with the rights of the table's owner; pg_repack builds with its own."""
    user = str(scalar(conn, "SELECT current_user::text"))
    found = foreign_code(conn, [measure.oid], user, triggers=False)
    if found:
        raise Refused(f"pg_repack would run others' code: {found}")


def _file_of(conn: Connection, measure: TableMeasure) -> int:
    return int(scalar(conn, "SELECT pg_relation_filenode(%s::oid)", [measure.oid]) or 0)


def clear_up(conn: Connection, measure: TableMeasure, means: Means, record: LockRecord) -> None:
    """Drop what an interrupted pg_repack left of a table, under the lock budget. Nothing is left where it ended well.

    Raises `Refused` where another pg_repack is at work on the table.
    """
    with explained(f"Looking for what pg_repack left of {measure.qualified}"):
        if not scalar(conn, DEBRIS, {"oid": measure.oid, "trigger": LEFT_TRIGGER}):
            return
        if not _lock_it(conn, measure.oid):
            raise Refused("another pg_repack is at work on it")
    try:
        what = f"Clearing up what pg_repack left of {measure.qualified}"
        run_strong(conn, drops(measure), [(measure.schema, measure.name)], means.budget, record, what)
    finally:
        with contextlib.suppress(DriverError):
            scalar(conn, f"SELECT pg_advisory_unlock({ADVISORY}, (-2147483648 + %s::bigint)::int)", [measure.oid])


def drops(measure: TableMeasure) -> list[Query]:
    """What clears up after an interrupted pg_repack on a table. Pure."""
    table = relation(measure.schema, measure.name)
    own = [SQL("{} IF EXISTS {}").format(SQL(kind), relation("repack", name)) for kind, name in _names(measure.oid)]
    trigger = SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(LEFT_TRIGGER), table)
    return [trigger, *(SQL("DROP {}").format(what) for what in own)]


def _names(oid: int) -> list[tuple[str, str]]:
    return [("TABLE", f"log_{oid}"), ("TABLE", f"table_{oid}"), ("TYPE", f"pk_{oid}")]


def _lock_it(conn: Connection, oid: int) -> bool:
    """Take pg_repack's own lock on the table, as soon as the session of a dead one is gone."""
    deadline = time.monotonic() + GIVE_UP_LOCK_S
    while not scalar(conn, f"SELECT pg_try_advisory_lock({ADVISORY}, (-2147483648 + %s::bigint)::int)", [oid]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
