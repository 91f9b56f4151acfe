"""What every user table and its indexes look like now: rows, dead rows, sizes, bloat, age, statistics.

Reads catalogs and statistics views only, and waits for nobody: the size functions open the relation, so a table under
an ACCESS EXCLUSIVE lock is measured by its catalog entry.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import Connection, Row, explained, fetch, is_lock_timeout, scalar
from . import bloat, measure_sql

LOCK_TIMEOUT_MS = 2000
ATTEMPTS = 3
OFF = {"off", "false", "no", "0", "f", "n"}
MAINTAIN_SINCE = 170000


@dataclass(frozen=True)
class IndexMeasure:
    """One index of a user table; sizes in bytes. `bloat_known` is False where no estimate can be made."""

    schema: str
    name: str
    bytes: int
    rows: float
    valid: bool = True
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

    `live` and `dead` are rows, `dead_ratio` the share of dead ones in both. `bytes` is the total with TOAST
    and indexes, `heap_bytes` the rows alone. `bloat_bytes` is what `heap_bytes` has beyond its live and dead
    rows, `waste_bytes` what it has beyond its live ones, and so what a rewrite gives back; the ratios are shares of it.
    `xid_age` and `mxid_age` are the older of table and TOAST table. `analyzed` is the last time by hand or by
    autovacuum. `parents` are the partitioned tables above it, as (schema, name). `may_vacuum` and `may_rebuild`
    say what this session's role is allowed to do. `kind` and `persistence` are pg_class's, `tablespace` an oid;
    `has_key` and `has_identity` tell whether pg_repack and REPACK (CONCURRENTLY) can follow its changes, and
    `repack_debris` whether an interrupted pg_repack left something of it.
    """

    schema: str
    name: str
    live: int
    dead: int
    bytes: int
    index_bytes: int
    heap_bytes: int
    dead_ratio: float = 0.0
    bloat_bytes: int = 0
    bloat_ratio: float = 0.0
    waste_bytes: int = 0
    waste_ratio: float = 0.0
    bloat_known: bool = False
    bloat_measured: bool = False  # by pgstattuple_approx
    xid_age: int = 0
    mxid_age: int = 0
    freeze_max_age: int = 200_000_000
    mxid_freeze_max_age: int = 400_000_000
    analyzed: datetime.datetime | None = None
    has_statistics: bool = False
    mod_since_analyze: int = 0
    autovacuum_off: bool = False
    owner: str = ""
    owner_is_superuser: bool = True
    may_vacuum: bool = True
    may_rebuild: bool = True
    parents: tuple[tuple[str, str], ...] = ()
    oid: int = 0
    kind: str = "r"
    persistence: str = "p"
    tablespace: int = 0
    has_key: bool = True
    has_identity: bool = True
    repack_debris: bool = False
    indexes: tuple[IndexMeasure, ...] = field(default=())

    @property
    def qualified(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"


# What the query gives and the measure takes over as it is.
_AS_READ = (
    *("schema", "name", "owner", "owner_is_superuser", "analyzed", "may_vacuum", "may_rebuild", "xid_age", "mxid_age"),
    *("oid", "kind", "persistence", "tablespace", "has_key", "has_identity"),
)


def measure(conn: Connection, floor: int = 0) -> list[TableMeasure]:
    """Measure every user table of the connection's database, ordered by schema and name.

    A table that is smaller than `floor` bytes by the catalog's page count, and has not changed since that was written,
    is measured by it (without the maps beside its rows): its bloat counts as unknown, and of its `indexes` only those
    that are larger or invalid are listed. Where statistics are missing or not visible to the role, `bloat_known` is
    False and the bloat 0. Raises `LockTimeout` where relations stay locked so that not even their size can be read,
    else what `explained` raises.
    """
    with explained("Measuring the tables"):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                tables, indexes, settings = _read(conn, floor)
                break
            except Exception as error:
                # Somebody took the strong lock after `busy` was looked at: the next look sees it.
                if attempt == ATTEMPTS or not is_lock_timeout(error):
                    raise
    by_oid = {row["oid"]: _live(row) for row in tables}
    by_table: dict[int, list[IndexMeasure]] = {}
    for row in indexes:
        if row["table_oid"] in by_oid:
            found = _index_measure(row, by_oid[row["table_oid"]], settings["block"])
            by_table.setdefault(row["table_oid"], []).append(found)
    return [_table_measure(row, by_oid[row["oid"]], by_table.get(row["oid"], ()), settings) for row in tables]


def _read(conn: Connection, floor: int) -> tuple[list[Row], list[Row], Row]:
    """The tables with their details merged in, the indexes that count, and the server's settings."""
    maintain = "has_table_privilege(c.oid, 'MAINTAIN')" if conn.info.server_version >= MAINTAIN_SINCE else "false"
    details_sql, indexes_sql = (sql.format(busy=measure_sql.BUSY) for sql in measure_sql.OF_SOME)
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        scalar(conn, "SELECT pg_stat_clear_snapshot()::text")
        settings = fetch(conn, measure_sql.SETTINGS)[0]
        tables = fetch(conn, measure_sql.TABLES.format(maintain=maintain))
        debris = {row["oid"] for row in fetch(conn, measure_sql.DEBRIS)}
        oids = [row["oid"] for row in tables if not _is_small(row, floor, settings["block"])]
        details = {row["oid"]: row for row in fetch(conn, details_sql, {"oids": oids})}
        pages = math.ceil(floor / settings["block"])
        indexes = fetch(conn, indexes_sql, {"oids": oids, "pages": pages})
    for row in tables:
        row.update(details.get(row["oid"], {}), repack_debris=row["oid"] in debris)
    return tables, indexes, settings


def _is_small(row: Row, floor: int, block: int) -> bool:
    """True where the catalog's page count is small, and to be believed: nothing has changed since it was written."""
    unchanged = row["reltuples"] >= 0 and row["n_mod"] == 0 and row["analyzed"] is not None
    return bool(unchanged and row["pages"] * block < floor)


def _live(row: Row) -> int:
    """The best number of live rows: the counters lie after a crash or a reset, until a vacuum or an analyze."""
    if row["vacuumed"] or row["analyzed"]:
        return int(row["n_live"])
    return int(max(row["n_live"], row["reltuples"], 0))


def _options(row: Row) -> dict[str, str]:
    if not row["reloptions"]:
        return {}
    pairs = (option.partition("=") for option in row["reloptions"])
    return {name: value for name, _, value in pairs}


def _columns(row: Row) -> list[bloat.ColumnWidth]:
    return [bloat.ColumnWidth(**column) for column in row.get("columns") or ()]


def _over(actual: int, pages: int, block: int) -> tuple[int, float]:
    """Bytes beyond the estimate, and their share."""
    extra = max(0, actual - pages * block)
    return extra, round(extra / actual, 4) if actual else 0.0


def _index_measure(row: Row, table_rows: int, block: int) -> IndexMeasure:
    options, columns = _options(row), _columns(row)
    size = row["bytes"] if row["bytes"] is not None else row["pages"] * block
    rows = row["rows"] if row["partial"] or table_rows == 0 else float(table_rows)
    known = row["method"] == "btree" and row["valid"] and bool(columns) and rows >= 0 and all(c.known for c in columns)
    extra, share = 0, 0.0
    if known:
        deduplicated = row["deduplicates"] and not row["unique"] and options.get("deduplicate_items") not in OFF
        pages = bloat.btree_pages(columns, rows, block, int(options.get("fillfactor", 90)), deduplicated)
        extra, share = _over(size, pages, block)
    kept: Mapping[str, Any] = {k: row[k] for k in ("schema", "name", "valid", "exclusion")}
    return IndexMeasure(**kept, bytes=size, rows=rows, bloat_bytes=extra, bloat_ratio=share, bloat_known=known)


def _table_measure(row: Row, live: int, indexes: Sequence[IndexMeasure], settings: Row) -> TableMeasure:
    options, columns, block = _options(row), _columns(row), settings["block"]
    heap = row["heap_bytes"] if row.get("heap_bytes") is not None else row["pages"] * block
    table = row["table_bytes"] if row.get("table_bytes") is not None else (row["pages"] + row["toast_pages"]) * block
    dead = row["n_dead"]
    looked_at = "columns" in row
    known = looked_at and (live == 0 or (bool(columns) and all(c.known for c in columns)))
    extra = waste = (0, 0.0)
    if known:
        fillfactor = int(options.get("fillfactor", 100))
        extra = _over(heap, bloat.heap_pages(columns, live + dead, block, fillfactor), block)
        waste = _over(heap, bloat.heap_pages(columns, live, block, fillfactor), block)
    index_bytes = sum(index.bytes for index in indexes) if looked_at else row["index_pages"] * block
    kept: Mapping[str, Any] = {key: row[key] for key in _AS_READ}
    return TableMeasure(
        **kept,
        live=live,
        dead=dead,
        dead_ratio=round(dead / (live + dead), 4) if dead else 0.0,
        bytes=table + index_bytes,
        index_bytes=index_bytes,
        heap_bytes=heap,
        bloat_bytes=extra[0],
        bloat_ratio=extra[1],
        waste_bytes=waste[0],
        waste_ratio=waste[1],
        bloat_known=known,
        freeze_max_age=min(
            settings["freeze_max_age"], int(options.get("autovacuum_freeze_max_age") or settings["freeze_max_age"])
        ),
        mxid_freeze_max_age=settings["mxid_freeze_max_age"],
        has_statistics=any(column.known for column in columns) if looked_at else row["analyzed"] is not None,
        mod_since_analyze=row["n_mod"],
        autovacuum_off=options.get("autovacuum_enabled", "on") in OFF,
        parents=tuple((schema, name) for schema, name in row["parents"] or ()),
        repack_debris=row["repack_debris"],
        indexes=tuple(indexes),
    )
