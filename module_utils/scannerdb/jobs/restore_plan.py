"""What a restore would do, found out without writing: the source, the database to make, what is in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..backup.copycount import CopyCounter
from ..backup.facts import read_facts
from ..backup.manifest import DatabaseFacts, Manifest
from ..backup.sets import BackupSet, list_sets, load_set
from ..backup.verify import require, verify_set
from ..connection import Connection, Options, Server, connect, scalar, server_of
from ..errors import BackupInvalid, DatabaseMissing, RestoreRefused
from ..process import Tools, find_tools, run_tool
from ..restore import contents as archive_contents
from ..restore.archive import SQL_FILE
from ..restore.load import must_go_on
from ..restore.names import kept_name, side_name
from ..restore.plain import scan
from ..restore.preflight import (
    Hangers,
    check_extensions,
    check_obstacles,
    check_rights,
    check_room,
    data_room,
    existing_roles,
    hangers_on,
    publications,
)
from ..restore.sessions import Session, connected, named, wait_for
from ..restore.source import Source, is_set, locate, open_source
from ..restore.target import Target, describe, target_from_script
from ..runs import Run
from .restore_wish import Wish

GUESSED_RATE = 10 << 20  # bytes of the finished database a second, where no drill has measured it
TEXT_GROWTH = 2  # a database with its indexes, beside its plain SQL
GROWTH = 6  # a bare archive says nothing of the size it unpacks to; this is what compressed ones grow by


@dataclass(frozen=True)
class Plan:
    """Everything a restore needs to know before it writes. `live` is None where there is no such database."""

    source: Source
    manifest: Optional[Manifest]
    live: Optional[DatabaseFacts]
    target: Target
    server: Server
    tools: Tools
    contents: archive_contents.Contents
    side: str
    kept: str
    needed_bytes: int
    free_bytes: Optional[int]
    estimate_s: float
    measured: bool
    missing_roles: tuple[str, ...]
    hangers: Hangers
    warnings: tuple[str, ...]

    @property
    def previous(self) -> Optional[str]:
        """The name under which the replaced database is kept, where there is one."""
        return self.kept if self.live else None


def resolve(options: Options, wish: Wish) -> tuple[Source, Optional[Manifest]]:
    """The source that is meant and, for a set of this bundle, its manifest."""
    path = located(options, wish)
    manifest = load_set(path).manifest if is_set(path) else None
    source = open_source(path, manifest.dump_path if manifest else "")
    return replace(source, told=wish.told), manifest


def located(options: Options, wish: Wish) -> Path:
    """Where the source lies that is meant."""
    sets = list_sets(wish.backup_dir, options.db).sets
    return locate(wish.source, wish.backup_dir, [(s.created, s.path) for s in sets if s.manifest.purpose == "regular"])


def live_facts(options: Options) -> tuple[Optional[DatabaseFacts], tuple[str, ...]]:
    """What the live database is, and its publications; None where there is none of that name."""
    try:
        with contextlib.closing(connect(options, purpose="restore plan")) as conn:
            return read_facts(conn), publications(conn)
    except DatabaseMissing:
        return None, ()


def make_plan(conn: Connection, options: Options, wish: Wish, run: Run, *, record: bool) -> Plan:
    """Resolve and verify the source, and look at everything else that could stop the restore.

    `conn` is a connection to the maintenance database. With `record` a set's verification is added to its record.
    """
    server = server_of(conn)
    source, manifest = resolve(options, wish)
    program = loader(source)
    tools = find_tools(options.pg_bin_dir, server.major, program, source.header.dump_major)
    run.log(f"source {source.path} ({source.kind}), read with {program} {tools.version}")
    run.progress("verify")
    source, listed = look_into(source, manifest, tools, wish, run, record)
    live, published = live_facts(options)
    hangers = replace(hangers_on(conn, options.db), publications=published)
    target = choose_target(live, manifest, tools, source, listed)
    if not target.size_bytes:
        target = replace(target, size_bytes=listed.text_bytes * TEXT_GROWTH or source.size_bytes * GROWTH)
    missing = archive_contents.missing_roles(listed, existing_roles(conn))
    missing = sorted({*missing, *(target.roles - existing_roles(conn))})
    check_roles(missing, wish.missing_roles)
    needed = max(target.size_bytes, manifest.database.size_bytes if manifest else 0)
    free = data_room(conn, options, server, target.tablespace)
    check_room(free, needed)
    rate = drilled_rate(list_sets(wish.backup_dir, options.db).sets)
    check_extensions(conn, server, listed.extensions)
    check_rights(conn, server, target.owner if target.owner not in missing else "", live is not None)
    if not (wish.tables or wish.into_database):
        check_obstacles(conn, options.db)
    return Plan(
        source=source,
        manifest=manifest,
        live=live,
        target=target,
        server=server,
        tools=tools,
        contents=listed,
        side=side_name(options.db, run.run_id),
        kept=kept_name(options.db, run.run_id),
        needed_bytes=needed,
        free_bytes=free,
        estimate_s=needed / (rate or GUESSED_RATE),
        measured=rate > 0,
        missing_roles=tuple(missing),
        hangers=hangers,
        warnings=tuple(_warnings(options, source, server, listed, free)),
    )


def loader(source: Source) -> str:
    """The program that loads a source."""
    return "psql" if source.kind == SQL_FILE else "pg_restore"


def look_into(
    source: Source, manifest: Optional[Manifest], tools: Tools, wish: Wish, run: Run, record: bool
) -> tuple[Source, archive_contents.Contents]:
    """Prove the source and read what it holds; an SQL file says only now of which versions it is."""
    if source.kind != SQL_FILE:
        verify(source, manifest, tools, wish, record)
        return source, archive_contents.read_contents(tools, source.dump)
    if wish.tables:
        raise RestoreRefused(
            f"{source.name} is a plain SQL file, out of which single tables cannot be taken.",
            "Restore it as a clone (scannerdb_restore_into_database), and copy from there.",
        )
    script = scan(source.dump, lambda done: run.progress("verify", done, 0, unit="bytes"))
    run.log(f"{source.name}: {script.number} lines, {script.tables} tables, {script.rows} rows")
    return replace(source, header=script.header()), script.contents()


def drilled_rate(sets: Sequence[BackupSet]) -> float:
    """Bytes of the database that the newest drill brought back a second; 0 where there was none. Pure."""
    for one in sets:  # newest first
        if one.standing.restore_s > 0 and one.manifest.database.size_bytes:
            return one.manifest.database.size_bytes / one.standing.restore_s
    return 0.0


def verify(source: Source, manifest: Optional[Manifest], tools: Tools, wish: Wish, record: bool) -> None:
    """Prove the source before anything else happens; raises `BackupInvalid`."""
    if manifest is None:
        archive_contents.read_through(tools, source.dump)
        _count_blocks(tools, source)
        return
    outcome = verify_set(
        source.path, wish.verify_level, tools, state_dir=wish.state_dir, jobs=wish.jobs or 2, record=record
    )
    require(outcome, source.name)


def _count_blocks(tools: Tools, source: Source) -> None:
    """Each table's data must be there: pg_restore itself does not mind where zstd or lz4 data break off."""
    counter = CopyCounter()
    words = [tools.path("pg_restore"), "--section=data", "--file=-", str(source.dump)]
    run_tool(words, Options(), on_output=counter.feed)
    wanted = len(archive_contents.read_contents(tools, source.dump).of("TABLE DATA"))
    if counter.unfinished or 0 < len(counter.blocks) < wanted:  # none at all: the dump has INSERT statements
        raise BackupInvalid(f"The data in {source.dump} break off in the middle.", "Restore another backup.")


def choose_target(
    live: Optional[DatabaseFacts],
    manifest: Optional[Manifest],
    tools: Tools,
    source: Source,
    listed: archive_contents.Contents,
) -> Target:
    """What the new database must be: as the live one; without one as recorded; else as the archive says."""
    if live:
        return target_of(live, "the live database")
    if manifest:
        return target_of(manifest.database, "the backup's manifest")
    if source.kind == SQL_FILE:
        return Target(encoding=listed.encoding, origin="the SQL file")
    return target_from_script(archive_contents.database_script(tools, source.dump, listed.entries))


def target_of(facts: DatabaseFacts, origin: str) -> Target:
    """A target out of a description of a database."""
    return Target(
        owner=facts.owner,
        encoding=facts.encoding,
        lc_collate=facts.lc_collate,
        lc_ctype=facts.lc_ctype,
        locale_provider=facts.locale_provider,
        locale=facts.locale,
        icu_rules=facts.icu_rules,
        tablespace=facts.tablespace,
        comment=facts.comment,
        connection_limit=facts.connection_limit,
        grants=None if facts.acl is None else tuple((g.grantee, g.privilege, g.grantable) for g in facts.grants),
        settings=tuple((s.role, s.name, s.value) for s in facts.settings),
        size_bytes=facts.size_bytes,
        origin=origin,
    )


def check_roles(missing: Sequence[str], policy: str) -> None:
    """Raise `RestoreRefused` where roles are missing and nobody said what to do about it."""
    if missing and policy == "stop":
        raise RestoreRefused(
            f"The backup names roles that this server does not have: {', '.join(missing)}.",
            "Create them, or set scannerdb_restore_missing_roles: create makes them without login, ignore leaves their "
            "grants out and gives what they owned to the maintenance role.",
        )


def _warnings(
    options: Options, source: Source, server: Server, listed: archive_contents.Contents, free: Optional[int]
) -> list[str]:
    told = []
    if source.header.database and source.header.database != options.db:
        told.append(f"The backup is of a database named {source.header.database!r}, not {options.db!r}.")
    if source.header.server_major > server.major:
        told.append(
            f"The backup is of PostgreSQL {source.header.server_major}, the server is {server.major}: what only the "
            "newer one has stops the restore."
        )
    if any(entry.kind.startswith("SUBSCRIPTION") for entry in listed.entries):
        told.append("The backup's subscriptions are not restored: two databases must not draw from one slot.")
    if free is None:
        told.append("The free space on the server's data disk could not be looked at from here.")
    return told


def check_sessions(conn: Connection, options: Options, wish: Wish, grace_s: float) -> list[Session]:
    """Who is connected, after the grace period; raises `RestoreRefused` where they may not or cannot be ended."""
    left = wait_for(conn, options.db, grace_s, wish.terminate)
    if left and not wish.terminate:
        raise RestoreRefused(
            f"Database {options.db!r} is in use: {named(left)}.",
            "Stop these clients and run again, or set scannerdb_restore_terminate to true: their sessions then end at "
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


def steps(plan: Plan, wish: Wish, conn: Connection, options: Options) -> list[str]:
    """The plan in words, one line a step."""
    free = f"{plan.free_bytes >> 20} MiB free" if plan.free_bytes is not None else "free space unknown"
    people = connected(conn, options.db) if plan.live else []
    first = "nothing to back up: there is no such database"
    if plan.live:
        first = "pre-restore backup" if wish.prebackup else "no pre-restore backup, as asked"
    return [
        f"source: {plan.source.place}, {plan.source.size_bytes} bytes, verified",
        f"{first}"
        + (f" of {plan.live.size_bytes} bytes into {wish.backup_dir}" if plan.live and wish.prebackup else ""),
        f"new database {plan.side!r}: {'; '.join(describe(plan.target))}",
        f"load {plan.contents.tables} tables with {loader(plan.source)} {plan.tools.version}: "
        f"about {plan.needed_bytes} bytes, {free}; about {plan.estimate_s:.0f} s, "
        + ("as fast as the last drill" if plan.measured else "a guess: no drill has measured it"),
        "analyze, compare "
        + (f"{len(plan.manifest.tables)} row counts, " if plan.manifest else "")
        + "the contract and the write probe",
        f"wait {wish.grace_s:g} s for clients, then cut over"
        + (f"; {len(people)} sessions now: {named(people)}" if people else "; nobody is connected now"),
        f"the present database is kept as {plan.kept!r}" if plan.live else "there is no present database to keep",
    ]


def goes_on(plan: Plan, wish: Wish) -> bool:
    """True where pg_restore must go on after the harmless errors that are certain to come."""
    return must_go_on(plan.tools, plan.server.major, plan.missing_roles if wish.missing_roles == "ignore" else ())


def plan_values(plan: Plan, lines: Sequence[str]) -> dict[str, Any]:
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
        "tables": plan.contents.tables,
        "pg_restore": plan.tools.version,
    }
