"""What could stop a restore half-way, looked at before it starts: rights, room, what hangs on the database's name."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..connection import Connection, DriverError, Identifier, Options, ServerInfo, explained, fetch, scalar, text_of
from ..errors import FileProblem, PrivilegeMissing, RestoreRefused
from ..files import free_bytes, too_small
from .target import DEFAULT_TABLESPACE

HEADROOM = 1.1


def existing_roles(conn: Connection) -> set[str]:
    """Names of all roles."""
    return {row["name"] for row in fetch(conn, "SELECT rolname::text AS name FROM pg_roles")}


def check_rights(conn: Connection, server: ServerInfo, owner: str, live_exists: bool) -> None:
    """Raise `PrivilegeMissing` where this role could not create, give away or rename the databases."""
    if server.superuser:
        return
    with explained("Looking at the role's rights"):
        if not scalar(conn, "SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user"):
            raise PrivilegeMissing(
                f"Role {server.user!r} may not create databases, and a restore makes one beside the live one.",
                f"Run as a superuser: ALTER ROLE {server.user} CREATEDB;",
            )
        if owner and owner != server.user:
            member = fetch(
                conn,
                "SELECT pg_has_role(oid, 'USAGE') AND pg_has_role(oid, 'MEMBER') AS ours, rolsuper AS superuser"
                " FROM pg_roles WHERE rolname = %s",
                [owner],
            )
            if member and not member[0]["ours"]:
                hint = f"Run as a superuser: GRANT {owner} TO {server.user};"
                if member[0]["superuser"]:  # whoever is a member of one has its rights
                    hint = (
                        f"{owner} is a superuser: give the database to a role that is none, or log in as a superuser."
                    )
                raise PrivilegeMissing(
                    f"Role {server.user!r} is no member of {owner!r}, which owns the database"
                    f"{' and so alone may rename it' if live_exists else ''}.",
                    hint,
                )


def check_creator(conn: Connection, server: ServerInfo, missing: Sequence[str]) -> None:
    """Raise `PrivilegeMissing` where this role may not make those that are missing."""
    if server.superuser:
        return
    with explained("Looking at the role's rights"):
        may = scalar(conn, "SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user")
    if not may:
        raise PrivilegeMissing(
            f"Role {server.user!r} may not create the roles that are missing: {', '.join(missing)}.",
            "Create them as a superuser, or name roles that take their place in scannerdb_restore_role_map.",
        )


def check_owners(conn: Connection, server: ServerInfo, owners: Iterable[str]) -> None:
    """Raise `PrivilegeMissing` where this role could not give objects to their owners."""
    if server.superuser:
        return
    how = "SET" if server.major >= 16 else "MEMBER"  # what ALTER … OWNER TO asks for
    with explained("Looking at the role's rights"):
        rows = fetch(
            conn,
            "SELECT rolname::text AS name, rolsuper AS superuser FROM pg_roles"
            " WHERE rolname = ANY(%s) AND NOT pg_has_role(oid, %s) ORDER BY 1",
            [list(owners), how],
        )
    superusers = _names(row for row in rows if row["superuser"])
    if superusers:  # a member of one has its rights
        raise PrivilegeMissing(
            f"Things in the backup belong to {', '.join(superusers)}, whom only a superuser can give anything to.",
            "Restore as a superuser (scannerdb_login_user), or name roles that take their place in "
            "scannerdb_restore_role_map.",
        )
    foreign = _names(rows)
    if foreign:
        words = ", ".join(text_of(Identifier(name)) for name in foreign)
        raise PrivilegeMissing(
            f"Role {server.user!r} is no member of {', '.join(foreign)}, who own things in the backup.",
            f"Run as a superuser: GRANT {words} TO {text_of(Identifier(server.user))}; or name roles that take their "
            "place in scannerdb_restore_role_map.",
        )


def check_superuser_objects(server: ServerInfo, kinds: Container[str], statements: Sequence[str]) -> None:
    """Raise `PrivilegeMissing` where only a superuser can bring back what the backup has.

    `kinds` are those of its objects, `statements` those that name roles.
    """
    if server.superuser:
        return
    what = []
    if "EVENT TRIGGER" in kinds:
        what.append("event triggers")
    if any(statement.lstrip().startswith("SET SESSION AUTHORIZATION") for statement in statements):
        what.append("privileges that somebody else than the owner has granted")
    if what:
        raise PrivilegeMissing(
            f"The backup has {' and '.join(what)}, which role {server.user!r} cannot bring back.",
            "Run this as a superuser.",
        )


def check_tablespaces(conn: Connection, server: ServerInfo, wanted: Iterable[str], hint: str) -> None:
    """Raise where the server does not have a tablespace that something shall lie in, or this role may not use it."""
    with explained("Looking at the tablespaces"):
        query = "SELECT spcname::text AS name, has_tablespace_privilege(oid, 'CREATE') AS may FROM pg_tablespace"
        usable = {row["name"]: row["may"] for row in fetch(conn, query)}
    wanted = sorted({*wanted} - {"", DEFAULT_TABLESPACE})
    missing = [name for name in wanted if name not in usable]
    if missing:
        raise RestoreRefused(
            f"The backup needs the tablespaces {', '.join(map(repr, missing))}, which this server does not have.",
            f"Make them (CREATE TABLESPACE), or {hint}.",
        )
    closed = [name for name in wanted if not usable[name]]
    if closed:
        raise PrivilegeMissing(
            f"Role {server.user!r} may not put anything into the tablespaces {', '.join(map(repr, closed))}.",
            f"Run as a superuser: GRANT CREATE ON TABLESPACE {', '.join(text_of(Identifier(name)) for name in closed)} "
            f"TO {text_of(Identifier(server.user))};",
        )


def check_extensions(conn: Connection, server: ServerInfo, wanted: Sequence[str]) -> None:
    """Raise where the server lacks an extension of the archive, or only a superuser may create it."""
    with explained("Looking at the extensions"):
        rows = fetch(
            conn,
            "SELECT name::text, bool_or(trusted) AS trusted FROM pg_available_extension_versions"
            " WHERE name = ANY(%s) GROUP BY 1",
            [list(wanted)],
        )
    available = {row["name"]: row["trusted"] for row in rows}
    absent = [name for name in wanted if name not in available]
    if absent:
        raise RestoreRefused(
            f"The backup has the extension {', '.join(absent)}, which is not installed on the server.",
            "Install its package there, and run again.",
        )
    hard = [name for name in wanted if not available[name]]
    if hard and not server.superuser:
        raise PrivilegeMissing(
            f"The backup has the extension {', '.join(hard)}, which only a superuser may create.",
            "Run this restore as a superuser.",
        )


def check_obstacles(conn: Connection, database: str) -> None:
    """Raise `RestoreRefused` for what makes a rename impossible: transactions prepared for two-phase commit."""
    with explained("Looking for prepared transactions"):
        prepared = fetch(conn, "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1", [database])
    if prepared:
        names = ", ".join(repr(row["gid"]) for row in prepared[:5])
        raise RestoreRefused(
            f"Database {database!r} has prepared transactions ({names}), and cannot be renamed while they are there.",
            "End them with COMMIT PREPARED or ROLLBACK PREPARED.",
        )


def data_room(conn: Connection, options: Options, tablespace: str) -> Optional[int]:
    """Free bytes where the database will lie, in its tablespace or the data folder; None if it cannot be seen."""
    local = not options.host or options.host.startswith("/")
    if not local or options.patroni_urls:
        return None
    try:
        folder = scalar(conn, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = %s", [tablespace])
        folder = folder or scalar(conn, "SELECT current_setting('data_directory', true)")
    except DriverError:  # this role may not see it
        return None
    return free_bytes(folder) if folder and os.access(folder, os.F_OK) else None


def check_room(free: Optional[int], needed: int) -> None:
    """Raise `FileProblem` where the data disk is known to be too small."""
    if free is not None and free < needed * HEADROOM:
        raise FileProblem(
            too_small("The server's disk where the database lies", free, "a second database", int(needed * HEADROOM)),
            "Free some space: databases kept by earlier restores are the first to look at.",
        )


@dataclass(frozen=True)
class Hangers:
    """What hangs on a database's name: the names of logical slots, subscriptions, publications, and of standbys."""

    slots: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    standbys: tuple[str, ...] = ()

    @property
    def logical(self) -> bool:
        """True where the cutover would cut somebody off."""
        return bool(self.slots or self.subscriptions)

    def sentences(self, database: str) -> list[str]:
        """What the cutover means for each of them."""
        told = []
        if self.slots:
            told.append(
                f"Logical replication slots {', '.join(self.slots)} stay with the replaced database: whoever draws "
                f"from them gets no more changes of {database!r}, and they hold back WAL for ever. After the restore, "
                "make them anew in the restored database, start the subscribers afresh, and drop the old ones."
            )
        if self.subscriptions:
            told.append(
                f"Subscriptions {', '.join(self.subscriptions)} stay with the replaced database, where they go on: "
                "the restored one gets no changes. After the restore, drop them there and create them here."
            )
        if self.publications:
            told.append(
                f"Publications {', '.join(self.publications)} stay with the replaced database; the restored one has "
                "those that the backup had."
            )
        if self.standbys:
            told.append(
                f"The standbys {', '.join(self.standbys)} replay the whole restore, and follow the cutover by "
                "themselves; whoever reads from them is in the restored database a moment later."
            )
        return told


def replication_dependents(conn: Connection, database: str) -> Hangers:
    """What replication has to do with a database, as far as the maintenance database shows it."""
    with explained("Looking at replication"):
        slots = fetch(
            conn, "SELECT slot_name::text AS name FROM pg_replication_slots WHERE database = %s ORDER BY 1", [database]
        )
        subscriptions = fetch(
            conn,
            "SELECT subname::text AS name FROM pg_subscription"
            " WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s) ORDER BY 1",
            [database],
        )
        standbys = fetch(
            conn,
            "SELECT coalesce(nullif(application_name, ''), host(client_addr), 'process ' || pid) AS name"
            " FROM pg_stat_replication r WHERE pid NOT IN"
            " (SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL)"
            " ORDER BY 1",
        )
    return Hangers(_names(slots), _names(subscriptions), (), _names(standbys))


def publications(live: Connection) -> tuple[str, ...]:
    """The publications of the database that `live` is connected to."""
    with explained("Looking at the publications"):
        return _names(fetch(live, "SELECT pubname::text AS name FROM pg_publication ORDER BY 1"))


def check_replication(dependents: Hangers, database: str, consent: bool, words: str = "scannerdb_restore") -> None:
    """Raise `RestoreRefused` where the cutover would cut logical replication off, and nobody said that it may.

    The variable that says so begins with `words`.
    """
    if dependents.logical and not consent:
        means = " ".join(replace(dependents, publications=(), standbys=()).sentences(database))
        raise RestoreRefused(
            f"Logical replication hangs on database {database!r}. {means}",
            f"Set {words}_replication to cut to go on all the same.",
        )


def _names(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(str(row["name"]) for row in rows)
