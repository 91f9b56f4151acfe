"""What keeps vacuum from removing dead rows: old transactions, replication slots, prepared transactions."""

from __future__ import annotations

from collections.abc import Iterator

from ..connection import SQL, Literal, fetch, scalar, text_of
from ..errors import PrivilegeMissing
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from .context import Context, amount
from .thresholds import threshold
from .unit import check

HOLDING_MINUTES = threshold("holding_minutes", 60, "a transaction, open or prepared, older than this")
HOLDING_TRANSACTIONS = threshold(
    "holding_transactions",
    1_000_000,
    "a replication slot, or a standby with hot_standby_feedback, that is so many transactions behind",
)
SLOT_WAL_MB = threshold("slot_wal_mb", 512, "an inactive replication slot that keeps so much WAL")

MAY_SEE = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"

SESSIONS = """
SELECT pid, backend_start::text AS began, usename::text AS role, application_name AS application, state,
       extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds,
       greatest(age(backend_xmin), age(backend_xid))::bigint AS transactions, left(query, 500) AS query
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
   AND xact_start < clock_timestamp() - make_interval(secs => %s)
   AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state LIKE 'idle in transaction%%')
 ORDER BY xact_start
"""
# By the time that somebody runs it, the number may be another session's.
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND backend_start = {began}"
UNUSED_SLOT = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {} AND NOT active"
PREPARED = """
SELECT gid, owner::text AS owner, extract(epoch FROM clock_timestamp() - prepared)::bigint AS seconds
  FROM pg_prepared_xacts
 WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %s)
 ORDER BY prepared
"""
SLOTS = """
SELECT slot_name::text AS name, active, greatest(age(xmin), age(catalog_xmin))::bigint AS transactions,
       CASE WHEN restart_lsn IS NOT NULL THEN greatest(0, pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
           restart_lsn)) END::bigint AS kept
  FROM pg_replication_slots
 WHERE NOT temporary
 ORDER BY slot_name
"""
# Standbys without a slot; one with a slot holds back by that.
STANDBYS = """
SELECT a.pid, coalesce(host(a.client_addr), a.client_hostname, 'the local socket') AS address,
       a.application_name AS application, age(a.backend_xmin)::bigint AS transactions
  FROM pg_stat_replication a
 WHERE age(a.backend_xmin) > %s
 ORDER BY a.pid
"""


def duration(seconds: int) -> str:
    """So long, for people."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = seconds // size
            return f"{number} {unit}{'s' if number != 1 else ''}"
    return f"{seconds} seconds"


@check(
    "old transactions",
    FindingKind(
        "vacuum.session.holds_back",
        "warning",
        "An old transaction keeps vacuum from removing dead rows anywhere in the database.",
        how="End it in the program that opened it, or by its pid.",
        lock="none",
    ),
    restricted=True,
)
def sessions(context: Context) -> Iterator[Finding]:
    """Old transactions, with pid and query."""
    if not scalar(context.conn, MAY_SEE):
        raise PrivilegeMissing("permission denied to see what other sessions do")
    for row in fetch(context.conn, SESSIONS, [context.limits[HOLDING_MINUTES] * 60]):
        statement = SQL(END).format(pid=Literal(row["pid"]), began=Literal(row.pop("began")))
        yield finding(
            "vacuum.session.holds_back",
            f"pid {row['pid']}",
            f"Session {row['pid']} of {row['role']} is {row['state']}, in a transaction of {duration(row['seconds'])}.",
            {k: row[k] for k in ("pid", "role", "application", "state", "seconds", "transactions", "query")},
            by_hand("vacuum.session.holds_back", text_of(statement)),
        )


@check(
    "prepared transactions",
    FindingKind(
        "vacuum.prepared.holds_back",
        "warning",
        "A forgotten prepared transaction holds its locks and keeps vacuum from removing dead rows.",
        how="Finish it with COMMIT PREPARED or ROLLBACK PREPARED, in its database.",
        lock="none",
    ),
)
def prepared(context: Context) -> Iterator[Finding]:
    """Prepared transactions that nobody finished."""
    for row in fetch(context.conn, PREPARED, [context.limits[HOLDING_MINUTES] * 60]):
        statement = SQL("ROLLBACK PREPARED {}").format(Literal(row["gid"]))
        yield finding(
            "vacuum.prepared.holds_back",
            row["gid"],
            f"Prepared transaction {row['gid']} of {row['owner']} has waited {duration(row['seconds'])} for its end.",
            {"owner": row["owner"], "seconds": row["seconds"]},
            by_hand("vacuum.prepared.holds_back", text_of(statement)),
        )


@check(
    "replication slots",
    FindingKind(
        "vacuum.slot.holds_back",
        "warning",
        "A replication slot keeps vacuum from removing dead rows.",
        how="Start its consumer again, or drop the slot.",
        lock="none",
    ),
    FindingKind(
        "server.slot.inactive",
        "warning",
        "A replication slot without a consumer keeps WAL until the disk is full.",
        how="Start its consumer again, or drop the slot.",
        lock="none",
    ),
)
def slots(context: Context) -> Iterator[Finding]:
    """Replication slots: what they hold back, and what WAL an inactive one keeps."""
    for row in fetch(context.conn, SLOTS):
        statement = SQL(UNUSED_SLOT).format(Literal(row["name"]))
        evidence = {"active": row["active"], "transactions": row["transactions"], "wal_bytes": row["kept"]}
        if (row["transactions"] or 0) > context.limits[HOLDING_TRANSACTIONS]:
            yield finding(
                "vacuum.slot.holds_back",
                row["name"],
                f"Slot {row['name']} holds back vacuum by {row['transactions']} transactions.",
                evidence,
                by_hand("vacuum.slot.holds_back", text_of(statement)),
            )
        if not row["active"] and (row["kept"] or 0) >= context.limits[SLOT_WAL_MB] * (1 << 20):
            yield finding(
                "server.slot.inactive",
                row["name"],
                f"Slot {row['name']} has no consumer and keeps {amount(row['kept'])} of WAL.",
                evidence,
                by_hand("server.slot.inactive", text_of(statement)),
            )


@check(
    "standbys that ask to wait",
    FindingKind(
        "vacuum.standby.holds_back",
        "warning",
        "A query on a standby with hot_standby_feedback keeps vacuum on the primary from removing dead rows.",
        how="End the long query on the standby, or switch hot_standby_feedback off there.",
    ),
    restricted=True,
)
def standbys(context: Context) -> Iterator[Finding]:
    """Standbys whose queries hold back vacuum here, by hot_standby_feedback and without a slot."""
    if not scalar(context.conn, MAY_SEE):
        raise PrivilegeMissing("permission denied to see what standbys ask for")
    for row in fetch(context.conn, STANDBYS, [int(context.limits[HOLDING_TRANSACTIONS])]):
        yield finding(
            "vacuum.standby.holds_back",
            f"{row['application'] or 'standby'} at {row['address']}",
            f"A query on the standby at {row['address']} holds back vacuum by {row['transactions']} transactions.",
            dict(row),
        )
