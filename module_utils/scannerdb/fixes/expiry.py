"""Rows that a site's rule lets go, in batches; the journal counts them, and a backup is what brings them back."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..connection import SQL, DriverError, Literal, is_lock_timeout
from ..errors import LockTimeout
from ..expiry import ExpiryRule, expired, removal
from ..lockbudget import relation, who_blocks
from .batches import SMALLEST, next_size
from .journal import note
from .ranges import first_width, highest_id
from .rowfix import At, RowFix

REMOVED = "removed"  # the key of such an entry of the journal: how many rows
ROUND = 20  # batches for which ids are looked up at once


@dataclass(frozen=True)
class ExpiryFix(RowFix):
    """One rule, over a table with these columns."""

    rule: ExpiryRule
    columns: Mapping[str, str]

    def run(self, at: At) -> int:
        """Remove what is due; rows that others hold come last. Raises `LockTimeout` past the deadline."""
        deadline = time.monotonic() + at.budget.deadline_s
        removed, size = 0, first_width(at.batch_rows)
        with at.writer.transaction(self.tables, at.budget.timeout_ms) as frame:
            highest = highest_id(
                frame, relation(at.entry.schema, self.rule.table)
            )  # what comes later is the next run's
        while True:
            ids = self._due(at, at.batch_rows * ROUND, highest)
            if not ids:
                return removed
            before = removed
            while ids:
                batch, ids = ids[:size], ids[size:]
                started = time.monotonic()
                removed += self._batch(at, batch)
                at.progress(removed)
                if removed:
                    at.touch()
                size = max(SMALLEST, next_size(size, len(batch), time.monotonic() - started, at.batch_rows))
            if removed == before:
                if time.monotonic() > deadline:
                    place = [(at.entry.schema, self.rule.table)]
                    raise LockTimeout(
                        f"{self.id}: rows of {self.rule.table} stayed locked by others for {at.budget.deadline_s:g} s, "
                        f"{who_blocks(at.writer.frames.conn, place, 'ROW EXCLUSIVE')}; {removed} rows are removed.",
                        "Run again: the next run takes up what is left.",
                    )
                time.sleep(0.2)

    def _due(self, at: At, most: int, highest: int) -> list[int]:
        query = SQL("SELECT q.id FROM ({}) q WHERE q.id <= {} ORDER BY q.id LIMIT {}").format(
            expired(at.entry.schema, self.rule, self.columns), Literal(highest), Literal(most)
        )
        with at.writer.transaction(self.tables, at.budget.timeout_ms) as frame:
            return [int(row["id"]) for row in frame.rows(query)]

    def _batch(self, at: At, ids: list[int]) -> int:
        """Remove those of these rows that still are due, in one transaction with their number in the journal."""
        conn, schema = at.writer.frames.conn, at.entry.schema
        started = time.monotonic()
        try:
            with at.writer.transaction(self.tables, at.budget.timeout_ms) as frame:
                held = SQL(
                    "SELECT t.id FROM {} t WHERE t.id = ANY ({}::bigint[]) ORDER BY t.id FOR UPDATE OF t SKIP LOCKED"
                ).format(relation(schema, self.rule.table), Literal(ids))
                free = Literal([int(row["id"]) for row in frame.rows(held)])
                rows = frame.run(removal(schema, self.rule, self.columns, SQL("{}::bigint[]").format(free)))
                if rows and at.entry.kept:
                    told = json.dumps({REMOVED: rows, "rule": vars(self.rule)})
                    note(
                        conn,
                        at.entry,
                        SQL(
                            "(SELECT {}::text AS table_name, 'structure'::text AS operation, NULL::bigint AS row_id,"
                            " NULL::jsonb AS before, {}::jsonb AS after, NULL::text AS flag) x"
                        ).format(Literal(self.rule.table), Literal(told)),
                    )
        except DriverError as error:
            if not is_lock_timeout(error):
                raise
            at.record.retries += 1
            at.record.waited(time.monotonic() - started)
            return 0
        at.record.held(time.monotonic() - started)
        return rows
