"""Going backwards through the journal. A row goes back exactly, or it is listed with the reason."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Literal, Row, fetch, scalar
from ..errors import ScannerDbError
from ..finding import Change, matches
from ..lockbudget import Budget, LockRecord, retrying
from .journal import changes_of

IN_THE_WAY = {"23503", "23505"}
CONFLICTS_SHOWN = 1000


@dataclass
class Undoer:
    """The undoing of one run."""

    conn: Connection
    run_id: str
    only: tuple[str, ...]
    budget: Budget
    batch_rows: int
    change: Callable[[Change, str], None]
    progress: Callable[[int], None] = lambda rows: None
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    record: LockRecord = field(default_factory=LockRecord)

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
            SELECT seq, fix_id, table_schema, table_name, operation, row_id, before, after
              FROM scannerdb_maintenance.journal
             WHERE run_id = %(run)s AND undone_at IS NULL AND fix_id = ANY(%(fixes)s)
               AND (%(before)s::bigint IS NULL OR seq < %(before)s)
             ORDER BY seq DESC LIMIT %(limit)s
            """,
            {"run": self.run_id, "fixes": selected, "before": before, "limit": self.batch_rows},
        )

    def _rows(self, entries: list[Row]) -> None:
        retrying(
            lambda: self._batch(entries),
            self.budget,
            self.record,
            f"Undoing run {self.run_id}",
            lambda: "rows are held by other sessions",
        )

    def _structure(self, entry: Row) -> None:
        """Take a change of structure back; what cannot be is listed with the reason."""
        what = f"undoing {entry['fix_id']} on {entry['table_name']}"
        try:
            for change in changes_of(entry["after"]):
                self.change(change, what)
        except (ScannerDbError, DriverError) as error:
            if self.conn.closed:
                raise
            self.conflicts.append({"id": entry["fix_id"], "object": entry["table_name"], "why": str(error).strip()})
            return
        self.conn.execute("UPDATE scannerdb_maintenance.journal SET undone_at = now() WHERE seq = %s", [entry["seq"]])
        self.done[entry["fix_id"]] += 1

    def _batch(self, entries: list[Row]) -> None:
        """One transaction: each entry in a savepoint, so that one conflict does not stop its neighbours."""
        outcomes: list[tuple[Row, str]] = []
        with self.conn.transaction():
            self.conn.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(self.budget.timeout_ms)))
            for entry in entries:
                outcomes.append((entry, self._one(entry)))
            undone = [entry["seq"] for entry, why in outcomes if not why]
            self.conn.execute(
                "UPDATE scannerdb_maintenance.journal SET undone_at = now() WHERE seq = ANY(%s)", [undone]
            )
        for entry, why in outcomes:  # counted only once the transaction holds
            if not why:
                self.done[entry["fix_id"]] += 1
            elif len(self.conflicts) < CONFLICTS_SHOWN:
                place = f"{entry['table_name']} id {entry['row_id']}"
                self.conflicts.append({"id": entry["fix_id"], "object": place, "why": why})

    def _one(self, entry: Row) -> str:
        """Undo one entry; returns why it was not, or nothing."""
        action = {"update": self._back, "insert": self._remove, "delete": self._bring_back}[entry["operation"]]
        try:
            with self.conn.transaction():
                return action(entry)
        except _Kept as kept:
            return str(kept)
        except DriverError as error:
            if getattr(error, "sqlstate", None) not in IN_THE_WAY:
                raise
            return str(error).strip().splitlines()[0]

    def _table(self, entry: Row) -> Composable:
        return SQL("{}.{}").format(Identifier(entry["table_schema"]), Identifier(entry["table_name"]))

    def _unchanged(self, entry: Row) -> str:
        """Why the row is not what the fix left; it is locked by this."""
        # An after-image may hold only the columns that were set.
        query = SQL(
            "SELECT to_jsonb(t) = coalesce(j.before, '{{}}') || j.after AS same"
            " FROM {} t, scannerdb_maintenance.journal j"
        ).format(self._table(entry)) + SQL(" WHERE t.id = {} AND j.seq = {} FOR UPDATE OF t").format(
            Literal(entry["row_id"]), Literal(entry["seq"])
        )
        rows = fetch(self.conn, query)
        if not rows:
            return "the row is gone"
        return "" if rows[0]["same"] else "the row has been changed since"

    def _back(self, entry: Row) -> str:
        """An update goes back in two steps: what row triggers watch, then what they stamp; then the row is compared."""
        why = self._unchanged(entry)
        if why:
            return why
        table = self._table(entry)
        image = SQL(
            "(SELECT (jsonb_populate_record(NULL::{}, j.before)).* FROM scannerdb_maintenance.journal j"
            " WHERE j.seq = {}) r"
        ).format(table, Literal(entry["seq"]))
        row_id = Literal(entry["row_id"])
        current = SQL("SELECT to_jsonb(t) AS row FROM {} t WHERE t.id = {}").format(table, row_id)
        for _ in range(2):  # the first UPDATE fires row triggers; the second mends what they stamped and fires none
            row = scalar(self.conn, current)
            changed = [column for column, value in entry["before"].items() if row.get(column) != value]
            if not changed:
                return ""
            sets = SQL(", ").join(SQL("{0} = r.{0}").format(Identifier(column)) for column in changed)
            self.conn.execute(SQL("UPDATE {} t SET {} FROM {} WHERE t.id = {}").format(table, sets, image, row_id))
        if scalar(self.conn, current) != entry["before"]:
            raise _Kept("a trigger of this site changes the row while it is put back")
        return ""

    def _remove(self, entry: Row) -> str:
        why = self._unchanged(entry)
        if not why:
            delete = SQL("DELETE FROM {} t WHERE t.id = {}").format(self._table(entry), Literal(entry["row_id"]))
            self.conn.execute(delete)
        return why

    def _bring_back(self, entry: Row) -> str:
        table = self._table(entry)
        insert = SQL(
            "INSERT INTO {0} SELECT (jsonb_populate_record(NULL::{0}, j.before)).*"
            " FROM scannerdb_maintenance.journal j WHERE j.seq = {1}"
        ).format(table, Literal(entry["seq"]))
        self.conn.execute(insert)
        return ""


class _Kept(Exception):
    """Rolls a savepoint back; its text is the reason."""
