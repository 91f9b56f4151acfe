"""How long replaced databases are kept, and whether one can be dropped. Only those that a cutover of ours renamed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Optional

from ..connection import Connection, explained, fetch
from ..runs import STAMP
from .heal import Found, kept_databases
from .marks import kept_name


def swept(found: Iterable[Found], database: str) -> list[Found]:
    """The kept databases that a sweep may ever drop: the comment and the name must both say so. Pure."""
    return [f for f in kept_databases(found, database) if f.mark and f.name == kept_name(database, f.mark.run_id)]


def kept_until(item: Found, keep_hours: float) -> Optional[datetime.datetime]:
    """From when on it may be dropped; None for never: hours of zero or less, or a time that cannot be read. Pure."""
    try:
        at = datetime.datetime.strptime(item.mark.at if item.mark else "", STAMP)
    except ValueError:
        return None
    if keep_hours <= 0:
        return None
    return at.replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(hours=keep_hours)


def why_not(conn: Connection, name: str) -> str:
    """What stands in the way of dropping a database, as the rest of a sentence; empty where nothing does."""
    with explained(f"Looking at database {name!r}"):
        row = fetch(
            conn,
            """
            SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = d.datname AND usesysid IS NOT NULL) AS people,
                   (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots
                     WHERE database = d.datname) AS slots,
                   (SELECT string_agg(subname, ', ' ORDER BY subname) FROM pg_subscription WHERE subdbid = d.oid)
                     AS subscriptions,
                   (SELECT count(*) FROM pg_prepared_xacts WHERE database = d.datname) AS prepared,
                   pg_has_role(d.datdba, 'USAGE') AS mine
              FROM pg_database d WHERE d.datname = %s
            """,
            [name],
        )
    if not row:
        return ""
    facts = row[0]
    reasons = {
        "this role does not own it": not facts["mine"],
        f"{facts['people']} sessions are in it": facts["people"],
        f"it has the logical replication slots {facts['slots']}": facts["slots"],
        f"it has the subscriptions {facts['subscriptions']}": facts["subscriptions"],
        f"it has {facts['prepared']} prepared transactions": facts["prepared"],
    }
    return "; ".join(reason for reason, true in reasons.items() if true)
