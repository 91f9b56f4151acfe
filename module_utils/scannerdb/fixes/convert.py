"""A conversion of types at work: begun, filled, proven, swapped; killed anywhere, the next run goes on.

What runs code of the table (expressions, CHECK, triggers, the definition of a view) runs in the frame of the role that
owns it, or of the application's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, fetch
from ..contract import ddl
from ..contract.conversion import is_beside, proof_name, removal
from ..errors import FixLeft, LockTimeout, ScannerDbError
from ..finding import Change
from ..foreigncode import is_superuser, refuse_foreign_code
from ..frame import Frames
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, LockRecord, relation, retrying, run_alone, who_blocks
from ..refusals import failure
from ..session import SEARCH_PATH
from .attached import Attached, attached, index_beside, index_said
from .backfill import Backfill
from .convert_null import prove_not_null
from .convert_trigger import made_trigger, refuse_others_function, state_of_trigger
from .journal import forget, note_structure
from .retyped import Retyping, begun, ended, proof, unreadable
from .rowfix import At, RowFix
from .structure import run_strong_change
from .views import Statement, dropped, granted, held, made_anew, views_over

BUSY = ("55P03", "40P01")  # a lock was not to be had, or only against somebody's who waited for ours
LISTS = "fix.yml --check with scannerdb_fix_types: convert lists such rows."


@dataclass
class Conversion:
    """The conversion of one table, which several findings share: the first one does it."""

    one: Retyping
    rows: int | None = None
    failed: str = ""


@dataclass(frozen=True)
class TypeFix(RowFix):
    """One column's share of its table's conversion."""

    conversion: Conversion

    def run(self, at: At) -> int:
        """Convert the table, unless another of its columns has done so; returns how many rows were rewritten."""
        shared = self.conversion
        if shared.failed:
            raise FixLeft(f"the conversion of {shared.one.table} failed: {shared.failed}")
        if shared.rows is None:
            converter = Converter(at, shared.one)
            try:
                shared.rows = converter.run()
            except (ScannerDbError, DriverError) as error:
                if converter.swapped:  # the other columns have all that they get
                    shared.rows = converter.rows
                else:
                    shared.failed = str(error).strip()
                raise
        return max(shared.rows, 1)


@dataclass
class Converter:
    """One conversion, in either direction. `begun`: something was made besides; `swapped`: the types are the others."""

    at: At
    one: Retyping
    rows: int = 0
    local: dict[str, str] = field(default_factory=dict)
    trigger: str = ""  # its state, as it was made
    begun: bool = False
    swapped: bool = False

    def run(self) -> int:
        """Do it; how it is taken back is noted first, and stays noted while there is something to take back."""
        noted = 0
        if self.at.entry.kept:
            noted = note_structure(self.conn, self.at.entry, self.one.table, [self.one.reversal()])
        try:
            self.work()
        except (ScannerDbError, DriverError) as error:
            if self.conn.closed:
                raise
            told = self._what_stays(error)
            if told:
                self.at.touch()
                raise told from error
            if noted:
                forget(self.conn, noted)
            raise
        return self.rows

    def work(self) -> None:
        """Begin, fill, swap."""
        if self.one.back:
            self._not_null()  # what the conversion came to an end without
        self.begin()
        self.begun = True
        backfill = Backfill(
            self.at.writer, self.one, self.budget, self.record, self.at.batch_rows, self._filled, self.at.pause
        )
        backfill.run()
        self._besides()
        backfill.run()  # nothing, unless somebody wrote past the trigger
        self._refuse_unreadable()
        self.swap()
        self.swapped = True
        self._not_null()

    def _filled(self, rows: int) -> None:
        self.rows = rows
        self.at.progress(rows)

    def _what_stays(self, error: Exception) -> ScannerDbError | None:
        """What is to be said where something of the conversion stays in the database; None where nothing does."""
        ours = error if isinstance(error, ScannerDbError) else failure(error, f"Converting {self.one.table}")
        if self.swapped:
            return ScannerDbError(
                f"{self.one.table} is converted ({', '.join(self.one.names)}), but NOT NULL is not back as it was: "
                f"{ours.message}",
                "Until the next run has put it back, a CHECK does the same for what is written.",
            )
        if isinstance(error, LockTimeout) or getattr(error, "sqlstate", None) in BUSY:
            if not self.begun:
                return None
            again = (
                "undo.yml goes on with it"
                if self.one.back
                else "a run with scannerdb_fix_types: convert goes on with it"
            )
            return LockTimeout(
                f"{ours.message} No column of {self.one.table} has changed its type yet. What was made for it stays, "
                f"with the {self.rows} rows that are converted beside; a trigger keeps it current.",
                f"Run again at a quieter time: {again}, any other run of fix.yml takes it away.",
            )
        why = self.clean_up()
        if not why:
            return None
        kind = FixLeft if isinstance(error, FixLeft) else ScannerDbError
        return kind(f"{ours} What was made for it could not be taken away: {why}", "The next run takes it away.")

    @property
    def conn(self) -> Connection:
        """The session."""
        return self.at.writer.frames.conn

    @property
    def frames(self) -> Frames:
        """The session's frames."""
        return self.at.writer.frames

    @property
    def budget(self) -> Budget:
        """The lock budget."""
        return self.at.budget

    @property
    def record(self) -> LockRecord:
        """What the locks cost."""
        return self.at.record

    def begin(self) -> None:
        """The columns beside and the trigger; the swap is rehearsed before, so that no view stops it in the end."""
        have = {row["name"]: row["type"] for row in fetch(self.conn, HAVE, [self.one.schema, self.one.table])}

        def rehearse(seen: Attached) -> None:
            with self.conn.transaction(force_rollback=True):
                self._swapped(seen, begun(self.one, have))

        def make(seen: Attached) -> None:
            refuse_others_function(self.conn, self.one, seen.owner)
            self._as(seen.owner, [*begun(self.one, have), *made_trigger(self.one)])
            self.trigger = state_of_trigger(self.conn, self.one)
            if not self.trigger:
                raise FixLeft(f"The trigger that converts {self.one.table} is not as it was made.")

        self._strongly(rehearse, self._locks())
        self._strongly(make, 1)

    def swap(self) -> None:
        """The columns beside take their places."""
        self._strongly(self._swapped, self._locks())

    def _locks(self) -> int:
        """How many relations a swap locks, one after the other."""
        return 1 + len(views_over(self.conn, self._attached().table, list(self.one.names)))

    def clean_up(self) -> str:
        """Take away what was made besides; returns why it could not be."""
        left = [name for name in self.one.names.values() if is_beside(name)]
        drop = Change(
            tuple(removal(self.one.schema, self.one.table, left)),
            "ACCESS EXCLUSIVE",
            "strong",
            ((self.one.schema, self.one.table),),
        )
        try:
            run_strong_change(self.frames, drop, self.budget, self.record, f"Cleaning up {self.one.table}")
            self._drop_index(proof_name(self.one.table))
            for index in self._attached().indexes:
                self._drop_index(_beside(index["name"]))
        except (ScannerDbError, DriverError) as error:
            if self.conn.closed:
                raise
            return str(error).strip()
        return ""

    def _strongly(self, attempt: Callable[[Attached], None], locks: int) -> None:
        """One transaction under the lock budget, which is shared out where several locks are taken, one by one."""
        place = [(self.one.schema, self.one.table)]
        timeout = max(5, self.budget.timeout_ms // locks)

        def once() -> None:
            with self.frames.transaction({"lock_timeout": f"{SOFT_TIMEOUT_MS}ms"}):
                table = relation(self.one.schema, self.one.table)
                self.conn.execute(SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table))
                seen = self._attached()
                self.conn.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(f"{timeout}ms")))
                self.local = {"lock_timeout": f"{timeout}ms"}
                started = time.monotonic()
                attempt(seen)
            self.record.held(time.monotonic() - started, structure=True)

        what = f"Converting {self.one.table}"
        retrying(once, self.budget, self.record, what, lambda: who_blocks(self.conn, place))

    def _swapped(self, seen: Attached, first: Sequence[Composable] | None = None) -> None:
        """The swap itself. For its rehearsal `first` makes the columns beside, without rows and indexes.

        Views are locked first, the outermost before the others, as every query does: the other way round each waits
        for the other.
        """
        views, finished = self._held(seen), first is None
        if finished and state_of_trigger(self.conn, self.one) != self.trigger:
            raise FixLeft(
                f"The trigger that converts {self.one.table}, or its function, was switched off or changed meanwhile.",
                "What was written then may not be converted, so nothing of it stays: run again.",
            )
        if finished and not self.one.back and self._unreadable_now(seen.owner):
            raise FixLeft(f"A row of {self.one.table} that cannot be read was written while it was converted.", LISTS)
        work = (*(first or ()), *self._table(seen, finished))
        self._run([*dropped(views), *(Statement(seen.owner, one) for one in work), *made_anew(views)])  # one frame

    def _held(self, seen: Attached) -> list[dict[str, Any]]:
        """The views, read once they and the table are locked: until then anybody may change them."""
        views = views_over(self.conn, seen.table, list(self.one.names))
        lock = SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(relation(self.one.schema, self.one.table))
        self._run([*held(views), Statement(seen.owner, lock)])
        now = views_over(self.conn, seen.table, list(self.one.names))
        if {view["oid"] for view in now} != {view["oid"] for view in views}:
            raise LockTimeout(f"Views over {self.one.table} were made or dropped in the same moment.")
        return now

    def _table(self, seen: Attached, finished: bool) -> Iterable[Composable]:
        """What happens to the table: the indexes change places with the columns."""
        if finished:
            yield from removal(self.one.schema, self.one.table, [])
            yield SQL("DROP INDEX IF EXISTS {}").format(relation(self.one.schema, proof_name(self.one.table)))
            for index in seen.indexes:
                yield SQL("DROP INDEX {}").format(relation(self.one.schema, index["name"]))
        yield from ended(self.one, seen.columns, self.at.entry.kept, finished)
        if finished:
            for index in seen.indexes:
                yield SQL("ALTER INDEX {} RENAME TO {}").format(
                    relation(self.one.schema, _beside(index["name"])), Identifier(index["name"])
                )
                yield from index_said(self.one.schema, self.one.table, index)
        for column, properties in seen.columns.items():
            acl = [(column, *one) for one in properties["acl"] or ()]
            yield from granted(relation(self.one.schema, self.one.table), acl)

    def _besides(self) -> None:
        """Indexes and statistics of the columns beside, made while everybody goes on writing."""
        seen, table = self._attached(), relation(self.one.schema, self.one.table)
        for index in seen.indexes:
            self._drop_index(_beside(index["name"]))
            made = index_beside(self.one.schema, self.one.table, index, _beside(index["name"]), self.one.names)
            run_alone(self.conn, made, self.budget.online_ms)
        if not self.one.back:
            self._drop_index(proof_name(self.one.table))
            run_alone(self.conn, proof(self.one), self.budget.online_ms)
        columns = SQL(", ").join(Identifier(name) for name in self.one.names.values())
        run_alone(self.conn, SQL("ANALYZE {} ({})").format(table, columns), self.budget.online_ms)

    def _drop_index(self, name: str) -> None:
        drop = SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(relation(self.one.schema, name))
        run_alone(self.conn, drop, self.budget.online_ms)

    def _refuse_unreadable(self) -> None:
        if self.one.back:
            return
        query = SQL("SELECT pg_catalog.count(*) FROM {} t WHERE {}").format(
            relation(self.one.schema, self.one.table), unreadable(self.one)
        )
        found: list[int] = []

        def look() -> None:
            with self.at.writer.transaction([self.one.table], self.budget.timeout_ms) as frame:
                found.append(int(frame.value(query)))

        place = [(self.one.schema, self.one.table)]
        what = f"Reading {self.one.table}"
        retrying(look, self.budget, self.record, what, lambda: who_blocks(self.conn, place, "ROW EXCLUSIVE"))
        if found[-1]:
            raise FixLeft(
                f"{found[-1]} rows of {self.one.table} that cannot be read were written while it was being converted.",
                LISTS,
            )

    def _unreadable_now(self, owner: str) -> bool:
        """Whether there is such a row, now that nobody can write one: the proof's index knows at once."""
        query = SQL("SELECT 1 AS one FROM {} t WHERE {} LIMIT 1").format(
            relation(self.one.schema, self.one.table), unreadable(self.one)
        )
        frame = self.frames.of(owner, self.local)
        return bool(frame.rows("SET LOCAL enable_seqscan = off", query))

    def _not_null(self) -> None:
        prove_not_null(self.frames, self.one, self.budget, self.record)

    def _attached(self) -> Attached:
        seen, why = attached(self.conn, self.one.schema, self.one.table, list(self.one.names))
        missing = set(self.one.names) - set(seen.columns)
        if why or missing:
            raise FixLeft(f"{self.one.table} cannot be converted: {why or 'a column is gone'}.")
        return seen

    def _as(self, owner: str, statements: Sequence[Composable]) -> None:
        self._run([Statement(owner, one) for one in statements])

    def _run(self, statements: Iterable[Statement]) -> None:
        """Each in its owner's frame, those that follow each other at once."""
        for owner, group in itertools.groupby(statements, key=lambda one: one.owner):
            if self.frames.superuser and is_superuser(self.conn, owner):
                refuse_foreign_code(self.conn, self.one.schema, [self.one.table], owner, triggers=False)
            frame = self.frames.of(owner, self.local)
            frame.path = SEARCH_PATH  # a view's own text is whole under this one
            frame.run(*(one.text for one in group))


def _beside(index: str) -> str:
    return ddl.short_name("scannerdb_new", index)


HAVE = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
