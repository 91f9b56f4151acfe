"""What this server and this machine have for rewriting a table beside its users; looked at before anything begins.

pg_repack finds out late what it lacks, and leaves a trigger and a log table behind: so everything it insists on is
tested here, in a sentence each.
"""

from __future__ import annotations

from ..connection import Connection, Options, explained, fetch
from ..tools import find_programs
from .plan import PG_REPACK, REPACK, OnlineRewrite

REPACK_SINCE = 190000
EXTENSION = "pg_repack"


def find_online_rewrite(conn: Connection, options: Options) -> OnlineRewrite:
    """The first online rewrite that may be used here; else why there is none."""
    why = ""
    if conn.info.server_version >= REPACK_SINCE:
        why = _why_no_repack(conn)
        if not why:
            return OnlineRewrite(REPACK)
    found = _pg_repack(conn, options)
    return found if found.kind else OnlineRewrite(why_not="; ".join(filter(None, (why, found.why_not))))


def _pg_repack(conn: Connection, options: Options) -> OnlineRewrite:
    """Whether pg_repack, the extension and the program, may be used."""
    with explained("Looking for pg_repack"):
        row = fetch(
            conn,
            """
            SELECT (SELECT extversion FROM pg_extension WHERE extname = %s) AS installed,
                   (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
            """,
            [EXTENSION],
        )[0]
    if not row["installed"]:
        return OnlineRewrite(why_not="pg_repack is not installed in this database (CREATE EXTENSION pg_repack)")
    if not row["superuser"]:
        return OnlineRewrite(why_not="pg_repack insists on a superuser, which this role is not")
    found = find_programs(options.pg_bin_dir, EXTENSION, conn.info.server_version // 10000)
    program = next((path for path, version in found if version == row["installed"]), "")
    if program:
        return OnlineRewrite(PG_REPACK, program)
    if not found:
        return OnlineRewrite(
            why_not="the program pg_repack is not installed where this runs (or set scannerdb_pg_bin_dir)"
        )
    versions = ", ".join(sorted({version for _, version in found}))
    return OnlineRewrite(
        why_not=f"the program pg_repack is version {versions}, its extension {row['installed']}: update the extension"
    )


def _why_no_repack(conn: Connection) -> str:
    """What REPACK (CONCURRENTLY) lacks on a server that knows it: a replication slot of its own, and WAL to decode."""
    with explained("Looking for REPACK (CONCURRENTLY)"):
        row = fetch(
            conn,
            """
            SELECT coalesce(current_setting('max_repack_replication_slots', true)::int, 0) AS slots,
                   current_setting('wal_level') AS wal_level
            """,
        )[0]
    lacking = []
    if row["slots"] < 1:
        lacking.append("max_repack_replication_slots of at least 1")
    if row["wal_level"] == "minimal":
        lacking.append("wal_level replica or logical")
    return f"REPACK (CONCURRENTLY) needs {' and '.join(lacking)}" if lacking else ""
