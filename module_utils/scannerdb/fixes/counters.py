"""Counters in `metadata` set to what they count, by a statement that counts in the moment in which it writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..connection import SQL, Literal
from ..counters import TABLE, refresh
from ..lockbudget import retrying, who_blocks
from .journal import note
from .rowfix import At, RowFix


@dataclass(frozen=True)
class CounterFix(RowFix):
    """The counters that are wrong, each in a transaction of its own: others write them too."""

    keys: tuple[str, ...] = ()
    dated: bool = False

    def run(self, at: At) -> int:
        """Refresh them; one that says the right thing by now counts as none."""
        done: list[str] = []
        conn = at.writer.frames.conn
        for key in self.keys:
            retrying(
                partial(self._refresh, at, key, done),
                at.budget,
                at.record,
                f"Refreshing {key} in {TABLE}",
                lambda: who_blocks(conn, [(at.entry.schema, TABLE)], "ROW EXCLUSIVE"),
            )
            at.progress(len(done))
        return len(done)

    def _refresh(self, at: At, key: str, done: list[str]) -> None:
        images = SQL(" AND o.ctid = t.ctid RETURNING pg_catalog.to_jsonb(o) AS before, pg_catalog.to_jsonb(t) AS after")
        statement = SQL(
            "WITH done AS ({}) SELECT {}::text, 'update'::text, NULL::bigint, d.before, d.after, NULL::text FROM done d"
        ).format(refresh(at.entry.schema, key, dated=self.dated, returning=images), Literal(TABLE))
        with at.writer.transaction(self.tables, at.budget.timeout_ms) as frame, frame.images(statement) as source:
            rows = int(note(at.writer.frames.conn, at.entry, source)["rows"])
        done += [key] * rows
        if rows:
            at.touch()
