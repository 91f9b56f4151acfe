"""Changes of structure: what may evaluate a table's own expressions runs with the rights of its owner, in a frame.

ALTER TABLE plans queries and evaluates constraints. What PostgreSQL itself runs as the owner (indexes), and what
evaluates nothing (CREATE, DROP, GRANT, OWNER TO, NOT VALID, ENABLE TRIGGER), runs in the session itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from ..connection import SQL, Connection, Literal, Query, scalar, text_of
from ..finding import Change
from ..foreigncode import is_superuser, refuse_foreign_code
from ..frame import Frames
from ..lockbudget import SOFT_TIMEOUT_MS, Budget, LockRecord, relation, retrying, run_alone, who_blocks

_TABLE = re.compile(r'^ALTER TABLE ("(?:[^"]|"")*")\.("(?:[^"]|"")*") (.*)$', re.DOTALL)
READS_ROWS = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
_EVALUATES_NOTHING = re.compile(r"^(OWNER TO |ENABLE TRIGGER )|( NOT VALID| NOT ENFORCED)$")


def altered_table(statement: Query) -> tuple[str, str] | None:
    """The table (schema, name) that a statement alters so that its expressions may be evaluated, or None. Pure."""
    text = text_of(statement)
    found = _TABLE.match(text)
    if found is None:
        if text.startswith("ALTER TABLE"):
            raise ValueError(f"not a statement of ours: {text}")
        return None
    if _EVALUATES_NOTHING.search(found[3]):
        return None
    schema, name = (found[n][1:-1].replace('""', '"') for n in (1, 2))
    return schema, name


def owner_of(conn: Connection, table: tuple[str, str]) -> str:
    """Who owns a table; an empty text where there is none."""
    query = (
        "SELECT pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
    )
    return str(scalar(conn, query, list(table)) or "")


def run_strong_change(frames: Frames, change: Change, budget: Budget, record: LockRecord, what: str) -> None:
    """One transaction under the lock budget; the soft lock comes first. `what` opens an error's sentence."""
    conn, relations = frames.conn, change.relations
    local = {"lock_timeout": f"{budget.timeout_ms}ms"}

    def attempt() -> None:
        with frames.transaction({"lock_timeout": f"{SOFT_TIMEOUT_MS}ms"}):
            for schema, name in relations:
                conn.execute(SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(relation(schema, name)))
            conn.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(local["lock_timeout"])))
            started = time.monotonic()
            for statement in change.statements:
                _run(frames, statement, local, relations)
        record.held(time.monotonic() - started, structure=True)

    retrying(attempt, budget, record, what, lambda: who_blocks(conn, relations, change.lock))


def run_online(frames: Frames, change: Change, budget: Budget) -> None:
    """Statements that stop no writer, each on its own and with a long lock timeout."""
    local = {"lock_timeout": f"{budget.online_ms}ms"}
    for statement in change.statements:
        if altered_table(statement) is None:
            run_alone(frames.conn, statement, budget.online_ms)
        else:
            with frames.transaction(local):
                _run(frames, statement, local, change.relations)


def run_plain(frames: Frames, change: Change) -> None:
    """Statements that lock nothing that exists, in one transaction."""
    with frames.transaction():
        for statement in change.statements:
            _run(frames, statement, {}, change.relations)


def _run(frames: Frames, statement: Query, local: Mapping[str, str], relations: Sequence[tuple[str, str]]) -> None:
    table = altered_table(statement)
    if table is None and text_of(statement).lstrip().startswith(READS_ROWS):
        table = relations[0]
    owner = owner_of(frames.conn, table) if table else ""
    if not table or not owner:
        frames.conn.execute(statement)
        return
    if frames.superuser and is_superuser(frames.conn, owner):
        refuse_foreign_code(frames.conn, table[0], [table[1]], owner, triggers=False)
    frames.of(owner, local).run(statement)
