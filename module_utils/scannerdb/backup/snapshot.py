"""One exported snapshot: pg_dump reads through it, and the rows of every table are counted in it meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..connection import SQL, Connection, DriverError, Literal, ServerInfo, execute, explained, fetch, scalar
from ..errors import LockTimeout, PrivilegeMissing, quoted
from ..lockbudget import relation
from ..sets.fingerprint import fingerprint, pin_settings
from ..sets.manifest import TableCount

Table = tuple[str, str]
# Tables and sequences that pg_dump saves: no temporary ones, none that an extension brings along.
_RELATIONS = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       has_schema_privilege(n.oid, 'USAGE')
       AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                          ELSE has_table_privilege(c.oid, 'SELECT') END AS readable,
       c.relkind <> 'S' AND row_security_active(c.oid) AS filtered
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e'
                      AND (e.classid, e.objid) IN (('pg_class'::regclass, c.oid), ('pg_namespace'::regclass, n.oid)))
 ORDER BY 1, 2
"""
# Tables with an index or statistics whose expressions call functions of roles that are no superusers. The planner may
# run these when it looks at a table, with the rights of whoever asks.
_FOREIGN_EXPRESSIONS = """
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name
  FROM (SELECT 'pg_class'::regclass AS catalog, indexrelid AS id, indrelid AS relation FROM pg_index
         UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxrelid FROM pg_statistic_ext) x
  JOIN pg_depend d ON d.classid = x.catalog AND d.objid = x.id
  LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  JOIN pg_proc p ON p.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
  JOIN pg_roles r ON r.oid = p.proowner AND NOT r.rolsuper
  JOIN pg_class c ON c.oid = x.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
"""
# One of them, as it is now.
_FOREIGN_NOW = f"SELECT EXISTS (SELECT FROM ({_FOREIGN_EXPRESSIONS}) x WHERE schema = %s AND name = %s)"  # noqa: S608
# Tables of roles that are neither superusers nor the session's own: these can give them such expressions at any time.
_GUARDED = """
SELECT n.nspname::text AS schema, c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
 WHERE c.relkind = 'r' AND NOT r.rolsuper AND r.rolname <> current_user
"""
# A session of ours that keeps others from writing (a migration does) keeps them from that, too.
_STILL = """
SELECT EXISTS (
    SELECT FROM pg_locks l
      JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
       AND starts_with(a.application_name, 'scannerdb ')
      JOIN pg_class c ON c.oid = l.relation
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'ShareRowExclusiveLock'
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND n.nspname = %s AND c.relname = %s)
"""
# No right to lock, locked by somebody, a standby.
_NOT_HELD = ("42501", "55P03", "55000", "25006")
_HOLDERS = """
SELECT DISTINCT a.pid, coalesce(a.usename::text, a.backend_type) AS who, a.application_name AS name,
       c.relname::text AS object
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.mode = 'AccessExclusiveLock' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND c.relkind IN ('r', 'p', 'S') AND a.pid <> pg_backend_pid()
 ORDER BY 1 LIMIT 5
"""
_STUCK = """
SELECT count(*) > 0
  FROM pg_stat_activity
 WHERE application_name = %s AND wait_event_type = 'Lock'
   AND clock_timestamp() - query_start > %s * interval '1 millisecond'
"""
# The table itself is counted, as pg_dump reads it: an index that lacks rows must not refuse a dump that has them all.
_COUNTING = ("enable_seqscan = on", "enable_indexscan = off", "enable_indexonlyscan = off")
# A table vanished between the list and the lock, or a standby had to go on replaying: the next attempt may succeed.
RECOVERY_CONFLICT = "40001"  # what a standby calls it
_PASSING = ("55P03", "42P01", "3F000", RECOVERY_CONFLICT, "40P01")


class Passing(LockTimeout):
    """An attempt to dump failed for a reason that goes away by itself; the caller tries again until its deadline."""

    conflict = False  # whether a standby had to go on replaying


class StandbyConflict(LockTimeout):
    """A standby had to go on replaying, time and again, and ended the dump for that; the primary would not."""


@dataclass(frozen=True)
class Snapshot:
    """An open snapshot: its id for pg_dump, where the log stood, and the tables whose rows the dump holds.

    No plan is made for those that are `unplanned`, and for those that are `guarded` while they are held still only.
    """

    conn: Connection
    id: str
    lsn: str
    tables: tuple[Table, ...]
    unplanned: frozenset[Table] = frozenset()
    guarded: frozenset[Table] = frozenset()


@contextlib.contextmanager
def open_snapshot(conn: Connection, server: ServerInfo, lock_timeout_ms: int) -> Iterator[Snapshot]:
    """Lock every table against being dropped or rebuilt, then export a snapshot; both last as long as the block.

    The lock (ACCESS SHARE, as of any SELECT) comes first, so the snapshot's tables are all there when pg_dump asks for
    them. Raises `PrivilegeMissing`, which names the tables, or `Passing`.
    """
    relations = _relations(conn)
    with explained("Opening the snapshot"):
        execute(conn, SQL("SET lock_timeout = {}").format(Literal(lock_timeout_ms)))
        if server.major >= 17:
            execute(conn, "SET transaction_timeout = 0")
        execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        with passing("Locking the tables"):
            _lock(conn, relations)
            _ensure_same(conn, relations)
        with explained("Exporting the snapshot"):
            identifier = str(scalar(conn, "SELECT pg_export_snapshot()"))
            lsn = "pg_last_wal_replay_lsn()" if server.in_recovery else "pg_current_wal_lsn()"
            position = str(scalar(conn, f"SELECT {lsn}::text"))
            unplanned, guarded = unplanned_tables(conn), _tables(conn, _GUARDED)
        yield Snapshot(conn, identifier, position, _counted(relations, server.in_recovery), unplanned, guarded)
    finally:
        with contextlib.suppress(DriverError):
            execute(conn, "ROLLBACK")


@contextlib.contextmanager
def passing(doing: str) -> Iterator[None]:
    """Raise `Passing` for the driver's errors that another attempt may not meet; explain the others."""
    with explained(doing):
        try:
            yield
        except DriverError as error:
            if getattr(error, "sqlstate", None) in _PASSING:
                found = Passing(f"{doing} failed: {str(error).splitlines()[0]}.")
                found.conflict = getattr(error, "sqlstate", None) == RECOVERY_CONFLICT
                raise found from error
            raise


@dataclass(frozen=True)
class _Relation:
    schema: str
    name: str
    kind: str
    persistence: str


def _relations(conn: Connection) -> list[_Relation]:
    """What pg_dump will read; raises where the role may not, as pg_dump would much later."""
    with explained("Listing the tables"):
        rows = fetch(conn, _RELATIONS)
    closed = [f"{row['schema']}.{row['name']}" for row in rows if not row["readable"]]
    if closed:
        raise PrivilegeMissing(
            f"The backup's role may not read {_some(closed)}.", "Grant it pg_read_all_data (playbooks/deploy.yml does)."
        )
    filtered = [f"{row['schema']}.{row['name']}" for row in rows if row["filtered"]]
    if filtered:
        raise PrivilegeMissing(
            f"Row-level security hides rows of {_some(filtered)} from the backup's role.",
            "Give the role BYPASSRLS, or back up as the tables' owner.",
        )
    return [_Relation(row["schema"], row["name"], row["kind"], row["persistence"]) for row in rows]


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _lock(conn: Connection, relations: Sequence[_Relation]) -> None:
    tables = [relation(r.schema, r.name) for r in relations if r.kind in ("r", "p")]
    if tables:
        execute(conn, SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(SQL(", ONLY ").join(tables)))


def _ensure_same(conn: Connection, relations: Sequence[_Relation]) -> None:
    """Raise `Passing` where something else took a table's place before it was locked: a view would run functions."""
    swapped = set(relations) - set(_relations(conn))
    if swapped:
        names = sorted(f"{one.schema}.{one.name}" for one in swapped)
        raise Passing(f"{_some(names)} became something else while the tables were being locked.")


def _counted(relations: Sequence[_Relation], in_recovery: bool) -> tuple[Table, ...]:
    """Tables whose rows the dump holds: from a standby, unlogged ones cannot be read, and pg_dump leaves them empty."""
    return tuple((r.schema, r.name) for r in relations if r.kind == "r" and not (in_recovery and r.persistence == "u"))


def count_rows(snapshot: Snapshot, keep_on: Callable[[int, int], bool], fingerprints: bool = False) -> list[TableCount]:
    """Count the rows of every table of the snapshot, and fingerprint its content where that is wanted.

    `keep_on` hears before each table how many of how many are done, and ends the work by saying no.
    """
    counts: list[TableCount] = []
    pin_settings(snapshot.conn)
    with explained("Counting the rows"):
        for setting in _COUNTING:
            execute(snapshot.conn, f"SET LOCAL {setting}")
    for schema, name in snapshot.tables:
        if not keep_on(len(counts), len(snapshot.tables)):
            break
        with passing(f"Counting the rows of {schema}.{name}"), _plannable(snapshot, (schema, name)) as plannable:
            rows = (_rows if plannable else rows_unplanned)(snapshot.conn, schema, name)
            content = fingerprint(snapshot.conn, schema, name) if fingerprints and plannable else ""
            counts.append(TableCount(schema, name, rows, content))
    return counts


@contextlib.contextmanager
def _plannable(snapshot: Snapshot, table: Table) -> Iterator[bool]:
    """Whether a plan may be made for a table during the block.

    One whose owner is not trusted is locked for as long against whatever would give it code: another index, statistics.
    Nobody who reads or writes waits for that lock; where it cannot be had, no plan is made.
    """
    if table in snapshot.unplanned or table not in snapshot.guarded:
        yield table not in snapshot.unplanned
        return
    conn = snapshot.conn
    execute(conn, "SAVEPOINT held")
    try:
        if not scalar(conn, _STILL, [*table]):
            execute(conn, SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE").format(relation(*table)))
        held = not is_unplanned(conn, *table)
    except DriverError as error:
        if getattr(error, "sqlstate", None) not in _NOT_HELD:
            raise
        execute(conn, "ROLLBACK TO SAVEPOINT held")
        held = False
    yield held
    execute(conn, "ROLLBACK TO SAVEPOINT held")  # the lock goes with it


def is_unplanned(conn: Connection, schema: str, name: str) -> bool:
    """Whether a plan for that table would run functions of its owner, as it is now."""
    return bool(scalar(conn, _FOREIGN_NOW, [schema, name]))


def _rows(conn: Connection, schema: str, name: str) -> int:
    """The rows of a table without its children, passed over by a cursor.

    That has no aggregate to feed (a tenth less work than count), and no parallel workers, which would take the dump's
    processors: counting is far faster than any dump.
    """
    cursor = SQL("DECLARE scannerdb_rows NO SCROLL CURSOR FOR SELECT FROM ONLY {}")
    execute(conn, cursor.format(relation(schema, name)))
    rows = execute(conn, "MOVE ALL scannerdb_rows")
    execute(conn, "CLOSE scannerdb_rows")
    return rows


def unplanned_tables(conn: Connection) -> frozenset[tuple[str, str]]:
    """The tables that are not to be planned for, since that would run functions of their owners."""
    return _tables(conn, _FOREIGN_EXPRESSIONS)


def _tables(conn: Connection, query: str) -> frozenset[Table]:
    return frozenset((row["schema"], row["name"]) for row in fetch(conn, query))


def rows_unplanned(conn: Connection, schema: str, name: str) -> int:
    """The rows of a table, by COPY, which takes no plan: planning would run functions that are its owner's."""
    with conn.cursor() as cursor, cursor.copy(SQL("COPY {} TO STDOUT").format(relation(schema, name))) as copy:
        return sum(bytes(block).count(b"\n") for block in copy)


def ensure_moving(conn: Connection, application: str, lock_timeout_ms: int) -> None:
    """Raise `Passing` where a session of pg_dump has been waiting for a lock too long.

    Its own limit holds for tables only: at an altered sequence it would wait for ever, with every table locked.
    """
    with explained("Looking at pg_dump's sessions"):
        fetch(conn, "SELECT pg_stat_clear_snapshot()")  # within a transaction the view stands still otherwise
        if scalar(conn, _STUCK, [application, lock_timeout_ms]):
            raise Passing("pg_dump waited too long for a lock.")


def strong_holders(conn: Connection) -> str:
    """Who holds or waits for a lock that stops even readers, as words for a sentence."""
    with contextlib.suppress(DriverError):
        rows = fetch(conn, _HOLDERS)
        if rows:
            return "; ".join(
                f"process {r['pid']} ({quoted(r['who'])}, {quoted(r['name'] or 'no name')}) on {quoted(r['object'])}"
                for r in rows
            )
    return "nobody is seen holding it now"
