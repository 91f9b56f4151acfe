"""What one server says of the cluster it is a member of: whoever compares the answers knows which belong together."""

from __future__ import annotations

import contextlib
from typing import Any

from ..connection import Connection, DriverError, explained, fetch, scalar

# Where its log stands: of a primary what is written, of a standby what is replayed. Of a receiver that another role's
# rights hide, the row is still there.
_STATE = """
SELECT pg_is_in_recovery() AS standby,
       ((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END) - '0/0')::bigint
       AS position,
       CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn())::bigint END AS behind,
       EXISTS (SELECT FROM pg_stat_wal_receiver) AS streaming
"""
_FOLLOWERS = (
    "SELECT DISTINCT host(client_addr) AS host FROM pg_stat_replication WHERE client_addr IS NOT NULL ORDER BY 1"
)
_SENDER = "SELECT sender_host AS host, sender_port AS port FROM pg_stat_wal_receiver"


def membership(conn: Connection, database: str) -> dict[str, Any]:
    """The cluster's system identifier, what this member is, and what it follows.

    `key` is the same for all members, for one database; empty where the role may not ask for the identifier.
    """
    with explained("Asking the server for its cluster"):
        state = fetch(conn, _STATE)[0]
        sender = next(iter(fetch(conn, _SENDER)), None)
        followers = [row["host"] for row in fetch(conn, _FOLLOWERS)]
    system = ""
    with contextlib.suppress(DriverError):
        system = str(scalar(conn, "SELECT system_identifier FROM pg_control_system()"))
    follows = f"{sender['host']} port {sender['port']}" if sender and sender["host"] else ""
    return {
        "key": f"{system}/{database}" if system else "",
        "system": system,
        "standby": state["standby"],
        "streaming": state["streaming"],
        "follows": follows,
        "followers": followers,
        "position": state["position"] or 0,
        "behind_bytes": max(0, state["behind"] or 0),
    }
