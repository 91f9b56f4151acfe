"""How far standbys are behind: whoever writes much WAL watches it."""

from __future__ import annotations

import time

from .connection import Connection, scalar

MOST_BEHIND = 16 << 20
PATIENCE_S = 60.0
POLL_S = 0.2
STANDBY_LAG = """
SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication
"""


def standby_lag(conn: Connection) -> int:
    """Bytes that the slowest standby has still to replay. A role that may not look sees no standby, and so 0."""
    return int(scalar(conn, STANDBY_LAG))


def let_catch_up(conn: Connection, most: int = MOST_BEHIND, patience_s: float = PATIENCE_S) -> str:
    """Wait until no standby is more than `most` bytes behind; what to say where that did not happen in time.

    Whoever waited goes on then: a standby may be delayed on purpose, or stuck.
    """
    end = time.monotonic() + patience_s
    while (behind := standby_lag(conn)) > most:
        if time.monotonic() > end:
            return f"a standby stayed {behind >> 20} MiB behind for {patience_s:g} s"
        time.sleep(POLL_S)
    return ""
