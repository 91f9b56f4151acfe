"""With whose rights rows are changed: the application's, as every day; else those of the tables' owner, where no code
of others is attached to the tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, Row, fetch, scalar
from ..errors import PrivilegeMissing, RowsHidden, UnsafeCode
from ..foreigncode import foreign_code, is_superuser, refuse_foreign_code, table_oids
from ..frame import Frame, Frames
from ..lockbudget import relation

CHANGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
# For each role that could write: whether it may change every row of these tables, and whether we may act as it. A
# superuser comes last of all; the application comes first to write, and an owner to read.
_WRITERS = """
SELECT r.rolname::text AS role, r.rolsuper AS superuser, r.rolname = %(application)s AS application,
       (SELECT bool_or(c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
                       AND (c.relowner <> r.oid OR c.relforcerowsecurity))
          FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[])) AS hidden,
       (SELECT bool_and(c.relowner = r.oid OR (
                            (SELECT bool_and(has_table_privilege(r.oid, c.oid, p)) FROM unnest(%(needed)s::text[]) p)
                        AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
                        AND (SELECT coalesce(bool_and(has_sequence_privilege(
                                        r.oid, d.objid, CASE cardinality(%(needed)s::text[]) WHEN 1 THEN 'SELECT'
                                                        ELSE 'USAGE' END)), true)
                               FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class q ON q.oid = d.objid
                              WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                                AND d.refobjid = c.oid AND d.deptype = 'a' AND q.relkind = 'S')))
          FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[])) AS able,
       pg_has_role(r.oid, %(member)s) AS ours,
       (SELECT m.rolsuper FROM pg_catalog.pg_roles m WHERE m.rolname = current_user)
       OR has_database_privilege(r.oid, current_database(), 'TEMPORARY') AS temporary
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = %(application)s
    OR r.oid IN (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[]))
 ORDER BY r.rolsuper, (r.rolname = %(application)s) = (cardinality(%(needed)s::text[]) > 1) DESC, r.rolname
"""


_LESSER_OWNERS = """
SELECT c.relname::text AS name, r.rolname::text AS owner
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner AND NOT r.rolsuper
 WHERE c.oid = ANY (%s::oid[]) ORDER BY 1 LIMIT 1
"""


@dataclass(frozen=True)
class Writer:
    """The frames of the role that changes rows. `guarded`: it is not the application's own, so that every transaction
    looks at the tables' code again."""

    frames: Frames
    role: str
    schema: str
    guarded: bool = False

    @contextlib.contextmanager
    def transaction(self, tables: Sequence[str], budget_ms: int, relaxed: bool = True) -> Iterator[Frame]:
        """One transaction that writes to these tables. `relaxed`: its commit need not wait for the disk, for rows and
        journal are in it together: a crash of the server loses both, and the next run does them again."""
        local = {"lock_timeout": f"{budget_ms}ms", **({"synchronous_commit": "off"} if relaxed else {})}
        with self.frames.transaction(local):
            if self.guarded:
                self._prove(tables)
            yield self.frames.of(self.role, local)

    def _prove(self, tables: Sequence[str]) -> None:
        """No code of others on the tables; their locks keep it so."""
        _lock(self.frames.conn, self.schema, tables, "ROW EXCLUSIVE")
        refuse_foreign_code(self.frames.conn, self.schema, tables, self.role)


def writer_for(frames: Frames, schema: str, tables: Sequence[str], application: str) -> Writer:
    """Who changes the rows of these tables."""
    role = writer_of(frames.conn, schema, tables, application)
    return Writer(frames, role, schema, guarded=role != application or is_superuser(frames.conn, role))


def reader_for(
    conn: Connection, schema: str, tables: Sequence[str], application: str
) -> Callable[[Composable], list[Row]]:
    """A function that reads these tables: in a frame, for even the plan of a query evaluates expressions of theirs.

    A role that is no superuser and may act as none of the tables' owners reads them in its own right, as any client.
    """
    if not tables or scalar(conn, "SELECT pg_is_in_recovery()"):  # a standby makes no function
        return lambda query: _read_plainly(conn, schema, tables, query)
    frames = Frames(conn)
    try:
        role = writer_of(conn, schema, tables, application, needed=("SELECT",))
    except PrivilegeMissing:
        return lambda query: _read_plainly(conn, schema, tables, query)

    return lambda query: frames.read(role, query)


def _read_plainly(conn: Connection, schema: str, tables: Sequence[str], query: Composable) -> list[Row]:
    user = str(scalar(conn, "SELECT current_user::text"))
    with conn.transaction():
        if is_superuser(conn, user):
            _hold_still(conn, schema, tables)
            refuse_foreign_code(conn, schema, tables, user, triggers=False)
        conn.execute("SET LOCAL row_security = off")  # an error instead of fewer rows
        return fetch(conn, query)


def _lock(conn: Connection, schema: str, tables: Sequence[str], mode: str) -> None:
    for table in tables:
        conn.execute(SQL("LOCK TABLE {} IN {} MODE").format(relation(schema, table), SQL(mode)))


def _hold_still(conn: Connection, schema: str, tables: Sequence[str]) -> None:
    """Lock the tables, to the end of the transaction, against whatever would give them code; no writer waits for it."""
    if scalar(conn, "SELECT pg_is_in_recovery()"):
        _refuse_lesser_owners(conn, schema, tables)
        return
    conn.execute("SET LOCAL lock_timeout = '2s'")
    _lock(conn, schema, tables, "SHARE UPDATE EXCLUSIVE")


def _refuse_lesser_owners(conn: Connection, schema: str, tables: Sequence[str]) -> None:
    """Raise `UnsafeCode` where others can give a table code between our look at it and its use: no lock of a standby's
    holds the primary's."""
    theirs = fetch(conn, _LESSER_OWNERS, [table_oids(conn, schema, tables)])
    if theirs:
        raise UnsafeCode(
            f"{theirs[0]['name']} belongs to {theirs[0]['owner']!r}, who could give it code that a superuser's look "
            "at it would run, and nothing holds that off here.",
            "Log in as the role that deploy.yml prepares, or look at the primary.",
        )


def writer_of(
    conn: Connection, schema: str, tables: Sequence[str], application: str, needed: Sequence[str] = CHANGES
) -> str:
    """The role that may change every row of these tables without giving anybody's code more rights than it has.

    Raises `PrivilegeMissing` or `UnsafeCode`, whose hint says what would make it possible.
    """
    oids = table_oids(conn, schema, tables)
    member = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    known = fetch(conn, _WRITERS, {"application": application, "tables": oids, "member": member, "needed": [*needed]})
    problems = [(row, _problem(conn, row, oids, len(needed) > 1)) for row in known]
    for row, problem in problems:
        if not problem:
            return str(row["role"])
    names = ", ".join(sorted(tables))
    foreign = [problem for row, problem in problems if problem.startswith("code: ")]
    if foreign:
        raise UnsafeCode(
            f"The rows of {names} cannot be {'changed' if len(needed) > 1 else 'read'} safely: {foreign[0][6:]}.",
            f"Let {application} change these tables (SELECT, INSERT, UPDATE, DELETE), or drop that code.",
        )
    if known and all(row["hidden"] for row in known):
        raise RowsHidden(
            f"Row security hides rows of {names} from {', '.join(str(row['role']) for row in known)}, and what is not "
            "seen is not changed.",
            "ALTER TABLE ... NO FORCE ROW LEVEL SECURITY lets the tables' owner see all of them.",
        )
    hint = f"Grant {application} to the role that runs the jobs (docs/security.md), and TEMPORARY on the database."
    if is_superuser(conn, application):  # whoever is a member of one has its power
        hint = "Give the tables to a role that is no superuser (docs/docker-compose.md), and run deploy.yml again."
    raise PrivilegeMissing(
        f"The rows of {names} cannot be changed: {'; '.join(problem for _, problem in problems)}.", hint
    )


def _problem(conn: Connection, role: Row, tables: Sequence[int], writes: bool) -> str:
    name = role["role"]
    if role["hidden"]:
        return f"row security hides rows of them from {name}"
    if not role["able"]:
        return f"{name} may not change every row of them"
    if not role["ours"]:
        return f"this session's role is no member of {name}"
    if not role["temporary"]:
        return f"{name} has no TEMPORARY on the database"
    if role["application"] and not role["superuser"]:
        return ""  # it writes these tables every day: what they run has its rights anyway
    found = foreign_code(conn, tables, name, triggers=writes)
    return f"code: {found}" if found else ""
