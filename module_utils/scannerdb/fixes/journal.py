"""The journal: one row for every row that a fix changes, written in the same transaction, with both images.

It lives in the database itself, so that a backup holds it and a restore brings back what belongs together.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, Identifier, Literal, explained, scalar

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
        operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete')),
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


@dataclass(frozen=True)
class Entry:
    """Whose rows are being journalled."""

    run_id: str
    fix_id: str
    schema: str


def insert_entries(entry: Entry, table: str, operation: str, images: Composable, source: Composable) -> Composable:
    """The INSERT that journals rows: `images` are the expressions (row_id, before, after) over `source`."""
    return SQL(
        "INSERT INTO scannerdb_maintenance.journal"
        " (run_id, fix_id, table_schema, table_name, operation, row_id, before, after)"
        " SELECT {run}, {fix}, {schema}, {table}, {operation}, {images} FROM {source}"
    ).format(
        run=Literal(entry.run_id),
        fix=Literal(entry.fix_id),
        schema=Literal(entry.schema),
        table=Literal(table),
        operation=Literal(operation),
        images=images,
        source=source,
    )
