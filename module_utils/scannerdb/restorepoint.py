"""A name in the WAL for the moment before a job changes data: physical backups can go back to it.

It is a courtesy: where it cannot be set, the job goes on, and says so in its log.
"""

from __future__ import annotations

from .connection import Connection, DriverError, scalar
from .errors import ScannerDbError
from .runs import Run

MAY = """
SELECT CASE WHEN pg_is_in_recovery() THEN 'the server is a standby'
            WHEN current_setting('wal_level') = 'minimal' THEN 'wal_level is minimal'
            WHEN NOT has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')
            THEN 'this role may not (GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO it)'
            ELSE '' END
"""


def restore_point_name(run: Run) -> str:
    """What the restore point of a run is called."""
    return f"scannerdb_{run.job}_{run.run_id}"


def set_restore_point(conn: Connection, run: Run) -> str:
    """Set the restore point of a run, and log its name, or why there is none; the name, or nothing."""
    name = restore_point_name(run)
    try:
        why = str(scalar(conn, MAY))
        if not why:
            scalar(conn, "SELECT pg_create_restore_point(%s)::text", [name])
    except (DriverError, ScannerDbError) as error:
        why = str(error).splitlines()[0].rstrip(".")
    run.log(f"no restore point was set: {why}" if why else f"restore point {name}")
    return "" if why else name
