"""Bloat that was estimated, confirmed by pgstattuple_approx where the extension is installed.

It reads the pages that are not known to be all visible, and the free space map for the rest, so only tables that the
estimate calls bloated are looked at. The smaller of both counts: statistics mislead the estimate, and pgstattuple
counts the end of a page that is too short for a row as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..connection import SQL, Connection, DriverError, Identifier, fetch
from .measure import TableMeasure
from .thresholds import VacuumThresholds, is_bloated, is_worth_rewriting

EXTENSION = "pgstattuple"
LOCK_TIMEOUT_MS = 2000


def confirmed(conn: Connection, measures: Sequence[TableMeasure], thresholds: VacuumThresholds) -> list[TableMeasure]:
    """The measures, those that look bloated with what was measured instead of the estimate.

    Where the extension is missing, or the role may not use it (pg_stat_scan_tables may), or a table is locked, the
    estimate stays.
    """
    doubtful = [m for m in measures if is_bloated(m, thresholds) or is_worth_rewriting(m, thresholds)]
    schema = _schema(conn) if doubtful else ""
    if not schema:
        return list(measures)
    seen = {m.oid: _look(conn, schema, m) for m in doubtful}
    return [seen.get(m.oid, m) for m in measures]


def _schema(conn: Connection) -> str:
    """The schema of the extension; empty where it is not installed, or not for this role."""
    rows = fetch(
        conn,
        """
        SELECT n.nspname::text AS schema
          FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
          JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
          JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.proname = 'pgstattuple_approx'
         WHERE e.extname = %s AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE')
        """,
        [EXTENSION],
    )
    return str(rows[0]["schema"]) if rows else ""


def _look(conn: Connection, schema: str, measure: TableMeasure) -> TableMeasure:
    """One table measured; as it was where it cannot be looked at now."""
    query = SQL("SELECT approx_free_space::bigint AS free, dead_tuple_len AS dead FROM {}(%s::oid)")
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            function = SQL("{}.pgstattuple_approx").format(Identifier(schema))
            row = fetch(conn, query.format(function), [measure.oid])[0]
    except DriverError:
        if conn.closed:
            raise
        return measure
    bloat = min(measure.bloat_bytes, row["free"])
    waste = min(measure.waste_bytes, row["free"] + row["dead"])
    heap = max(measure.heap_bytes, 1)
    return replace(
        measure,
        bloat_bytes=bloat,
        bloat_ratio=round(bloat / heap, 4),
        waste_bytes=waste,
        waste_ratio=round(waste / heap, 4),
        bloat_measured=True,
    )
