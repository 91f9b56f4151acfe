"""Rewriting a table by VACUUM FULL."""

from __future__ import annotations

import time

from ..connection import SQL, Connection, DriverError, Literal, Query, is_lock_timeout
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, LockRecord, relation, retrying, run_alone, who_blocks
from .measure import TableMeasure


def vacuum_full(conn: Connection, query: Query, measure: TableMeasure, budget: Budget, record: LockRecord) -> None:
    """VACUUM FULL: ask for the strong lock with a short timeout, again and again until the deadline."""
    place = (measure.schema, measure.name)

    def attempt() -> None:
        make_autovacuum_yield(conn, measure, budget)
        started = time.monotonic()
        run_alone(conn, query, budget.timeout_ms)
        record.held(time.monotonic() - started)

    retrying(attempt, budget, record, f"VACUUM FULL of {measure.qualified}", lambda: who_blocks(conn, [place]))


def make_autovacuum_yield(conn: Connection, measure: TableMeasure, budget: Budget) -> None:
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
