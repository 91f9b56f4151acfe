"""What a restore would do, found out without writing: the source, the database to make, what is in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ..connection import Connection, Options, ServerInfo, connect, scalar, server_of
from ..errors import DatabaseMissing, RestoreRefused
from ..load.contents import Contents, database_script, structure_script
from ..load.foreign_code import refuse_untrusted_code
from ..load.preflight import (
    Hangers,
    check_creator,
    check_extensions,
    check_obstacles,
    check_owners,
    check_rights,
    check_room,
    check_superuser_objects,
    check_tablespaces,
    data_room,
    existing_roles,
    publications,
    replication_dependents,
)
from ..load.recorded_target import target_of
from ..load.role_mapping import RoleRules
from ..load.target import DEFAULT_TABLESPACE, Target, as_asked, describe, target_from_script
from ..runs import Run
from ..sets.archive import SQL_FILE
from ..sets.catalogue import BackupSet, list_sets, newest
from ..sets.database_facts import read_facts
from ..sets.locate import LATEST
from ..sets.manifest import DatabaseFacts
from .marks import kept_name, side_name
from .missing_rights import Carried, carried
from .proof import Proven, loader, prove
from .request import RestoreRequest
from .sessions import Session, connected, named, wait_for

GUESSED_RATE = 10 << 20  # bytes of the finished database a second, where no drill has measured it
RUN_CODE = (
    "A drill on a disposable cluster (scannerdb_verify_place=cluster) proves the backup without giving it rights. To "
    "restore it, read these functions (pg_restore --schema-only --file=- DUMP), and where they may have those rights "
    "set {}_run_code=true. Functions that a superuser owns need no such word in later backups."
)
TABLESPACE_MAP = "name others in their place in scannerdb_restore_tablespace_map, pg_default for instance"
TEXT_GROWTH = 2  # a database with its indexes, beside its plain SQL
GROWTH = 6  # a bare archive says nothing of the size it unpacks to; this is what compressed ones grow by


@dataclass(frozen=True)
class RestorePlan(Proven):
    """A proven source, and all else that a restore must know before it writes. `live` is None where there is no such
    database.
    """

    live: Optional[DatabaseFacts]
    target: Target
    server: ServerInfo
    side: str
    kept: str
    needed_bytes: int
    free_bytes: Optional[int]
    estimate_s: float
    measured: bool
    missing_roles: tuple[str, ...]
    rules: RoleRules
    places: Mapping[str, str]
    dependents: Hangers
    warnings: tuple[str, ...]
    spare: Optional[Target] = None  # what to be where the server does not know the locale that the file asks for
    carried: Carried = field(default_factory=Carried)

    @property
    def previous(self) -> Optional[str]:
        """The name under which the replaced database is kept, where there is one."""
        return self.kept if self.live else None


def live_facts(options: Options) -> tuple[Optional[DatabaseFacts], tuple[str, ...]]:
    """What the live database is, and its publications; None where there is none of that name."""
    try:
        with contextlib.closing(connect(options, purpose="restore plan")) as conn:
            return read_facts(conn), publications(conn)
    except DatabaseMissing:
        return None, ()


def make_plan(conn: Connection, options: Options, request: RestoreRequest, run: Run, *, record: bool) -> RestorePlan:
    """Find and prove the source, and look at everything else that could stop the restore.

    `conn` is a connection to the maintenance database. With `record` a set's verification is added to its record.
    """
    server = server_of(conn)
    proven = prove(options, request, server, run, record=record)
    _check_names(request, proven)
    live, published = live_facts(options)
    given = carried(options, proven.contents, is_set=bool(proven.source.is_set or request.tables), live=bool(live))
    target = choose_target(live, proven)
    named = proven.contents.roles | target.roles
    rules, missing = _roles(conn, server, request, named)
    places = _places(request, proven.contents, target)
    target = replace(target.under(rules), tablespace=request.tablespace_map.get(target.tablespace, target.tablespace))
    needed, free = _room(conn, options, proven, target)
    used = {places.get(name, name) for name in proven.contents.tablespaces}
    _check_contents(conn, server, request, proven.contents, {*used, target.tablespace})
    check_rights(conn, server, target.owner if target.owner not in missing else "", live is not None)
    if not request.tables:
        owners = {rules.of(owner) for owner in proven.contents.owners} | given.new_owners
        check_owners(conn, server, owners - set(missing))
        _check_live(conn, options, server, request, live)
    sets = list_sets(request.backup_dir, options.db, request.trust).sets
    rate = drilled_rate(sets)
    notes = [*_behind(request, sets), *_unknown_roles(request.role_map, named), *([given.sentence] if given else [])]
    return RestorePlan(
        **vars(proven),
        live=live,
        target=target,
        server=server,
        side=side_name(options.db, run.run_id),
        kept=kept_name(options.db, run.run_id),
        needed_bytes=needed,
        free_bytes=free,
        estimate_s=needed / (rate or GUESSED_RATE),
        measured=rate > 0,
        missing_roles=missing,
        rules=rules,
        places=places,
        dependents=replace(replication_dependents(conn, options.db), publications=published),
        warnings=(*_warnings(options, proven, server, free), *notes),
        spare=_spare(live, proven, target),
        carried=given,
    )


def _room(conn: Connection, options: Options, proven: Proven, target: Target) -> tuple[int, Optional[int]]:
    """The bytes that the new database needs, and those that are free; raises where they are too few."""
    needed = max(target.size_bytes, proven.manifest.database.size_bytes if proven.manifest else 0)
    free = data_room(conn, options, target.tablespace)
    check_room(free, needed)
    return needed, free


def _check_live(
    conn: Connection, options: Options, server: ServerInfo, request: RestoreRequest, live: Optional[DatabaseFacts]
) -> None:
    """What could stop the database from being replaced, where it is to be."""
    if not request.into_database:
        check_rights(conn, server, live.owner if live else "", live is not None)
        check_obstacles(conn, options.db)


def _check_contents(
    conn: Connection, server: ServerInfo, request: RestoreRequest, contents: Contents, tablespaces: set[str]
) -> None:
    """Raise one of our errors where this server or role cannot make what is in the backup."""
    check_extensions(conn, server, contents.extensions)
    check_tablespaces(conn, server, tablespaces, TABLESPACE_MAP)
    if not request.tables:
        check_superuser_objects(server, {entry.kind for entry in contents.entries}, contents.about_roles)
    if not request.run_code:
        refuse_untrusted_code(conn, contents.code, RUN_CODE.format(request.words))


def _check_names(request: RestoreRequest, proven: Proven) -> None:
    """Raise `RestoreRefused` where something is to be left out that the backup does not have."""
    if not request.leave_out:
        return
    source = proven.source
    unknown = request.leave_out.texts
    if source.kind != SQL_FILE:
        structure = structure_script(proven.tools, source.dump, proven.contents)
        unknown = request.leave_out.unknown(proven.contents, structure)
    if unknown:
        raise RestoreRefused(
            f"scannerdb_restore_leave_out names what {source.name} does not have: {', '.join(unknown)}.",
            "Write each name as the error or the drill did that spoke of it. Of an SQL file nothing can be left out.",
        )


def _roles(
    conn: Connection, server: ServerInfo, request: RestoreRequest, named: Set[str]
) -> tuple[RoleRules, tuple[str, ...]]:
    """What becomes of the roles that are named, and which of them are missing; raises where they may not be."""
    existing = existing_roles(conn)
    missing = tuple(sorted(named - existing - set(request.role_map)))
    check_map(request.role_map, existing)
    check_roles(missing, request.missing_roles)
    if missing and request.missing_roles == "create":
        check_creator(conn, server, missing)
    return RoleRules(request.role_map, frozenset(missing if request.missing_roles == "ignore" else ())), missing


def _places(request: RestoreRequest, contents: Contents, target: Target) -> dict[str, str]:
    """The tablespaces of a backup that others take the place of, with those; "" is the database's own. Pure.

    Single tables come by way of a side database, where it does not matter.
    """
    instead = request.tablespace_map
    own = instead.get(target.tablespace, target.tablespace) or DEFAULT_TABLESPACE
    if request.tables:
        return dict.fromkeys(contents.tablespaces, "")
    return {name: "" if instead[name] == own else instead[name] for name in contents.tablespaces if name in instead}


def drilled_rate(sets: Sequence[BackupSet]) -> float:
    """Bytes of the database that the newest drill brought back a second; 0 where there was none. Pure."""
    for one in sets:  # newest first
        if one.standing.restore_s > 0 and one.manifest.database.size_bytes:
            return one.manifest.database.size_bytes / one.standing.restore_s
    return 0.0


def choose_target(live: Optional[DatabaseFacts], proven: Proven) -> Target:
    """What the new database must be: as the live one; without one as recorded; else as the archive says."""
    source, contents = proven.source, proven.contents
    if live:
        target = as_asked(target_of(live, "the live database"), target_from_script(contents.database))
    elif proven.manifest:
        target = target_of(proven.manifest.database, "the backup's manifest")
    elif source.kind == SQL_FILE:
        plain = Target(encoding=contents.encoding, origin="the SQL file")
        target = target_from_script(contents.database) if contents.database else plain
    else:
        target = target_from_script(database_script(proven.tools, source.dump, contents.entries))
    guess = contents.text_bytes * TEXT_GROWTH or source.size_bytes * GROWTH
    return target if target.size_bytes else replace(target, size_bytes=guess)


def _spare(live: Optional[DatabaseFacts], proven: Proven, target: Target) -> Optional[Target]:
    """The target without what the file's own CREATE DATABASE asks for, where it asks for anything."""
    if not proven.contents.database:
        return None
    return target_of(live, "the live database") if live else Target(encoding=target.encoding)


def check_roles(missing: Sequence[str], policy: str) -> None:
    """Raise `RestoreRefused` where roles are missing and nobody said what to do about it."""
    if missing and policy == "stop":
        raise RestoreRefused(
            f"The backup names roles that this server does not have: {', '.join(missing)}.",
            "Create them; or name the roles that take their place in scannerdb_restore_role_map; or set "
            "scannerdb_restore_missing_roles: create makes them without login, ignore leaves their grants out and "
            "gives what they owned to the maintenance role.",
        )


def check_map(role_map: Mapping[str, str], existing: Container[str]) -> None:
    """Raise `RestoreRefused` where a role that shall take another's place does not exist."""
    absent = sorted({instead for instead in role_map.values() if instead not in existing})
    if absent:
        raise RestoreRefused(
            f"scannerdb_restore_role_map gives things to roles that this server does not have: {', '.join(absent)}.",
            "Create them, or name others.",
        )


def _unknown_roles(role_map: Mapping[str, str], named: Container[str]) -> list[str]:
    """A mapping may serve several backups; but a name may be mistyped too."""
    unknown = sorted(role for role in role_map if role not in named)
    told = f"scannerdb_restore_role_map speaks of {', '.join(unknown)}, which this backup does not name."
    return [told] if unknown else []


def _behind(request: RestoreRequest, sets: Sequence[BackupSet]) -> list[str]:
    """What people should know where `latest.backup` does not lead to the newest set: only a backup ever moves it."""
    last = newest(sets)
    if request.source not in ("latest", LATEST) or not last or Path(request.told).name == last.name:
        return []
    return [
        f"latest.backup leads to {Path(request.told).name}, though {last.name} is newer: name the one that you want."
    ]


def _warnings(options: Options, proven: Proven, server: ServerInfo, free: Optional[int]) -> list[str]:
    source = proven.source
    told = []
    if source.header.database and source.header.database != options.db:
        told.append(f"The backup is of a database named {source.header.database!r}, not {options.db!r}.")
    if source.header.server_major > server.major:
        told.append(
            f"The backup is of PostgreSQL {source.header.server_major}, the server is {server.major}: what only the "
            "newer one has stops the restore."
        )
    if any(entry.kind.startswith("SUBSCRIPTION") for entry in proven.contents.entries):
        told.append("The backup's subscriptions are not restored: two databases must not draw from one slot.")
    if proven.contents.properties:
        told.append(
            f"{proven.contents.properties} statements of {source.name} about the database itself (its settings, "
            "privileges and comment) are not run: it has those of the live database, or the server's defaults."
        )
    if not proven.rows and proven.contents.tables:
        told.append(
            f"{source.name} has no rows that could be counted, as pg_dump writes them without --inserts: what was "
            "loaded is not compared with it."
        )
    if free is None:
        told.append("The free space on the server's data disk could not be looked at from here.")
    return told


def check_sessions(
    conn: Connection, options: Options, request: RestoreRequest, grace_s: float, own: int = 0
) -> list[Session]:
    """Who is connected, after the grace period; raises `RestoreRefused` where they may not or cannot be ended.

    The process `own` is ours.
    """
    left = wait_for(conn, options.db, grace_s, request.terminate, own)
    if left and not request.terminate:
        raise RestoreRefused(
            f"Database {options.db!r} is in use: {named(left)}.",
            f"Stop these clients and run again, or set {request.words}_terminate to true: their sessions then end at "
            "the moment of the cutover.",
        )
    stuck = [s for s in left if not s.endable]
    if stuck:
        raise RestoreRefused(
            f"Role {scalar(conn, 'SELECT current_user::text')!r} may not end these sessions in database "
            f"{options.db!r}: {named(stuck)}.",
            "End them by hand, run as a superuser, or: GRANT pg_signal_backend TO the role (which never reaches a "
            "superuser's sessions).",
        )
    return left


def steps(plan: RestorePlan, request: RestoreRequest, conn: Connection, options: Options) -> list[str]:
    """The plan in words, one line a step."""
    free = f"{plan.free_bytes >> 20} MiB free" if plan.free_bytes is not None else "free space unknown"
    people = connected(conn, options.db) if plan.live else []
    first = "nothing to back up: there is no such database"
    if plan.live:
        first = "pre-restore backup" if request.prebackup else "no pre-restore backup, as asked"
    return [
        f"source: {plan.source.place}, {plan.source.size_bytes} bytes, verified",
        f"{first}"
        + (f" of {plan.live.size_bytes} bytes into {request.backup_dir}" if plan.live and request.prebackup else ""),
        f"new database {plan.side!r}: {'; '.join(describe(plan.target))}",
        *role_lines(plan, request),
        *_place_lines(plan),
        f"load {plan.contents.tables} tables with {loader(plan.source)} {plan.tools.version}: "
        f"about {plan.needed_bytes} bytes, {free}; about {plan.estimate_s:.0f} s, "
        + ("as fast as the last drill" if plan.measured else "a guess: no drill has measured it"),
        "analyze, compare "
        + (f"the rows of {len(plan.rows)} tables, " if plan.rows else "")
        + "the contract and the write probe",
        f"wait {request.grace_s:g} s for clients, then cut over"
        + (f"; {len(people)} sessions now: {named(people)}" if people else "; nobody is connected now"),
        f"the present database is kept as {plan.kept!r}" if plan.live else "there is no present database to keep",
    ]


def role_lines(plan: RestorePlan, request: RestoreRequest) -> list[str]:
    """What becomes of roles, as lines of a plan."""
    mapped = [f"{role!r} becomes {instead!r}" for role, instead in sorted(request.role_map.items())]
    does = {"create": "are created, without login", "ignore": "are ignored"}.get(request.missing_roles, "")
    missing = [f"{', '.join(plan.missing_roles)} {does}"] if plan.missing_roles and does else []
    return [f"roles: {'; '.join([*mapped, *missing])}"] if mapped or missing else []


def _place_lines(plan: RestorePlan) -> list[str]:
    """What becomes of tablespaces, as lines of a plan."""
    own = plan.target.tablespace or DEFAULT_TABLESPACE
    moved = [f"{name!r} becomes {instead or own!r}" for name, instead in sorted(plan.places.items())]
    return [f"tablespaces: {'; '.join(moved)}"] if moved else []


def plan_values(plan: RestorePlan, lines: Sequence[str]) -> dict[str, Any]:
    """The plan as results show it."""
    return {
        "steps": list(lines),
        "source": plan.source.place,
        "source_bytes": plan.source.size_bytes,
        "needed_bytes": plan.needed_bytes,
        "free_bytes": plan.free_bytes,
        "estimate_s": round(plan.estimate_s, 1),
        "estimate_measured": plan.measured,
        "missing_roles": list(plan.missing_roles),
        "role_map": dict(plan.rules.mapped),
        "tables": plan.contents.tables,
        "pg_restore": plan.tools.version,
    }
