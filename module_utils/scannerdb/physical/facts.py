"""What the server says of its archiving, by one query; what this role may not see is None."""

from __future__ import annotations

from ..connection import Connection, explained, fetch, scalar
from ..serverdisk import data_folder, is_local, room_on
from .judge import ServerFacts

FACTS = """
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_id,
       current_setting('server_version_num')::int / 10000 AS major,
       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())::bigint
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END AS timeline,
       clock_timestamp() AS now, pg_is_in_recovery() AS standby,
       current_setting('archive_mode') AS archive_mode,
       coalesce(nullif(current_setting('archive_library', true), ''), current_setting('archive_command')) AS how,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_bytes,
       coalesce(a.last_archived_wal, '') AS last_archived, a.last_archived_time AS last_archived_at,
       coalesce(a.last_failed_wal, '') AS last_failed, a.last_failed_time AS last_failed_at, a.failed_count AS failures
  FROM pg_stat_archiver a
"""
MAY_COUNT = "SELECT has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE')"
WAITING = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"


def read_facts(conn: Connection) -> ServerFacts:
    """Ask the server; raises one of our errors."""
    with explained("Asking the server for its archiving"):
        row = fetch(conn, FACTS)[0]
        waiting = scalar(conn, WAITING) if scalar(conn, MAY_COUNT) else None
        folder = data_folder(conn) if is_local(conn) else ""
    room = room_on(f"{folder}/pg_wal") or room_on(folder) if folder else None
    how = "" if row["how"] == "(disabled)" else row["how"]  # what PostgreSQL shows while archive_mode is off
    return ServerFacts(
        system_id=int(row["system_id"]),
        major=row["major"],
        timeline=row["timeline"],
        now=row["now"],
        archive_mode=row["archive_mode"],
        archive_how=how,
        segment_bytes=row["segment_bytes"],
        standby=row["standby"],
        last_archived=row["last_archived"],
        last_archived_at=row["last_archived_at"],
        last_failed=row["last_failed"],
        last_failed_at=row["last_failed_at"],
        failures=row["failures"],
        waiting=waiting,
        free_bytes=room[0] if room else None,
    )
