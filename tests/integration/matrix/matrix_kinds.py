"""The kinds of objects and names that a backup has to bring back.

The files in tests/fixtures/matrix have them: a line `-- kind`, and its statements, one on each line, which run by
themselves in a schema `{s}` of their own. The kinds of one file share a database. Roles are those of `ROLES`.
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.hostile_settings import HOSTILE

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "matrix"
GROUPS = ("relations", "constraints", "programs", "rarely_met")
ROLES = ("mx_owner", "mx_reader", "mx_other")
NAMES = [
    'we"ird',
    "a=b",
    "new\nline",
    "tab\tand back\\slash",
    "Grüße 表",
    "select",
    "{it}",
    "%I %s",
    "x" * 63,
    "a; DROP TABLE b; --",
    " lead",
    "it's",
    "$1",
    "a.b",
    "A",
    "-- comment",
    "/* open",
    "ß" * 31,
    "line\u2028and\x85next",
    "vertical\x0btab\rreturn",
    "an\npg_restore: error: no",
    "$$ BEGIN $$",
    "\\.",
    "public",
    "0",
    "-",
]
# For the login or the database; what a value is that is no number or word is a list.
SETTINGS = {
    **HOSTILE,
    "client_encoding": "LATIN1",
    "lc_messages": "de_DE.UTF-8",
    "lc_monetary": "de_DE.UTF-8",
    "lc_numeric": "de_DE.UTF-8",
    "lc_time": "de_DE.UTF-8",
    "default_tablespace": "pg_default",
    "temp_tablespaces": "pg_default",
    "default_table_access_method": "heap2",
    "session_preload_libraries": "auto_explain",
    "default_statistics_target": "1",
    "enable_seqscan": "off",
    "enable_indexscan": "off",
    "jit_above_cost": "0",
    "plan_cache_mode": "force_generic_plan",
    "constraint_exclusion": "on",
    "work_mem": "64kB",
    "maintenance_work_mem": "1MB",
    "gin_fuzzy_search_limit": "1",
    "application_name": "somebody else",
    "synchronous_commit": "off",
    "log_statement": "all",
    "vacuum_cost_delay": "1ms",
    "max_parallel_maintenance_workers": "0",
    "parallel_setup_cost": "0",
    "min_parallel_table_scan_size": "0",
}
# Of the process that works.
ENVIRONMENT = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGDATABASE": "postgres",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGSERVICE": "elsewhere",
    "PGSERVICEFILE": "/nonexistent/services",
    "PGSYSCONFDIR": "/nonexistent",
    "PGOPTIONS": "-c default_transaction_read_only=on -c quote_all_identifiers=on",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nonexistent/ca",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "nobody",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGGSSENCMODE": "require",
    "PGCONNECT_TIMEOUT": "1",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATESTYLE": "German, DMY",
    "PGTZ": "Asia/Tokyo",
    "PGGEQO": "off",
    "PGAPPNAME": "elsewhere",
    "PG_COLOR": "always",
    "TZ": "Asia/Tokyo",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "ja_JP.UTF-8",
    "LANGUAGE": "de:ja",
    "PAGER": "/nonexistent/pager",
    "PSQLRC": "/nonexistent/psqlrc",
    "PSQL_PAGER": "/nonexistent/pager",
    "HOME": "/nonexistent",
    "POSIXLY_CORRECT": "1",
}


def kinds_of(group: str) -> dict[str, list[str]]:
    """The kinds of a group and their statements."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / f"{group}.sql").read_text(encoding="utf-8").splitlines():
        if line.startswith("-- "):
            statements = found.setdefault(line[3:], [])
        elif line:
            statements.append(line)
    return found
