"""The server around the database: version, settings, checksums, collations, extensions, archive."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from ..connection import SQL, Identifier, Literal, fetch, scalar, text_of
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from .context import Context, place
from .thresholds import threshold
from .unit import check

SUPPORT_DAYS = threshold("support_days", 180, "so long before a version's end of support")

# The last day with fixes, as the PostgreSQL project announced it (looked up for this release of the bundle).
END_OF_SUPPORT = {
    14: datetime.date(2026, 11, 12),
    15: datetime.date(2027, 11, 11),
    16: datetime.date(2028, 11, 9),
    17: datetime.date(2029, 11, 8),
    18: datetime.date(2030, 11, 14),
}

# Setting: its dangerous value, and what comes of it.
DANGERS = {
    "fsync": ("off", "a crash of the machine can destroy the whole cluster"),
    "full_page_writes": ("off", "a crash of the machine can tear pages"),
    "autovacuum": ("off", "dead rows stay, and transaction ids grow old"),
    "track_counts": ("off", "autovacuum does not know what to do"),
    "zero_damaged_pages": ("on", "damaged pages are emptied without a word"),
    "ignore_checksum_failure": ("on", "damaged pages are read as if they were whole"),
    "ignore_invalid_pages": ("on", "recovery passes over lost changes"),
}
CHECKSUM_FAILURES = """
SELECT coalesce(datname::text, 'shared objects') AS name, checksum_failures AS failures,
       checksum_last_failure::text AS last
  FROM pg_stat_database WHERE checksum_failures > 0
"""
# Only collations that a table or index of the database really uses.
COLLATIONS = """
SELECT DISTINCT n.nspname::text AS schema, c.collname::text AS name, c.collversion AS stored,
       pg_collation_actual_version(c.oid) AS actual
  FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid JOIN pg_collation c ON c.oid = a.attcollation
  JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE r.relkind IN ('r', 'm', 'p', 'i') AND c.collversion IS NOT NULL
   AND c.collversion <> pg_collation_actual_version(c.oid)
 ORDER BY 1, 2
"""
DATABASE_COLLATION = """
SELECT datcollversion AS stored, pg_database_collation_actual_version(oid) AS actual
  FROM pg_database WHERE datname = current_database()
   AND datcollversion IS NOT NULL AND datcollversion <> pg_database_collation_actual_version(oid)
"""
EXTENSIONS = """
SELECT e.extname::text AS name, e.extversion AS installed, a.default_version AS available
  FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
 WHERE a.default_version IS NOT NULL AND a.default_version <> e.extversion
 ORDER BY 1
"""
ARCHIVER = """
SELECT failed_count AS failures, last_failed_wal AS file, last_failed_time::text AS last,
       last_archived_time::text AS archived
  FROM pg_stat_archiver
 WHERE last_failed_time IS NOT NULL AND last_failed_time > coalesce(last_archived_time, '-infinity')
   AND current_setting('archive_mode') <> 'off'
"""


@check(
    "version",
    FindingKind(
        "server.version.unsupported",
        "warning",
        "This version of PostgreSQL gets no more fixes.",
        how="Upgrade to a supported version.",
    ),
    FindingKind(
        "server.version.ending",
        "info",
        "This version of PostgreSQL will soon get no more fixes.",
        how="Plan the upgrade.",
    ),
)
def version(context: Context) -> Iterator[Finding]:
    """A version that gets no more fixes, or soon will not."""
    yield from judge_version(context.version // 10000, context.now.date(), context.limits[SUPPORT_DAYS])


def judge_version(major: int, today: datetime.date, notice_days: float) -> Iterator[Finding]:
    """A finding where support has ended, or ends within `notice_days`. Pure."""
    end = END_OF_SUPPORT.get(major)
    if end is None and major >= min(END_OF_SUPPORT):
        return
    evidence = {"major": major, "end_of_support": end.isoformat() if end else "before 2026"}
    if end is None or today > end:
        message = f"PostgreSQL {major} has had no fixes since {evidence['end_of_support']}."
        yield finding("server.version.unsupported", f"PostgreSQL {major}", message, evidence)
    elif (end - today).days <= notice_days:
        message = f"PostgreSQL {major} gets its last fixes on {end.isoformat()}, in {(end - today).days} days."
        yield finding("server.version.ending", f"PostgreSQL {major}", message, evidence)


@check(
    "settings",
    FindingKind(
        "server.setting.dangerous",
        "warning",
        "A setting of the server risks data: a crash, or a neglected table, is enough.",
        how="Set it back in postgresql.conf (or ALTER SYSTEM RESET) and reload the server.",
        lock="none",
    ),
)
def settings(context: Context) -> Iterator[Finding]:
    """Settings that risk data."""
    query = "SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s) ORDER BY name"
    for row in fetch(context.conn, query, [list(DANGERS)]):
        value, why = DANGERS[row["name"]]
        if row["setting"] == value:
            statement = SQL("ALTER SYSTEM RESET {}").format(Identifier(row["name"]))
            yield finding(
                "server.setting.dangerous",
                row["name"],
                f"{row['name']} is {value}: {why}.",
                {"setting": row["setting"], "source": row["source"]},
                by_hand("server.setting.dangerous", text_of(statement), "SELECT pg_reload_conf()"),
            )


@check(
    "checksums",
    FindingKind(
        "server.checksums.off",
        "info",
        "Data checksums are off: a page that the disk damaged is not noticed.",
        how="pg_checksums --enable, with the server stopped.",
    ),
    FindingKind(
        "server.checksums.failed",
        "critical",
        "Pages did not match their checksum: the disk or its controller damages data.",
        how="Back up what can be read, move to other hardware, restore the last verified backup where rows are lost.",
    ),
)
def checksums(context: Context) -> Iterator[Finding]:
    """Checksums that are off, and those that failed."""
    if scalar(context.conn, "SELECT current_setting('data_checksums')") == "off":
        yield finding("server.checksums.off", "data_checksums", "Data checksums are off.")
    for row in fetch(context.conn, CHECKSUM_FAILURES):
        yield finding(
            "server.checksums.failed",
            row["name"],
            f"{row['failures']} pages of {row['name']} did not match their checksum, the last at {row['last']}.",
            {"failures": row["failures"], "last": row["last"]},
        )


@check(
    "collations",
    FindingKind(
        "server.collation.mismatch",
        "warning",
        "The system's collation changed under the database: indexes over text may miss rows.",
        how="REINDEX every index over text, then ALTER DATABASE … REFRESH COLLATION VERSION.",
        lock="SHARE UPDATE EXCLUSIVE with CONCURRENTLY",
    ),
)
def collations(context: Context) -> Iterator[Finding]:
    """Collations whose library has another version than the indexes were built with."""
    if context.version >= 150000:
        for row in fetch(context.conn, DATABASE_COLLATION):
            name = scalar(context.conn, "SELECT current_database()::text")
            statements = [
                SQL("REINDEX DATABASE CONCURRENTLY {}").format(Identifier(name)),
                SQL("ALTER DATABASE {} REFRESH COLLATION VERSION").format(Identifier(name)),
            ]
            yield _mismatch("database", row["stored"], row["actual"], *map(text_of, statements))
    for row in fetch(context.conn, COLLATIONS):
        refresh = SQL("ALTER COLLATION {} REFRESH VERSION").format(Identifier(row["schema"], row["name"]))
        yield _mismatch(f"collation {row['name']}", row["stored"], row["actual"], text_of(refresh))


def _mismatch(where: str, stored: str, actual: str, *statements: str) -> Finding:
    return finding(
        "server.collation.mismatch",
        where,
        f"The {where}'s collation was version {stored} when its indexes were built and is {actual} now.",
        {"stored": stored, "actual": actual},
        by_hand("server.collation.mismatch", *statements),
    )


@check(
    "extensions",
    FindingKind(
        "server.extension.outdated",
        "info",
        "An extension is older than the installed package.",
        how="ALTER EXTENSION … UPDATE; its release notes say what that changes.",
        lock="by extension",
    ),
)
def extensions(context: Context) -> Iterator[Finding]:
    """Extensions older than their installed package."""
    for row in fetch(context.conn, EXTENSIONS):
        statement = SQL("ALTER EXTENSION {} UPDATE TO {}").format(Identifier(row["name"]), Literal(row["available"]))
        yield finding(
            "server.extension.outdated",
            place("public", row["name"]),
            f"Extension {row['name']} is {row['installed']}; {row['available']} is installed on the server.",
            {"installed": row["installed"], "available": row["available"]},
            by_hand("server.extension.outdated", text_of(statement)),
        )


@check(
    "WAL archive",
    FindingKind(
        "server.archive.failing",
        "warning",
        "WAL cannot be archived: point-in-time recovery has a gap, and pg_wal grows.",
        how="Look at archive_command and the server's log.",
    ),
)
def archiver(context: Context) -> Iterator[Finding]:
    """WAL that could not be archived, and has not been since."""
    for row in fetch(context.conn, ARCHIVER):
        message = f"Archiving WAL has failed {row['failures']} times, the last time at {row['last']} ({row['file']})."
        yield finding("server.archive.failing", "archive_command", message, dict(row))
