"""Brings what was committed up to now into the archive: a recovery ends only where something later was archived."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..connection import Connection, explained, fetch, scalar
from ..errors import RestoreRefused
from .archive import parse_lsn, segment_name, segment_of

MAY = "SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE')"
ARCHIVER = (
    "SELECT coalesce(last_archived_wal, '') AS last, coalesce(last_failed_wal, '') AS failed FROM pg_stat_archiver"
)
WAIT_S = 120.0
TICK_S = 0.2


def why_not_switched(conn: Connection) -> str:
    """Why the WAL of now cannot be brought into the archive; empty where it can."""
    with explained("Looking at the right to switch the WAL"):
        if scalar(conn, "SELECT pg_is_in_recovery()"):
            return "the server is a standby"
        if scalar(conn, "SHOW archive_mode") == "off":
            return "archive_mode is off"
        if not scalar(conn, MAY):
            return "this role may not switch the WAL (GRANT EXECUTE ON FUNCTION pg_switch_wal() TO it)"
    return ""


def switch_out(
    conn: Connection,
    timeline: int,
    segment_bytes: int,
    log: Callable[[str], object],
    wait_s: float = WAIT_S,
    on_change: Callable[[str], object] = lambda what: None,
) -> None:
    """Commit an empty transaction, switch to another segment, and wait until the one before is archived.

    Raises `RestoreRefused` where the archive does not get it in time. `on_change` is told what was changed.
    """
    with explained("Switching the WAL"):
        scalar(conn, "SELECT pg_current_xact_id()::text")  # its commit is what a recovery to a time stops at
        position = parse_lsn(scalar(conn, "SELECT pg_switch_wal()::text"))
    segment = segment_name(timeline, segment_of(position - 1, segment_bytes), segment_bytes)
    on_change(f"The server's WAL was switched, so that {segment} is archived.")
    log(f"switched the WAL: waiting for {segment} in the archive")
    deadline = time.monotonic() + wait_s
    while True:
        with explained("Looking at the archiver"):
            (row,) = fetch(conn, ARCHIVER)
        if row["last"][:24] >= segment:
            return
        if time.monotonic() > deadline:
            failed = f"; the last that failed was {row['failed']}" if row["failed"] else ""
            raise RestoreRefused(
                f"Segment {segment} is not archived after {wait_s:g} s (the last one was {row['last'] or 'none'}"
                f"{failed}).",
                "Look at the server's log for its archive_command. What was archived before can be restored.",
            )
        time.sleep(TICK_S)
