"""The journal: one row for every row that a fix changes, written in the same transaction, with both images.

It lives in the database itself, so that a backup holds it and a restore brings back what belongs together. A change of
structure that can be taken back is an entry too; its after-image says how in words, out of which our code makes SQL. A
site that wants speed switches the journal off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, Row, execute, explained, fetch, scalar
from ..errors import UnsafeCode
from ..finding import Reversal
from .seals import Keys, is_sealed, seal_of

SCHEMA = "scannerdb_maintenance"
JOURNAL, SEAL = "journal", "seal"
CREATE = (
    """
    CREATE TABLE scannerdb_maintenance.journal (
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
    "CREATE INDEX journal_run ON scannerdb_maintenance.journal (run_id, seq)",
    "COMMENT ON TABLE scannerdb_maintenance.journal IS"
    " 'Rows changed by maintenance, with their images before and after; playbooks/undo.yml reads it'",
)
CREATE_SEAL = (
    "CREATE TABLE scannerdb_maintenance.seal"
    " (first_seq bigint PRIMARY KEY, last_seq bigint NOT NULL, run_id text NOT NULL, seal text NOT NULL)",
    "COMMENT ON TABLE scannerdb_maintenance.seal IS"
    " 'Keyed hashes over the batches of the journal: entries that somebody else wrote have none'",
)
COLUMNS = {
    JOURNAL: {
        ("seq", "bigint"),
        *((name, "text") for name in ("run_id", "fix_id", "table_schema", "table_name", "operation")),
        ("written_at", "timestamp with time zone"),
        ("undone_at", "timestamp with time zone"),
        ("row_id", "bigint"),
        ("before", "jsonb"),
        ("after", "jsonb"),
    },
    SEAL: {("first_seq", "bigint"), ("last_seq", "bigint"), ("run_id", "text"), ("seal", "text")},
}
# What is not as we make it: code of any kind, and whatever else could change what is read or written.
STRANGE = """
WITH t AS (SELECT c.* FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'scannerdb_maintenance' AND c.relname IN ('journal', 'seal')),
parts AS (
    SELECT 'pg_constraint'::regclass AS catalog, x.oid AS part
      FROM t, pg_catalog.pg_constraint x WHERE x.conrelid = t.oid
    UNION ALL SELECT 'pg_attrdef'::regclass, x.oid FROM t, pg_catalog.pg_attrdef x WHERE x.adrelid = t.oid
    UNION ALL SELECT 'pg_class'::regclass, x.indexrelid FROM t, pg_catalog.pg_index x WHERE x.indrelid = t.oid
    UNION ALL SELECT 'pg_statistic_ext'::regclass, x.oid FROM t, pg_catalog.pg_statistic_ext x WHERE x.stxrelid = t.oid)
SELECT 'it is no plain table' AS what FROM t WHERE relkind <> 'r' OR relispartition OR relpersistence <> 'p'
UNION ALL SELECT 'it has the trigger ' || quote_ident(x.tgname) FROM t, pg_catalog.pg_trigger x WHERE x.tgrelid = t.oid
UNION ALL SELECT 'it has the rule ' || quote_ident(x.rulename) FROM t, pg_catalog.pg_rewrite x WHERE x.ev_class = t.oid
UNION ALL SELECT 'it has policies' FROM t WHERE relrowsecurity OR relforcerowsecurity
UNION ALL SELECT 'it has the policy ' || quote_ident(x.polname) FROM t, pg_catalog.pg_policy x WHERE x.polrelid = t.oid
UNION ALL SELECT 'it is part of an inheritance'
  FROM t, pg_catalog.pg_inherits x WHERE t.oid IN (x.inhrelid, x.inhparent)
UNION ALL
SELECT 'it uses the function ' || quote_ident(p.proname) FROM parts
  JOIN pg_catalog.pg_depend d ON d.classid = parts.catalog AND d.objid = parts.part
  JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
UNION ALL
SELECT 'it uses the operator ' || o.oprname FROM parts
  JOIN pg_catalog.pg_depend d ON d.classid = parts.catalog AND d.objid = parts.part
  JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
LIMIT 1
"""
OWNERS = """
SELECT kind, what, owner, r.rolsuper OR owner = current_user AS ours,
       EXISTS (SELECT FROM pg_catalog.pg_roles d WHERE d.rolname = %(data)s AND pg_has_role(r.oid, d.oid, 'MEMBER'))
       AND owner NOT IN (%(data)s, %(application)s) AS above
  FROM (SELECT 'schema' AS kind, 'schema' AS what, pg_get_userbyid(n.nspowner)::text AS owner
          FROM pg_catalog.pg_namespace n WHERE n.nspname = 'scannerdb_maintenance'
        UNION ALL
        SELECT 'table', c.relname::text, pg_get_userbyid(c.relowner)::text
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'scannerdb_maintenance' AND c.relname IN ('journal', 'seal')) o
  JOIN pg_catalog.pg_roles r ON r.rolname = o.owner
 ORDER BY kind
"""
REPORT = """
SELECT greatest(c.reltuples, 0)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes,
       coalesce((SELECT written_at::timestamptz(0)::text FROM scannerdb_maintenance.journal
                  ORDER BY seq LIMIT 1), '') AS oldest
  FROM pg_catalog.pg_class c WHERE c.oid = 'scannerdb_maintenance.journal'::regclass
"""
HINT = (
    "Look at what is in the schema scannerdb_maintenance; drop it if it is not the bundle's: no fix can be undone then."
)
PURGE_ROWS = 10000


def journal_exists(conn: Connection) -> bool:
    """True where this database has a journal."""
    return bool(scalar(conn, "SELECT to_regclass('scannerdb_maintenance.journal') IS NOT NULL"))


def ensure_journal(conn: Connection, owner: str, application: str = "", make: bool = True) -> bool:
    """Make the journal where there is none and `make` says so, and prove that it is ours; returns whether there is one.

    `owner` and `application` are the roles that own the data and write it. The journal belongs to the session's role or
    to a superuser; one that an earlier release gave to the data's owner, or that a role above it made, is taken over.
    Raises `UnsafeCode` for a schema or table that is anybody else's, or that runs code. Nothing of it can change later:
    only its owner could.
    """
    with explained("Making the journal (schema scannerdb_maintenance)"), conn.transaction():
        if not scalar(conn, "SELECT to_regnamespace('scannerdb_maintenance') IS NOT NULL"):
            if not make:
                return False
            conn.execute("CREATE SCHEMA scannerdb_maintenance")
        hold_journal(conn)
        _own(conn, owner, application)
        for table, statements in (("journal", CREATE), ("seal", CREATE_SEAL)):
            if make and not scalar(conn, f"SELECT to_regclass('scannerdb_maintenance.{table}') IS NOT NULL"):
                for statement in statements:
                    conn.execute(statement)
        return journal_exists(conn)


def hold_journal(conn: Connection) -> None:
    """Lock the journal until the end of the transaction, and prove that it runs nobody's code."""
    conn.execute("SET LOCAL lock_timeout = '5s'")
    for table in (JOURNAL, SEAL):
        if scalar(conn, f"SELECT to_regclass('scannerdb_maintenance.{table}') IS NOT NULL"):
            conn.execute(f"LOCK TABLE scannerdb_maintenance.{table} IN ROW EXCLUSIVE MODE")
    strange = [row["what"] for row in fetch(conn, STRANGE)] + _other_columns(conn)
    if strange:
        raise UnsafeCode(f"The journal in scannerdb_maintenance is not as the bundle makes it: {strange[0]}.", HINT)


def _own(conn: Connection, owner: str, application: str) -> None:
    """Take over what belongs to the data's owner or to a role above it; refuse what belongs to any other role."""
    for row in fetch(conn, OWNERS, {"data": owner, "application": application}):
        if row["ours"]:
            continue
        if not row["above"] and row["owner"] not in (owner, application):
            raise UnsafeCode(
                f"The {row['what']} in or of scannerdb_maintenance belongs to {row['owner']}, who could change it.",
                f"{HINT} Or give it to the role that runs the jobs.",
            )
        target = (
            "SCHEMA scannerdb_maintenance" if row["kind"] == "schema" else f"TABLE scannerdb_maintenance.{row['what']}"
        )
        conn.execute(f"ALTER {target} OWNER TO CURRENT_USER")  # type: ignore[arg-type,unused-ignore]
        if row["above"]:
            former = Identifier(row["owner"])
            conn.execute(SQL("GRANT ALL ON {} TO {}").format(SQL(target), former))  # type: ignore[arg-type,unused-ignore]


def _other_columns(conn: Connection) -> list[str]:
    query = (
        "SELECT c.relname::text AS name, a.attname::text AS column, format_type(a.atttypid, NULL) AS type,"
        " a.attgenerated::text AS made FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'scannerdb_maintenance'"
        " AND c.relname IN ('journal', 'seal') AND c.relkind IN ('r', 'p', 'v', 'f')"
        " AND a.attnum > 0 AND NOT a.attisdropped"
    )
    found: dict[str, set[tuple[str, str]]] = {}
    for row in fetch(conn, query):
        found.setdefault(row["name"], set()).add((row["column"], row["type"] + row["made"]))
    return [f"{name} has other columns" for name, columns in found.items() if columns != COLUMNS[name]]


@dataclass(frozen=True)
class JournalEntry:
    """Whose rows are being journalled; without `kept`, only for as long as their batch lasts. `keys` seal them."""

    run_id: str
    fix_id: str
    schema: str
    kept: bool = True
    keys: Keys | None = None


# The hash over entries: of what they say, in the order in which they were written.
HASHED = (
    "encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', {0}.table_schema, {0}.table_name, {0}.operation,"
    " {0}.row_id, coalesce({0}.before::text, '-'), coalesce({0}.after::text, '-')), E'\\n' ORDER BY {0}.seq), ''),"
    " 'UTF8')), 'hex')"
)


def note(conn: Connection, entry: JournalEntry, source: Composable) -> Row:
    """Run `source`, a table expression with the columns of `frame.IMAGES`, and journal what it returns, sealed.

    Returns how many rows there were, and how many had the flags `still` and `others`.
    """
    if not entry.kept:
        query = SQL(
            "SELECT count(*) AS rows, count(*) FILTER (WHERE s.flag = 'still') AS still,"
            " count(*) FILTER (WHERE s.flag = 'others') AS others FROM {} s"
        )
        return fetch(conn, query.format(source))[0]
    counted = SQL(
        "WITH s AS MATERIALIZED (SELECT * FROM {source}), made AS (INSERT INTO scannerdb_maintenance.journal"
        " (run_id, fix_id, table_schema, table_name, operation, row_id, before, after)"
        " SELECT {run}, {fix}, {schema}, s.table_name, s.operation, s.row_id, s.before, s.after FROM s RETURNING *),"
        " c AS (SELECT count(*) AS rows, count(*) FILTER (WHERE s.flag = 'still') AS still,"
        " count(*) FILTER (WHERE s.flag = 'others') AS others FROM s)"
        " SELECT c.*, m.* FROM c, (SELECT min(made.seq) AS first, max(made.seq) AS last, {hash} AS hash FROM made) m"
    ).format(
        source=source,
        run=Literal(entry.run_id),
        fix=Literal(entry.fix_id),
        schema=Literal(entry.schema),
        hash=SQL(HASHED.format("made")),  # type: ignore[arg-type,unused-ignore]
    )
    row = fetch(conn, counted)[0]
    if row["rows"]:
        _seal(conn, entry, row)
    return row


def note_images(conn: Connection, entry: JournalEntry, table: str, images: Sequence[tuple[int, str, str]]) -> None:
    """Journal updates of which both images are known as text."""
    numbers, before, after = ([image[n] for image in images] for n in range(3))
    source = SQL(
        "(SELECT {}::text AS table_name, 'update'::text AS operation, u.id AS row_id, u.b::jsonb AS before,"
        " u.a::jsonb AS after, NULL::text AS flag FROM unnest({}::bigint[], {}::text[], {}::text[]) u(id, b, a)) x"
    ).format(Literal(table), Literal(numbers), Literal(before), Literal(after))
    if images and entry.kept:
        note(conn, entry, source)


def note_structure(conn: Connection, entry: JournalEntry, place: str, undo: Sequence[Reversal]) -> int:
    """Note how a change of structure is taken back; returns the entry's number."""
    after = json.dumps({"undo": [{"kind": one.kind, "arguments": dict(one.arguments)} for one in undo]})
    source = SQL(
        "(SELECT {}::text AS table_name, 'structure'::text AS operation, NULL::bigint AS row_id, NULL::jsonb AS before,"
        " {}::jsonb AS after, NULL::text AS flag) x"
    ).format(Literal(place), Literal(after))
    with conn.transaction():
        return int(note(conn, entry, source)["first"])


def _seal(conn: Connection, entry: JournalEntry, row: Row) -> None:
    conn.execute(
        "INSERT INTO scannerdb_maintenance.seal VALUES (%s, %s, %s, %s)",
        [row["first"], row["last"], entry.run_id, seal_of(entry.keys, entry.run_id, entry.fix_id, row["hash"])],
    )


def sealed_ranges(conn: Connection, run_id: str, keys: Keys | None) -> list[tuple[int, int]]:
    """The entries of a run that this host wrote, as ranges of their numbers."""
    if not scalar(conn, "SELECT to_regclass('scannerdb_maintenance.seal') IS NOT NULL"):
        return []
    query = SQL(
        "SELECT s.first_seq AS first, s.last_seq AS last, s.seal, min(j.fix_id) AS fix_id,"
        " count(DISTINCT j.fix_id) AS fixes, {} AS hash"
        " FROM scannerdb_maintenance.seal s JOIN scannerdb_maintenance.journal j"
        " ON j.run_id = s.run_id AND j.seq BETWEEN s.first_seq AND s.last_seq"
        " WHERE s.run_id = %s GROUP BY s.first_seq"
    ).format(SQL(HASHED.format("j")))  # type: ignore[arg-type,unused-ignore]
    return [
        (row["first"], row["last"])
        for row in fetch(conn, query, [run_id])
        if row["fixes"] == 1 and is_sealed(keys, run_id, row["fix_id"], row["hash"], row["seal"])
    ]


def forget(conn: Connection, seq: int) -> None:
    """Take back the note about a change of structure that failed."""
    with conn.transaction():
        conn.execute("DELETE FROM scannerdb_maintenance.journal WHERE seq = %s", [seq])
        conn.execute("DELETE FROM scannerdb_maintenance.seal WHERE first_seq = %s AND last_seq = %s", [seq, seq])


def journal_report(conn: Connection) -> dict[str, Any]:
    """How large the journal is: rows (the planner's count), bytes, and the oldest entry."""
    if not journal_exists(conn):
        return {"rows": 0, "bytes": 0, "oldest": ""}
    with explained("Reading the journal"), conn.transaction():
        hold_journal(conn)
        return fetch(conn, REPORT)[0]


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
            break
        time.sleep(0.01)
    if removed:
        conn.execute(
            "DELETE FROM scannerdb_maintenance.seal s WHERE NOT EXISTS (SELECT FROM scannerdb_maintenance.journal j"
            " WHERE j.seq BETWEEN s.first_seq AND s.last_seq)"
        )
    return removed
