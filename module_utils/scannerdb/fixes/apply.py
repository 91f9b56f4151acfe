"""Carry out a plan: structural fixes under the lock budget, data fixes in batches. One that fails stops no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import SQL, Connection, DriverError, explained, fetch, scalar
from ..errors import FixLeft, RowsHidden, ScannerDbError
from ..finding import Change
from ..frame import Frames
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, LockRecord, relation, run_alone
from .batches import Worker
from .data import DataFix
from .journal import JournalEntry, forget, note_structure
from .policy import FixStep, skipped, unmet
from .rights import writer_for
from .rowfix import At, RowFix
from .seals import Keys
from .standbys import StandbyPause
from .structure import run_online, run_plain, run_strong_change

# The data stands in the way (duplicates, orphans, NULLs): said, and left for people to decide.
DATA_IN_THE_WAY = {"23502", "23503", "23505", "23514"}


@dataclass
class Applier:
    """Applies steps on one connection and keeps what a result needs."""

    frames: Frames
    run_id: str
    schema: str
    application: str
    budget: Budget
    batch_rows: int
    data_fixes: Mapping[tuple[str, str], Sequence[DataFix | RowFix]]
    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]
    journal: bool = True
    max_lag_bytes: int = 0
    keys: Keys | None = None
    gate: Callable[[], str] = field(default=lambda: "")
    record: LockRecord = field(default_factory=LockRecord)
    fixed: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    touched: bool = False
    lost: str = ""  # what was at work when the session ended: nobody knows how far it came

    @property
    def changed(self) -> bool:
        """True where anything was changed, also by a fix that failed in the end."""
        return bool(self.fixed) or self.touched

    @property
    def unknown(self) -> str:
        """What nobody knows of a run whose session ended in the middle, as a sentence."""
        return f" Whether {self.lost} was done is not known: the connection was lost in it." if self.lost else ""

    @property
    def conn(self) -> Connection:
        """The session."""
        return self.frames.conn

    def apply(self, steps: Sequence[FixStep]) -> None:
        """Carry out the steps in order; `fixed`, `left` and `failures` tell how it went."""
        for number, step in enumerate(steps):
            closed = self.gate() or unmet(step.fix.needs, {(done["id"], done["object"]) for done in self.fixed})
            if closed:
                self.left.append(skipped(step.finding, closed))
                continue
            self.progress(step.finding.id, number, len(steps))
            started = time.monotonic()
            try:
                rows = self._apply_one(step)
            except (ScannerDbError, DriverError) as error:
                if self.conn.closed:
                    self.touched, self.lost = True, f"{step.finding.id} on {step.finding.object}"
                    raise
                self._failed(step, error)
                continue
            duration = round(time.monotonic() - started, 3)
            if rows == 0:  # somebody else repaired it meanwhile
                continue
            self.fixed.append(
                {
                    "id": step.finding.id,
                    "object": step.finding.object,
                    "message": step.finding.message,
                    "rows": rows,
                    "lock": step.fix.lock,
                    "duration_s": duration,
                }
            )
            self.statements += step.fix.sql
            self.say(f"fixed {step.finding.id} on {step.finding.object}" + (f", {rows} rows" if rows else ""))

    def _apply_one(self, step: FixStep) -> int | None:
        """Returns how many rows were fixed, or None for a structural fix."""
        key = (step.finding.id, step.finding.object)
        fixes = self.data_fixes.get(key) or self.data_fixes.get((step.finding.id, ""))
        if fixes:
            return sum(self._data(fix, step.fix.rows or 0) for fix in fixes)
        self._structure(step)
        return None

    def _structure(self, step: FixStep) -> None:
        """Apply a structural fix. How to take it back is noted first: that does no harm if nothing was made."""
        entry = JournalEntry(self.run_id, step.finding.id, self.schema, keys=self.keys)
        noted = 0
        if self.journal and step.fix.undo:
            noted = note_structure(self.conn, entry, step.finding.object, step.fix.undo)
        try:
            for number, change in enumerate(step.fix.changes):
                self.change(change, f"{step.finding.id} on {step.finding.object}")
                self.touched |= number + 1 < len(step.fix.changes)
        except (ScannerDbError, DriverError):
            if noted and not self.conn.closed:
                forget(self.conn, noted)
            raise
        for statement in step.fix.sql:
            self.say(f"  {statement}")

    def _data(self, fix: DataFix | RowFix, expected: int) -> int:
        entry = JournalEntry(self.run_id, fix.id, self.schema, self.journal, self.keys)
        if isinstance(fix, RowFix):
            return self._rows(fix, entry, expected)
        tables = sorted({fix.table, *(write.table for write in fix.writes)})
        writer = writer_for(self.frames, self.schema, tables, self.application)
        worker = Worker(writer, entry, fix, self.budget, self.record, self.batch_rows)
        worker.pause = self._pause()
        worker.progress = lambda rows: self.progress(fix.id, rows, expected)
        try:
            return worker.run()
        finally:
            self.touched |= worker.rows > 0

    def _rows(self, fix: RowFix, entry: JournalEntry, expected: int) -> int:
        def touch() -> None:
            self.touched = True

        def progress(rows: int) -> None:
            self.progress(fix.id, rows, expected)

        writer = writer_for(self.frames, self.schema, list(fix.tables), self.application)
        return fix.run(At(writer, entry, self.budget, self.record, self.batch_rows, progress, self._pause(), touch))

    def _pause(self) -> StandbyPause:
        return StandbyPause(self.conn, self.max_lag_bytes, self.budget.deadline_s, self.say)

    def change(self, change: Change, what: str) -> None:
        """Carry out one change of structure; what it leaves half made when it fails is taken away."""
        try:
            if change.how == "strong":
                run_strong_change(self.frames, change, self.budget, self.record, what)
            elif change.how == "online":
                drop_left_over(self.conn, change)
                run_online(self.frames, change, self.budget)
            else:
                run_plain(self.frames, change)
        except (ScannerDbError, DriverError):
            self._clean_up(change, what)
            raise

    def _clean_up(self, change: Change, what: str) -> None:
        """Take away what a failed step left half made; a failure here is part of the story, not the end of it."""
        if self.conn.closed:
            return
        try:
            drop_left_over(self.conn, change)
            if change.cleanup:
                run_strong_change(self.frames, change.cleanup, self.budget, self.record, what)
        except (ScannerDbError, DriverError) as error:
            self.say(f"cleaning up after {what} failed, the next run tries again: {error}")

    def _failed(self, step: FixStep, error: Exception) -> None:
        what = f"{step.finding.id} on {step.finding.object}"
        if getattr(error, "sqlstate", None) in DATA_IN_THE_WAY:
            why = f"the data stands in the way: {_sentence(error, what)}"
        elif isinstance(error, (FixLeft, RowsHidden)):
            why = str(error)
        else:
            why = _sentence(error, what)
            self.failures.append(why if what in why else f"{what}: {why}")
        self.left.append(skipped(step.finding, why))
        self.say(f"not fixed: {what}: {why}")


def _sentence(error: Exception, what: str) -> str:
    if isinstance(error, ScannerDbError):
        return str(error)
    try:
        with explained(f"Fixing {what}"):
            raise error
    except ScannerDbError as ours:
        return str(ours)


def drop_left_over(conn: Connection, change: Change) -> None:
    """Drop the invalid index that an interrupted CREATE INDEX CONCURRENTLY of this name left behind."""
    if change.index is None:
        return
    schema, name = change.index
    invalid = scalar(
        conn,
        """
        SELECT count(*)
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %s AND c.relname = %s AND NOT i.indisvalid
        """,
        [schema, name],
    )
    if invalid:
        drop = SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(relation(schema, name))
        run_alone(conn, drop, SOFT_TIMEOUT_MS)  # it is invalid already: better left for the next run than waited for


def table_rows(conn: Connection, schema: str) -> dict[str, int]:
    """The planner's row count of each table, for `too_large`."""
    rows = fetch(
        conn,
        """
        SELECT c.relname::text AS name, c.reltuples::bigint AS rows
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
        """,
        [schema],
    )
    return {row["name"]: row["rows"] for row in rows}
