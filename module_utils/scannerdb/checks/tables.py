"""Findings about a table's dead rows and bloat, out of measures somebody else took."""

from __future__ import annotations

from ..connection import SQL, Identifier, text_of
from ..finding import Finding, Fix
from .registry import finding

VACUUM = "vacuum.yml mends it"
COMPACTION = "vacuum.yml mends it with scannerdb_profile=monthly and scannerdb_vacuum_allow_exclusive=true"


def _fix(finding_id: str, template: str, lock: str, job: str, schema: str, name: str) -> Fix:
    """A fix that the vacuum job applies, with its own decision on the method."""
    statement = SQL(template).format(Identifier(schema), Identifier(name))  # type: ignore[arg-type,unused-ignore]
    return Fix(finding_id, (text_of(statement),), None, lock, job=job)


def dead_tuples(schema: str, name: str, dead: int, live: int) -> Finding:
    """A table with too many dead rows."""
    share = round(100 * dead / max(dead + live, 1), 1)
    return finding(
        "table.dead_tuples",
        name if schema == "public" else f"{schema}.{name}",
        f"{name} has {dead} dead rows beside {live} live ones ({share} %).",
        {"dead": dead, "live": live, "percent": share},
        _fix("table.dead_tuples", "VACUUM (ANALYZE) {}.{}", "SHARE UPDATE EXCLUSIVE", VACUUM, schema, name),
    )


def bloat(schema: str, name: str, bloat_bytes: int, total_bytes: int) -> Finding:
    """A table that is much larger than its rows."""
    share = round(100 * bloat_bytes / max(total_bytes, 1), 1)
    return finding(
        "table.bloat",
        name if schema == "public" else f"{schema}.{name}",
        f"About {share} % of {name} is empty space (an estimate).",
        {"bloat_bytes": bloat_bytes, "table_bytes": total_bytes, "percent": share},
        _fix("table.bloat", "VACUUM (FULL, ANALYZE) {}.{}", "ACCESS EXCLUSIVE", COMPACTION, schema, name),
    )
