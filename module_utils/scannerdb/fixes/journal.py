"""The journal: one row for every row that a fix changes, written in the same transaction, with both images.

It lives in the database itself, so that a backup holds it and a restore brings back what belongs together. A change of
structure that can be taken back is an entry too; its after-image holds the statements. A site that wants speed switches
the journal off: a batch's images then go to a temporary table that is empty again at its end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, execute, explained, fetch, scalar, text_of
from ..finding import Change

SCHEMA = "scannerdb_maintenance"

CREATE = (
    "CREATE SCHEMA IF NOT EXISTS scannerdb_maintenance",
    """
    CREATE TABLE IF NOT EXISTS scannerdb_maintenance.journal (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run_id text NOT NULL,
        fix_id text NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        table_schema text NOT NULL,
        table_name text NOT NULL,
        operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete', 'structure')),
        row_id bigint,
        before jsonb,
        after jsonb,
        undone_at timestamptz
    )
    """,
    "CREATE INDEX IF NOT EXISTS journal_run ON scannerdb_maintenance.journal (run_id, seq)",
    "COMMENT ON TABLE scannerdb_maintenance.journal IS"
    " 'Rows changed by maintenance, with their images before and after; playbooks/undo.yml reads it'",
)


def journal_exists(conn: Connection) -> bool:
    """True where this database has a journal."""
    return bool(scalar(conn, "SELECT to_regclass('scannerdb_maintenance.journal') IS NOT NULL"))


def ensure_journal(conn: Connection, owner: str) -> bool:
    """Make the journal where there is none, owned by the owner of the data; returns whether it was made."""
    with explained("Making the journal (schema scannerdb_maintenance)"):
        if journal_exists(conn):
            return False
        with conn.transaction():
            for statement in CREATE:
                conn.execute(statement)
            if owner and owner != scalar(conn, "SELECT current_user::text"):
                name = Identifier(owner)
                # The schema first: a table's new owner must be allowed to make tables there.
                conn.execute(SQL("ALTER SCHEMA scannerdb_maintenance OWNER TO {}").format(name))
                conn.execute(SQL("ALTER TABLE scannerdb_maintenance.journal OWNER TO {}").format(name))
    return True


SCRATCH = """
CREATE TEMP TABLE IF NOT EXISTS scannerdb_batch (
    seq bigint GENERATED ALWAYS AS IDENTITY, run_id text, fix_id text, table_schema text, table_name text,
    operation text, row_id bigint, before jsonb, after jsonb
) ON COMMIT DELETE ROWS
"""
PURGE_ROWS = 10000


@dataclass(frozen=True)
class Entry:
    """Whose rows are being journalled; without `kept`, only for as long as their batch lasts."""

    run_id: str
    fix_id: str
    schema: str
    kept: bool = True

    @property
    def table(self) -> Composable:
        """The table that takes the images."""
        return SQL("scannerdb_maintenance.journal") if self.kept else SQL("pg_temp.scannerdb_batch")


def insert_entries(entry: Entry, table: str, operation: str, images: Composable, source: Composable) -> Composable:
    """The INSERT that journals rows: `images` are the expressions (row_id, before, after) over `source`."""
    return SQL(
        "INSERT INTO {journal} (run_id, fix_id, table_schema, table_name, operation, row_id, before, after)"
        " SELECT {run}, {fix}, {schema}, {table}, {operation}, {images} FROM {source}"
    ).format(
        journal=entry.table,
        run=Literal(entry.run_id),
        fix=Literal(entry.fix_id),
        schema=Literal(entry.schema),
        table=Literal(table),
        operation=Literal(operation),
        images=images,
        source=source,
    )


def record_structure(conn: Connection, entry: Entry, place: str, undo: Sequence[Change]) -> int:
    """Note how a change of structure is taken back; returns the entry's number."""
    steps = [
        {
            "how": change.how,
            "lock": change.lock,
            "relations": [list(pair) for pair in change.relations],
            "sql": [text_of(statement) for statement in change.statements],
        }
        for change in undo
    ]
    query = (
        "INSERT INTO scannerdb_maintenance.journal (run_id, fix_id, table_schema, table_name, operation, after)"
        " VALUES (%s, %s, %s, %s, 'structure', %s::jsonb) RETURNING seq"
    )
    return int(scalar(conn, query, [entry.run_id, entry.fix_id, entry.schema, place, json.dumps({"undo": steps})]))


def forget(conn: Connection, seq: int) -> None:
    """Take back the note about a change of structure that failed."""
    conn.execute("DELETE FROM scannerdb_maintenance.journal WHERE seq = %s", [seq])


def changes_of(after: dict[str, Any]) -> list[Change]:
    """The changes that take a structural entry back, out of its after-image."""
    return [
        Change(
            tuple(step["sql"]),
            step["lock"],
            step["how"],
            tuple((schema, name) for schema, name in step["relations"]),
        )
        for step in after["undo"]
    ]


def journal_report(conn: Connection) -> dict[str, Any]:
    """How large the journal is: rows (the planner's count), bytes, and the oldest entry."""
    if not journal_exists(conn):
        return {"rows": 0, "bytes": 0, "oldest": ""}
    return fetch(
        conn,
        """
        SELECT greatest(c.reltuples, 0)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes,
               coalesce((SELECT written_at::timestamptz(0)::text FROM scannerdb_maintenance.journal
                          ORDER BY seq LIMIT 1), '') AS oldest
          FROM pg_class c WHERE c.oid = 'scannerdb_maintenance.journal'::regclass
        """,
    )[0]


def purge(conn: Connection, days: int) -> int:
    """Remove entries older than `days` (0 keeps all), oldest first and in small batches; returns how many."""
    if not days or not journal_exists(conn):
        return 0
    removed = 0
    while True:
        rows = execute(
            conn,
            """
            DELETE FROM scannerdb_maintenance.journal WHERE seq IN (
                SELECT seq FROM scannerdb_maintenance.journal
                 WHERE written_at < now() - make_interval(days => %s) ORDER BY seq LIMIT %s)
            """,
            [days, PURGE_ROWS],
        )
        removed += rows
        if rows < PURGE_ROWS:
            return removed
        time.sleep(0.01)
