"""How much room is left on the disk of the server, as far as that can be known from here.

Only where the server is this host: PostgreSQL itself tells nobody. Where its folders are, is shown to superusers and to
members of pg_monitor (pg_read_all_settings).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .connection import Connection, scalar

LOOPBACK = "'127.0.0.0/8', '::1/128'"


@dataclass(frozen=True)
class Room:
    """Free bytes of a disk; None where that is not known, and then `why` says why."""

    free: int | None
    why: str = ""


def is_local(conn: Connection) -> bool:
    """True where the session came over a local socket or the loopback interface."""
    return bool(
        scalar(
            conn,
            f"SELECT inet_server_addr() IS NULL OR inet_server_addr() <<= ANY (ARRAY[{LOOPBACK}]::inet[])",
        )
    )


def data_folder(conn: Connection) -> str:
    """The data directory; empty without the right to see it (the setting has no row then)."""
    return str(scalar(conn, "SELECT setting FROM pg_settings WHERE name = 'data_directory'") or "")


def room_on(folder: str) -> tuple[int, int] | None:
    """Free and whole bytes of a folder's disk; None where this host has no such folder, or may not look."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free, used = found.f_bavail, found.f_blocks - found.f_bfree
    return free * found.f_frsize, (free + used) * found.f_frsize


def room_for(conn: Connection, tablespace: int) -> Room:
    """The room where a tablespace (its oid, 0 for the default one) keeps its files."""
    if not is_local(conn):
        return Room(None, "the server is another machine")
    folder = str(scalar(conn, "SELECT pg_tablespace_location(%s::oid)", [tablespace]) or "") if tablespace else ""
    folder = folder or data_folder(conn)
    if not folder:
        return Room(None, "this role may not see where the data directory is; grant it pg_monitor")
    found = room_on(folder)
    if found is None:
        return Room(None, f"this host has no folder {folder}, or it may not be looked at")
    return Room(found[0])
