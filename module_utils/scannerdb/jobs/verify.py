"""The verify job: prove a backup set by its files, by reading it, or by restoring it into a scratch database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..connection import Options, connect, job_entry, server_of, survived
from ..contract.overlay import contract_with
from ..drill import cluster
from ..drill.options import DrillOptions
from ..drill.request import DrillRequest, drill_request_from
from ..drill.restore_drill import (
    Drill,
    DrillResult,
    drill_on_cluster,
    drill_on_server,
    left_clusters,
    prepare,
    swept_clusters,
)
from ..drill.scratch import left_over
from ..errors import BackupInvalid, InvalidInput, ScannerDbError
from ..joblock import job_lock
from ..partial import telling_changes
from ..process import cores
from ..runs import Run, checked_run_id, new_run_id, utc_now
from ..sets.catalogue import BackupSet, adopt_all, list_sets, load_held, load_set, newest_proven
from ..sets.encryption import require_key, unlocked
from ..sets.fetch import OFFSITE, fetched, find_copy, tidied
from ..sets.held import HeldSet, held
from ..sets.locate import find_set
from ..sets.names import format_time
from ..sets.offsite import add_record
from ..sets.proofs import remember
from ..sets.signature import origin_of, require_known
from ..sets.staging import debris, in_use
from ..sets.verification import read_dump, reading_tools, verify_set
from ..sets.verification_log import NOT_TRIED, Verification, append_history
from .backup_result import public_proof

JOB = "verify"


@job_entry("The verification")
def verify(options: Options, asked: DrillOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Verify one set; returns the module's result, with `failed` where the set did not pass.

    The outcome is added to the set's record and to the state's history. Raises one of our errors where nothing could be
    proven either way (no such set, no server, no tools, no room): that is no mark against the set. In check mode all of
    that is looked at and nothing is written.
    """
    request = drill_request_from(asked)
    run_id = checked_run_id(asked.run_id) if asked.run_id else new_run_id()
    run = Run(JOB, options.db, run_id, "" if check_mode else request.state_dir)
    run.log_path = "" if check_mode else asked.log_path
    contract = contract_with(asked.contract_overlay)
    with telling_changes(run), run.failure_told(), _chosen(request, options, run, check_mode) as (item, tidy):
        drill = Drill(
            item, contract, run, request.jobs, request.nice, request.amcheck, own_server=request.place == "cluster"
        )
        if check_mode:
            if request.level == "restore" and item.path.is_absolute():  # what is elsewhere is looked at when it is here
                require_known(item, request.trust)
            return _plan_only(options, request, drill)
        with _not_tried(request, item, run):
            done, outcome, swept = survived(
                "The verification", lambda: _verify(options, request, drill, asked.lock_wait_s), run.log
            )
        result = _result(options, request, run, item, done, outcome, [*tidy, *swept])
    run.progress("failed" if result["failed"] else "done")
    return result


@contextlib.contextmanager
def _chosen(
    request: DrillRequest, options: Options, run: Run, check_mode: bool
) -> Iterator[tuple[BackupSet, list[str]]]:
    """The set that is meant (`latest`, a name, a path, a time, or a copy elsewhere), kept for the block.

    With the names of the debris that was swept before a copy was brought here. In check mode it stays where it is.
    """
    with contextlib.ExitStack() as stack:
        source, swept = request.source, []
        if source.startswith(OFFSITE):
            copy = find_copy(source, request.access.offsite, options.db)
            if check_mode:
                yield copy, []
                return
            swept = tidied(request.backup_dir, options.db, run)
            source = str(stack.enter_context(fetched(copy, request.access, request.backup_dir, options.db, run)))
        item = find_set(request.backup_dir, source, request.trust, options.db)
        _ensure_of(item, options)
        stack.enter_context(in_use(item.path))
        yield item, swept


def _ensure_of(item: BackupSet, options: Options) -> None:
    if item.manifest.database.name != options.db:
        raise InvalidInput(
            f"Backup {item.name} is of database {item.manifest.database.name!r}, not of {options.db!r}.",
            "Set scannerdb_login_db to that database, or name another backup.",
        )


def _verify(
    options: Options, request: DrillRequest, drill: Drill, lock_wait_s: float
) -> tuple[Verification, DrillResult, list[str]]:
    """Do it, and write down what it showed."""
    item, run = drill.item, drill.run
    with held(item.path) as kept:
        done, outcome, swept = _looked_at(
            options, request, replace(drill, item=load_held(kept.path, item)), kept, lock_wait_s
        )
    adopt_all(request.backup_dir, options.db, request.state_dir)
    remember(item.path, item.name, done, request.state_dir)
    run.note_change(f"The record of {item.name} says now: {done.level}, {'passed' if done.ok else 'failed'}.")
    if request.source.startswith(OFFSITE):
        try:
            add_record(request.access.offsite, item.path)
        except ScannerDbError as error:  # what was proven stays proven
            outcome.notes.append(f"The outcome could not be put beside the copy: {error}")
    run.log(f"{request.level}: {'passed' if done.ok else ' '.join(done.problems)}")
    return done, outcome, swept


def _looked_at(
    options: Options, request: DrillRequest, drill: Drill, kept: HeldSet, lock_wait_s: float
) -> tuple[Verification, DrillResult, list[str]]:
    """What a set that is held open shows."""
    item, run = drill.item, drill.run
    started = time.monotonic()
    run.log(f"verifying {item.name} at level {request.level}")
    first = verify_set(item.path, "checksum", state_dir=request.state_dir, jobs=request.jobs or 2, record=False)
    outcome = DrillResult(list(first.problems))
    swept: list[str] = []
    if first.ok and request.level == "restore":
        require_known(item, request.trust)
    if first.ok and request.level != "checksum":  # reading or restoring what is known to be damaged proves nothing
        outcome, swept = _look_inside(options, request, drill, lock_wait_s)
    elif request.level == "restore":
        outcome.notes.append("Nothing was restored: the files are not as recorded.")
    outcome.notes += [said for said in (origin_of(item, request.trust).sentence,) if said]
    try:
        kept.require_unchanged()
    except BackupInvalid as error:
        outcome.problems.append(str(error))
    done = Verification(
        level=request.level,
        ok=not outcome.problems,
        at=format_time(utc_now()),
        manifest_sha256=first.manifest_sha256,
        seconds=round(time.monotonic() - started, 3),
        problems=tuple(outcome.problems),
        tools=outcome.tools,
        restore_s=outcome.restore_s,
        place=request.place if request.level == "restore" else "",
        rows_whole=outcome.rows_whole,
    )
    return done, outcome, swept


@contextlib.contextmanager
def _not_tried(request: DrillRequest, item: BackupSet, run: Run) -> Iterator[None]:
    """Note of an error that nothing was proven either way, and why; the set's own record stays as it is."""
    try:
        yield
    except BackupInvalid:
        raise
    except ScannerDbError as error:
        at, why = format_time(utc_now()), str(error)
        done = Verification(request.level, False, at, item.manifest_sha256, problems=(why,), outcome=NOT_TRIED)
        with contextlib.suppress(ScannerDbError):
            append_history(request.state_dir, item.name, done)
        told = {"set": item.name, "path": str(item.path), "level": request.level, "outcome": NOT_TRIED, "passed": False}
        run.facts["verification"] = {**told, "problems": [why], "at": at}
        error.done = {**run.facts, **error.done}
        raise


def _look_inside(
    options: Options, request: DrillRequest, drill: Drill, lock_wait_s: float
) -> tuple[DrillResult, list[str]]:
    """Read or restore what is in the set, and the names of what was swept for that."""
    item, run, swept = drill.item, drill.run, []
    if item.manifest.encryption:
        require_key(item, request.access.key)
        swept = tidied(request.backup_dir, options.db, run)
    try:
        with _readable(request, item) as plain:
            if request.level == "read":
                return _read(options, request, plain, run), swept
            with _untried(item):
                outcome, dropped = _drill(options, request, replace(drill, item=plain), lock_wait_s)
            return outcome, [*swept, *dropped]
    except BackupInvalid as error:
        return DrillResult([str(error)]), swept


@contextlib.contextmanager
def _untried(item: BackupSet) -> Iterator[None]:
    """Say of an error that the drill could not be tried: it proves nothing, and the set keeps its standing."""
    try:
        yield
    except BackupInvalid:
        raise
    except ScannerDbError as error:
        error.args = (f"Backup {item.name} could not be tried, which is no mark against it. {error}",)
        raise


@contextlib.contextmanager
def _readable(request: DrillRequest, item: BackupSet) -> Iterator[BackupSet]:
    """The set, decrypted for the block where it is encrypted."""
    if item.manifest.encryption is None:
        yield item
        return
    with unlocked(item, request.access.key, request.backup_dir, item.manifest.database.name) as plain:
        yield plain


def _read(options: Options, request: DrillRequest, plain: BackupSet, run: Run) -> DrillResult:
    tools = reading_tools(plain.manifest, options.pg_bin_dir)
    problems = read_dump(
        plain.path,
        plain.manifest,
        tools,
        request.nice,
        lambda count: run.progress("read", count, 0, unit="bytes"),
        request.jobs or cores(),
    )
    return DrillResult(problems, tools=tools.version)


def _drill(options: Options, request: DrillRequest, drill: Drill, lock_wait_s: float) -> tuple[DrillResult, list[str]]:
    if request.place == "cluster":
        return drill_on_cluster(options, request.cluster_dir, drill)
    swept = swept_clusters(request.cluster_dir, drill.run)
    with job_lock(options, JOB, drill.run.run_id, lock_wait_s) as conn:
        outcome, dropped = drill_on_server(conn, options, drill)
        return outcome, swept + dropped


def proven(request: DrillRequest, database: str) -> dict[str, Any]:
    """The newest set that was restored successfully, and when; empty where there is none."""
    return public_proof(newest_proven(list_sets(request.backup_dir, database, request.trust).sets))


def _result(
    options: Options,
    request: DrillRequest,
    run: Run,
    item: BackupSet,
    done: Verification,
    outcome: DrillResult,
    swept: list[str],
) -> dict[str, Any]:
    verification = {
        "set": item.name,
        "path": str(item.path),
        "level": done.level,
        "outcome": done.outcome,
        "passed": done.ok,
        "problems": list(done.problems),
        "duration_s": done.seconds,
        "restore_s": done.restore_s,
        "place": done.place,
        "tools": done.tools,
        "compared": outcome.compared,
        "findings": outcome.findings,
        "at": done.at,
    }
    return {
        "changed": request.level == "restore",
        "failed": not done.ok,
        "msg": _sentence(item, done, outcome.hint),
        "verification": verification,
        "proven": proven(request, options.db),
        "swept": swept,
        "warnings": outcome.notes,
        "run_id": run.run_id,
        "diff": _diff(item, done, load_set(item.path, request.trust)),
    }


def _sentence(item: BackupSet, done: Verification, hint: str) -> str:
    if not done.ok:
        more = f" ({len(done.problems)} problems in all.)" if len(done.problems) > 3 else ""
        return f"Backup {item.name} failed its verification ({done.level}): {' '.join(done.problems[:3])}{more} " + (
            hint or "Do not rely on it: make a new backup, and look at the disk."
        )
    if done.level == "restore":
        where = "on a disposable cluster" if done.place == "cluster" else "into a scratch database"
        return f"Backup {item.name} is proven restorable: restored {where} in {done.restore_s:.1f} s, all as recorded."
    return f"Backup {item.name} passed its verification ({done.level}) in {done.seconds:.1f} s."


def _diff(item: BackupSet, done: Verification, after: BackupSet) -> dict[str, str]:
    now = after.verified if done.ok else "failed"
    return {
        "before": f"{item.name}: {item.verified}\n",
        "after": f"{item.name}: {now}\n",
    }


def _plan_only(options: Options, request: DrillRequest, drill: Drill) -> dict[str, Any]:
    """What would be done, from the set where it is in the clear here, and, for a drill on it, the real server."""
    item = drill.item
    steps, sealed = _opening_steps(request, item)
    swept = [path.name for path in debris(request.backup_dir, options.db)] if sealed else []
    if request.level == "read":
        tools = reading_tools(item.manifest, options.pg_bin_dir)
        steps.append(f"read {item.manifest.size_bytes} bytes with pg_restore {tools.version}, and count the rows")
    if request.level == "restore":
        told, dropped = _PLANS[request.place](options, request, replace(drill, sealed=sealed))
        steps, swept = [*steps, *told], [*swept, *dropped]
    return {
        "changed": request.level == "restore",
        "failed": False,
        "msg": f"Would verify {item.name} at level {request.level}.",
        "plan": {"set": item.name, "level": request.level, "place": request.place, "steps": steps},
        "proven": proven(request, options.db),
        "swept": swept,
        "warnings": [],
        "run_id": drill.run.run_id,
        "diff": {"before": "", "after": "".join(f"{step}\n" for step in steps)},
    }


def _opening_steps(request: DrillRequest, item: BackupSet) -> tuple[list[str], bool]:
    """The steps up to a set that can be read, and whether there is something to fetch or to decrypt for that."""
    steps, away = [], request.source.startswith(OFFSITE)
    if away:
        place = request.access.offsite.at(item.name)
        steps.append(
            f"fetch {place}, {item.manifest.size_bytes} bytes, into a private folder, which is removed afterwards"
        )
    steps.append(f"compare {len(item.manifest.files)} files of {item.name if away else item.path} with the manifest")
    locked = request.level != "checksum" and item.manifest.encryption is not None
    if locked:
        require_key(item, request.access.key)
        steps.append("decrypt them into a private folder, which is removed afterwards")
    return steps, away or locked


def _plan_server(options: Options, request: DrillRequest, drill: Drill) -> tuple[list[str], list[str]]:
    with contextlib.closing(connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan")) as conn:
        server = server_of(conn)
        ready = prepare(conn, server, options, drill)
        swept = left_clusters(request.cluster_dir) + left_over(conn, options.db)
    free = f"{ready.free_bytes >> 20} MiB free" if ready.free_bytes is not None else "free space unknown"
    look = (
        ["look at the roles and extensions that the set asks for, which only its inside tells"] if drill.sealed else []
    )
    tables = len(drill.item.manifest.tables)
    return [
        *look,
        f"restore {tables if drill.sealed else ready.contents.tables} tables into a scratch database on "
        f"{options.server} with pg_restore {ready.tools.version}: about {ready.needed_bytes} bytes, {free}",
        f"compare {tables} tables and {len(drill.item.manifest.structure)} objects, drop it",
    ], swept


def _plan_cluster(options: Options, request: DrillRequest, drill: Drill) -> tuple[list[str], list[str]]:
    manifest = drill.item.manifest
    programs = cluster.server_programs(options.pg_bin_dir, manifest.server_version_num // 10000, manifest.dump_major)
    who = cluster.lent_user() or "this user"
    return [
        f"start a disposable PostgreSQL {programs.version} in {request.cluster_dir} as {who}",
        f"restore there and compare {len(manifest.tables)} tables and {len(manifest.structure)} objects, remove it",
    ], left_clusters(request.cluster_dir)


_PLANS: dict[str, Callable[[Options, DrillRequest, Drill], tuple[list[str], list[str]]]] = {
    "server": _plan_server,
    "cluster": _plan_cluster,
}
