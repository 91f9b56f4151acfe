"""The fast way through a large table: one UPDATE for each range of ids, its images journalled in the same statement.

It serves fixes that set columns which no row trigger watches. The row before is read beside the row that is written,
and only where both are the same version (`ctid`): one that somebody has just changed is left for the careful pass, as
are rows that somebody holds. The after-image has only the columns that were set, which halves the journal; where a
trigger of the site changed others besides, the batch is rolled back and left for the careful pass too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, fetch, is_lock_timeout, scalar
from ..errors import ValidationFailed
from ..lockbudget import Budget, LockRecord
from .data import DataFix, Write, composed
from .journal import Entry

AIM_S = 0.05
NARROWEST = 100
WIDEST = 1_000_000
COMPARABLE = {"int2", "int4", "int8", "text", "varchar", "bool", "timestamptz", "timestamp", "date", "numeric", "uuid"}


@dataclass(frozen=True)
class Ranges:
    """One fix over ranges of ids. `progress` hears of every batch's rows; `before_each` may pause."""

    conn: Connection
    entry: Entry
    fix: DataFix
    write: Write
    budget: Budget
    record: LockRecord
    largest: int
    progress: Callable[[int], None]
    before_each: Callable[[], None]

    def run(self) -> None:
        """Once over the table; what is held by others stays as it is."""
        statement = self._statement()
        low, width = self._next(None), first_width(self.largest)
        while low is not None:
            self.before_each()
            high = low + width - 1
            started = time.monotonic()
            rows = self._batch(statement, low, high)
            elapsed = time.monotonic() - started
            if rows:
                self.record.held(elapsed)
                self.progress(rows)
            width = next_width(width, rows, elapsed, self.largest)
            low = self._next(high)

    def _batch(self, statement: Composable, low: int, high: int) -> int:
        try:
            with self.conn.transaction():
                start_batch(self.conn, self.budget)
                row = fetch(self.conn, statement, {"low": low, "high": high})[0]
                if row["still"]:
                    raise not_kept(self.fix, row["still"])
                if row["others"]:
                    raise _LeftForLater
        except _LeftForLater:
            return 0
        except DriverError as error:
            if not is_lock_timeout(error):
                raise
            self.record.retries += 1
            self.record.waited(self.budget.timeout_ms / 1000)
            return 0
        return int(row["rows"])

    def _next(self, after: int | None) -> int | None:
        """The smallest id above `after`, or None at the end."""
        start = SQL("WHERE t.id > {}").format(Literal(after)) if after is not None else SQL("")
        value = scalar(self.conn, SQL("SELECT min(t.id) FROM {} t {}").format(self._table, start))
        return None if value is None else int(value)

    @property
    def _table(self) -> Composable:
        return SQL("{}.{}").format(Identifier(self.entry.schema), Identifier(self.fix.table))

    def _others_differ(self) -> Composable:
        """True for a row in which a column changed that the fix does not set."""
        query = (
            "SELECT a.attname::text AS name, y.typname::text AS type FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_type y ON y.oid = a.atttypid"
            " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        )
        rows = fetch(self.conn, query, [self.entry.schema, self.fix.table])
        others = [row for row in rows if row["name"] not in dict(self.write.changes)]

        def images(alias: str) -> Composable:
            # Not every type can be compared (json cannot); every type has a text.
            parts = [
                SQL("{}.{}{}").format(
                    SQL(alias), Identifier(row["name"]), SQL("" if row["type"] in COMPARABLE else "::text")
                )
                for row in others
            ]
            return SQL(", ").join(parts)

        return SQL("ROW({}) IS DISTINCT FROM ROW({})").format(images("t"), images("o"))

    def _statement(self) -> Composable:
        """The UPDATE of one range, with its journal entries; counts rows, and rows that still need the fix."""
        schema = self.entry.schema
        condition = composed(self.fix.condition, schema, self.fix)
        pairs = [(Identifier(c), composed(text, schema, self.fix)) for c, text in self.write.changes]
        sets = SQL(", ").join(SQL("{} = {}").format(column, value) for column, value in pairs)
        within = SQL("{0}.id BETWEEN %(low)s AND %(high)s")
        old: Composable = SQL(" WHERE ")
        images: Composable = SQL("")
        note: Composable = SQL("")
        if self.entry.kept:
            same = SQL(" AND o.id = t.id AND o.ctid = t.ctid AND ") + within.format(SQL("o"))
            old = SQL(" FROM {} o WHERE true").format(self._table) + same + SQL(" AND ")
            written = SQL(", ").join(SQL("{}, t.{}").format(Literal(c), Identifier(c)) for c, _ in self.write.changes)
            images = SQL(", t.id, to_jsonb(o) AS before, jsonb_build_object({}) AS after, {} AS others").format(
                written, self._others_differ()
            )
            note = SQL(
                ", noted AS (INSERT INTO scannerdb_maintenance.journal"
                " (run_id, fix_id, table_schema, table_name, operation, row_id, before, after)"
                " SELECT {}, {}, {}, {}, 'update', id, before, after FROM done)"
            ).format(*map(Literal, (self.entry.run_id, self.entry.fix_id, schema, self.fix.table)))
        return SQL(
            "WITH done AS (UPDATE {table} t SET {sets}{old}{within} AND ({condition})"
            " RETURNING ({condition}) AS still{images}){note}"
            " SELECT count(*) AS rows, count(*) FILTER (WHERE still) AS still, {others} AS others FROM done"
        ).format(
            others=SQL("count(*) FILTER (WHERE others)" if self.entry.kept else "0"),
            table=self._table,
            sets=sets,
            old=old,
            within=within.format(SQL("t")),
            condition=condition,
            images=images,
            note=note,
        )


class _LeftForLater(Exception):
    """Rolls a batch back that the careful pass has to do."""


def start_batch(conn: Connection, budget: Budget) -> None:
    """Settings of a batch's transaction. Its commit need not wait for the disk: rows and journal are in it together, so
    a crash of the server loses both, and the next run does them again. `flush` waits once, at the end."""
    query = "SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', 'off', true)"
    conn.execute(query, [f"{budget.timeout_ms}ms"])


def flush(conn: Connection) -> None:
    """Wait until every commit so far is on disk."""
    conn.execute("SELECT txid_current()")  # a commit of its own, which waits for all before it


def not_kept(fix: DataFix, rows: int) -> ValidationFailed:
    """The error for rows that are not what was written."""
    return ValidationFailed(
        f"{fix.id}: {rows} rows of {fix.table} did not keep what was written.",
        "A trigger of this site changes them back; the batch was rolled back. Look at the table's triggers.",
    )


def first_width(largest: int) -> int:
    """The first range's width in ids: a tenth of the largest batch, so that the first one is no surprise. Pure."""
    return max(NARROWEST, largest // 10)


def next_width(width: int, rows: int, elapsed_s: float, largest: int) -> int:
    """The next range's width in ids: towards the aim in time, and no more rows than `largest`. Pure."""
    factor = min(2.0, AIM_S / max(elapsed_s, 0.001))
    if rows:
        factor = min(factor, largest / rows)
    return max(NARROWEST, min(WIDEST, int(width * factor)))
