"""How far standbys are behind: whoever writes much WAL watches it."""

from __future__ import annotations

from .connection import Connection, scalar

STANDBY_LAG = """
SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication
"""


def standby_lag(conn: Connection) -> int:
    """Bytes that the slowest standby has still to replay. A role that may not look sees no standby, and so 0."""
    return int(scalar(conn, STANDBY_LAG))
