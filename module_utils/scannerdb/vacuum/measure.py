"""What every user table and its indexes look like now: rows, dead rows, sizes, bloat, age, statistics.

Reads catalogs and statistics views only, and waits for nobody: the size functions open the relation, so a table under
an ACCESS EXCLUSIVE lock is measured by its catalog entry.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import Connection, Row, explained, fetch, is_lock_timeout, scalar
from . import bloat

LOCK_TIMEOUT_MS = 2000
ATTEMPTS = 3
OFF = {"off", "false", "no", "0", "f", "n"}
MAINTAIN_SINCE = 170000


@dataclass(frozen=True)
class IndexMeasure:
    """One index of a user table; sizes in bytes. `bloat_known` is False where no estimate can be made."""

    schema: str
    name: str
    method: str
    bytes: int
    rows: float
    valid: bool = True
    unique: bool = False
    exclusion: bool = False
    bloat_bytes: int = 0
    bloat_ratio: float = 0.0
    bloat_known: bool = False

    @property
    def qualified(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class TableMeasure:
    """One table or materialized view (a partition counts as a table; its partitioned parent holds nothing itself).

    `live` and `dead` are rows, `dead_ratio` the share of dead ones in both. `bytes` is the total, `table_bytes` without
    indexes (with TOAST), `heap_bytes` the rows alone. `bloat_bytes` is what `heap_bytes` has beyond its live and dead
    rows, `waste_bytes` what it has beyond its live ones, and so what a rewrite gives back; the ratios are shares of it.
    `xid_age` and `mxid_age` are the older of table and TOAST table. `analyzed` and `vacuumed` are the last time by hand
    or by autovacuum. `parents` are the partitioned tables above it, as (schema, name). `may_vacuum` and `may_rebuild`
    say what this session's role is allowed to do.
    """

    schema: str
    name: str
    live: int
    dead: int
    bytes: int
    table_bytes: int
    index_bytes: int
    heap_bytes: int
    dead_ratio: float = 0.0
    bloat_bytes: int = 0
    bloat_ratio: float = 0.0
    waste_bytes: int = 0
    waste_ratio: float = 0.0
    bloat_known: bool = False
    pages: int = 0
    rows_in_catalog: float = -1
    xid_age: int = 0
    mxid_age: int = 0
    freeze_max_age: int = 200_000_000
    mxid_freeze_max_age: int = 400_000_000
    vacuumed: datetime.datetime | None = None
    analyzed: datetime.datetime | None = None
    has_statistics: bool = False
    mod_since_analyze: int = 0
    autovacuum_off: bool = False
    fillfactor: int = 100
    owner: str = ""
    may_vacuum: bool = True
    may_rebuild: bool = True
    parents: tuple[tuple[str, str], ...] = ()
    indexes: tuple[IndexMeasure, ...] = field(default=())

    @property
    def qualified(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"


# Relations that somebody holds, or waits for, in ACCESS EXCLUSIVE mode: opening them would wait.
_BUSY = """
    busy AS MATERIALIZED (
        SELECT DISTINCT relation FROM pg_locks
         WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

_TABLES = """
WITH {busy},
    widths AS (
        SELECT a.attrelid, json_agg(json_build_object(
                   'align', CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
                   'fixed', a.attlen > 0,
                   'width', CASE WHEN a.attgenerated = 'v' THEN 0 ELSE st.avg_width END,
                   'null_frac', CASE WHEN a.attgenerated = 'v' THEN 1 ELSE st.null_frac END,
                   'distinct', coalesce(st.n_distinct, 0)) ORDER BY a.attnum) AS columns
          FROM pg_attribute a
          JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')
          JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_stats st ON st.schemaname = n.nspname AND st.tablename = c.relname
               AND st.attname = a.attname AND NOT st.inherited
         WHERE a.attnum > 0 AND NOT a.attisdropped
         GROUP BY a.attrelid)
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, r.rolname::text AS owner,
       c.relpages AS pages, c.reltuples::float8 AS reltuples, coalesce(c.reloptions, '{{}}') AS reloptions,
       coalesce(s.n_live_tup, 0) AS n_live, coalesce(s.n_dead_tup, 0) AS n_dead,
       coalesce(s.n_mod_since_analyze, 0) AS n_mod,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
       greatest(s.last_analyze, s.last_autoanalyze) AS analyzed,
       greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS xid_age,
       greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) AS mxid_age,
       current_setting('block_size')::int AS block,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_max_age,
       current_setting('autovacuum_multixact_freeze_max_age')::int AS mxid_freeze_max_age,
       CASE WHEN b.relation IS NULL THEN pg_relation_size(c.oid) END AS heap_bytes,
       CASE WHEN b.relation IS NULL THEN pg_table_size(c.oid) END AS table_bytes,
       coalesce(w.columns, '[]') AS columns,
       pg_has_role(c.relowner, 'USAGE') OR {maintain} OR pg_has_role(d.datdba, 'USAGE') AS may_vacuum,
       pg_has_role(c.relowner, 'USAGE') OR {maintain} AS may_rebuild,
       (SELECT json_agg(json_build_array(pn.nspname, p.relname))
          FROM pg_partition_ancestors(c.oid) up(relid)
          JOIN pg_class p ON p.oid = up.relid JOIN pg_namespace pn ON pn.oid = p.relnamespace
         WHERE c.relispartition AND p.oid <> c.oid) AS parents
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = c.relowner
  JOIN pg_database d ON d.datname = current_database()
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
  LEFT JOIN widths w ON w.attrelid = c.oid
  LEFT JOIN busy b ON b.relation = c.oid
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY n.nspname, c.relname
"""

# A btree deduplicates where every key column's operator class says that equal values are alike byte by byte
# (support function 4) and there are no INCLUDE columns.
_INDEXES = """
WITH {busy},
    -- Read once: as a subquery for each index, the view would be searched again and again in a database of many tables.
    stats AS MATERIALIZED (
        SELECT schemaname, tablename, attname, avg_width, null_frac, n_distinct FROM pg_stats
         WHERE NOT inherited AND schemaname NOT IN ('pg_catalog', 'information_schema')),
    keys AS (
        SELECT ia.attrelid, json_agg(json_build_object(
                   'align', CASE ia.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
                   'fixed', ia.attlen > 0, 'width', st.avg_width, 'null_frac', st.null_frac,
                   'distinct', coalesce(st.n_distinct, 0)) ORDER BY ia.attnum) AS columns
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_class t ON t.oid = i.indrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute ia ON ia.attrelid = c.oid
          LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum > 0
               AND ta.attnum = i.indkey[ia.attnum - 1]
          LEFT JOIN stats st ON st.schemaname = n.nspname
               AND st.tablename = CASE WHEN ta.attnum IS NULL THEN c.relname ELSE t.relname END
               AND st.attname = CASE WHEN ta.attnum IS NULL THEN ia.attname ELSE ta.attname END
         WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
         GROUP BY ia.attrelid)
SELECT i.indrelid::bigint AS table_oid, n.nspname::text AS schema, c.relname::text AS name, am.amname::text AS method,
       c.relpages AS pages, c.reltuples::float8 AS rows, coalesce(c.reloptions, '{{}}') AS reloptions,
       i.indisvalid AS valid, i.indisunique AS unique, i.indisexclusion AS exclusion,
       i.indpred IS NOT NULL AS partial, current_setting('block_size')::int AS block,
       CASE WHEN b.relation IS NULL AND tb.relation IS NULL THEN pg_relation_size(c.oid) END AS bytes,
       i.indnkeyatts = i.indnatts AND NOT EXISTS (
           SELECT FROM unnest(i.indclass::oid[]) k(opc) JOIN pg_opclass o ON o.oid = k.opc
            WHERE NOT EXISTS (SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily AND p.amprocnum = 4
                                 AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype)
       ) AS deduplicates,
       CASE WHEN am.amname = 'btree' THEN k.columns END AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am am ON am.oid = c.relam
  LEFT JOIN keys k ON k.attrelid = c.oid
  LEFT JOIN busy b ON b.relation = c.oid
  LEFT JOIN busy tb ON tb.relation = t.oid
 WHERE t.relkind IN ('r', 'm') AND t.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY n.nspname, c.relname
"""

# What the query gives and the measure takes over as it is.
_AS_READ = (
    *("schema", "name", "owner", "pages", "vacuumed", "analyzed", "may_vacuum", "may_rebuild"),
    *("xid_age", "mxid_age", "mxid_freeze_max_age"),
)


def measure(conn: Connection) -> list[TableMeasure]:
    """Measure every user table of the connection's database, ordered by schema and name.

    Where statistics are missing or not visible to the role, `bloat_known` is False and the bloat 0. Raises
    `LockTimeout` where relations stay locked so that not even their size can be read, else what `explained` raises.
    """
    with explained("Measuring the tables"):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                tables, indexes = _read(conn)
                break
            except Exception as error:
                # Somebody took the strong lock after `busy` was looked at: the next look sees it.
                if attempt == ATTEMPTS or not is_lock_timeout(error):
                    raise
    by_oid = {row["oid"]: _live(row) for row in tables}
    by_table: dict[int, list[IndexMeasure]] = {}
    for row in indexes:
        if row["table_oid"] in by_oid:
            by_table.setdefault(row["table_oid"], []).append(_index_measure(row, by_oid[row["table_oid"]]))
    return [_table_measure(row, by_oid[row["oid"]], by_table.get(row["oid"], ())) for row in tables]


def _read(conn: Connection) -> tuple[list[Row], list[Row]]:
    maintain = "has_table_privilege(c.oid, 'MAINTAIN')" if conn.info.server_version >= MAINTAIN_SINCE else "false"
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        scalar(conn, "SELECT pg_stat_clear_snapshot()::text")
        tables = fetch(conn, _TABLES.format(busy=_BUSY, maintain=maintain))
        return tables, fetch(conn, _INDEXES.format(busy=_BUSY))


def _live(row: Row) -> int:
    """The best number of live rows: the counters lie after a crash or a reset, until a vacuum or an analyze."""
    if row["vacuumed"] or row["analyzed"]:
        return int(row["n_live"])
    return int(max(row["n_live"], row["reltuples"], 0))


def _options(row: Row) -> dict[str, str]:
    pairs = (option.partition("=") for option in row["reloptions"])
    return {name: value for name, _, value in pairs}


def _columns(row: Row) -> list[bloat.Column]:
    return [bloat.Column(**column) for column in row["columns"] or ()]


def _over(actual: int, pages: int, block: int) -> tuple[int, float]:
    """Bytes beyond the estimate, and their share."""
    extra = max(0, actual - pages * block)
    return extra, round(extra / actual, 4) if actual else 0.0


def _index_measure(row: Row, table_rows: int) -> IndexMeasure:
    options, columns = _options(row), _columns(row)
    size = row["bytes"] if row["bytes"] is not None else row["pages"] * row["block"]
    rows = row["rows"] if row["partial"] or table_rows == 0 else float(table_rows)
    known = row["method"] == "btree" and row["valid"] and bool(columns) and rows >= 0 and all(c.known for c in columns)
    extra, share = 0, 0.0
    if known:
        deduplicated = row["deduplicates"] and not row["unique"] and options.get("deduplicate_items") not in OFF
        pages = bloat.btree_pages(columns, rows, row["block"], int(options.get("fillfactor", 90)), deduplicated)
        extra, share = _over(size, pages, row["block"])
    kept: Mapping[str, Any] = {k: row[k] for k in ("schema", "name", "method", "valid", "unique", "exclusion")}
    return IndexMeasure(**kept, bytes=size, rows=rows, bloat_bytes=extra, bloat_ratio=share, bloat_known=known)


def _table_measure(row: Row, live: int, indexes: Sequence[IndexMeasure]) -> TableMeasure:
    options, columns, block = _options(row), _columns(row), row["block"]
    heap = row["heap_bytes"] if row["heap_bytes"] is not None else row["pages"] * block
    table = row["table_bytes"] if row["table_bytes"] is not None else heap
    fillfactor = int(options.get("fillfactor", 100))
    dead = row["n_dead"]
    known = live == 0 or (bool(columns) and all(c.known for c in columns))
    extra = waste = (0, 0.0)
    if known:
        extra = _over(heap, bloat.heap_pages(columns, live + dead, block, fillfactor), block)
        waste = _over(heap, bloat.heap_pages(columns, live, block, fillfactor), block)
    index_bytes = sum(index.bytes for index in indexes)
    kept: Mapping[str, Any] = {key: row[key] for key in _AS_READ}
    return TableMeasure(
        **kept,
        live=live,
        dead=dead,
        dead_ratio=round(dead / (live + dead), 4) if dead else 0.0,
        bytes=table + index_bytes,
        table_bytes=table,
        index_bytes=index_bytes,
        heap_bytes=heap,
        bloat_bytes=extra[0],
        bloat_ratio=extra[1],
        waste_bytes=waste[0],
        waste_ratio=waste[1],
        bloat_known=known,
        rows_in_catalog=row["reltuples"],
        freeze_max_age=min(
            row["freeze_max_age"], int(options.get("autovacuum_freeze_max_age") or row["freeze_max_age"])
        ),
        has_statistics=any(column.known for column in columns),
        mod_since_analyze=row["n_mod"],
        autovacuum_off=options.get("autovacuum_enabled", "on") in OFF,
        fillfactor=fillfactor,
        parents=tuple((schema, name) for schema, name in row["parents"] or ()),
        indexes=tuple(indexes),
    )
