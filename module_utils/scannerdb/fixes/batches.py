"""Data fixes in small committed batches: in key order, rows that others hold come last, nobody waits long.

A batch is one transaction: pick and lock ids, journal both images, write, compare. The journal's after-image is what
the row must be in the end: a row trigger may stamp a column in between, so triggering columns are written first and
the stamped ones after them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, fetch, is_lock_timeout, scalar
from ..errors import LockTimeout
from ..lockbudget import Budget, LockRecord
from .data import DataFix, Write, composed
from .journal import SCRATCH, Entry, insert_entries
from .ranges import AIM_S, Ranges, first_width, flush, not_kept, start_batch

SMALLEST = 50
LOOK_EVERY_S = 1.0
STANDBY_LAG = """
SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication
"""
DEADLOCK = "40P01"
Progress = Callable[[int], None]


@dataclass
class Worker:
    """One data fix at work on one connection."""

    conn: Connection
    entry: Entry
    fix: DataFix
    budget: Budget
    record: LockRecord
    batch_rows: int = 5000
    progress: Progress = lambda rows: None
    max_lag_bytes: int = 0
    rows: int = 0
    looked_at: float = 0.0

    def run(self) -> int:
        """Fix every row; returns how many. Raises `LockTimeout` where others hold rows beyond the deadline."""
        deadline = time.monotonic() + self.budget.deadline_s
        size = first_width(self.batch_rows)
        careful = not self._fast_pass(deadline)
        while True:
            if careful:
                size = self._pass(size, deadline)
            careful = True
            left = self.count()
            if not left:
                flush(self.conn)
                return self.rows
            if time.monotonic() > deadline:
                raise LockTimeout(
                    f"{self.fix.id}: {left} rows of {self.fix.table} stayed locked by others for "
                    f"{self.budget.deadline_s:g} s; {self.rows} rows are fixed.",
                    "Run again: the next run takes up what is left.",
                )
            time.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - jitter, not a secret

    def _fast_pass(self, deadline: float) -> bool:
        """Where no row trigger is in the way, most rows are done in ranges; the careful passes take what is left.

        Returns whether it was made.
        """
        if not self.entry.kept:
            self.conn.execute(SCRATCH)
        write = self.fix.writes[0]
        if len(self.fix.writes) > 1 or write.kind != "update" or write.triggering:
            return False
        Ranges(
            self.conn,
            self.entry,
            self.fix,
            write,
            self.budget,
            self.record,
            self.batch_rows,
            self._done,
            lambda: self._let_standbys_catch_up(deadline),
        ).run()
        return True

    def _done(self, rows: int) -> None:
        self.rows += rows
        self.progress(self.rows)

    def count(self) -> int:
        """How many rows still need the fix."""
        query = SQL("SELECT count(*) FROM {} t WHERE {}").format(self._table(self.fix.table), self._condition())
        return int(scalar(self.conn, query))

    def _pass(self, size: int, deadline: float) -> int:
        """Once over the table in key order; returns the batch size that fits the aim by now."""
        last: int | None = None
        while True:
            self._let_standbys_catch_up(deadline)
            started = time.monotonic()
            try:
                ids, done = self._batch(last, size)
            except DriverError as error:
                if not is_lock_timeout(error) and getattr(error, "sqlstate", "") != DEADLOCK:
                    raise
                self.record.retries += 1
                self.record.waited(time.monotonic() - started)
                return max(SMALLEST, size // 4)
            if not ids:
                return size
            elapsed = time.monotonic() - started
            self.record.held(elapsed)
            self._done(done)
            last = ids[-1]
            size = next_size(size, len(ids), elapsed, self.batch_rows)

    def _let_standbys_catch_up(self, deadline: float) -> None:
        """Pause while a standby is more than `max_lag_bytes` behind. (A role that may not look sees no standby.)"""
        now = time.monotonic()
        if not self.max_lag_bytes or now - self.looked_at < LOOK_EVERY_S:
            return
        self.looked_at = now
        while time.monotonic() < deadline and scalar(self.conn, STANDBY_LAG) > self.max_lag_bytes:
            time.sleep(0.2)

    def _batch(self, last: int | None, size: int) -> tuple[list[int], int]:
        """One transaction; returns the ids it looked at and how many of them it fixed."""
        with self.conn.transaction():
            start_batch(self.conn, self.budget)
            ids = self._pick(last, size)
            if not ids:
                return [], 0
            fresh = self._recheck(ids)
            for write in self.fix.writes:
                {"update": self._update, "delete": self._delete, "insert": self._insert}[write.kind](write, fresh)
        return ids, len(fresh)

    def _pick(self, last: int | None, size: int) -> list[int]:
        """The next ids, locked; rows that others hold are skipped."""
        start = SQL("t.id > {} AND ").format(Literal(last)) if last is not None else SQL("")
        query = SQL(
            "SELECT t.id FROM {} t WHERE {}({}) ORDER BY t.id LIMIT {} FOR NO KEY UPDATE OF t SKIP LOCKED"
        ).format(self._table(self.fix.table), start, self._condition(), Literal(size))
        return [row["id"] for row in fetch(self.conn, query)]

    def _recheck(self, ids: list[int]) -> list[int]:
        """The ids that still need the fix, now that nobody can change them; their links are locked as well.

        The pick saw the links as of its start; a new statement sees what was committed since.
        """
        if self.fix.table == "endpoints" and (len(self.fix.writes) > 1 or self.fix.writes[0].needs_links):
            links = SQL("SELECT v.id FROM {} v WHERE v.endpoint_id = ANY({}) ORDER BY v.id FOR UPDATE")
            self.conn.execute(links.format(self._table("verified_endpoints"), Literal(ids)))
        query = SQL("SELECT t.id FROM {} t WHERE t.id = ANY({}) AND ({})").format(
            self._table(self.fix.table), Literal(ids), self._condition()
        )
        return [row["id"] for row in fetch(self.conn, query)]

    def _update(self, write: Write, ids: list[int]) -> None:
        table = self._table(write.table)
        target = SQL(", ").join(
            SQL("{}, {}").format(Literal(column), composed(text, self.entry.schema, self.fix))
            for column, text in write.changes
        )
        images = SQL("t.id, to_jsonb(t), to_jsonb(t) || jsonb_build_object({})").format(target)
        source = SQL("{} t WHERE t.id = ANY({})").format(table, Literal(ids))
        journal = insert_entries(self.entry, write.table, "update", images, source)
        query = SQL("WITH made AS ({} RETURNING seq) SELECT min(seq) AS first, max(seq) AS last FROM made")
        span = fetch(self.conn, query.format(journal))[0]
        if span["first"] is None:
            return
        columns = [column for column, _ in write.changes]
        first = [c for c in columns if c in write.triggering]
        for stage in (first, [c for c in columns if c not in write.triggering]):
            if stage:
                self._write_stage(table, stage, span["first"], span["last"])
        self._compare(table, columns, span["first"], span["last"])

    def _images(self, table: Composable, first: int, last: int) -> Composable:
        """This batch's after-images, as typed rows `r`."""
        return SQL(
            "(SELECT j.seq, j.row_id, j.after, (jsonb_populate_record(NULL::{}, j.after)).*"
            " FROM {} j WHERE j.run_id = {} AND j.seq BETWEEN {} AND {}) r"
        ).format(table, self.entry.table, Literal(self.entry.run_id), Literal(first), Literal(last))

    def _write_stage(self, table: Composable, columns: Sequence[str], first: int, last: int) -> None:
        sets = SQL(", ").join(SQL("{0} = r.{0}").format(Identifier(column)) for column in columns)
        query = SQL("UPDATE {} t SET {} FROM {} WHERE t.id = r.row_id")
        self.conn.execute(query.format(table, sets, self._images(table, first, last)))

    def _compare(self, table: Composable, columns: Sequence[str], first: int, last: int) -> None:
        """The rows must be what the journal says; what a site's own trigger changed besides is journalled as it is."""
        wrong = SQL(" OR ").join(SQL("t.{0} IS DISTINCT FROM r.{0}").format(Identifier(c)) for c in columns)
        query = SQL(
            "SELECT count(*) FILTER (WHERE t.id IS NULL OR {}) AS wrong,"
            " count(*) FILTER (WHERE to_jsonb(t) IS DISTINCT FROM r.after) AS other"
            " FROM {} LEFT JOIN {} t ON t.id = r.row_id"
        ).format(wrong, self._images(table, first, last), table)
        row = fetch(self.conn, query)[0]
        if row["wrong"]:
            raise not_kept(self.fix, row["wrong"])
        if row["other"]:
            rewrite = SQL(
                "UPDATE {} j SET after = to_jsonb(t) FROM {} t"
                " WHERE j.run_id = {} AND j.seq BETWEEN {} AND {} AND t.id = j.row_id"
            )
            run_id = Literal(self.entry.run_id)
            self.conn.execute(rewrite.format(self.entry.table, table, run_id, Literal(first), Literal(last)))

    def _delete(self, write: Write, ids: list[int]) -> None:
        images = SQL("gone.id, to_jsonb(gone), NULL::jsonb")
        journal = insert_entries(self.entry, write.table, "delete", images, SQL("gone"))
        query = SQL("WITH gone AS (DELETE FROM {} d WHERE d.{} = ANY({}) RETURNING d.*) {}")
        self.conn.execute(query.format(self._table(write.table), Identifier(write.key), Literal(ids), journal))

    def _insert(self, write: Write, ids: list[int]) -> None:
        columns = SQL(", ").join(Identifier(column) for column, _ in write.changes)
        values = SQL(", ").join(composed(text, self.entry.schema, self.fix) for _, text in write.changes)
        images = SQL("made.id, NULL::jsonb, to_jsonb(made)")
        journal = insert_entries(self.entry, write.table, "insert", images, SQL("made"))
        query = SQL(
            "WITH made AS (INSERT INTO {} AS i ({}) SELECT {} FROM {} t WHERE t.id = ANY({}) ORDER BY t.id"
            " ON CONFLICT DO NOTHING RETURNING i.*) {}"
        )
        driving = self._table(self.fix.table)
        table = self._table(write.table)
        self.conn.execute(query.format(table, columns, values, driving, Literal(ids), journal))

    def _table(self, name: str) -> Composable:
        return SQL("{}.{}").format(Identifier(self.entry.schema), Identifier(name))

    def _condition(self) -> Composable:
        return composed(self.fix.condition, self.entry.schema, self.fix)


def next_size(size: int, picked: int, elapsed_s: float, largest: int) -> int:
    """The next batch's size: towards the aim, at most doubled, within limits. Pure."""
    if picked < size:
        return size
    wanted = int(size * AIM_S / max(elapsed_s, 0.001))
    return max(SMALLEST, min(wanted, size * 2, max(largest, SMALLEST)))
