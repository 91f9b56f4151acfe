"""How many workers of pg_dump the server has connections for."""

from __future__ import annotations

from ..connection import Connection, explained, scalar

OURS = 3  # the job lock's session, the snapshot's, and pg_dump's own beside its workers'
# Of the server, of the role and of the database; a superuser is bound by the first alone.
_FREE = """
SELECT least(
         current_setting('max_connections')::int
           - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
                    + coalesce(current_setting('reserved_connections', true)::int, 0) END
           - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
         CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit
           - (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid) END,
         CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit
           - (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid) END)
  FROM pg_roles r, pg_database d
 WHERE r.rolname = session_user AND d.datname = current_database()
"""


def workers(conn: Connection, wanted: int) -> tuple[int, str]:
    """The workers to use, and a note where there are fewer than wanted. `conn` is closed before they start."""
    with explained("Counting the free connections"):
        free = int(scalar(conn, _FREE)) + 1
    if wanted == 1 or free >= wanted + OURS:
        return wanted, ""
    return 1, f"The server has {free} connections left for this role, so pg_dump has one worker in place of {wanted}."
