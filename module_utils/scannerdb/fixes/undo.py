"""Going backwards through the journal. A row goes back exactly, or it is listed with the reason."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..connection import Connection, DriverError, Row, fetch, scalar
from ..errors import ScannerDbError
from ..finding import Reversal, matches
from ..frame import Frame, Frames
from ..lockbudget import Budget, LockRecord, retrying
from .expiry import REMOVED
from .journal import sealed_ranges
from .putback import CONFLICTS, RowKept, put_back
from .rights import Writer, writer_for
from .seals import Keys

UNSEALED = "this host did not write the entry, so it may be anybody's (scannerdb_undo_unsealed takes it all the same)"
CONFLICTS_SHOWN = 1000


@dataclass
class Undoer:
    """The undoing of one run."""

    frames: Frames
    run_id: str
    only: tuple[str, ...]
    budget: Budget
    batch_rows: int
    application: str
    reverse: Callable[[Reversal, str], None]
    keys: Keys | None = None
    unsealed: bool = False
    progress: Callable[[int], None] = lambda rows: None
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    record: LockRecord = field(default_factory=LockRecord)
    writers: dict[tuple[str, str], Writer] = field(default_factory=dict)
    _sealed: list[tuple[int, int]] | None = None

    @property
    def conn(self) -> Connection:
        """The session."""
        return self.frames.conn

    def known(self) -> bool:
        """True where the journal has rows of the run, undone or not."""
        query = "SELECT EXISTS (SELECT FROM scannerdb_maintenance.journal WHERE run_id = %s)"
        return bool(scalar(self.conn, query, [self.run_id]))

    def others(self) -> list[str]:
        """The newest runs that can be undone."""
        rows = fetch(
            self.conn,
            "SELECT DISTINCT run_id FROM scannerdb_maintenance.journal WHERE undone_at IS NULL"
            " ORDER BY run_id DESC LIMIT 5",
        )
        return [row["run_id"] for row in rows]

    def pending(self) -> dict[str, int]:
        """How many journalled rows are not undone yet, for each fix that is selected."""
        rows = fetch(
            self.conn,
            "SELECT fix_id, count(*) AS n FROM scannerdb_maintenance.journal"
            " WHERE run_id = %s AND undone_at IS NULL GROUP BY fix_id",
            [self.run_id],
        )
        return {row["fix_id"]: row["n"] for row in rows if not self.only or matches(row["fix_id"], self.only)}

    def run(self) -> dict[str, int]:
        """Undo everything selected; returns the rows put back for each fix."""
        selected = list(self.pending())
        before: int | None = None
        while True:
            entries = self._entries(selected, before)
            if not entries:
                return dict(self.done)
            for structural, group in itertools.groupby(entries, key=lambda e: e["operation"] == "structure"):
                if structural:
                    for entry in group:
                        self._structure(entry)
                else:
                    self._rows(list(group))
            before = entries[-1]["seq"]
            self.progress(sum(self.done.values()))

    def _entries(self, selected: list[str], before: int | None) -> list[Row]:
        return fetch(
            self.conn,
            """
            SELECT seq, fix_id, table_schema, table_name, operation, row_id, after,
                   before::text AS before_text, (coalesce(before, '{}') || coalesce(after, '{}'))::text AS left_text
              FROM scannerdb_maintenance.journal
             WHERE run_id = %(run)s AND undone_at IS NULL AND fix_id = ANY(%(fixes)s)
               AND (%(before)s::bigint IS NULL OR seq < %(before)s)
             ORDER BY seq DESC LIMIT %(limit)s
            """,
            {"run": self.run_id, "fixes": selected, "before": before, "limit": self.batch_rows},
        )

    def is_ours(self, seq: int) -> bool:
        """True where this host wrote the entry, as far as its seal tells."""
        if self._sealed is None:
            self._sealed = sealed_ranges(self.conn, self.run_id, self.keys)
        return any(first <= seq <= last for first, last in self._sealed)

    def unproven(self) -> dict[str, int]:
        """How many of the selected entries have no seal of this host, for each fix."""
        found: Counter[str] = Counter()
        before: int | None = None
        selected = list(self.pending())
        while True:
            entries = self._entries(selected, before)
            if not entries:
                return dict(found)
            found.update(entry["fix_id"] for entry in entries if not self.is_ours(entry["seq"]))
            before = entries[-1]["seq"]

    def reversals(self) -> list[Reversal]:
        """The changes of structure that would be taken back, in order."""
        rows = fetch(
            self.conn,
            "SELECT seq, after FROM scannerdb_maintenance.journal WHERE run_id = %s AND undone_at IS NULL"
            " AND operation = 'structure' AND fix_id = ANY (%s) ORDER BY seq DESC",
            [self.run_id, list(self.pending())],
        )
        allowed = [row for row in rows if self.unsealed or self.is_ours(row["seq"])]
        return [one for row in allowed for one in _reversals_of(row["after"]) or ()]

    def _writable(self, entries: list[Row]) -> list[Row]:
        """The entries that may be taken back; the others are listed as conflicts."""
        allowed = []
        for entry in entries:
            if self.unsealed or self.is_ours(entry["seq"]):
                allowed.append(entry)
            else:
                self._conflict(entry, UNSEALED)
        return allowed

    def _conflict(self, entry: Row, why: str) -> None:
        if len(self.conflicts) < CONFLICTS_SHOWN:
            place = entry["table_name"] + (f" id {entry['row_id']}" if entry["row_id"] is not None else "")
            self.conflicts.append({"id": entry["fix_id"], "object": place, "why": why})

    def _rows(self, entries: list[Row]) -> None:
        for batch in alike(self._writable(entries)):
            retrying(
                lambda batch=batch: self._batch(batch),  # type: ignore[misc]
                self.budget,
                self.record,
                f"Undoing run {self.run_id}",
                lambda: "rows are held by other sessions",
            )

    def _structure(self, entry: Row) -> None:
        """Take a change of structure back; what cannot be is listed with the reason."""
        if not self._writable([entry]):
            return
        if isinstance(entry["after"], dict) and REMOVED in entry["after"]:
            count = entry["after"][REMOVED]
            self._conflict(entry, f"{count} rows went by the site's rule, and are in the backup before that run only")
            return
        reversals = _reversals_of(entry["after"])
        if reversals is None:
            self._conflict(entry, "an earlier release noted the way back as SQL text, which is not run: do it by hand")
            return
        try:
            for one in reversals:
                self.reverse(one, f"undoing {entry['fix_id']} on {entry['table_name']}")
        except (ScannerDbError, DriverError) as error:
            if self.conn.closed:
                raise
            self._conflict(entry, str(error).strip())
            return
        self.conn.execute("UPDATE scannerdb_maintenance.journal SET undone_at = now() WHERE seq = %s", [entry["seq"]])
        self.done[entry["fix_id"]] += 1

    def _writer(self, entry: Row) -> Writer:
        schema, table = entry["table_schema"], entry["table_name"]
        if (schema, table) not in self.writers:
            self.writers[schema, table] = writer_for(self.frames, schema, [table], self.application)
        return self.writers[schema, table]

    def _batch(self, entries: list[Row]) -> None:
        """Entries of one table and one operation in one transaction; where one of them cannot go back, each in its own
        savepoint, so that a conflict does not stop its neighbours."""
        first = entries[0]
        kept: dict[int, str] = {}
        started = time.monotonic()
        with self._writer(first).transaction([first["table_name"]], self.budget.timeout_ms, relaxed=False) as frame:
            try:
                with self.conn.transaction():
                    kept = put_back(frame, entries)
            except (RowKept, DriverError) as error:
                if not _is_conflict(error):
                    raise
                for entry in entries:
                    kept.update(self._alone(frame, entry))
            undone = [entry["seq"] for entry in entries if entry["seq"] not in kept]
            self.conn.execute(
                "UPDATE scannerdb_maintenance.journal SET undone_at = now() WHERE seq = ANY(%s)", [undone]
            )
        self.record.held(time.monotonic() - started)
        for entry in entries:  # counted only once the transaction holds
            if entry["seq"] in kept:
                self._conflict(entry, kept[entry["seq"]])
            else:
                self.done[entry["fix_id"]] += 1

    def _alone(self, frame: Frame, entry: Row) -> dict[int, str]:
        try:
            with self.conn.transaction():
                return put_back(frame, [entry])
        except (RowKept, DriverError) as error:
            if not _is_conflict(error):
                raise
            return {entry["seq"]: str(error).strip().splitlines()[0]}


def alike(entries: list[Row]) -> Iterator[list[Row]]:
    """Neighbouring entries of one table and one operation, in which no row comes twice. Pure."""
    for _, group in itertools.groupby(entries, key=lambda e: (e["table_schema"], e["table_name"], e["operation"])):
        batch: list[Row] = []
        seen: set[int] = set()
        for entry in group:
            if entry["row_id"] in seen:
                yield batch
                batch, seen = [], set()
            batch.append(entry)
            seen.add(entry["row_id"])
        yield batch


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, RowKept) or (getattr(error, "sqlstate", None) or "")[:2] in CONFLICTS


def _reversals_of(after: Any) -> list[Reversal] | None:
    """The reversals of an entry; None for one that holds SQL, as an earlier release wrote it. Pure."""
    steps = after.get("undo") if isinstance(after, dict) else None
    if not isinstance(steps, list) or any(not isinstance(s, dict) or set(s) != {"kind", "arguments"} for s in steps):
        return None
    return [Reversal(str(step["kind"]), step["arguments"]) for step in steps]
