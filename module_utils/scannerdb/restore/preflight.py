"""What could stop a restore half-way, looked at before it starts: rights, room, what hangs on the database's name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ..connection import Connection, DriverError, Options, Server, explained, fetch, scalar
from ..errors import FileProblem, PrivilegeMissing, RestoreRefused
from ..files import free_bytes

HEADROOM = 1.1


def existing_roles(conn: Connection) -> set[str]:
    """Names of all roles."""
    return {row["name"] for row in fetch(conn, "SELECT rolname::text AS name FROM pg_roles")}


def check_rights(conn: Connection, server: Server, owner: str, live_exists: bool) -> None:
    """Raise `PrivilegeMissing` where this role could not create, give away or rename the databases."""
    if server.superuser:
        return
    with explained("Looking at the role's rights"):
        if not scalar(conn, "SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user"):
            raise PrivilegeMissing(
                f"Role {server.user!r} may not create databases, and a restore makes one beside the live one.",
                f"Run as a superuser: ALTER ROLE {server.user} CREATEDB;",
            )
        if owner and owner != server.user:
            member = scalar(
                conn,
                "SELECT bool_and(pg_has_role(oid, 'USAGE') AND pg_has_role(oid, 'MEMBER')) FROM pg_roles"
                " WHERE rolname = %s",
                [owner],
            )
            if member is False:
                raise PrivilegeMissing(
                    f"Role {server.user!r} is no member of {owner!r}, which owns the database"
                    f"{' and so alone may rename it' if live_exists else ''}.",
                    f"Run as a superuser: GRANT {owner} TO {server.user};",
                )


def check_extensions(conn: Connection, server: Server, wanted: Sequence[str]) -> None:
    """Raise where the server lacks an extension of the archive, or only a superuser may create it."""
    with explained("Looking at the extensions"):
        rows = fetch(
            conn,
            "SELECT name::text, bool_or(trusted) AS trusted FROM pg_available_extension_versions"
            " WHERE name = ANY(%s) GROUP BY 1",
            [list(wanted)],
        )
    available = {row["name"]: row["trusted"] for row in rows}
    absent = [name for name in wanted if name not in available]
    if absent:
        raise RestoreRefused(
            f"The backup has the extension {', '.join(absent)}, which is not installed on the server.",
            "Install its package there, and run again.",
        )
    hard = [name for name in wanted if not available[name]]
    if hard and not server.superuser:
        raise PrivilegeMissing(
            f"The backup has the extension {', '.join(hard)}, which only a superuser may create.",
            "Run this restore as a superuser.",
        )


def check_obstacles(conn: Connection, database: str) -> None:
    """Raise `RestoreRefused` for what makes a rename impossible: transactions prepared for two-phase commit."""
    with explained("Looking for prepared transactions"):
        prepared = fetch(conn, "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1", [database])
    if prepared:
        names = ", ".join(repr(row["gid"]) for row in prepared[:5])
        raise RestoreRefused(
            f"Database {database!r} has prepared transactions ({names}), and cannot be renamed while they are there.",
            "End them with COMMIT PREPARED or ROLLBACK PREPARED.",
        )


def data_room(conn: Connection, options: Options, server: Server) -> Optional[int]:
    """Free bytes on the server's data disk; None where it cannot be seen from here."""
    local = not options.host or options.host.startswith("/")
    if not local:
        return None
    try:
        folder = scalar(conn, "SELECT current_setting('data_directory', true)")
    except DriverError:  # this role may not see it
        return None
    return free_bytes(folder) if folder and os.access(folder, os.F_OK) else None


def check_room(free: Optional[int], needed: int) -> None:
    """Raise `FileProblem` where the data disk is known to be too small."""
    if free is not None and free < needed * HEADROOM:
        raise FileProblem(
            f"The server's data disk has {free >> 20} MiB free; a second database needs about "
            f"{int(needed * HEADROOM) >> 20} MiB.",
            "Free some space: databases kept by earlier restores are the first to look at.",
        )


def hangers_on(conn: Connection, database: str) -> list[str]:
    """What the cutover means for replication, as sentences."""
    with explained("Looking at replication"):
        slots: list[dict[str, Any]] = fetch(
            conn, "SELECT slot_name::text AS name FROM pg_replication_slots WHERE database = %s ORDER BY 1", [database]
        )
        subscriptions = (
            fetch(
                conn,
                "SELECT s.subname::text AS name FROM pg_stat_subscription s WHERE s.subid IN (SELECT oid FROM"
                " pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)) ORDER BY 1",
                [database],
            )
            if scalar(conn, "SELECT has_table_privilege('pg_subscription', 'SELECT')")
            else []
        )
        standbys = scalar(conn, "SELECT count(*) FROM pg_stat_replication WHERE state IS NOT NULL") or 0
    told = []
    if slots:
        told.append(
            f"Logical replication slots {_names(slots)} stay with the replaced database: make them anew in the "
            "restored one, and drop the old ones, or they keep WAL for ever."
        )
    if subscriptions:
        told.append(f"Subscriptions {_names(subscriptions)} stay with the replaced database; disable them there.")
    if standbys:
        told.append(f"{standbys} standby servers replay the whole restore; they follow the cutover by themselves.")
    return told


def _names(rows: Iterable[dict[str, Any]]) -> str:
    return ", ".join(str(row["name"]) for row in rows)
