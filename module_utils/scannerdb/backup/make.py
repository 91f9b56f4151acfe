"""Makes one backup set: snapshot, dump and row counts side by side, manifest, flush, proof, name."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..connection import Connection, Options, connect
from ..errors import BackupInvalid, ConnectionFailed, LockTimeout, ScannerDbError
from ..files import ensure_folder, fsync_tree, remove_tree
from ..runs import Run, utc_now
from ..sets.catalogue import BackupSet, load_set, point_latest
from ..sets.checksums import hash_files
from ..sets.database_facts import read_facts
from ..sets.encryption import encrypt_set
from ..sets.known_hashes import record_hash
from ..sets.manifest import GLOBALS, VERIFICATIONS, DatabaseFacts, Manifest, ObjectPrint, TableCount, write_manifest
from ..sets.names import format_time
from ..sets.proofs import signature_of
from ..sets.signature import sign
from ..sets.staging import claimed, publish
from ..sets.streamed_hashes import Growing
from ..sets.structure import read_structure, structure_fingerprint
from ..sets.verification import verify_set
from ..sets.verification_log import NOT_TRIED, Verification, VerificationStatus, append_history, append_record
from .dump import UnreadError, dump_command, run_dump, run_globals
from .plan import BackupRequest, Ready
from .snapshot import Passing, Snapshot, StandbyConflict, count_rows, ensure_moving, open_snapshot, strong_holders

Drill = Callable[[BackupSet], Verification]
CONFLICT = "conflict with recovery"
REMOVING = "ansible-playbook playbooks/remove.yml -e scannerdb_remove_set="
MOST_CONFLICTS = 2  # a dump that met one will as a rule meet the next: vacuum comes by on the primary again and again


@dataclass(frozen=True)
class _Dumped:
    facts: DatabaseFacts
    snapshot_id: str
    lsn: str
    tables: tuple[TableCount, ...]
    taken: str
    structure: tuple[ObjectPrint, ...]
    why_no_globals: str
    seen: Growing


def make_set(request: BackupRequest, ready: Ready, run: Run, drill: Drill | None = None) -> BackupSet:
    """Make one set and return it; the caller holds the job lock. Level `restore` is proven by `drill`.

    `latest.backup` follows when the purpose is `regular`. On any failure it stays as it was, and nothing of the new set
    is left, except one that failed its verification: that stays hidden, as evidence, until the next run's sweep. One
    that was to be encrypted does not: it is plain.
    """
    started = time.monotonic()
    ensure_folder(request.backup_dir)
    with claimed(request.backup_dir, ready.options.db, utc_now()) as (name, folder):
        try:
            dumped = _dump(request, ready, run, folder)
            manifest = _describe(request, ready, run, folder, name, dumped, started)
            digest = write_manifest(folder, manifest)
            proof = _prove(folder, request, ready, run, name, drill)
            plain = ""
            if request.recipients:
                digest, plain = _lock(folder, request, run, manifest, proof)
            unsigned = sign(folder, request.state_dir)
            if unsigned:
                run.log(f"warning: the set is not signed, so no other host will know whose it is: {unsigned}")
            run.progress("flush")
            fsync_tree(folder)
            record_hash(request.state_dir, name, digest, plain)
            final = publish(request.backup_dir, name)
        except BaseException as error:
            if (request.backup_dir / name).is_dir():  # it has its name: only the flush of the folder failed
                _note_made(run, name, request)
                raise
            if isinstance(error, BackupInvalid) and not request.recipients:
                run.note_change(f"What was written is in {folder}; the next run removes it.")
                raise
            with contextlib.suppress(ScannerDbError):
                remove_tree(folder)
            raise
    _note_made(run, name, request)
    if request.purpose == "regular":
        point_latest(request.backup_dir, name)
    if not proof:
        return load_set(final, request.trust)
    append_history(request.state_dir, name, dataclasses.replace(proof, manifest_sha256=digest))
    return dataclasses.replace(
        load_set(final, request.trust), standing=VerificationStatus(proof.level, proof.at, (), proof.restore_s)
    )


def _note_made(run: Run, name: str, request: BackupRequest) -> None:
    run.note_change(f"Backup {name} was made, and is kept in {request.backup_dir}.", f"To remove it: {REMOVING}{name}")


def _describe(
    request: BackupRequest, ready: Ready, run: Run, folder: Path, name: str, dumped: _Dumped, started: float
) -> Manifest:
    """The manifest of a set whose files are all there."""
    run.progress("hash")
    stay = not request.recipients  # plain files of an encrypted set do not
    reread = stay and request.verify_level in ("read", "restore")  # then from the disk; comparing is to be quick
    files = hash_files(folder, ready.jobs, dumped.seen, flush=stay, forget=reread)
    return Manifest(
        name=name,
        purpose=request.purpose,
        run_id=run.run_id,
        created=dumped.taken,
        finished=format_time(utc_now()),
        duration_s=round(time.monotonic() - started, 3),
        database=dumped.facts,
        server_version=ready.server.version,
        server_version_num=ready.server.version_num,
        server_is_standby=ready.server.in_recovery,
        pg_dump_version=ready.tools.version,
        pg_restore_version=ready.pg_restore_version,
        snapshot_id=dumped.snapshot_id,
        snapshot_lsn=dumped.lsn,
        dump_format=request.dump_format,
        dump_path=request.dump_path,
        compression=ready.compression,
        jobs=ready.jobs,
        globals_missing=dumped.why_no_globals,
        contract=request.contract or structure_fingerprint(dumped.structure),
        structure=dumped.structure,
        tables=dumped.tables,
        files=files,
    )


def _prove(
    folder: Path, request: BackupRequest, ready: Ready, run: Run, name: str, drill: Drill | None
) -> Verification | None:
    """Verify the new set before it has its name, and before it is encrypted; raises `BackupInvalid`."""
    if request.verify_level == "none":
        return None

    def verify(level: str) -> Verification:
        def tell(done: int) -> None:
            run.progress("verify", done, 0, unit="bytes")

        return verify_set(folder, level, ready.tools, jobs=ready.jobs, nice=request.nice, on_bytes=tell, record=False)

    outcome = verify("checksum" if drill else request.verify_level)
    if drill and outcome.ok:
        try:
            outcome = drill(load_set(folder))
            if (
                not outcome.ok and outcome.rows_whole
            ):  # as good as a backup of that database can be: without it there would be none
                run.log(f"warning: not all of the new set can be made again: {' '.join(outcome.problems)}")
                outcome = verify("read")
        except ScannerDbError as error:  # no room, no roles, a server that went away: no mark against the set
            run.log(f"warning: the new set could not be drilled, and is read instead: {error}")
            untried = Verification(
                "restore", False, format_time(utc_now()), "", problems=(str(error),), outcome=NOT_TRIED
            )
            append_history(request.state_dir, name, untried)
            outcome = verify("read")
    append_record(folder, outcome, signature_of(outcome, request.state_dir))
    run.log(f"verification {outcome.level}: {'passed' if outcome.ok else ' '.join(outcome.problems)}")
    if not outcome.ok:
        kept = (
            f"is in {folder} until the next run removes it" if not request.recipients else "was removed: it was plain"
        )
        raise BackupInvalid(
            f"The new backup {name} failed its verification ({outcome.level}): {' '.join(outcome.problems[:3])}",
            f"latest.backup was left as it was; what was written {kept}. Look at the disk and at the client tools.",
        )
    return outcome


def _lock(
    folder: Path, request: BackupRequest, run: Run, manifest: Manifest, proof: Verification | None
) -> tuple[str, str]:
    """Encrypt the proven set. What was proven of its plain files stands for the encrypted ones, and is noted anew."""
    run.progress("encrypt")
    remove_tree(folder / VERIFICATIONS)
    digest, plain = encrypt_set(folder, manifest, request.recipients, request.nice)
    if proof:
        moved = dataclasses.replace(proof, manifest_sha256=digest)
        append_record(folder, moved, signature_of(moved, request.state_dir))
    run.log(f"encrypted to {len(request.recipients)} recipients")
    return digest, plain


def _dump(request: BackupRequest, ready: Ready, run: Run, folder: Path) -> _Dumped:
    """Attempts until one gets its locks or the deadline is over."""
    deadline = time.monotonic() + request.lock_deadline_s
    options, pause, conflicts = ready.options, 0.2, 0
    while True:
        conn = connect(options, purpose=f"backup {run.run_id}", allow_standby=True)
        try:
            return _attempt(conn, request, ready, run, folder)
        except ScannerDbError as error:
            conflict = ready.server.in_recovery and _is_conflict(error)
            conflicts += conflict
            if not isinstance(error, Passing) and not conflict:
                raise
            remove_tree(folder / request.dump_path)
            run.log(f"{error.message} Trying again.")
            _give_up(error, options, request, conflicts, deadline - pause)
        finally:
            conn.close()
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 1.5, 5.0)


def _is_conflict(error: ScannerDbError) -> bool:
    """Whether a standby ended the dump. Between two statements it just closes the session, and its reason is lost."""
    told = CONFLICT in error.message or (isinstance(error, Passing) and error.conflict)
    return told or isinstance(error, (ConnectionFailed, UnreadError))


def _give_up(error: ScannerDbError, options: Options, request: BackupRequest, conflicts: int, deadline: float) -> None:
    """Raise where there should be no further attempt."""
    if conflicts >= MOST_CONFLICTS:
        raise StandbyConflict(
            f"The standby on {options.server} ended the dump {conflicts} times to go on replaying.",
            "Set hot_standby_feedback there, raise max_standby_streaming_delay, or dump from the primary.",
        ) from error
    if time.monotonic() > deadline:
        raise LockTimeout(
            f"The backup of database {options.db!r} could not get its locks within {request.lock_deadline_s:g} s "
            f"({error.message.rstrip('.')}); {_holders(options)}.",
            "Run again when that is over, or raise scannerdb_lock_deadline_s.",
        ) from error


def _holders(options: Options) -> str:
    with contextlib.suppress(ScannerDbError), contextlib.closing(connect(options, allow_standby=True)) as conn:
        return strong_holders(conn)
    return "who holds them is not known"


def _attempt(conn: Connection, request: BackupRequest, ready: Ready, run: Run, folder: Path) -> _Dumped:
    """One dump; what else has to be known of its snapshot is found out while it runs."""
    target, seen = folder / request.dump_path, Growing()
    application = f"scannerdb pg_dump {run.run_id}"
    with open_snapshot(conn, ready.server, request.lock_timeout_ms) as snapshot, seen.following(target) as look:
        taken = format_time(utc_now())
        found: list[_Dumped] = []

        def meanwhile(exit_code: Callable[[], int | None]) -> None:
            tables = tuple(_count(snapshot, exit_code, run, request.fingerprints))
            facts, structure = read_facts(conn), read_structure(conn)
            why = run_globals(ready.tools, ready.options, folder / GLOBALS, request.lock_timeout_ms)
            found.append(_Dumped(facts, snapshot.id, snapshot.lsn, tables, taken, structure, why, seen))

        def tick() -> None:
            run.progress("dump", look(), ready.estimate_bytes, unit="bytes")
            ensure_moving(conn, application, request.lock_timeout_ms)

        run.log(f"pg_dump {ready.tools.version}, {ready.jobs} jobs, {ready.compression}, snapshot {snapshot.id}")
        run_dump(
            dump_command(
                ready.tools,
                target,
                compression=ready.compression,
                jobs=ready.jobs,
                snapshot=snapshot.id,
                lock_timeout_ms=request.lock_timeout_ms,
                dump_format=request.dump_format,
            ),
            ready.options,
            application=application,
            nice=request.nice,
            meanwhile=meanwhile,
            on_tick=tick,
        )
        return found[0]


def _count(snapshot: Snapshot, exit_code: Callable[[], int | None], run: Run, fingerprints: bool) -> list[TableCount]:
    """Count while pg_dump runs, and stop where it has failed. A small dump may well end before the counting does."""
    last = 0.0

    def keep_on(done: int, total: int) -> bool:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            run.progress("dump", done, total, unit="tables counted")
        return not exit_code()

    return count_rows(snapshot, keep_on, fingerprints)
