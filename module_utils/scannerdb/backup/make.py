"""Makes one backup set: snapshot, dump and row counts side by side, manifest, flush, proof, name."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..connection import Connection, Options, connect
from ..errors import BackupInvalid, LockTimeout, ScannerDbError
from ..files import ensure_folder, fsync_tree, remove_tree
from ..process import version_of
from ..runs import Run, utc_now
from .crypt import encrypt_set
from .dump import dump_command, run_dump, run_globals
from .facts import read_facts
from .hashes import record_hash
from .inventory import hash_files
from .manifest import GLOBALS, VERIFICATIONS, DatabaseFacts, Manifest, ObjectPrint, TableCount, write_manifest
from .names import format_time
from .plan import Ready, Wish
from .record import Verification, append_record
from .sets import BackupSet, load_set, point_latest
from .snapshot import Passing, Snapshot, StandbyConflict, count_rows, ensure_moving, open_snapshot, strong_holders
from .structure import read_structure, structure_fingerprint
from .verify import verify_set
from .workspace import claimed, publish

CONFLICT = "conflict with recovery"
MOST_CONFLICTS = 2  # a dump that met one will as a rule meet the next: vacuum comes by on the primary again and again


@dataclass(frozen=True)
class _Dumped:
    facts: DatabaseFacts
    snapshot_id: str
    lsn: str
    tables: tuple[TableCount, ...]
    taken: str
    structure: tuple[ObjectPrint, ...]


def make_set(wish: Wish, ready: Ready, run: Run) -> BackupSet:
    """Make one set and return it; the caller holds the job lock.

    `latest.backup` follows when the purpose is `regular`. On any failure it stays as it was, and nothing of the new set
    is left, except one that failed its verification: that stays hidden, as evidence, until the next run's sweep.
    """
    started = time.monotonic()
    options = ready.options
    ensure_folder(wish.backup_dir)
    with claimed(wish.backup_dir, options.db, utc_now()) as (name, folder):
        try:
            dumped = _dump(wish, ready, run, folder / wish.dump_path)
            why_no_globals = run_globals(ready.tools, options, folder / GLOBALS)
            manifest = _describe(wish, ready, run, folder, name, dumped, why_no_globals, started)
            digest = write_manifest(folder, manifest)
            _prove(folder, wish, ready, run, name)
            plain = ""
            if wish.recipients:
                digest, plain = _lock(folder, wish, ready, run, manifest)
            run.progress("flush")
            fsync_tree(folder)
            record_hash(wish.state_dir, name, digest, plain)
            final = publish(wish.backup_dir, name)
        except BackupInvalid:
            raise
        except BaseException:
            with contextlib.suppress(ScannerDbError):
                remove_tree(folder)
            raise
    if wish.purpose == "regular":
        point_latest(wish.backup_dir, name)
    return load_set(final)


def _describe(
    wish: Wish, ready: Ready, run: Run, folder: Path, name: str, dumped: _Dumped, why_no_globals: str, started: float
) -> Manifest:
    """The manifest of a set whose files are all there."""
    run.progress("hash")
    files = hash_files(folder, ready.jobs)
    return Manifest(
        name=name,
        purpose=wish.purpose,
        run_id=run.run_id,
        created=dumped.taken,
        finished=format_time(utc_now()),
        duration_s=round(time.monotonic() - started, 3),
        database=dumped.facts,
        server_version=ready.server.version,
        server_version_num=ready.server.version_num,
        server_is_standby=ready.server.in_recovery,
        pg_dump_version=ready.tools.version,
        pg_restore_version=version_of(ready.tools.path("pg_restore")),
        snapshot_id=dumped.snapshot_id,
        snapshot_lsn=dumped.lsn,
        dump_format=wish.dump_format,
        dump_path=wish.dump_path,
        compression=ready.compression,
        jobs=ready.jobs,
        globals_missing=why_no_globals,
        contract=wish.contract or structure_fingerprint(dumped.structure),
        structure=dumped.structure,
        tables=dumped.tables,
        files=files,
    )


def _prove(folder: Path, wish: Wish, ready: Ready, run: Run, name: str) -> None:
    """Verify the new set before it has its name; raises `BackupInvalid` and leaves it hidden, as evidence."""
    if wish.verify_level == "none":
        return
    outcome = verify_set(
        folder,
        wish.verify_level,
        ready.tools,
        jobs=ready.jobs,
        nice=wish.nice,
        on_bytes=lambda done: run.progress("verify", done, 0, unit="bytes"),
    )
    run.log(f"verification {outcome.level}: {'passed' if outcome.ok else ' '.join(outcome.problems)}")
    if not outcome.ok:
        raise BackupInvalid(
            f"The new backup {name} failed its verification ({outcome.level}): {' '.join(outcome.problems[:3])}",
            f"latest.backup was left as it was; what was written is in {folder} until the next run removes it. "
            "Look at the disk and at the client tools.",
        )


def _lock(folder: Path, wish: Wish, ready: Ready, run: Run, manifest: Manifest) -> tuple[str, str]:
    """Encrypt the proven set. What was proven of its plain files stands for the encrypted ones, and is noted anew."""
    run.progress("encrypt")
    remove_tree(folder / VERIFICATIONS)
    digest, plain = encrypt_set(folder, manifest, wish.recipients)
    if wish.verify_level != "none":
        proven = Verification(wish.verify_level, True, format_time(utc_now()), digest, tools=ready.tools.version)
        append_record(folder, proven)
    run.log(f"encrypted to {len(wish.recipients)} recipients")
    return digest, plain


def _dump(wish: Wish, ready: Ready, run: Run, target: Path) -> _Dumped:
    """Attempts until one gets its locks or the deadline is over."""
    deadline = time.monotonic() + wish.lock_deadline_s
    options, pause, conflicts = ready.options, 0.2, 0
    while True:
        conn = connect(options, purpose=f"backup {run.run_id}", allow_standby=True)
        try:
            return _attempt(conn, wish, ready, run, target)
        except ScannerDbError as error:
            conflicts += CONFLICT in error.message
            if not isinstance(error, Passing) and CONFLICT not in error.message:
                raise
            remove_tree(target)
            if conflicts >= MOST_CONFLICTS:
                raise StandbyConflict(
                    f"The standby on {options.server} ended the dump {conflicts} times to go on replaying.",
                    "Set hot_standby_feedback there, raise max_standby_streaming_delay, or dump from the primary.",
                ) from error
            run.log(f"{error.message} Trying again.")
            if time.monotonic() + pause > deadline:
                raise LockTimeout(
                    f"The backup of database {options.db!r} could not get its locks within {wish.lock_deadline_s:g} s "
                    f"({error.message.rstrip('.')}); {_holders(options)}.",
                    "Run again when that is over, or raise scannerdb_lock_deadline_s.",
                ) from error
        finally:
            conn.close()
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 1.5, 5.0)


def _holders(options: Options) -> str:
    with contextlib.suppress(ScannerDbError), contextlib.closing(connect(options, allow_standby=True)) as conn:
        return strong_holders(conn)
    return "who holds them is not known"


def _attempt(conn: Connection, wish: Wish, ready: Ready, run: Run, target: Path) -> _Dumped:
    with open_snapshot(conn, ready.server, wish.lock_timeout_ms) as snapshot:
        taken = format_time(utc_now())
        facts, structure = read_facts(conn), read_structure(conn)
        counts: list[TableCount] = []
        command = dump_command(
            ready.tools,
            target,
            compression=ready.compression,
            jobs=ready.jobs,
            snapshot=snapshot.id,
            lock_timeout_ms=wish.lock_timeout_ms,
            dump_format=wish.dump_format,
        )
        run.log(f"pg_dump {ready.tools.version}, {ready.jobs} jobs, {ready.compression}, snapshot {snapshot.id}")
        application = f"scannerdb pg_dump {run.run_id}"

        def tick() -> None:
            run.progress("dump", _written(target), ready.estimate_bytes, unit="bytes")
            ensure_moving(conn, application, wish.lock_timeout_ms)

        run_dump(
            command,
            ready.options,
            application=application,
            nice=wish.nice,
            meanwhile=lambda exit_code: counts.extend(_count(snapshot, exit_code, run, wish.fingerprints)),
            on_tick=tick,
        )
        return _Dumped(facts, snapshot.id, snapshot.lsn, tuple(counts), taken, structure)


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


def _written(target: Path) -> int:
    with contextlib.suppress(OSError):
        files = target.iterdir() if target.is_dir() else [target]
        return sum(path.stat().st_size for path in files)
    return 0
