"""The fast way through a large table: one UPDATE for each range of ids, its images journalled in the same statement.

It serves fixes that set columns which no row trigger watches. The row before is read beside the row that is written,
and only where both are the same version (`ctid`): one that somebody has just changed is left for the careful pass, as
are rows that somebody holds. The after-image has only the columns that were set, which halves the journal; where a
trigger of the site changed others besides, the batch is rolled back and left for the careful pass too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, fetch, is_lock_timeout
from ..errors import ValidationFailed
from ..frame import Frame
from ..lockbudget import Budget, LockRecord
from .data import DataFix, Write, composed
from .journal import JournalEntry, note
from .rights import Writer

AIM_S = 0.05
NARROWEST = 100
WIDEST = 1_000_000
COMPARABLE = {"int2", "int4", "int8", "text", "varchar", "bool", "timestamptz", "timestamp", "date", "numeric", "uuid"}


@dataclass(frozen=True)
class Ranges:
    """One fix over ranges of ids. `progress` hears of every batch's rows; `before_each` may pause."""

    writer: Writer
    entry: JournalEntry
    fix: DataFix
    write: Write
    budget: Budget
    record: LockRecord
    largest: int
    highest: int
    progress: Callable[[int], None]
    before_each: Callable[[], None]

    def run(self) -> None:
        """Once over the table; what is held by others stays as it is."""
        others = self._others_differ()
        low, width = self._next(None), first_width(self.largest)
        while low is not None:
            self.before_each()
            high = low + width - 1
            started = time.monotonic()
            rows = self._batch(self._statement(others, low, high))
            elapsed = time.monotonic() - started
            if rows:
                self.record.held(elapsed)
                self.progress(rows)
            width = next_width(width, rows, elapsed, self.largest)
            low = self._next(high)

    def _batch(self, statement: Composable) -> int:
        conn = self.writer.frames.conn
        try:
            with self.writer.transaction([self.fix.table], self.budget.timeout_ms) as frame:
                with frame.images(statement) as source:
                    row = note(conn, self.entry, source)
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
        """The smallest id above `after`, or None at the end: `highest` is the last one."""
        start = SQL("t.id > {} AND ").format(Literal(after)) if after is not None else SQL("")
        query = SQL("SELECT min(t.id) FROM {} t WHERE {}t.id <= {}").format(self._table, start, Literal(self.highest))
        with self.writer.transaction([self.fix.table], self.budget.timeout_ms) as frame:
            value = frame.value(query)
        return None if value is None else int(value)

    @property
    def _table(self) -> Composable:
        return SQL("{}.{}").format(Identifier(self.entry.schema), Identifier(self.fix.table))

    def _others_differ(self) -> Composable:
        """True for a row in which a column changed that the fix does not set."""
        written = [column for column, _ in self.write.changes]
        return others_differ(self.writer.frames.conn, self.entry.schema, self.fix.table, written)

    def _statement(self, others: Composable, low: int, high: int) -> Composable:
        """The UPDATE of one range, with both images of each row; flags the rows that it did not do as it should."""
        schema = self.entry.schema
        condition = composed(self.fix.condition, schema, self.fix)
        pairs = [(Identifier(c), composed(text, schema, self.fix)) for c, text in self.write.changes]
        sets = SQL(", ").join(SQL("{} = {}").format(column, value) for column, value in pairs)
        old: Composable = SQL(" WHERE ")
        images: Composable = SQL("NULL::jsonb AS before, NULL::jsonb AS after, false AS others")
        if self.entry.kept:
            old = SQL(" FROM {} o WHERE o.id = t.id AND o.ctid = t.ctid AND o.id BETWEEN {} AND {} AND ").format(
                self._table, Literal(low), Literal(high)
            )
            written = SQL(", ").join(SQL("{}, t.{}").format(Literal(c), Identifier(c)) for c, _ in self.write.changes)
            images = SQL(
                "pg_catalog.to_jsonb(o) AS before, pg_catalog.jsonb_build_object({}) AS after, {} AS others"
            ).format(written, others)
        return SQL(
            "WITH done AS (UPDATE {table} t SET {sets}{old}t.id BETWEEN {low} AND {high} AND ({condition})"
            " RETURNING t.id, ({condition}) AS still, {images})"
            " SELECT {name}::text, 'update'::text, d.id::bigint, d.before, d.after,"
            " CASE WHEN d.still THEN 'still' WHEN d.others THEN 'others' END FROM done d"
        ).format(
            table=self._table,
            sets=sets,
            old=old,
            low=Literal(low),
            high=Literal(high),
            condition=condition,
            images=images,
            name=Literal(self.fix.table),
        )


class _LeftForLater(Exception):
    """Rolls a batch back that the careful pass has to do."""


def others_differ(conn: Connection, schema: str, table: str, written: Collection[str]) -> Composable:
    """The condition that the rows `t` (written) and `o` (before) differ in a column that was not to be written."""
    query = (
        "SELECT a.attname::text AS name, y.typname::text AS type FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_type y ON y.oid = a.atttypid"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    )
    others = [row for row in fetch(conn, query, [schema, table]) if row["name"] not in written]

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


def flush(conn: Connection) -> None:
    """Wait until every commit so far is on disk."""
    conn.execute("SELECT txid_current()")  # a commit of its own, which waits for all before it


def not_kept(fix: DataFix, rows: int) -> ValidationFailed:
    """The error for rows that are not what was written."""
    return ValidationFailed(
        f"{fix.id}: {rows} rows of {fix.table} did not keep what was written.",
        "A trigger of this site changes them back; the batch was rolled back. Look at the table's triggers.",
    )


def highest_id(frame: Frame, table: Composable) -> int:
    """The highest id of a table; 0 where it has no row."""
    return int(frame.value(SQL("SELECT coalesce(max(t.id), 0) FROM {} t").format(table)))


def first_width(largest: int) -> int:
    """The first range's width in ids: a tenth of the largest batch, so that the first one is no surprise. Pure."""
    return max(NARROWEST, largest // 10)


def next_width(width: int, rows: int, elapsed_s: float, largest: int) -> int:
    """The next range's width in ids: towards the aim in time, and no more rows than `largest`. Pure."""
    factor = min(2.0, AIM_S / max(elapsed_s, 0.001))
    if rows:
        factor = min(factor, largest / rows)
    return max(NARROWEST, min(WIDEST, int(width * factor)))
