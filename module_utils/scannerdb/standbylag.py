"""How far standbys are behind: whoever writes much WAL watches it."""

from __future__ import annotations

import time

from .connection import Connection, Options, explained, fetch, scalar

MOST_BEHIND = 16 << 20
PATIENCE_S = 60.0
POLL_S = 0.2
STANDBY_LAG = """
SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication
"""
HIDDEN = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state IS NULL)"
VARIABLE = "scannerdb_cluster_min_standbys"
# Who only keeps the log (pg_receivewal) replays nothing, and a subscription has a slot of its own kind.
STREAMING = """
SELECT count(*) FILTER (WHERE r.state IS NULL) AS hidden,
       count(*) FILTER (WHERE r.state = 'streaming' AND r.replay_lsn IS NOT NULL AND NOT EXISTS (
           SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) AS standbys
  FROM pg_stat_replication r
"""
UNSEEN = "how far standbys are behind could not be seen: this role is no member of pg_monitor"


def standbys_hidden(conn: Connection) -> bool:
    """True where there are standbys, and this role may not see how far behind they are (pg_read_all_stats)."""
    return bool(scalar(conn, HIDDEN))


def standby_lag(conn: Connection) -> int:
    """Bytes that the slowest standby has still to replay; 0 also where all of them are hidden."""
    return int(scalar(conn, STANDBY_LAG))


def let_catch_up(conn: Connection, most: int = MOST_BEHIND, patience_s: float = PATIENCE_S) -> str:
    """Wait until no standby is more than `most` bytes behind; what to say where that did not happen in time.

    Whoever waited goes on then: a standby may be delayed on purpose, or stuck. Where the role may not look, nothing is
    waited for, and that is said.
    """
    if standbys_hidden(conn):
        return UNSEEN
    end = time.monotonic() + patience_s
    while (behind := standby_lag(conn)) > most:
        if time.monotonic() > end:
            return f"a standby stayed {behind >> 20} MiB behind for {patience_s:g} s"
        time.sleep(POLL_S)
    return ""


def standbys_missing(conn: Connection, options: Options) -> str:
    """Why nothing is to be begun that could trip a failover, as a sentence; empty where enough standbys stream."""
    if options.min_standbys <= 0:
        return ""
    with explained("Looking at the standbys"):
        seen = fetch(conn, STREAMING)[0]
    return missing_of(options.min_standbys, seen["standbys"], seen["hidden"])


def missing_of(wanted: int, standbys: int, hidden: int) -> str:
    """The sentence for that many streaming standbys, and others that may not be seen; empty for enough. Pure."""
    if standbys >= wanted:
        return ""
    if hidden:
        return f"Whether {wanted} standbys stream ({VARIABLE}) could not be seen: this role is no member of pg_monitor."
    are = "1 standby streams" if standbys == 1 else f"{standbys or 'no'} standbys stream".capitalize()
    return f"{are} from the primary, and {VARIABLE} is {wanted}."
