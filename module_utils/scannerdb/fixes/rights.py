"""With whose rights rows are changed: the application's, as every day; else those of the tables' owner, where no code
of others is attached to the tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..connection import SQL, Connection, Identifier, Row, fetch
from ..errors import PrivilegeMissing, UnsafeCode
from ..foreigncode import foreign_code, is_superuser, refuse_foreign_code, table_oids
from ..frame import Frame, Frames

# For each role that could write: whether it may change every row of these tables, and whether we may act as it.
_WRITERS = """
SELECT r.rolname::text AS role, r.rolsuper AS superuser, r.rolname = %(application)s AS application,
       (SELECT bool_and(c.relowner = r.oid OR NOT c.relrowsecurity
                        AND has_table_privilege(r.oid, c.oid, 'SELECT') AND has_table_privilege(r.oid, c.oid, 'INSERT')
                        AND has_table_privilege(r.oid, c.oid, 'UPDATE') AND has_table_privilege(r.oid, c.oid, 'DELETE')
                        AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
                        AND (SELECT coalesce(bool_and(has_sequence_privilege(r.oid, d.objid, 'USAGE')), true)
                               FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class q ON q.oid = d.objid
                              WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                                AND d.refobjid = c.oid AND d.deptype = 'a' AND q.relkind = 'S'))
          FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[])) AS able,
       pg_has_role(r.oid, %(member)s) AS ours,
       (SELECT m.rolsuper FROM pg_catalog.pg_roles m WHERE m.rolname = current_user)
       OR has_database_privilege(r.oid, current_database(), 'TEMPORARY') AS temporary
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = %(application)s
    OR r.oid IN (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[]))
 ORDER BY r.rolname = %(application)s AND NOT r.rolsuper DESC, r.rolname
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
        conn = self.frames.conn
        for table in tables:
            name = SQL("{}.{}").format(Identifier(self.schema), Identifier(table))
            conn.execute(SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(name))
        refuse_foreign_code(conn, self.schema, tables, self.role)


def writer_for(frames: Frames, schema: str, tables: Sequence[str], application: str) -> Writer:
    """Who changes the rows of these tables."""
    role = writer_of(frames.conn, schema, tables, application)
    return Writer(frames, role, schema, guarded=role != application or is_superuser(frames.conn, role))


def writer_of(conn: Connection, schema: str, tables: Sequence[str], application: str) -> str:
    """The role that may change every row of these tables without giving anybody's code more rights than it has.

    Raises `PrivilegeMissing` or `UnsafeCode`, whose hint says what would make it possible.
    """
    oids = table_oids(conn, schema, tables)
    member = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    known = fetch(conn, _WRITERS, {"application": application, "tables": oids, "member": member})
    problems = [(row, _problem(conn, row, oids)) for row in known]
    for row, problem in problems:
        if not problem:
            return str(row["role"])
    names = ", ".join(sorted(tables))
    foreign = [problem for row, problem in problems if problem.startswith("code: ")]
    if foreign:
        raise UnsafeCode(
            f"The rows of {names} cannot be changed safely: {foreign[0][6:]}.",
            f"Let {application} change these tables (SELECT, INSERT, UPDATE, DELETE), or drop that code.",
        )
    raise PrivilegeMissing(
        f"The rows of {names} cannot be changed: {'; '.join(problem for _, problem in problems)}.",
        f"Grant {application} to the role that runs the jobs (docs/security.md), and TEMPORARY on the database to it.",
    )


def _problem(conn: Connection, role: Row, tables: Sequence[int]) -> str:
    name = role["role"]
    if not role["able"]:
        return f"{name} may not change every row of them"
    if not role["ours"]:
        return f"this session's role is no member of {name}"
    if not role["temporary"]:
        return f"{name} has no TEMPORARY on the database"
    if role["application"] and not role["superuser"]:
        return ""  # it writes these tables every day: what they run has its rights anyway
    found = foreign_code(conn, tables, name)
    return f"code: {found}" if found else ""
