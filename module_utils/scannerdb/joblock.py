"""One job at a time on a database: an advisory lock that cron, terminal and AWX share.

The lock lives in `maintenance_db` on the primary, because a lock inside the database itself would block its own rename
and die with it. Its key is the first eight bytes of SHA-256 over `scannerdb:` and the database's name, as a signed
big-endian integer, so anybody can compute it: see docs/security.md.

So anybody who may connect can hold it, too. A session counts as a run of ours only where its login may maintain
databases: a superuser, a member of pg_signal_backend, or the very login of this run. Where another one holds the key,
a run takes a second lock instead, `(first four bytes, a random number)`, which nobody can take beforehand. Whoever gets
either lock then looks for runs of ours at both, and gives way to them: of two runs that start at the same time at least
one sees the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .connection import Connection, DriverError, Options, Row, connect, execute, explained, fetch, scalar
from .errors import JobLocked, quoted

POLL_S = 1.0
TIES = 3  # how often a run that gave way to one which may have given way as well tries again at once


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
            # Or it would be held until the server notices that we are gone. Nothing else of ours is locked so.
            # Letting go writes nothing: a fence that closed meanwhile must not hide the error that ended the block.
            conn.fence = None
            with contextlib.suppress(DriverError):
                execute(conn, "SELECT pg_advisory_unlock_all()")
    finally:
        conn.close()


def _acquire(conn: Connection, dbname: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    ties = 0
    with explained("Taking the job lock"):
        while True:
            got, rival = _try(conn, dbname)
            if got and rival is None:
                return
            if got:
                execute(conn, "SELECT pg_advisory_unlock_all()")
            left = deadline - time.monotonic()
            if (got or rival is None) and ties < TIES:  # two may have given way to each other, or one has just ended
                ties += 1
                time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - it only has to differ from the other's
            elif left <= 0:
                who = rival.said if rival else "it has just ended, or its session is not visible to this role"
                raise JobLocked(
                    f"Another run is at work on database {dbname!r}: {who}.",
                    "Wait for it, or let this run wait with scannerdb_lock_wait_s.",
                )
            else:
                time.sleep(min(POLL_S, left))


def _try(conn: Connection, dbname: str) -> tuple[bool, LockHolder | None]:
    """Whether one of the locks was taken, and the run of ours that is in the way of it."""
    key = lock_key(dbname)
    if not scalar(conn, "SELECT pg_try_advisory_lock(%s)", [key]):
        holders = _holders(conn, dbname)
        rival = next((holder for holder in holders if holder.ours), None)
        if rival or not holders:
            return False, rival
        execute(conn, "SELECT pg_advisory_lock(%s, %s)", [_family(key), random.SystemRandom().getrandbits(31)])
    return True, next((holder for holder in _holders(conn, dbname) if holder.ours), None)


def _family(key: int) -> int:
    """The first half of the second lock's key, as PostgreSQL's signed integer. Pure."""
    return int(struct.unpack(">i", struct.pack(">q", key)[:4])[0])


@dataclass(frozen=True)
class LockHolder:
    """A session that holds a job lock, for how many seconds it has been there, and whether it is a run of ours."""

    pid: int
    seconds: float
    said: str
    ours: bool


# Of a prepared transaction no session is left: such a holder is somebody else's, for ours prepare none.
_HOLDERS = """
SELECT coalesce(a.pid, 0) AS pid, a.application_name, a.usename::text, a.backend_start::timestamptz(0)::text AS since,
       coalesce(host(a.client_addr), 'the local socket') AS client,
       extract(epoch FROM clock_timestamp() - a.backend_start)::float8 AS seconds,
       coalesce(r.rolsuper OR r.rolname = session_user OR pg_has_role(r.oid, 'pg_signal_backend', 'MEMBER'), false)
       AS ours
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE l.locktype = 'advisory' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid = ((%(key)s::bigint >> 32) & 4294967295)::bigint::oid
   AND (l.objsubid = 2 OR l.objsubid = 1 AND l.objid = (%(key)s::bigint & 4294967295)::bigint::oid)
 ORDER BY ours DESC, a.backend_start
"""


def _holders(conn: Connection, dbname: str) -> list[LockHolder]:
    """Everybody else who holds one of the locks; runs of ours first."""
    return [_holder(row) for row in fetch(conn, _HOLDERS, {"key": lock_key(dbname)})]


def _holder(row: Row) -> LockHolder:
    name, role = quoted(row["application_name"] or "a session"), quoted(row["usename"] or "?")
    since = f"{row['since']} UTC" if row["since"] else "a time that this role may not see"
    said = f"{name} (process {row['pid']}, role {role}, from {row['client']}, since {since})"
    return LockHolder(row["pid"], row["seconds"] or 0.0, said, row["ours"])


def holder_of(conn: Connection, dbname: str) -> LockHolder | None:
    """Who holds the job lock of a database, a run of ours before anybody else; None for nobody."""
    return next(iter(_holders(conn, dbname)), None)


def foreign_holder_of(conn: Connection, dbname: str) -> LockHolder | None:
    """A session that holds the job lock and is no run of ours."""
    return next((holder for holder in _holders(conn, dbname) if not holder.ours), None)
