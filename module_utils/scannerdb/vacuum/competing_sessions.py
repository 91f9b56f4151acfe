"""Whom a vacuum has to wait for, or who keeps it from removing rows: other sessions, as words for a sentence.

Sessions of other roles are only seen with the rights of pg_read_all_stats. Where that matters, it is said.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from ..connection import Connection, explained, fetch, scalar

DEAD_RUN_S = 30.0  # a server notices within ten seconds that a session's client is gone
DEAD_RUNS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name ~ '^scannerdb vacuum [0-9]'
"""
OLDER = """
SELECT format('process %%s (%%L, %%L, in a transaction for %%s)', pid, usename,
              coalesce(nullif(application_name, ''), 'no name'),
              date_trunc('second', clock_timestamp() - xact_start)) AS who
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND application_name <> 'pg_repack' AND clock_timestamp() - xact_start > make_interval(secs => %s)
   AND (backend_xmin IS NOT NULL OR NOT %s)
 ORDER BY xact_start LIMIT 1
"""

# Prepared transactions have no process.
WRITER = """
SELECT who FROM (
    SELECT format('process %s (%L, %L, in a transaction for %s)', pid, usename,
                  coalesce(nullif(application_name, ''), 'no name'),
                  date_trunc('second', clock_timestamp() - xact_start)) AS who, xact_start AS begun
      FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT format('the prepared transaction %L', gid), prepared FROM pg_prepared_xacts) AS writers
 ORDER BY begun LIMIT 1
"""
# In READ COMMITTED a transaction takes a new snapshot for each statement, but nobody sees the isolation of another
# session: one whose transaction is older than its statement, and not young, may keep its first one.
KEEPER = """
SELECT format('process %%s (%%L, %%L, in a transaction for %%s)', pid, usename,
              coalesce(nullif(application_name, ''), 'no name'),
              date_trunc('second', clock_timestamp() - xact_start)) AS who, state = 'active' AS active
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
   AND (state LIKE 'idle in transaction%%'
        OR state = 'active' AND backend_type = 'client backend' AND xact_start < query_start
           AND clock_timestamp() - xact_start > make_interval(secs => %s))
 ORDER BY xact_start LIMIT 1
"""
YOUNG_S = 1.0
# Without the rights to see it, a session has its process and its role, and nothing else. A worker that is about to end
# looks like that to everybody for a moment.
HIDDEN = """
SELECT format('process %%s (%%L)', pid, usename) AS who FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type IS NULL AND usesysid IS NOT NULL AND pid <> pg_backend_pid()
   AND NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
   AND pg_has_role(current_user, usesysid, 'USAGE') IS NOT TRUE AND pid <> ALL (%s)
 ORDER BY pid LIMIT 1
"""
# REPACK's worker reads changes out of WAL, as the first superuser, and names its slot after itself.
REPACK_WORKERS = """
SELECT active_pid AS pid FROM pg_replication_slots
 WHERE database = current_database() AND slot_name = 'pg_repack_' || active_pid
"""


def outlast_dead_runs(conn: Connection) -> None:
    """Wait until what killed runs began is over; under the job lock no other run's session can be anything else.

    One that does not end in time is somebody whom the run then meets as any other.
    """
    deadline = time.monotonic() + DEAD_RUN_S
    with explained("Looking for what an earlier run left at work"):
        while scalar(conn, DEAD_RUNS) and time.monotonic() < deadline:
            time.sleep(0.2)


def older_transaction(conn: Connection, seconds: float, *, with_snapshot: bool = False) -> str:
    """The oldest transaction of this database that is older than so many seconds; empty where there is none.

    `with_snapshot` leaves out those that hold no snapshot now: pg_repack waits for them, a CONCURRENTLY does not.
    """
    rows = fetch(conn, OLDER, [seconds, with_snapshot])
    return str(rows[0]["who"]) if rows else ""


def older_writer(conn: Connection) -> str:
    """The oldest transaction of the whole cluster that has written something; empty where there is none."""
    rows = fetch(conn, WRITER)
    return str(rows[0]["who"]) if rows else ""


def repack_workers(conn: Connection) -> set[int]:
    """The processes of this database's REPACKs that follow changes: they keep no snapshot of anybody's."""
    return {int(row["pid"]) for row in fetch(conn, REPACK_WORKERS)}


def snapshot_keeper(conn: Connection, workers: Collection[int] = ()) -> str:
    """Who keeps a snapshot in this database, or may keep one, or could not be looked at, as the end of a sentence.

    It is empty where all sessions are seen and none does. A session keeps one in a transaction of REPEATABLE READ or
    SERIALIZABLE, or with a cursor open: what it reads next, it reads by it. `workers` are processes that are none.
    """
    rows = fetch(conn, KEEPER, [YOUNG_S])
    if rows:
        return f"{rows[0]['who']}, which {'may keep' if rows[0]['active'] else 'keeps'} its snapshot"
    hidden = fetch(conn, HIDDEN, [list(workers)])
    if hidden:
        return f"{hidden[0]['who']}, which may keep a snapshot: that is not to be seen without pg_read_all_stats"
    return ""


def oldest_snapshot(conn: Connection) -> str:
    """Who keeps dead rows from being removed; empty where nobody is seen."""
    with explained("Looking for old snapshots"):
        rows = fetch(
            conn,
            """
            SELECT who FROM (
                SELECT format('process %s (%L, %L, in a transaction for %s)', pid, coalesce(usename, backend_type),
                              coalesce(nullif(application_name, ''), 'no name'),
                              coalesce(date_trunc('second', clock_timestamp() - xact_start)::text, 'no time')) AS who,
                       age(backend_xmin) AS age
                  FROM pg_stat_activity
                 WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
                   AND (datname = current_database() OR backend_type = 'walsender')
                UNION ALL
                SELECT format('the prepared transaction %L', gid), age(transaction)
                  FROM pg_prepared_xacts WHERE database = current_database()
                UNION ALL
                SELECT format('the replication slot %I', slot_name), age(xmin)
                  FROM pg_replication_slots WHERE xmin IS NOT NULL) AS holders
             ORDER BY age DESC LIMIT 1
            """,
        )
    return str(rows[0]["who"]) if rows else ""
