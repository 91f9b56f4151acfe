"""What earlier runs left behind: databases closed by a cutover that was cut short, and half-restored ones.

Whoever heals must hold the job lock of the database, or a cutover at work would be taken for a broken one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Optional

from ..connection import SQL, Connection, DriverError, Identifier, Literal, Options, connect, explained, fetch, scalar
from ..errors import ScannerDbError
from .marks import KEPT, SIDE, DatabaseMark, looks_like_side, parse_mark

GONE_S = 5.0  # the server sessions of a killed run end by themselves within this


@dataclass(frozen=True)
class Found:
    """A database of the server, as far as healing cares."""

    name: str
    open: bool
    mark: Optional[DatabaseMark]
    commented: bool
    sessions: int
    size_bytes: int = 0


def find(conn: Connection, database: str) -> list[Found]:
    """The database and all others that restores of it made, by their comments or, without one, by their names."""
    with explained("Listing the databases"):
        rows = fetch(
            conn,
            """
            SELECT d.datname::text AS name, d.datallowconn AS open, shobj_description(d.oid, 'pg_database') AS comment,
                   (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid) AS sessions,
                   CASE WHEN pg_has_role(d.datdba, 'USAGE') OR has_database_privilege(d.oid, 'CONNECT')
                        THEN pg_database_size(d.oid) END AS size_bytes
              FROM pg_database d WHERE d.datname !~ '^template[01]$' ORDER BY d.datname
            """,
        )
    found = []
    for row in rows:
        mark = parse_mark(row["comment"])
        mine = mark.database == database if mark else row["name"] == database
        stray = row["comment"] is None and looks_like_side(row["name"], database)
        if mine or stray or row["name"] == database:
            found.append(
                Found(
                    row["name"], row["open"], mark, row["comment"] is not None, row["sessions"], row["size_bytes"] or 0
                )
            )
    return found


def marked_databases(conn: Connection, database: str) -> list[str]:
    """The names of the databases that restores of this one made and left, by their comments. Cheap: no sizes."""
    with explained("Listing the databases"):
        rows = fetch(
            conn,
            """
            SELECT datname::text AS name, shobj_description(oid, 'pg_database') AS comment
              FROM pg_database WHERE datname !~ '^template[01]$' ORDER BY datname
            """,
        )
    marks = {row["name"]: parse_mark(row["comment"]) for row in rows if row["name"] != database}
    return [name for name, mark in marks.items() if mark and mark.database == database]


def kept_databases(found: Iterable[Found], database: str) -> list[Found]:
    """The databases that restores of this one replaced and kept, newest first. Pure."""
    kept = [f for f in found if f.mark and f.mark.kind == KEPT and f.name != database]
    return sorted(kept, key=lambda f: f.mark.at if f.mark else "", reverse=True)


def diagnose(found: Iterable[Found], database: str) -> list[str]:
    """What healing would do, as sentences; empty where all is well. Pure."""
    everything = list(found)
    live = next((f for f in everything if f.name == database), None)
    cut_short = [f for f in everything if f.mark and f.mark.switching and f.name != database]
    told = []
    if live and not live.open and cut_short:
        told.append(f"Database {database!r} was left closed by a cutover that was cut short: it is opened again.")
    for item in everything:
        if item.name == database or not item.mark:
            continue
        if item.mark.kind == KEPT and (not item.open or item.mark.switching):
            told.append(f"Database {item.name!r}, kept by a restore, was left closed: it is opened again.")
        elif item.mark.kind == SIDE:
            told.append(f"Database {item.name!r} is left over from a restore that was cut short: it is removed.")
    told += [
        f"Database {item.name!r} is left over from a restore that had just begun: it is removed if it is empty."
        for item in everything
        if item.name != database and not item.mark and not item.commented
    ]
    return told


def heal(conn: Connection, database: str, options: Optional[Options] = None) -> list[str]:
    """Put right what an interrupted run left; returns sentences on what was done, none where all was well.

    `conn` is the connection to the maintenance database that holds the job lock. With `options` it also looks into
    databases that have a side database's name and no comment, and removes the empty ones. Raises our errors where the
    server refuses.
    """
    found = find(conn, database)
    live = next((f for f in found if f.name == database), None)
    done = []
    with explained(f"Healing database {database!r}"):
        if live and not live.open and any(f.mark and f.mark.switching for f in found if f.name != database):
            _open(conn, database)
            done.append(f"Database {database!r} had been left closed by a cutover that was cut short: opened again.")
        for item in found:
            if item.name == database:
                continue
            if item.mark and item.mark.kind == KEPT and (not item.open or item.mark.switching):
                _open(conn, item.name)
                set_comment(conn, item.name, replace(item.mark, switching=False).text())
                done.append(f"Database {item.name!r}, kept by a restore, had been left closed: opened again.")
            elif item.mark and item.mark.kind == SIDE:
                done.append(_remove(conn, item.name, "a restore that was cut short"))
            elif not item.mark and not item.commented and options and _is_empty(options, item.name):
                done.append(_remove(conn, item.name, "a restore that had just begun"))
    return done


def set_comment(conn: Connection, database: str, comment: str) -> None:
    """Set a database's comment; an empty one removes it."""
    conn.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(database), Literal(comment or None)))


def _open(conn: Connection, database: str) -> None:
    conn.execute(SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(Identifier(database)))


def _remove(conn: Connection, name: str, origin: str) -> str:
    """Drop a left-over database once the sessions of the run that made it are gone; somebody else's keep it."""
    deadline = time.monotonic() + GONE_S
    while sessions_in(conn, name) and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        drop(conn, name)
    except DriverError as error:
        return f"Database {name!r}, left over from {origin}, could not be removed: {str(error).splitlines()[0]}."
    return f"Database {name!r}, left over from {origin}, was removed."


def drop(conn: Connection, name: str) -> None:
    """Drop a database of ours that nobody is connected to."""
    if scalar(conn, "SELECT datistemplate FROM pg_database WHERE datname = %s", [name]):
        conn.execute(SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(Identifier(name)))
    conn.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name)))


def sessions_in(conn: Connection, name: str) -> int:
    """How many sessions, autovacuum aside, are connected to a database."""
    return int(
        scalar(
            conn,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL",
            [name],
        )
        or 0
    )


def _is_empty(options: Options, name: str) -> bool:
    """True where a database holds nothing that a user made."""
    try:
        with connect(options, dbname=name, purpose="heal") as conn:
            return not scalar(conn, "SELECT count(*) FROM pg_class WHERE oid >= 16384")
    except (ScannerDbError, DriverError):
        return False
