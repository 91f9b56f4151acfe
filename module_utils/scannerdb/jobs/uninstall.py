"""Taking the bundle out of a database: its schema, which holds the journal of fixes, and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

from ..connection import Connection, Options, connect, explained, fetch, job_entry, scalar
from ..errors import InvalidInput
from ..fixes.journal import SCHEMA, hold_journal
from ..joblock import job_lock
from ..partial import telling_changes
from ..runs import Run

OURS = ("journal", "seal")
_OTHERS = """
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relname = ANY (%s) ORDER BY 1
"""


@job_entry("Removing what is in the database")
def uninstall(options: Options, *, lock_wait_s: float = 0, check_mode: bool = False) -> dict[str, Any]:
    """Drop the bundle's schema; returns `changed`, `rows` (of the journal) and `msg`.

    Raises `InvalidInput` where somebody else's tables are in the schema, and the connection's errors.
    """
    run = Run("uninstall", options.db)
    with (
        telling_changes(run),
        job_lock(options, run.job, run.run_id, lock_wait_s),
        contextlib.closing(connect(options, purpose="uninstall")) as conn,
    ):
        with explained(f"Looking at the schema {SCHEMA}"):
            if scalar(conn, "SELECT to_regnamespace(%s) IS NULL", [SCHEMA]):
                return {"changed": False, "rows": 0, "msg": f"There is no schema {SCHEMA}."}
            rows = _rows(conn)
        if not check_mode:
            with explained(f"Dropping the schema {SCHEMA}"), conn.transaction():
                conn.execute("SET LOCAL lock_timeout = '5s'")
                conn.execute("DROP TABLE IF EXISTS scannerdb_maintenance.journal, scannerdb_maintenance.seal")
                conn.execute("DROP SCHEMA scannerdb_maintenance")
            run.note_change(f"The schema {SCHEMA} was dropped.")
    return {
        "changed": True,
        "rows": rows,
        "msg": f"The schema {SCHEMA} is gone; {rows} rows of the journal, with which fixes were undone, too.",
    }


def _rows(conn: Connection) -> int:
    """The rows of the journal; refuses a schema that holds more than the bundle's own."""
    others = [row["name"] for row in fetch(conn, _OTHERS, [SCHEMA, list(OURS)])]
    if others:
        raise InvalidInput(
            f"The schema {SCHEMA} holds {', '.join(others)}, which the bundle did not make.",
            "Move that elsewhere (ALTER TABLE … SET SCHEMA), and run this again.",
        )
    if scalar(conn, "SELECT to_regclass('scannerdb_maintenance.journal') IS NULL"):
        return 0
    with conn.transaction():
        hold_journal(conn)
        return int(scalar(conn, "SELECT count(*) FROM scannerdb_maintenance.journal"))
