"""Doing what was decided, one table at a time, without making anybody wait who was not told to.

VACUUM, ANALYZE and the CONCURRENTLY commands stop no reader and no writer; a table whose lock somebody else holds is
left out and named. VACUUM FULL alone needs a strong lock: it asks for it in short attempts, under the lock budget.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import (
    SQL,
    Connection,
    DriverError,
    Literal,
    Query,
    explained,
    fetch,
    is_lock_timeout,
    scalar,
)
from ..errors import ConnectionFailed, LockTimeout, PrivilegeMissing, ScannerDbError
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, LockRecord, relation, retrying, run_online, who_blocks
from .decide import Action, Decision, leftovers
from .measure import TableMeasure
from .statements import statements

LOCK_NOT_AVAILABLE = "55P03"
GONE = ("42P01", "42704")  # no such table, no such index
SETTLE_S = 2.0


class Blocked(ScannerDbError):
    """Somebody holds a lock that the action needs; nothing was done."""


@dataclass
class Outcome:
    """What came of one action. `seconds` is its time; `lock` the strong lock it took, if it took one."""

    decision: Decision
    action: Action
    done: bool = False
    seconds: float = 0.0
    lock: LockRecord = field(default_factory=LockRecord)
    blocked: bool = False  # worth a second try
    note: str = ""  # why it was not done, or not fully
    error: str = ""  # what failed: worth failing the job for


@dataclass(frozen=True)
class Step:
    """What is about to be done, for whoever watches."""

    number: int
    total: int
    decision: Decision
    action: Action


def queries_for(conn: Connection, measure: TableMeasure, action: Action) -> list[Query]:
    """The statements of an action on this server."""
    parallel = 0
    if action.kind in ("vacuum", "full"):
        allowed = int(scalar(conn, "SELECT current_setting('max_parallel_maintenance_workers')"))
        parallel = max(0, min(allowed, len(measure.indexes) - 1))  # the leader takes an index too
    return statements(action, measure.schema, measure.name, conn.info.server_version, parallel)


def perform(
    conn: Connection,
    decisions: Sequence[Decision],
    budget: Budget,
    watch: Callable[[Step], None] = lambda step: None,
) -> list[Outcome]:
    """Carry out the actions in order; a table that was locked gets a second try at the end.

    What fails on one table does not keep the others from their turn: look at each outcome's `error`. Raises
    `ConnectionFailed` when the server is gone.
    """
    todo = [(decision, action) for decision in decisions for action in decision.actions]
    outcomes: dict[int, Outcome] = {}
    again = []
    for number, (decision, action) in enumerate(todo):
        watch(Step(number + 1, len(todo), decision, action))
        outcomes[number] = _attempt(conn, decision, action, budget)
        if outcomes[number].blocked:
            again.append(number)
    for number in again:
        watch(Step(number + 1, len(todo), *todo[number]))
        outcomes[number] = _attempt(conn, *todo[number], budget)
    return [outcomes[number] for number in sorted(outcomes)]


def _attempt(conn: Connection, decision: Decision, action: Action, budget: Budget) -> Outcome:
    outcome = Outcome(decision, action)
    started = time.monotonic()
    try:
        with explained(f"{action.kind.replace('_', ' ').upper()} of {decision.measure.qualified}"):
            _do(conn, outcome, budget)
    except (Blocked, LockTimeout, PrivilegeMissing) as error:
        outcome.note, outcome.blocked = error.message, isinstance(error, Blocked)
    except ConnectionFailed:
        raise
    except ScannerDbError as error:
        if getattr(error.__cause__, "sqlstate", "") in GONE:
            outcome.note = "it was dropped in the meantime"
        else:
            outcome.error = str(error)
    outcome.seconds = round(time.monotonic() - started, 3)
    return outcome


def _do(conn: Connection, outcome: Outcome, budget: Budget) -> None:
    action, measure = outcome.action, outcome.decision.measure
    queries = queries_for(conn, measure, action)
    if action.kind == "full":
        _rewrite(conn, queries[0], measure, budget, outcome.lock)
        outcome.done = True
        with contextlib.suppress(Blocked):  # the rewrite counts; the next run makes up for the rest
            _gentle(conn, queries[1], measure)
    elif action.kind == "reindex":
        _reindex(conn, queries[0], measure, outcome)
    elif action.kind == "drop_index":
        _drop_leftover(conn, queries[0], measure)
        outcome.done = True
    else:
        outcome.note = _gentle(conn, queries[0], measure)
        outcome.done = True


def _gentle(conn: Connection, query: Query, measure: TableMeasure) -> str:
    """VACUUM or ANALYZE with SKIP_LOCKED; returns what was left out of it.

    The server only warns where it skips a table. A lock is known by its SQLSTATE; a missing right has none of its own
    and a text in the server's language, so it is a warning after which nothing was done.
    """
    before = scalar(conn, "SELECT clock_timestamp()")
    with _warnings(conn) as told:
        conn.execute(query)
    if any(state == LOCK_NOT_AVAILABLE for state, _ in told):
        whom = who_blocks(conn, [(measure.schema, measure.name)])
        if _counted(conn, measure, "vacuum", before):
            return f"it was vacuumed, but its statistics were not renewed: it is locked, {whom}"
        raise Blocked(f"it is locked, {whom}")
    if not _settle(conn, measure, before) and told:
        raise PrivilegeMissing(f"the server refused: {told[0][1]}")
    return ""


@contextlib.contextmanager
def _warnings(conn: Connection) -> Iterator[list[tuple[str, str]]]:
    """Collect the warnings (SQLSTATE, text) that the server sends during the block."""
    told: list[tuple[str, str]] = []

    def hear(diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            told.append((diagnostic.sqlstate or "", diagnostic.message_primary or ""))

    conn.add_notice_handler(hear)
    try:
        yield told
    finally:
        conn.remove_notice_handler(hear)


def _counted(conn: Connection, measure: TableMeasure, what: str, since: Any) -> bool:
    """True once the statistics know of a vacuum or an analyze after `since`."""
    row = fetch(
        conn,
        """
        SELECT last_vacuum, last_analyze FROM pg_stat_all_tables WHERE schemaname = %s AND relname = %s
        """,
        [measure.schema, measure.name],
    )
    at = row[0][f"last_{what}"] if row else None
    return at is not None and at >= since


def _settle(conn: Connection, measure: TableMeasure, since: Any) -> bool:
    """Wait until the statistics show what was done (before PostgreSQL 15 they arrive late); False if they never do."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        scalar(conn, "SELECT pg_stat_clear_snapshot()::text")
        if _counted(conn, measure, "vacuum", since) or _counted(conn, measure, "analyze", since):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def _rewrite(conn: Connection, query: Query, measure: TableMeasure, budget: Budget, record: LockRecord) -> None:
    """VACUUM FULL: ask for the strong lock with a short timeout, again and again until the deadline."""
    place = (measure.schema, measure.name)

    def attempt() -> None:
        _make_autovacuum_yield(conn, measure, budget)
        conn.execute(SQL("SET lock_timeout = {}").format(Literal(budget.timeout_ms)))
        started = time.monotonic()
        try:
            conn.execute(query)
        finally:
            if not conn.closed:
                conn.execute("RESET lock_timeout")
        record.held(time.monotonic() - started)

    retrying(attempt, budget, record, f"VACUUM FULL of {measure.qualified}", lambda: who_blocks(conn, [place]))


def _make_autovacuum_yield(conn: Connection, measure: TableMeasure, budget: Budget) -> None:
    """Autovacuum gives way only to a lock that waits longer than the budget allows: this one stops nobody else."""
    if not measure.may_rebuild:  # the database's owner may vacuum the tables of others, but not lock them
        return
    try:
        with conn.transaction():
            timeout = max(budget.timeout_ms, min(SOFT_TIMEOUT_MS, int(budget.deadline_s * 1000)))
            conn.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(timeout)))
            name = relation(measure.schema, measure.name)
            conn.execute(SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(name))
    except DriverError as error:
        if is_lock_timeout(error) or conn.closed:
            raise
        # A materialized view cannot be locked this way: then autovacuum is waited for.


def _reindex(conn: Connection, query: Query, measure: TableMeasure, outcome: Outcome) -> None:
    """REINDEX CONCURRENTLY; where it fails, what it leaves behind is dropped at once."""
    try:
        run_online(conn, query)
    except DriverError:
        if not conn.closed:
            with contextlib.suppress(DriverError, Blocked):  # then the next run drops it
                _sweep(conn, measure)
        raise
    outcome.done = True
    with contextlib.suppress(Blocked):
        _sweep(conn, measure)


def _sweep(conn: Connection, measure: TableMeasure) -> None:
    rows = fetch(
        conn,
        """
        SELECT c.relname::text AS name, i.indisvalid AS valid
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
         WHERE n.nspname = %s AND t.relname = %s
        """,
        [measure.schema, measure.name],
    )
    for name in leftovers((row["name"], row["valid"]) for row in rows):
        drop = Action("drop_index", (), index=name)
        _drop_leftover(conn, queries_for(conn, measure, drop)[0], measure)


def _drop_leftover(conn: Connection, query: Query, measure: TableMeasure) -> None:
    """Drop an invalid index, unless somebody else's rebuild is still at work on it."""
    busy = scalar(
        conn,
        """
        SELECT p.pid FROM pg_stat_progress_create_index p
          JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %s AND c.relname = %s
        """,
        [measure.schema, measure.name],
    )
    if busy:
        raise Blocked(f"process {busy} is building an index on it now")
    # It is invalid already: better to leave it for the next run than to wait for long beside somebody's transaction.
    conn.execute(f"SET lock_timeout = {SOFT_TIMEOUT_MS}")
    try:
        conn.execute(query)
    except DriverError as error:
        if not is_lock_timeout(error):
            raise
        raise Blocked(f"it is in use, {who_blocks(conn, [(measure.schema, measure.name)])}") from error
    finally:
        if not conn.closed:
            conn.execute("RESET lock_timeout")


def oldest_snapshot(conn: Connection) -> str:
    """Who keeps dead rows from being removed, as words for a sentence; empty where nobody is seen.

    Sessions of other roles are only seen with the rights of pg_read_all_stats.
    """
    with explained("Looking for old snapshots"):
        rows = fetch(
            conn,
            """
            SELECT who FROM (
                SELECT format('process %s (%s, %s, in a transaction for %s)', pid, coalesce(usename, backend_type),
                              coalesce(nullif(application_name, ''), 'no name'),
                              coalesce(date_trunc('second', clock_timestamp() - xact_start)::text, 'no time')) AS who,
                       age(backend_xmin) AS age
                  FROM pg_stat_activity
                 WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
                   AND (datname = current_database() OR backend_type = 'walsender')
                UNION ALL
                SELECT format('the prepared transaction %L', gid), age(transaction)
                  FROM pg_prepared_xacts WHERE database = current_database()
                UNION ALL
                SELECT format('the replication slot %I', slot_name), age(xmin)
                  FROM pg_replication_slots WHERE xmin IS NOT NULL) AS holders
             ORDER BY age DESC LIMIT 1
            """,
        )
    return str(rows[0]["who"]) if rows else ""
