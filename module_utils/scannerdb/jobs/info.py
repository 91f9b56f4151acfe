"""Facts about the server and the database, for people who look at it: sizes, settings, sessions, kept databases.

Reads only, on a standby too, and with a role that may do no more than connect: what that role cannot see is None.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ..connection import Connection, Options, connect, explained, fetch, job_entry, scalar, server_of
from ..errors import ScannerDbError
from ..fixes.journal import hold_journal
from ..restore.heal import find, kept_databases

# What decides how maintenance goes, and how fast.
SETTINGS = (
    "autovacuum",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_scale_factor",
    "checkpoint_timeout",
    "data_checksums",
    "default_transaction_isolation",
    "effective_cache_size",
    "full_page_writes",
    "fsync",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "maintenance_work_mem",
    "max_connections",
    "max_parallel_maintenance_workers",
    "max_wal_size",
    "shared_buffers",
    "statement_timeout",
    "synchronous_commit",
    "track_counts",
    "vacuum_buffer_usage_limit",
    "vacuum_cost_delay",
    "wal_level",
    "work_mem",
)


@job_entry("Looking at the database")
def info(options: Options) -> dict[str, Any]:
    """Look at the server and the database; changes nothing.

    Returns `server`, `database` (`size_bytes`, `size_pretty`, `connections`, …), `tables` (the largest first, each with
    `total_bytes`, `table_bytes`, `index_bytes` and the same `_pretty`), `settings`, `extensions`, `kept_databases` and
    `msg`. Raises the connection errors.
    """
    conn = connect(options, purpose="info", allow_standby=True)
    with contextlib.closing(conn):
        with explained("Looking at the server"):
            conn.execute("SET lock_timeout = '2s'")  # the size functions open each table
            server = _server(conn)
            database = _database(conn)
            tables = fetch(conn, _TABLES)
            settings = {row["name"]: row["value"] for row in fetch(conn, _SETTINGS, [list(SETTINGS)])}
            extensions = {row["name"]: row["version"] for row in fetch(conn, _EXTENSIONS)}
        kept = kept_databases(find(conn, options.db), options.db)
        undoable = _undoable(conn)
    return {
        "changed": False,
        "server": server,
        "database": database,
        "tables": tables,
        "settings": settings,
        "extensions": extensions,
        "undoable": undoable,
        "kept_databases": [
            {
                "name": item.name,
                "size_bytes": item.size_bytes,
                "kept_at": item.mark.at if item.mark else "",
                "run_id": item.mark.run_id if item.mark else "",
            }
            for item in kept
        ],
        "msg": f"Database {database['name']!r} has {database['size_pretty']} in {len(tables)} tables, "
        f"on PostgreSQL {server['version']}.",
    }


def _undoable(conn: Connection) -> dict[str, Any]:
    """The fix runs in the journal, the newest first; `why` says what kept it from being read."""
    try:
        with explained("Reading the journal"), conn.transaction():
            hold_journal(conn)  # what somebody else made under its name would run his code
            there = scalar(conn, "SELECT to_regclass('scannerdb_maintenance.journal') IS NOT NULL")
            return {"runs": fetch(conn, _RUNS) if there else [], "why": ""}
    except ScannerDbError as error:
        return {"runs": [], "why": str(error)}


def _server(conn: Connection) -> dict[str, Any]:
    facts = server_of(conn)
    row = fetch(
        conn,
        """
        SELECT pg_postmaster_start_time()::timestamptz(0)::text AS started,
               date_trunc('second', clock_timestamp() - pg_postmaster_start_time())::text AS uptime
        """,
    )[0]
    return {
        "version": facts.version,
        "version_num": facts.version_num,
        "standby": facts.in_recovery,
        "role": facts.user,
        "superuser": facts.superuser,
        **row,
    }


def _database(conn: Connection) -> dict[str, Any]:
    return fetch(
        conn,
        """
        SELECT d.datname::text AS name, pg_get_userbyid(d.datdba)::text AS owner,
               pg_encoding_to_char(d.encoding)::text AS encoding, d.datcollate::text AS collate,
               pg_database_size(d.oid) AS size_bytes, pg_size_pretty(pg_database_size(d.oid)) AS size_pretty,
               age(d.datfrozenxid) AS xid_age, d.datconnlimit AS connection_limit,
               (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid())
                   AS connections,
               (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS server_connections
          FROM pg_database d WHERE d.datname = current_database()
        """,
    )[0]


# A table under an ACCESS EXCLUSIVE lock cannot be opened without waiting: its sizes are None.
_TABLES = """
WITH busy AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks
     WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
sizes AS (
    SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid, c.reltuples::bigint AS estimated_rows,
           CASE WHEN b.relation IS NULL THEN pg_total_relation_size(c.oid) END AS total_bytes,
           CASE WHEN b.relation IS NULL THEN pg_relation_size(c.oid) END AS table_bytes,
           CASE WHEN b.relation IS NULL THEN pg_indexes_size(c.oid) END AS index_bytes
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN busy b ON b.relation = c.oid
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)')
SELECT z.schema, z.name, z.total_bytes, z.table_bytes, z.index_bytes, pg_size_pretty(z.total_bytes) AS total_pretty,
       pg_size_pretty(z.table_bytes) AS table_pretty, pg_size_pretty(z.index_bytes) AS index_pretty,
       greatest(z.estimated_rows, 0) AS estimated_rows, s.n_live_tup AS live, s.n_dead_tup AS dead,
       greatest(s.last_vacuum, s.last_autovacuum)::timestamptz(0)::text AS vacuumed,
       greatest(s.last_analyze, s.last_autoanalyze)::timestamptz(0)::text AS analyzed
  FROM sizes z LEFT JOIN pg_stat_all_tables s ON s.relid = z.oid
 ORDER BY z.total_bytes DESC NULLS FIRST, z.schema, z.name
"""

# What this session has set for itself is not the server's setting.
_SETTINGS = """
SELECT name, CASE WHEN source = 'session' THEN reset_val || coalesce(unit, '') ELSE current_setting(name) END AS value
  FROM pg_settings WHERE name = ANY (%s) ORDER BY name
"""

_EXTENSIONS = "SELECT extname::text AS name, extversion AS version FROM pg_extension ORDER BY extname"

_RUNS = """
    SELECT run_id, to_char(min(written_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at,
           count(*) AS entries, count(*) FILTER (WHERE undone_at IS NULL) AS left,
           array_agg(DISTINCT fix_id ORDER BY fix_id) AS fixes
      FROM scannerdb_maintenance.journal
     GROUP BY run_id HAVING count(*) FILTER (WHERE undone_at IS NULL) > 0 ORDER BY min(written_at) DESC LIMIT 50
"""
