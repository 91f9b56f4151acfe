"""Causes in the server: what the role may do, who holds the job lock, extensions. Asked on open connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Query, explained, fetch, scalar, text_of
from ..joblock import foreign_holder_of, holder_of
from .diagnosis import Diagnosis, fine, unknown, wrong

# What each privilege is for. A superuser has them all.
PRIVILEGES = """
SELECT r.rolname::text AS role, d.datname::text AS database, o.rolname::text AS database_owner,
       o.rolsuper AS database_of_superuser, r.rolsuper AS superuser, r.rolcreatedb AS create_database,
       pg_has_role(r.oid, 'pg_monitor', 'USAGE') AS monitor,
       pg_has_role(r.oid, 'pg_signal_backend', 'USAGE') AS signal,
       pg_has_role(d.datdba, 'USAGE') AS owner,
       has_database_privilege(d.oid, 'CREATE') AS create_schema,
       (SELECT coalesce(array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY 1), '{}')
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
           AND NOT has_table_privilege(c.oid, 'SELECT')) AS unreadable,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname, w.rolname, w.rolsuper) ORDER BY 1), '[]')
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles w ON w.oid = c.relowner
         WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm')
           AND NOT pg_has_role(c.relowner, 'USAGE')) AS foreign_owned
  FROM pg_roles r, pg_database d JOIN pg_roles o ON o.oid = d.datdba
 WHERE r.rolname = current_user AND d.datname = current_database()
"""

# Extensions that the database has, but whose files this server lacks: what uses them fails, and so does a restore.
EXTENSIONS = """
SELECT e.extname::text AS name FROM pg_extension e
 WHERE NOT EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = e.extname) ORDER BY 1
"""


def privileges(conn: Connection) -> Iterator[Diagnosis]:
    """What the role may not do, by the job that needs it."""
    with explained("Looking at the role's privileges"):
        row = fetch(conn, PRIVILEGES)[0]
    if row["superuser"]:
        yield fine("privileges", "The role is a superuser.")
        return
    lacks = list(_lacks(row))
    yield from lacks
    if not lacks:
        yield fine("privileges", "The role may do what backups, fixes, vacuums and restores need, and is no superuser.")


def _lacks(row: dict[str, Any]) -> Iterator[Diagnosis]:
    role, owner, database = (Identifier(row[name]) for name in ("role", "database_owner", "database"))
    grant = SQL("GRANT {} TO {}")
    if row["unreadable"]:
        text = f"The role may not read {', '.join(row['unreadable'][:3])}, so there can be no backup."
        yield wrong("privileges: backup", text, _as_superuser(grant.format(SQL("pg_read_all_data"), role)))
    if row["foreign_owned"]:
        names = ", ".join(f"{schema}.{name}" for schema, name, _, _ in row["foreign_owned"][:3])
        text = f"The role is no member of the owner of {names}, so it cannot repair it."
        yield wrong("privileges: fix", text, _as_superuser(*_memberships(row["foreign_owned"], role)))
    if not row["create_schema"]:
        text = "The role may make no schema in the database, so the journal of fixes cannot be made."
        statement = SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, role)
        yield wrong("privileges: journal", text, _as_superuser(statement))
    if not (row["create_database"] and row["owner"]):
        text = "The role may make no databases, or does not own this one, so it cannot restore."
        taken = SQL("ALTER DATABASE {} OWNER TO {}").format(database, role)
        member = taken if row["database_of_superuser"] else grant.format(owner, role)
        creates = SQL("ALTER ROLE {} CREATEDB").format(role)
        yield wrong("privileges: restore", text, _as_superuser(creates, *([] if row["owner"] else [member])))
    if not (row["monitor"] and row["signal"]):
        text = "The role is not a member of pg_monitor and pg_signal_backend, so it sees little of other sessions."
        groups = SQL("pg_monitor, pg_signal_backend")
        yield wrong("privileges: sessions", text, _as_superuser(grant.format(groups, role)))


def _memberships(owned: list[list[Any]], role: Composable) -> Iterator[Composable]:
    """Membership in the owners; what a superuser owns is given to the role, which must not become one."""
    owners = sorted({owner for _, _, owner, is_superuser in owned if not is_superuser})
    if owners:
        yield SQL("GRANT {} TO {}").format(SQL(", ").join(map(Identifier, owners)), role)
    for schema, name, _, is_superuser in owned:
        if is_superuser:
            yield SQL("ALTER TABLE {} OWNER TO {}").format(Identifier(schema, name), role)


def _as_superuser(*statements: Query) -> str:
    said = "; ".join(map(text_of, statements))
    return f"As a superuser, in this database: {said}; (playbooks/deploy.yml gives the maintenance role all it needs.)"


def extensions(conn: Connection) -> Diagnosis:
    """Extensions whose files are missing on the server."""
    with explained("Looking at the extensions"):
        missing = [row["name"] for row in fetch(conn, EXTENSIONS)]
    if missing:
        text = f"The server lacks the files of {', '.join(missing)}, which the database uses."
        return wrong(
            "extensions", text, "Install them on the server (postgresql-contrib, or the extension's own package)."
        )
    return fine("extensions", "The server has what the database uses.")


def job_lock(conn: Connection, database: str, stale_s: float) -> Diagnosis:
    """Who holds the database's job lock; one that is held for longer than any job may take is called stale."""
    with explained("Looking at the job lock"):
        holder, foreign = holder_of(conn, database), foreign_holder_of(conn, database)
    if foreign:
        text = f"{foreign.said} holds it, and is no run of the bundle: its role may not maintain databases."
        return wrong("job lock", f"{text} Runs use another lock meanwhile.", _end(foreign.pid))
    if holder is None:
        return fine("job lock", "Nobody holds it.")
    text = f"{holder.said} holds it."
    if stale_s and holder.seconds > stale_s:
        hint = f"If that is no work of yours: {_end(holder.pid)}"
        return wrong("job lock", f"{text} That is longer than a job may take.", hint)
    return fine("job lock", f"{text} A job is at work.")


def _end(pid: int) -> str:
    if not pid:
        return "Roll the prepared transaction back that holds it: SELECT gid FROM pg_prepared_xacts."
    return f"SELECT pg_terminate_backend({pid}) in the maintenance database."


def server_clock(conn: Connection) -> float:
    """The server's clock, as seconds since 1970."""
    with explained("Reading the server's clock"):
        return float(scalar(conn, "SELECT extract(epoch FROM clock_timestamp())::float8"))


def connections(conn: Connection) -> Diagnosis:
    """Whether connections are left for more than the last few."""
    with explained("Counting the sessions"):
        row = fetch(
            conn,
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,"
            " current_setting('max_connections')::int AS most",
        )[0]
    if row["used"] > 0.9 * row["most"]:
        text = f"{row['used']} of {row['most']} connections are in use."
        return wrong("connections", text, "End idle sessions, use a pooler, or raise max_connections.")
    return fine("connections", f"{row['used']} of {row['most']} are in use.")


def untested(causes: list[str], why: str) -> Iterator[Diagnosis]:
    """Causes that need a server which does not answer."""
    for cause in causes:
        yield unknown(cause, why)
