"""Rebuilding indexes online, and dropping what an interrupted rebuild left."""

from __future__ import annotations

import contextlib

from ..connection import Connection, DriverError, Query, fetch, is_lock_timeout, scalar
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, run_alone, who_blocks
from .competing_sessions import older_transaction
from .ladder import leftovers
from .measure import TableMeasure
from .plan import Action
from .result import ActionResult, Blocked
from .statements import statements


def reindex(conn: Connection, query: Query, measure: TableMeasure, budget: Budget, outcome: ActionResult) -> None:
    """REINDEX CONCURRENTLY; where it fails, what it leaves behind is dropped at once.

    It waits for every older snapshot, so it is not begun beside one that looks as if it would stay.
    """
    older = older_transaction(conn, budget.deadline_s, with_snapshot=True)
    if older:
        raise Blocked(f"it would wait for an older transaction: {older}")
    try:
        run_alone(conn, query, budget.online_ms)
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
        drop_leftover(conn, statements(drop, measure.schema, measure.name, conn.info.server_version)[0], measure)


def drop_leftover(conn: Connection, query: Query, measure: TableMeasure) -> None:
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
    try:
        run_alone(conn, query, SOFT_TIMEOUT_MS)
    except DriverError as error:
        if not is_lock_timeout(error):
            raise
        raise Blocked(f"it is in use, {who_blocks(conn, [(measure.schema, measure.name)])}") from error
