"""Who is connected to a database, and whether a restore may wait for them or end them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..connection import Connection, explained, fetch
from ..errors import quoted
from .downtime_probe import APPLICATION

SETTLE_S = 0.5  # a session that was closed a moment ago is still listed for that long


@dataclass(frozen=True)
class Session:
    """One session. `busy` is true in a transaction; where this role may not look, it is taken for busy."""

    pid: int
    user: str
    application: str
    client: str
    busy: bool
    superuser: bool
    endable: bool


def connected(conn: Connection, database: str, own: int = 0) -> list[Session]:
    """The sessions in a database; the restore's own prober, autovacuum and our own process `own` left out."""
    with explained("Looking at the sessions"):
        rows = fetch(
            conn,
            """
            SELECT a.pid, coalesce(a.usename::text, '?') AS user, coalesce(a.application_name, '') AS application,
                   coalesce(host(a.client_addr), 'local') AS client,
                   a.xact_start IS NOT NULL OR a.state IS NULL AS busy, coalesce(r.rolsuper, false) AS superuser,
                   (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                     OR (NOT coalesce(r.rolsuper, true) AND (pg_has_role(a.usesysid, 'USAGE')
                         OR pg_has_role('pg_signal_backend', 'USAGE'))) AS endable
              FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
             WHERE a.datname = %s AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
               AND a.application_name IS DISTINCT FROM %s AND a.pid <> %s
             ORDER BY a.pid
            """,
            [database, APPLICATION, own],
        )
    return [Session(**row) for row in rows]


def wait_for(conn: Connection, database: str, grace_s: float, ending: bool, own: int = 0) -> list[Session]:
    """Wait, with connections open, and return who is left.

    Where the sessions may be ended afterwards, the wait is over when none is in a transaction; where they may not, when
    none is there.
    """
    deadline = time.monotonic() + max(grace_s, SETTLE_S)
    while True:
        left = connected(conn, database, own)
        if not [s for s in left if s.busy or not ending]:
            return left
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return left
        time.sleep(min(0.1, remaining))


def named(sessions: Sequence[Session], most: int = 5) -> str:
    """Sessions as words for a sentence. Pure."""
    words = [
        f"{quoted(s.user)}{f' ({quoted(s.application)})' if s.application else ''} from {s.client}, process {s.pid}"
        for s in sessions[:most]
    ]
    more = f"; and {len(sessions) - most} more" if len(sessions) > most else ""
    return "; ".join(words) + more
