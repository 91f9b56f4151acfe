"""Statements that need a strong lock, run so that no writer waits longer than the lock budget.

A strong lock that queues makes every later statement queue behind it. So it is asked for with a short `lock_timeout`,
given up, and asked for again after a pause, until a deadline; there is never a last attempt without limit. Autovacuum
would win against 50 ms every time (it yields only after `deadlock_timeout`), so SHARE UPDATE EXCLUSIVE comes first with
a longer timeout: it stops no reader and no writer, and makes autovacuum go.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .connection import SQL, Composable, Connection, DriverError, Identifier, Literal, Query, fetch, is_lock_timeout
from .errors import LockTimeout, quoted

SOFT_TIMEOUT_MS = 5000
# Which modes, as pg_locks names them, a wanted lock on a table has to wait for (PostgreSQL's table of conflicts).
_STRONGEST = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
CONFLICTS = {
    "SHARE UPDATE EXCLUSIVE": ("ShareUpdateExclusiveLock", *_STRONGEST),
    "SHARE ROW EXCLUSIVE": ("RowExclusiveLock", "ShareUpdateExclusiveLock", *_STRONGEST),
    "ACCESS EXCLUSIVE": (
        *("AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock"),
        *_STRONGEST,
    ),
}


@dataclass(frozen=True)
class Budget:
    """How long one attempt may wait for a lock, and how long to go on trying."""

    timeout_ms: int = 50
    deadline_s: float = 300.0

    @property
    def online_ms(self) -> int:
        """How long CONCURRENTLY and VALIDATE may wait at once: they stop no writer, so they need not let go before."""
        return max(1, int(self.deadline_s * 1000))


@dataclass
class LockRecord:
    """What the locks cost, for the result: milliseconds."""

    max_lock_ms: float = 0.0
    max_wait_ms: float = 0.0
    max_structure_ms: float = 0.0
    max_rows_ms: float = 0.0
    retries: int = 0

    def held(self, seconds: float, structure: bool = False) -> None:
        """Note how long a writer had to wait at most: for a change of structure (the whole table), or for rows."""
        spent = round(seconds * 1000, 1)
        self.max_lock_ms = max(self.max_lock_ms, spent)
        if structure:
            self.max_structure_ms = max(self.max_structure_ms, spent)
        else:
            self.max_rows_ms = max(self.max_rows_ms, spent)

    def waited(self, seconds: float) -> None:
        """Note how long an attempt waited for a lock, and so how long others may have queued behind it."""
        self.max_wait_ms = max(self.max_wait_ms, round(seconds * 1000, 1))

    def public(self, budget_ms: int, rows: str) -> dict[str, Any]:
        """The figures for a job's result, with a sentence that has each beside its budget; `rows` is that of rows."""
        figures = ("max_lock_ms", "max_wait_ms", "max_structure_ms", "max_rows_ms")
        said = (
            f"A writer waited at most {self.max_structure_ms:.0f} ms for a change of structure (budget {budget_ms} ms"
            f" for its lock) and {self.max_rows_ms:.0f} ms for rows ({rows})."
        )
        return {**{name: getattr(self, name) for name in figures}, "locks": said}


def relation(schema: str, name: str) -> Composable:
    """A composed, qualified name."""
    return SQL("{}.{}").format(Identifier(schema), Identifier(name))


def retrying(
    attempt: Callable[[], None], budget: Budget, record: LockRecord, what: str, blockers: Callable[[], str]
) -> None:
    """Call `attempt` until it gets its locks; raises `LockTimeout` past the deadline, naming who is in the way."""
    deadline = time.monotonic() + budget.deadline_s
    pause = 0.05
    while True:
        started = time.monotonic()
        try:
            return attempt()
        except DriverError as error:
            if not is_lock_timeout(error):
                raise
        record.retries += 1
        record.waited(time.monotonic() - started)
        if time.monotonic() + pause > deadline:
            raise LockTimeout(
                f"{what}: the lock could not be had within {budget.deadline_s:g} s, {blockers()}.",
                "Nothing was changed by it. Run again at a quieter time, or raise scannerdb_lock_deadline_s.",
            )
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 1.5, 2.0)


def run_strong(
    conn: Connection,
    statements: Sequence[Query],
    relations: Sequence[tuple[str, str]],
    budget: Budget,
    record: LockRecord,
    what: str,
    wanted: str = "ACCESS EXCLUSIVE",
) -> None:
    """Run statements that block writers in one transaction under the budget.

    `relations` are the existing tables (schema, name) they lock, in the mode `wanted`; each first gets the soft lock.
    `what` opens the error's sentence.
    """

    def attempt() -> None:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = {SOFT_TIMEOUT_MS}")
            for schema, name in relations:
                conn.execute(SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(relation(schema, name)))
            conn.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(budget.timeout_ms)))
            started = time.monotonic()
            for statement in statements:
                conn.execute(statement)
        record.held(time.monotonic() - started, structure=True)

    retrying(attempt, budget, record, what, lambda: who_blocks(conn, relations, wanted))


def run_alone(conn: Connection, statement: Query, timeout_ms: int) -> None:
    """Run a statement outside a transaction, with a lock timeout of its own: long for one that stops no writer."""
    conn.execute(SQL("SET lock_timeout = {}").format(Literal(timeout_ms)))
    try:
        conn.execute(statement)
    finally:
        if not conn.closed:
            conn.execute("RESET lock_timeout")


def who_blocks(conn: Connection, relations: Sequence[tuple[str, str]], wanted: str = "ACCESS EXCLUSIVE") -> str:
    """Who holds locks on these tables now that a lock in the mode `wanted` has to wait for, as words for a sentence."""
    rows = fetch(
        conn,
        """
        SELECT DISTINCT a.pid, a.usename::text, a.application_name, a.state, a.backend_type,
               date_trunc('second', clock_timestamp() - a.xact_start)::text AS age
          FROM pg_locks l
          JOIN pg_class c ON c.oid = l.relation
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.granted AND a.pid <> pg_backend_pid() AND l.mode = ANY (%s)
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
         ORDER BY a.pid LIMIT 5
        """,
        [
            list(CONFLICTS.get(wanted, CONFLICTS["ACCESS EXCLUSIVE"])),
            [schema for schema, _ in relations],
            [name for _, name in relations],
        ],
    )
    if not rows:
        return "and nobody is seen holding it now"
    people = [
        f"process {r['pid']} ({quoted(r['usename'] or r['backend_type'])}, "
        f"{quoted(r['application_name'] or 'no name')}, "
        f"{r['state'] or 'active'}, in a transaction for {r['age'] or 'no time'})"
        for r in rows
    ]
    return "held by " + "; ".join(people)
