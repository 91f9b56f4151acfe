"""A restore drill: the set becomes a scratch database, that is compared with the set's record, and it goes again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..connection import (
    SQL,
    Connection,
    DriverError,
    Identifier,
    Options,
    ServerInfo,
    connect,
    explained,
    scalar,
    server_of,
)
from ..contract.difference import difference
from ..contract.introspect import read_catalog
from ..contract.model import Contract
from ..disposable import debris, sweep
from ..errors import RestoreRefused, ScannerDbError
from ..joblock import job_lock
from ..load.analyze import analyze
from ..load.contents import Contents, read_contents, wanted_lines
from ..load.failures import Failure, remedy, summed_up
from ..load.foreign_code import refuse_untrusted_code
from ..load.loading import Load, Loaded, load_archive
from ..load.pg_restore import LoadInterrupted
from ..load.preflight import (
    check_extensions,
    check_rights,
    check_room,
    check_superuser_objects,
    check_tablespaces,
    data_room,
    existing_roles,
)
from ..load.recorded_target import target_of
from ..load.second_attempt import Archive, original_paths, safe_paths
from ..load.target import Target, create_statement, silence
from ..load.validation import counts_of
from ..process import cores
from ..runs import Run, now_text
from ..sets.catalogue import BackupSet
from ..sets.fingerprint import fingerprint_differences
from ..sets.held import held, private_dump
from ..sets.structure import read_structure, scheme_of, structure_differences
from ..tools import Tools, find_tools
from . import cluster
from .amcheck import Pages, check_storage, why_not
from .load import load_weakly, make_loader, reader
from .scratch import ScratchMark, drop, left_over, mark, scratch_name

RECONNECT_S = 10.0


@dataclass(frozen=True)
class Drill:
    """What a drill is to do. What is `sealed`, elsewhere or encrypted, is planned without a look inside."""

    item: BackupSet
    contract: Contract
    run: Run
    jobs: int = 0
    nice: int = 0
    amcheck: bool = False
    own_server: bool = False
    sealed: bool = False
    dump: Path | None = None

    @property
    def archive(self) -> Path:
        """The dump as pg_restore is to read it."""
        return self.dump or self.item.path / self.item.manifest.dump_path


@dataclass
class DrillResult:
    """What a drill showed: problems of the set, notes, and how long bringing it back took.

    `hint` is what helps against the problems; `rows_whole` says that all rows came back all the same.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[dict[str, str]] = field(default_factory=list)
    restore_s: float = 0.0
    tools: str = ""
    compared: dict[str, int] = field(default_factory=dict)
    hint: str = ""
    rows_whole: bool = False


@dataclass(frozen=True)
class PreparedDrill:
    """What was found out before the scratch database is made."""

    tools: Tools
    contents: Contents
    target: Target
    missing: tuple[str, ...]
    needed_bytes: int
    free_bytes: int | None


def prepare(conn: Connection, server: ServerInfo, options: Options, drill: Drill) -> PreparedDrill:
    """Look at everything that could stop the drill, without writing; `conn` leads to the maintenance database."""
    manifest = drill.item.manifest
    tools = find_tools(options.pg_bin_dir, server.major, "pg_restore", manifest.dump_major)
    listed = Contents(()) if drill.sealed else read_contents(tools, drill.archive)
    target = target_of(manifest.database, "the backup's manifest")
    if drill.own_server:
        target = replace(target, tablespace="")
    existing = existing_roles(conn)
    missing = tuple(sorted({*listed.roles, target.owner} - existing - {""}))
    if missing and not drill.own_server:
        raise RestoreRefused(
            f"The backup names roles that this server does not have: {', '.join(missing)}.",
            "Create them, or drill on a disposable cluster (scannerdb_verify_place: cluster), which makes its own.",
        )
    needed = manifest.database.size_bytes
    free = data_room(conn, options, target.tablespace)
    check_room(free, needed)
    check_extensions(conn, server, listed.extensions)
    if not drill.own_server:
        hint = "drill on a disposable cluster (scannerdb_verify_place: cluster)"
        check_tablespaces(conn, server, {*listed.tablespaces, target.tablespace}, hint)
    check_superuser_objects(server, {entry.kind for entry in listed.entries}, listed.about_roles)
    if not drill.own_server:
        refuse_untrusted_code(
            conn,
            listed.code,
            "Drill on a disposable cluster (scannerdb_verify_place: cluster), where it has no rights.",
        )
    check_rights(conn, server, target.owner if target.owner in existing else "", False)
    return PreparedDrill(tools, listed, target, missing, needed, free)


def drill_on_server(conn: Connection, options: Options, drill: Drill) -> tuple[DrillResult, list[str]]:
    """Drill on the database's server, after dropping what killed drills left, whose names come back too.

    `conn` leads to the maintenance database, and its session holds the job lock.
    """
    swept = left_over(conn, options.db)
    for name in swept:
        drop(conn, name)
        drill.run.note_change(f"Database {name!r}, which an earlier drill had left, was removed.")
    if swept:
        drill.run.log(f"removed what earlier drills left: {', '.join(swept)}")
    return run_drill(conn, server_of(conn), options, drill), swept


def drill_on_cluster(options: Options, parent: Path, drill: Drill) -> tuple[DrillResult, list[str]]:
    """Drill on a server made for it in a folder below `parent`, after removing what killed drills left there."""
    manifest = drill.item.manifest
    swept = swept_clusters(parent, drill.run)
    programs = cluster.server_programs(options.pg_bin_dir, manifest.server_version_num // 10000, manifest.dump_major)
    found: list[DrillResult] = []

    def work(own: Options) -> None:
        there = replace(own, db=options.db)
        with contextlib.closing(connect(there, dbname=there.maintenance_db, purpose="verify")) as conn:
            found.append(run_drill(conn, server_of(conn), there, drill))

    drill.run.progress("start a server")
    with cluster.prepared(parent, programs) as made:
        drill.run.log(f"disposable cluster {programs.version} in {made.home}")
        cluster.run_with(made, work)
    return found[0], swept


def left_clusters(parent: Path) -> list[str]:
    """The names of what killed drills left below that folder."""
    return [path.name for path in debris(parent, cluster.PREFIX)]


def swept_clusters(parent: Path, run: Run) -> list[str]:
    """Remove what killed drills on servers of their own left below a folder; returns the names of what went."""
    swept = sweep(parent, cluster.PREFIX)
    if swept:
        run.note_change(f"What earlier drills had left in {parent} was removed: {', '.join(swept)}.")
    return swept


def run_drill(conn: Connection, server: ServerInfo, options: Options, drill: Drill) -> DrillResult:
    """Restore into a scratch database, compare, drop it whatever happens. The caller holds the job lock, if any."""
    recorded = {record.path: record.sha256 for record in drill.item.manifest.files}
    with held(drill.item.path) as kept, private_dump(kept, drill.item.manifest.dump_path, recorded) as dump:
        outcome = _drilled(conn, server, options, replace(drill, dump=dump))
        kept.require_unchanged()
    return outcome


def _drilled(conn: Connection, server: ServerInfo, options: Options, drill: Drill) -> DrillResult:
    """The drill of a set that is held open."""
    ready = prepare(conn, server, options, drill)
    outcome = DrillResult(tools=ready.tools.version)
    name = scratch_name(options.db, drill.run.run_id)
    with _scratch(conn, options, drill, name):
        started = time.monotonic()
        try:
            loaded = _build(conn, server, options, drill, ready, name)
        except _Unreadable as error:
            outcome.problems.append(f"It cannot be restored: {error}")
            return outcome
        outcome.restore_s = round(time.monotonic() - started, 3)
        drill.run.log(f"restored into {name!r} in {outcome.restore_s} s")
        looking = reader(options) if drill.own_server else options
        with contextlib.closing(connect(looking, dbname=name, purpose=f"drill {drill.run.run_id}")) as side:
            if loaded.failures:
                _refute(side, drill, ready, loaded, outcome)
            else:
                _compare(side, drill, outcome)
        if drill.amcheck and not loaded.failures:
            with contextlib.closing(connect(options, dbname=name, purpose=f"drill {drill.run.run_id}")) as side:
                _check_storage(side, server, drill, outcome)
    outcome.notes += loaded.warnings
    if loaded.again:
        outcome.notes.append(
            f"{len(loaded.again)} objects could be made in a second attempt only, with the original's search_path: "
            f"{', '.join(loaded.again[:5])}. Give their functions a search_path of their own."
        )
    return outcome


class _Unreadable(Exception):
    """pg_restore cannot read the archive, whatever the server."""


def _refute(side: Connection, drill: Drill, ready: PreparedDrill, loaded: Loaded, outcome: DrillResult) -> None:
    """What cannot be made of the set, whose own objects are to blame, and whether its rows came back nevertheless."""
    outcome.hint = remedy(loaded.failures, ready.contents)
    rows = _compare_rows(side, drill)
    outcome.rows_whole = not rows
    told = f" All rows of its {len(drill.item.manifest.tables)} tables came back." if not rows else ""
    outcome.problems += [f"It cannot be restored: {summed_up(loaded.failures, ready.contents)}{told}", *rows]
    outcome.findings += [
        {
            "id": "restore.object.failed",
            "object": failure.name(ready.contents),
            "message": failure.sentence(ready.contents),
        }
        for failure in loaded.failures
    ]


def _require_a_verdict(failures: Sequence[Failure], contents: Contents) -> None:
    """Raise `LoadInterrupted` where not all failures are known to be the set's own; others may follow from those."""
    strange = [failure for failure in failures if not failure.faulty]
    if strange:
        raise LoadInterrupted(
            f"pg_restore failed, and that may lie at the server: {summed_up(strange, contents)}", strange[0].hint
        )
    if any(failure.unreadable for failure in failures):
        raise _Unreadable(summed_up(failures, contents))


@contextlib.contextmanager
def _scratch(conn: Connection, options: Options, drill: Drill, name: str) -> Iterator[None]:
    """The scratch database's life: whatever ends the block, it goes; at once where the server can be reached."""
    try:
        yield
    finally:
        _clear_up(conn, options, drill, name)


def _clear_up(conn: Connection, options: Options, drill: Drill, name: str) -> None:
    """Drop the scratch database; on a new connection where the first is gone. What fails is left to the next drill."""
    with contextlib.suppress(ScannerDbError):
        drill.run.progress("clear up")
    try:
        drop(conn, name)
    except (ScannerDbError, DriverError) as first:
        told: Exception = first
        try:
            with job_lock(options, "verify", drill.run.run_id, RECONNECT_S) as again:
                drop(again, name)
            return
        except (ScannerDbError, DriverError) as second:
            told = second
        if not drill.own_server:
            drill.run.note_change(f"The scratch database {name!r} is still there; the next drill removes it.")
        with contextlib.suppress(ScannerDbError):
            drill.run.log(f"the scratch database {name!r} was not removed, the next drill does it: {told}")


def _build(
    conn: Connection, server: ServerInfo, options: Options, drill: Drill, ready: PreparedDrill, name: str
) -> Loaded:
    """Create, mark, load and analyze: what a real restore would have to do before its cutover.

    Raises `LoadInterrupted` where what failed is not known to be the set's own fault: that proves nothing.
    """
    run, item = drill.run, drill.item
    run.progress("create")
    with explained(f"Creating the scratch database {name!r}"):
        for role in ready.missing:
            conn.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(role)))
        target = make_loader(conn, options, ready.target) if drill.own_server else ready.target
        conn.execute(create_statement(name, target, server.major, closed=server.superuser and not drill.own_server))
        mark(conn, name, ScratchMark(options.db, run.run_id, now_text(), item.name).text())
        for statement in silence(name, server.major, server.superuser):
            conn.execute(statement)

    def tell() -> None:
        with contextlib.suppress(DriverError):
            size = scalar(conn, "SELECT pg_database_size(%s)", [name])
            run.progress("load", int(size or 0), ready.needed_bytes, unit="bytes")

    load = _load_of(conn, options, drill, ready, name)
    if drill.own_server:
        loaded = load_weakly(load, tell)
        _require_a_verdict(loaded.failures, ready.contents)
        if ready.target.owner:
            with explained(f"Giving {name!r} to its owner"):
                conn.execute(SQL("ALTER DATABASE {} OWNER TO {}").format(*map(Identifier, (name, ready.target.owner))))
                looking = Identifier(reader(options).user)
                conn.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(Identifier(name), looking))
        return loaded
    loaded = load_archive(load, wanted_lines(ready.contents, server.superuser), on_tick=tell)
    _require_a_verdict(loaded.failures, ready.contents)
    run.progress("analyze")
    session = contextlib.closing(connect(options, dbname=name, purpose=f"drill {run.run_id}"))
    with session as side:
        loaded.warnings += analyze(side, load.paths)
    return loaded


def _load_of(conn: Connection, options: Options, drill: Drill, ready: PreparedDrill, name: str) -> Load:
    manifest = drill.item.manifest
    archive = Archive(ready.tools, options, drill.archive, name)
    paths = original_paths(conn, ready.target.settings)
    if not drill.own_server:  # there nothing of the set has more rights than it should
        paths = safe_paths(conn, ready.target.settings, ready.contents.code, run_code=False)
    return Load(archive, ready.contents, manifest.dump_format, drill.jobs or cores(), drill.nice, paths)


def _compare(side: Connection, drill: Drill, outcome: DrillResult) -> None:
    """Rows, content, structure, storage and contract of the scratch database, against the manifest."""
    manifest = drill.item.manifest
    outcome.problems += _compare_rows(side, drill)
    if manifest.structure:
        scheme = scheme_of(manifest.structure)
        outcome.problems += structure_differences(manifest.structure, read_structure(side, scheme))
    outcome.compared = {
        "tables": len(manifest.tables),
        "fingerprints": sum(1 for t in manifest.tables if t.fingerprint),
        "objects": len(manifest.structure),
    }
    _hold_against_contract(side, drill, outcome)


def _check_storage(side: Connection, server: ServerInfo, drill: Drill, outcome: DrillResult) -> None:
    """Look into tables and indexes; amcheck itself takes on the rights of their owners."""
    drill.run.progress("amcheck")
    why = why_not(side, server.superuser)
    seen = Pages(unseen=f"amcheck was left out: {why}.") if why else check_storage(side)
    outcome.problems += seen.damage
    outcome.notes += filter(None, [seen.unseen])


def _compare_rows(side: Connection, drill: Drill) -> list[str]:
    """Where rows and their content differ from the manifest, as sentences."""
    run, manifest, problems = drill.run, drill.item.manifest, []
    run.progress("compare")
    expected, counts = counts_of(side, manifest.tables)
    for schema, name, rows in expected:
        found = counts[schema, name]
        if found != rows:
            has = "is missing" if found < 0 else f"has {found} rows"
            problems.append(f"{schema}.{name} {has}; the snapshot had {rows}.")
    if not problems:  # a table that is not there has no content to look at
        problems += fingerprint_differences(
            side, manifest.tables, lambda done, total: run.progress("fingerprints", done, total, unit="tables")
        )
    return problems


def _hold_against_contract(side: Connection, drill: Drill, outcome: DrillResult) -> None:
    """What the contract demands and this backup does not have.

    The structure is known to be the backed-up one, so these were the database's own faults: they are told, and do not
    make the backup a bad one.
    """
    serious = [f for f in difference(drill.contract, read_catalog(side, drill.contract)) if f.severity == "critical"]
    outcome.findings = [{"id": f.id, "object": f.object, "message": f.message} for f in serious]
    if serious:
        told = "; ".join(f"{f.id} ({f.object})" for f in serious[:5])
        outcome.notes.append(
            f"What was backed up has {len(serious)} critical findings against the contract: {told}. After a restore, "
            "run playbooks/fix.yml."
        )
