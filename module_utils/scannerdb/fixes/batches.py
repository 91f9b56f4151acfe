"""Data fixes in small committed batches: in key order, rows that others hold come last, nobody waits long.

A batch is one transaction: pick and lock ids, write, compare, journal both images. What a row must be in the end is
known before it is written: a row trigger may stamp a column in between, so triggering columns are written first and the
stamped ones after them. Whatever touches the tables does so in a frame (frame.py); the journal is written outside.
Rows that come while it works are the next run's: beside a writer that is as fast as the fix, there would be no end.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..connection import SQL, Composable, DriverError, Identifier, Literal, is_lock_timeout
from ..errors import LockTimeout
from ..frame import Frame
from ..lockbudget import Budget, LockRecord
from .data import DataFix, Write, composed
from .journal import JournalEntry, note, note_images
from .options import FixOptions
from .ranges import AIM_S, Ranges, first_width, flush, highest_id, not_kept
from .rights import Writer

SMALLEST = 50
DEADLOCK = "40P01"
Progress = Callable[[int], None]


@dataclass
class Worker:
    """One data fix at work, with the rights of `writer`."""

    writer: Writer
    entry: JournalEntry
    fix: DataFix
    budget: Budget
    record: LockRecord
    batch_rows: int = FixOptions.batch_rows
    progress: Progress = lambda rows: None
    pause: Callable[[], None] = lambda: None
    rows: int = 0
    highest: int = 0

    def run(self) -> int:
        """Fix every row that there is; returns how many. Raises `LockTimeout` where others hold rows beyond the
        deadline."""
        deadline = time.monotonic() + self.budget.deadline_s
        with self._transaction() as frame:
            self.highest = highest_id(frame, self._table(self.fix.table))
        size = first_width(self.batch_rows)
        careful = not self._fast_pass()
        while True:
            if careful:
                size = self._pass(size, deadline)
            careful = True
            left = self.count()
            if not left:
                flush(self.writer.frames.conn)
                return self.rows
            if time.monotonic() > deadline:
                raise LockTimeout(
                    f"{self.fix.id}: {left} rows of {self.fix.table} stayed locked by others for "
                    f"{self.budget.deadline_s:g} s; {self.rows} rows are fixed.",
                    "Run again: the next run takes up what is left.",
                )
            time.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - jitter, not a secret

    def _fast_pass(self) -> bool:
        """Where no row trigger is in the way, most rows are done in ranges; the careful passes take what is left.

        Returns whether it was made.
        """
        write = self.fix.writes[0]
        if len(self.fix.writes) > 1 or write.kind != "update" or write.triggering:
            return False
        Ranges(
            self.writer,
            self.entry,
            self.fix,
            write,
            self.budget,
            self.record,
            self.batch_rows,
            self.highest,
            self._done,
            self.pause,
        ).run()
        return True

    def _done(self, rows: int) -> None:
        self.rows += rows
        self.progress(self.rows)

    def count(self) -> int:
        """How many rows still need the fix."""
        query = SQL("SELECT count(*) FROM {} t WHERE t.id <= {} AND ({})").format(
            self._table(self.fix.table), Literal(self.highest), self._condition()
        )
        with self._transaction() as frame:
            return int(frame.value(query))

    def _transaction(self) -> AbstractContextManager[Frame]:
        tables = {self.fix.table, *(write.table for write in self.fix.writes)}
        return self.writer.transaction(sorted(tables), self.budget.timeout_ms)

    def _pass(self, size: int, deadline: float) -> int:
        """Once over the table in key order; returns the batch size that fits the aim by now."""
        last: int | None = None
        while True:
            self.pause()
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

    def _batch(self, last: int | None, size: int) -> tuple[list[int], int]:
        """One transaction; returns the ids it looked at and how many of them it fixed."""
        with self._transaction() as frame:
            ids = self._pick(frame, last, size)
            if not ids:
                return [], 0
            fresh = self._recheck(frame, ids)
            for write in self.fix.writes:
                if write.kind == "update":
                    self._update(frame, write, fresh)
                else:
                    statement = self._delete(write, fresh) if write.kind == "delete" else self._insert(write, fresh)
                    with frame.images(statement) as source:
                        note(self.writer.frames.conn, self.entry, source)
        return ids, len(fresh)

    def _pick(self, frame: Frame, last: int | None, size: int) -> list[int]:
        """The next ids, locked; rows that others hold are skipped."""
        start = SQL("t.id > {} AND ").format(Literal(last)) if last is not None else SQL("")
        query = SQL(
            "SELECT t.id FROM {} t WHERE {}t.id <= {} AND ({}) ORDER BY t.id LIMIT {}"
            " FOR NO KEY UPDATE OF t SKIP LOCKED"
        ).format(self._table(self.fix.table), start, Literal(self.highest), self._condition(), Literal(size))
        return [row["id"] for row in frame.rows(query)]

    def _recheck(self, frame: Frame, ids: list[int]) -> list[int]:
        """The ids that still need the fix, now that nobody can change them; their links are locked as well.

        The pick saw the links as of its start; a new statement sees what was committed since.
        """
        query = SQL("SELECT t.id FROM {} t WHERE t.id = ANY({}) AND ({}) ORDER BY t.id").format(
            self._table(self.fix.table), _ids(ids), self._condition()
        )
        locks = []
        if self.fix.table == "endpoints" and (len(self.fix.writes) > 1 or self.fix.writes[0].needs_links):
            links = SQL("SELECT v.id FROM {} v WHERE v.endpoint_id = ANY({}) ORDER BY v.id FOR UPDATE")
            locks = [links.format(self._table("verified_endpoints"), _ids(ids))]
        return [row["id"] for row in frame.rows(*locks, query)]

    def _update(self, frame: Frame, write: Write, ids: list[int]) -> None:
        if not ids:
            return
        table, columns = self._table(write.table), [column for column, _ in write.changes]
        planned = {row["id"]: row for row in frame.rows(self._planned(write, ids))}
        wanted = Literal("[" + ",".join(row["wanted"] for row in planned.values()) + "]")
        first = [c for c in columns if c in write.triggering]
        stages = [stage for stage in (first, [c for c in columns if c not in write.triggering]) if stage]
        writes = [
            SQL(
                "UPDATE {0} t SET {1} FROM pg_catalog.jsonb_populate_recordset(NULL::{0}, {2}::jsonb) r"
                " WHERE t.id = r.id"
            ).format(table, SQL(", ").join(SQL("{0} = r.{0}").format(Identifier(c)) for c in stage), wanted)
            for stage in stages
        ]
        now = SQL("SELECT t.id, pg_catalog.to_jsonb(t)::text AS image FROM {} t WHERE t.id = ANY({})")
        rows = {row["id"]: row["image"] for row in frame.rows(*writes, now.format(table, _ids(ids)))}
        wrong = [i for i, row in planned.items() if _differs(row["after"], rows.get(i), columns)]
        if wrong:
            raise not_kept(self.fix, len(wrong))
        # What a trigger of the site changed besides is journalled as it is.
        images = [(i, row["before"], rows[i]) for i, row in planned.items()]
        note_images(self.writer.frames.conn, self.entry, write.table, images)

    def _planned(self, write: Write, ids: list[int]) -> Composable:
        """The rows' images before and after as text, and what is to be written; typed by the table's own columns."""
        target = SQL(", ").join(
            SQL("{}, {}").format(Literal(column), composed(text, self.entry.schema, self.fix))
            for column, text in write.changes
        )
        return SQL(
            "SELECT q.id, q.before::text AS before, (q.before || q.wanted)::text AS after,"
            " (q.wanted || pg_catalog.jsonb_build_object('id', q.id))::text AS wanted FROM ("
            "SELECT t.id, pg_catalog.to_jsonb(t) AS before,"
            " (SELECT pg_catalog.jsonb_object_agg(e.key, pg_catalog.to_jsonb(p) -> e.key)"
            " FROM pg_catalog.jsonb_object_keys(w.w) e(key)) AS wanted"
            " FROM {0} t, LATERAL (SELECT pg_catalog.jsonb_build_object({1}) AS w) w,"
            " LATERAL pg_catalog.jsonb_populate_record(NULL::{0}, w.w) p WHERE t.id = ANY({2})) q"
        ).format(self._table(write.table), target, _ids(ids))

    def _delete(self, write: Write, ids: list[int]) -> Composable:
        return SQL(
            "WITH gone AS (DELETE FROM {} d WHERE d.{} = ANY({}) RETURNING d.*)"
            " SELECT {}::text, 'delete'::text, gone.id::bigint, pg_catalog.to_jsonb(gone), NULL::jsonb, NULL::text"
            " FROM gone"
        ).format(self._table(write.table), Identifier(write.key), _ids(ids), Literal(write.table))

    def _insert(self, write: Write, ids: list[int]) -> Composable:
        columns = SQL(", ").join(Identifier(column) for column, _ in write.changes)
        values = SQL(", ").join(composed(text, self.entry.schema, self.fix) for _, text in write.changes)
        return SQL(
            "WITH made AS (INSERT INTO {} AS i ({}) SELECT {} FROM {} t WHERE t.id = ANY({}) ORDER BY t.id"
            " ON CONFLICT DO NOTHING RETURNING i.*)"
            " SELECT {}::text, 'insert'::text, made.id::bigint, NULL::jsonb, pg_catalog.to_jsonb(made), NULL::text"
            " FROM made"
        ).format(
            self._table(write.table),
            columns,
            values,
            self._table(self.fix.table),
            _ids(ids),
            Literal(write.table),
        )

    def _table(self, name: str) -> Composable:
        return SQL("{}.{}").format(Identifier(self.entry.schema), Identifier(name))

    def _condition(self) -> Composable:
        return composed(self.fix.condition, self.entry.schema, self.fix)


def _ids(ids: Sequence[int]) -> Composable:
    return SQL("{}::bigint[]").format(Literal(list(ids)))


def _differs(wanted: str, image: str | None, columns: Sequence[str]) -> bool:
    """True where a row is gone, or one of the columns is not what was written. Pure."""
    if image is None:
        return True
    if image == wanted:
        return False
    should, has = json.loads(wanted), json.loads(image)
    return any(should.get(column) != has.get(column) for column in columns)


def next_size(size: int, picked: int, elapsed_s: float, largest: int) -> int:
    """The next batch's size: towards the aim, at most doubled, within limits. Pure."""
    if picked < size:
        return size
    wanted = int(size * AIM_S / max(elapsed_s, 0.001))
    return max(SMALLEST, min(wanted, size * 2, max(largest, SMALLEST)))
