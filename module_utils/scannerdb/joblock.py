"""One job at a time on a database: an advisory lock that cron, terminal and AWX share.

The lock lives in `maintenance_db` on the primary, because a lock inside the database itself would block its own rename
and die with it. Its key is the first eight bytes of SHA-256 over `scannerdb:` and the database's name, as a signed
big-endian integer, so anybody can compute it: see docs/concepts.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .connection import Connection, DriverError, Options, connect, explained, fetch, scalar
from .errors import JobLocked

POLL_S = 1.0


def lock_key(dbname: str) -> int:
    """The advisory lock's key for a database's name. Pure."""
    digest = hashlib.sha256(b"scannerdb:" + dbname.encode("utf-8")).digest()
    return int(struct.unpack(">q", digest[:8])[0])


@contextlib.contextmanager
def job_lock(
    options: Options, job: str, run_id: str, wait_s: float = 0, *, allow_standby: bool = False
) -> Iterator[Connection]:
    """Hold the database's job lock for the block; yields the connection to `maintenance_db` that holds it.

    Waits up to `wait_s` seconds for another run, then raises `JobLocked`, which says who holds it. On a
    standby (a backup may run there) the lock is the standby's own: it keeps two backups apart, not a backup and a fix.
    """
    conn = connect(options, dbname=options.maintenance_db, purpose=f"{job} {run_id}", allow_standby=allow_standby)
    try:
        _acquire(conn, options.db, wait_s)
        try:
            yield conn
        finally:
            with contextlib.suppress(DriverError):  # or it would be held until the server notices that we are gone
                scalar(conn, "SELECT pg_advisory_unlock(%s)", [lock_key(options.db)])
    finally:
        conn.close()


def _acquire(conn: Connection, dbname: str, wait_s: float) -> None:
    key = lock_key(dbname)
    deadline = time.monotonic() + wait_s
    with explained("Taking the job lock"):
        while not scalar(conn, "SELECT pg_try_advisory_lock(%s)", [key]):
            left = deadline - time.monotonic()
            if left <= 0:
                raise JobLocked(
                    f"Another run is at work on database {dbname!r}: {_holder(conn, dbname)}.",
                    "Wait for it, or let this run wait with scannerdb_lock_wait_s.",
                )
            time.sleep(min(POLL_S, left))


@dataclass(frozen=True)
class Holder:
    """The session that holds a job lock, and for how many seconds it has been there."""

    pid: int
    seconds: float
    said: str


def holder_of(conn: Connection, dbname: str) -> Holder | None:
    """Who holds the job lock of a database; None for nobody, or for a session that this role may not see."""
    rows = fetch(
        conn,
        """
        SELECT a.pid, a.application_name, a.usename::text, coalesce(host(a.client_addr), 'the local socket') AS client,
               a.backend_start::timestamptz(0)::text AS since,
               extract(epoch FROM clock_timestamp() - a.backend_start)::float8 AS seconds
          FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.classid = ((%(key)s::bigint >> 32) & 4294967295)::bigint::oid
           AND l.objid = (%(key)s::bigint & 4294967295)::bigint::oid
        """,
        {"key": lock_key(dbname)},
    )
    if not rows:
        return None
    row = rows[0]
    said = (
        f"{row['application_name'] or 'a session'} (process {row['pid']}, role {row['usename']}, from {row['client']}, "
        f"since {row['since']} UTC)"
    )
    return Holder(row["pid"], row["seconds"] or 0.0, said)


def _holder(conn: Connection, dbname: str) -> str:
    holder = holder_of(conn, dbname)
    return holder.said if holder else "it has just ended, or its session is not visible to this role"
