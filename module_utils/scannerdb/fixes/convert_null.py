"""NOT NULL of columns whose type was changed: since the swap a CHECK sees to it, which is proven beside all writers."""

from __future__ import annotations

from ..connection import Connection, fetch
from ..contract import ddl
from ..frame import Frames
from ..lockbudget import Budget, LockRecord
from .retyped import Retyping
from .structure import run_online, run_strong_change

_CHECKS = """
SELECT x.conname::text AS name FROM pg_catalog.pg_constraint x JOIN pg_catalog.pg_class c ON c.oid = x.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND x.contype = 'c'
"""


def prove_not_null(frames: Frames, one: Retyping, budget: Budget, record: LockRecord) -> None:
    """NOT NULL in the place of each such CHECK."""
    checks = _checks(frames.conn, one)
    for column in one.names:
        if ddl.short_name("scannerdb", one.table, column, "not_null") not in checks:
            continue
        for change in ddl.set_not_null(one.schema, one.table, column):
            if change.how == "online":
                run_online(frames, change, budget)
            else:
                run_strong_change(frames, change, budget, record, f"NOT NULL of {one.table}.{column}")


def _checks(conn: Connection, one: Retyping) -> set[str]:
    return {row["name"] for row in fetch(conn, _CHECKS, [one.schema, one.table])}
