"""The rows of a conversion in small committed batches, in the order in which they lie in the table.

That needs no key. What others hold is skipped and comes back in a later pass; what they write meanwhile is converted by
the trigger, wherever it lands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, is_lock_timeout, scalar
from ..errors import LockTimeout, ValidationFailed
from ..lockbudget import Budget, LockRecord, relation
from .ranges import others_differ
from .retyped import Retyping
from .rights import Writer

AIM_S = 0.03
FEWEST_BLOCKS, MOST_BLOCKS = 4, 4096  # fewer would be all overhead: a batch is some round trips, too


@dataclass
class Backfill:
    """One conversion's rows. `progress` hears of their number; `before_each` may pause."""

    writer: Writer
    one: Retyping
    budget: Budget
    record: LockRecord
    most_rows: int
    progress: Callable[[int], None]
    before_each: Callable[[], None] = lambda: None
    rows: int = 0

    @property
    def conn(self) -> Connection:
        """The session."""
        return self.writer.frames.conn

    def run(self) -> int:
        """Convert every row; raises `LockTimeout` where others hold some of them beyond the deadline."""
        deadline = time.monotonic() + self.budget.deadline_s
        while True:
            before = self.rows
            self._pass()
            left = self.behind()
            if left == 0:
                return self.rows
            if self.rows > before:  # the deadline is for waiting, not for working
                deadline = time.monotonic() + self.budget.deadline_s
            if time.monotonic() > deadline:
                rows = "rows" if left is None else f"{left} rows"
                raise LockTimeout(
                    f"Converting {self.one.table}: {rows} stayed locked by others for {self.budget.deadline_s:g} s.",
                    "Run again: the next run takes up what is left.",
                )
            time.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - jitter, not a secret

    def behind(self) -> int | None:
        """How many rows are not converted yet; None where the table is locked, so that nobody can count them."""
        query = SQL("SELECT pg_catalog.count(*) FROM {} t, LATERAL (SELECT {} OFFSET 0) v WHERE {}").format(
            self._table, self._values(), self._differs()
        )
        try:
            with self.writer.transaction([self.one.table], self.budget.timeout_ms) as frame:
                return int(frame.value(query))
        except DriverError as error:
            if not is_lock_timeout(error):
                raise
            return None

    def _pass(self) -> None:
        """Once over the blocks that the table has now: later ones are the trigger's."""
        size = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int"
        name = ".".join('"' + part.replace('"', '""') + '"' for part in (self.one.schema, self.one.table))
        last = int(scalar(self.conn, size, [name])) + 1
        others = others_differ(self.conn, self.one.schema, self.one.table, set(self.one.names.values()))
        first, width = 0, FEWEST_BLOCKS
        while first < last:
            self.before_each()
            started = time.monotonic()
            rows = self._batch(self._statement(others, first, first + width))
            elapsed = time.monotonic() - started
            if rows:
                self.record.held(elapsed)
                self.rows += rows
                self.progress(self.rows)
            first, width = first + width, next_blocks(width, rows, elapsed, self.most_rows)

    def _batch(self, statement: Composable) -> int:
        try:
            with self.writer.transaction([self.one.table], self.budget.timeout_ms) as frame:
                done = frame.returning(statement)[0]
                if done["others"]:
                    raise ValidationFailed(
                        f"A trigger of {self.one.table} changes other columns of a row whenever it is written.",
                        "Its rows would not stay what they are: drop the trigger for the time of the conversion.",
                    )
                return int(done["rows"])
        except DriverError as error:
            if not is_lock_timeout(error):
                raise
            self.record.retries += 1
            self.record.waited(self.budget.timeout_ms / 1000)
            return 0

    def _statement(self, others: Composable, first: int, end: int) -> Composable:
        sets = SQL(", ").join(
            SQL("{} = {}").format(Identifier(self.one.names[c.name]), Identifier("o", f"scannerdb_value_{n}"))
            for n, c in enumerate(self.one.columns)
        )
        return SQL(
            "WITH o AS MATERIALIZED (SELECT t.*, t.ctid AS scannerdb_at, v.* FROM {table} t,"
            " LATERAL (SELECT {values} OFFSET 0) v WHERE t.ctid >= {first}::pg_catalog.tid"
            " AND t.ctid < {end}::pg_catalog.tid AND ({differs}) FOR NO KEY UPDATE OF t SKIP LOCKED),"
            " done AS (UPDATE {table} t SET {sets} FROM o WHERE t.ctid = o.scannerdb_at RETURNING {others} AS others)"
            " SELECT pg_catalog.jsonb_build_object('rows', pg_catalog.count(*),"
            " 'others', pg_catalog.count(*) FILTER (WHERE d.others)) FROM done d"
        ).format(
            table=self._table,
            values=self._values(),
            first=Literal(f"({first},0)"),
            end=Literal(f"({end},0)"),
            differs=self._differs(),
            sets=sets,
            others=others,
        )

    def _values(self) -> Composable:
        return SQL(", ").join(
            SQL("{} AS {}").format(self.one.value(column, "t"), Identifier(f"scannerdb_value_{number}"))
            for number, column in enumerate(self.one.columns)
        )

    def _differs(self) -> Composable:
        return SQL(" OR ").join(
            SQL("{} IS DISTINCT FROM {}").format(
                Identifier("t", self.one.names[c.name]), Identifier("v", f"scannerdb_value_{number}")
            )
            for number, c in enumerate(self.one.columns)
        )

    @property
    def _table(self) -> Composable:
        return relation(self.one.schema, self.one.table)


def next_blocks(width: int, rows: int, elapsed_s: float, most_rows: int) -> int:
    """The next range's width in blocks: towards the aim in time, and no more rows than `most_rows`. Pure."""
    factor = min(2.0, AIM_S / max(elapsed_s, 0.001))
    if rows:
        factor = min(factor, most_rows / rows)
    return max(FEWEST_BLOCKS, min(MOST_BLOCKS, int(width * factor)))
