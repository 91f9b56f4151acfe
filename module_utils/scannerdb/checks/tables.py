"""Findings about a table's dead rows, bloat and statistics, out of measures somebody else took."""

from __future__ import annotations

import datetime

from ..connection import SQL, Identifier, text_of
from ..finding import Finding, Fix
from ..finding_kinds import BY_VACUUM, FindingKind, by_hand, declare, finding
from .context import place
from .thresholds import threshold

STATISTICS_ROWS = threshold("statistics_rows", 50, "missing or old statistics, in a table of so many rows")

declare(
    FindingKind(
        "table.dead_tuples",
        "warning",
        "A large share of a table's rows is dead.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "table.bloat",
        "warning",
        "A table takes much more space than its rows need.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE to ACCESS EXCLUSIVE, by method",
    ),
    FindingKind(
        "table.statistics.missing",
        "warning",
        "A table was never analyzed: the planner guesses.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "table.statistics.stale",
        "info",
        "Many rows changed since a table was last analyzed.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "table.autovacuum.off",
        "warning",
        "Autovacuum is switched off for a table: dead rows stay, statistics age.",
        how="ALTER TABLE … RESET (autovacuum_enabled).",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    FindingKind(
        "index.bloat",
        "info",
        "An index takes much more space than its entries need (an estimate).",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
)

VACUUM = "vacuum.yml repairs it"
REBUILD = "vacuum.yml repairs it with scannerdb_profile=monthly"
COMPACTION = (
    "vacuum.yml repairs it with scannerdb_profile=monthly: beside its users where it can, else only with "
    "scannerdb_vacuum_allow_exclusive=true"
)


def _fix(finding_id: str, template: str, lock: str, job: str, schema: str, name: str) -> Fix:
    """A fix that the vacuum job applies, with its own decision on the method."""
    statement = SQL(template).format(Identifier(schema), Identifier(name))  # type: ignore[arg-type,unused-ignore]
    return Fix(finding_id, (text_of(statement),), None, lock, job=job)


def dead_tuples(schema: str, name: str, dead: int, live: int) -> Finding:
    """A table with too many dead rows."""
    share = round(100 * dead / max(dead + live, 1), 1)
    return finding(
        "table.dead_tuples",
        place(schema, name),
        f"{name} has {dead} dead rows beside {live} live ones ({share} %).",
        {"dead": dead, "live": live, "percent": share},
        _fix("table.dead_tuples", "VACUUM (ANALYZE) {}.{}", "SHARE UPDATE EXCLUSIVE", VACUUM, schema, name),
    )


def bloat(schema: str, name: str, bloat_bytes: int, total_bytes: int, *, measured: bool = False) -> Finding:
    """A table that is much larger than its rows; `measured` by pgstattuple, or estimated."""
    how = "measured by pgstattuple" if measured else "an estimate"
    share = round(100 * bloat_bytes / max(total_bytes, 1), 1)
    return finding(
        "table.bloat",
        place(schema, name),
        f"About {share} % of {name} is empty space ({how}).",
        {"bloat_bytes": bloat_bytes, "table_bytes": total_bytes, "percent": share, "measured": measured},
        _fix("table.bloat", "VACUUM (FULL, ANALYZE) {}.{}", "ACCESS EXCLUSIVE", COMPACTION, schema, name),
    )


def statistics_missing(schema: str, name: str, live: int) -> Finding:
    """A table that was never analyzed."""
    return finding(
        "table.statistics.missing",
        place(schema, name),
        f"{place(schema, name)} was never analyzed.",
        {"live": live},
        _fix("table.statistics.missing", "ANALYZE {}.{}", "SHARE UPDATE EXCLUSIVE", VACUUM, schema, name),
    )


def statistics_stale(schema: str, name: str, changed: int, live: int, analyzed: datetime.datetime | None) -> Finding:
    """A table of which many rows changed since its statistics were taken."""
    return finding(
        "table.statistics.stale",
        place(schema, name),
        f"{changed} rows of {place(schema, name)} changed since it was last analyzed.",
        {"changed": changed, "live": live, "analyzed": analyzed.isoformat() if analyzed else None},
        _fix("table.statistics.stale", "ANALYZE {}.{}", "SHARE UPDATE EXCLUSIVE", VACUUM, schema, name),
    )


def autovacuum_off(schema: str, name: str, dead: int) -> Finding:
    """A table that autovacuum leaves alone."""
    statement = SQL("ALTER TABLE {}.{} RESET (autovacuum_enabled)").format(Identifier(schema), Identifier(name))
    return finding(
        "table.autovacuum.off",
        place(schema, name),
        f"Autovacuum is switched off for {place(schema, name)}.",
        {"dead": dead},
        by_hand("table.autovacuum.off", text_of(statement)),
    )


def index_bloat(schema: str, table: str, name: str, bloat_bytes: int, total_bytes: int) -> Finding:
    """An index that is much larger than its entries."""
    share = round(100 * bloat_bytes / max(total_bytes, 1), 1)
    return finding(
        "index.bloat",
        place(schema, table, name),
        f"About {share} % of index {name} is empty space (an estimate).",
        {"bloat_bytes": bloat_bytes, "index_bytes": total_bytes, "percent": share},
        _fix("index.bloat", "REINDEX INDEX CONCURRENTLY {}.{}", "SHARE UPDATE EXCLUSIVE", REBUILD, schema, name),
    )
