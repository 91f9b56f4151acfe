"""How a table is rewritten: by the first way that this server and this table allow. Pure.

REPACK (CONCURRENTLY) of PostgreSQL 19 first, then pg_repack; VACUUM FULL only with leave, because it locks everybody
out. Where none of them serves, VACUUM and REINDEX CONCURRENTLY do what they can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .measure import TableMeasure
from .plan import ACCESS_EXCLUSIVE, MOMENTS, PG_REPACK, REPACK, Action, VacuumRequest, pretty

LEFTOVER = re.compile(r"_cc(new|old)\d*$")
TOOLS = {REPACK: "REPACK (CONCURRENTLY)", PG_REPACK: "pg_repack"}


def leftovers(indexes: Iterable[tuple[str, bool]]) -> list[str]:
    """Names of the invalid indexes that an interrupted REINDEX CONCURRENTLY left on a table.

    `indexes` are all indexes of one table: name, and whether it is valid. PostgreSQL cuts a long name to make room for
    the ending, so the index that was being rebuilt is one whose name begins like the leftover's.
    """
    known = list(indexes)
    valid = [name for name, is_valid in known if is_valid]
    found = []
    for name, is_valid in known:
        match = None if is_valid else LEFTOVER.search(name)
        if match and any(other.startswith(name[: match.start()]) for other in valid):
            found.append(name)
    return found


def unfit(measure: TableMeasure, kind: str, forced: bool) -> str:
    """Why a table is not rewritten online by this means; empty where it is. `forced` is a request by name."""
    if measure.kind != "r" or measure.persistence != "p":
        what = "a materialized view" if measure.kind == "m" else "an unlogged table"
        return f"{TOOLS[kind]} does not rewrite {what}"
    return _unfit_for_repack(measure) if kind == REPACK else _unfit_for_pg_repack(measure, forced)


def _unfit_for_repack(measure: TableMeasure) -> str:
    if not measure.may_rebuild:
        return f"this role may not maintain it, as {TOOLS[REPACK]} demands"
    if not measure.has_identity:
        return f"{TOOLS[REPACK]} needs a primary key or an index as replica identity"
    left = leftovers((index.name, index.valid) for index in measure.indexes)  # these are dropped first
    invalid = [index.name for index in measure.indexes if not index.valid and index.name not in left]
    return f"{TOOLS[REPACK]} refuses a table with an invalid index, which {invalid[0]} is" if invalid else ""


def _unfit_for_pg_repack(measure: TableMeasure, forced: bool) -> str:
    if not measure.has_key:
        return "pg_repack needs a primary key, or a unique index over columns that are NOT NULL"
    if not forced and not measure.owner_is_superuser:
        return (
            f"pg_repack works as a superuser and would run what {measure.owner!r}, who owns it, gives it to run "
            "meanwhile (scannerdb_vacuum_method=repack, where that role is trusted)"
        )
    return ""


def rewrite(
    measure: TableMeasure, request: VacuumRequest, reason: str, forced: bool = False
) -> tuple[Action | None, str]:
    """The action that rewrites a table, or None and why there is none."""
    kind = request.online.kind
    why_not = unfit(measure, kind, forced) if kind else request.online.why_not
    if not why_not:
        needs = f"the copy needs up to {pretty(measure.bytes)} of free disk"
        return Action(kind, (reason, needs), lock=MOMENTS, forced=forced, room=measure.bytes), ""
    if request.allow_exclusive:
        return full(measure, request, reason, forced), ""
    return None, f"{why_not}, and VACUUM FULL is not allowed (scannerdb_vacuum_allow_exclusive)"


def full(measure: TableMeasure, request: VacuumRequest, reason: str, forced: bool = False) -> Action:
    """VACUUM FULL, with what it costs."""
    copied = max(0, measure.bytes - measure.waste_bytes)
    seconds = copied / max(request.rate, 1.0)
    needs = f"the copy needs up to {pretty(measure.bytes)} of free disk and locks the table for about {seconds:.0f} s"
    return Action(
        "full", (reason, needs), lock=ACCESS_EXCLUSIVE, forced=forced, room=measure.bytes, lock_s=round(seconds, 1)
    )
