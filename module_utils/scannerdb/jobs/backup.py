"""The backup job: lock, sweep, one new set, retention. `make_backup` is its core, for callers that hold the lock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..backup.crypt import check_recipients
from ..backup.hooks import hooks_from
from ..backup.make import make_set
from ..backup.manifest import DUMP_FORMATS, PURPOSES
from ..backup.names import format_time, log_name
from ..backup.offsite import Offsite, ensure_rclone
from ..backup.plan import FEWEST_DUMP_LOCK_MS, Ready, Wish, ensure_room, get_ready
from ..backup.record import Standing
from ..backup.retention import Decision, Policy, old_logs, plan_retention, removable, remove_set
from ..backup.sets import BackupSet, latest_target, list_sets, newest_proven
from ..backup.verify import LEVELS
from ..backup.workspace import debris, free_name, sweep
from ..connection import Options
from ..errors import InvalidInput, ScannerDbError
from ..files import ensure_folder, remove_tree
from ..joblock import job_lock
from ..runs import Run, checked_run_id, new_run_id, utc_now
from .backup_extras import Hooked, copy_away, with_copy

JOB = "backup"


def backup(
    options: Options,
    *,
    backup_dir: str,
    state_dir: str = "",
    log_path: str = "",
    retention_days: int = 30,
    retention_min: int = 7,
    retention_daily: int = 0,
    retention_weekly: int = 0,
    retention_monthly: int = 0,
    retention_yearly: int = 0,
    verify_level: str = "read",
    purpose: str = "regular",
    jobs: int = 0,
    nice: int = 0,
    lock_wait_s: float = 0,
    lock_timeout_ms: int = 50,
    lock_deadline_s: float = 300,
    contract_fingerprint: str = "",
    fingerprints: bool = False,
    dump_format: str = "directory",
    age_recipients: Sequence[str] = (),
    hook_pre_backup: Sequence[str] = (),
    hook_post_backup: Sequence[str] = (),
    hook_on_failure: Sequence[str] = (),
    hook_timeout_s: float = 60,
    offsite_remote: str = "",
    offsite_config: str = "",
    offsite_check: str = "download",
    offsite_bandwidth: str = "",
    offsite_days: int = 90,
    offsite_min: int = 7,
    run_id: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Back up the database, then let old backups go; returns the module's result.

    In check mode the real plan is made (tools, room, what would be removed and why) and nothing is written. A new set
    is always a change. Raises one of our errors where no new set could be made; a set that was made but whose older
    ones could not be removed is a result with `warnings`.
    """
    wish = _wish(
        backup_dir, state_dir, purpose, verify_level, jobs, nice, lock_timeout_ms, lock_deadline_s, contract_fingerprint
    )
    if dump_format not in DUMP_FORMATS:
        raise InvalidInput(f"dump_format is {dump_format!r}.", f"Choose one of {', '.join(DUMP_FORMATS)}.")
    wish = dataclasses.replace(
        wish, fingerprints=fingerprints, dump_format=dump_format, recipients=tuple(age_recipients)
    )
    policy = checked_policy(
        Policy(retention_days, retention_min, retention_daily, retention_weekly, retention_monthly, retention_yearly)
    )
    offsite = Offsite(
        offsite_remote,
        offsite_config,
        offsite_check,
        offsite_bandwidth,
        checked_policy(Policy(offsite_days, offsite_min)),
    ).checked()
    run = Run(JOB, options.db, checked_run_id(run_id) if run_id else new_run_id(), "" if check_mode else state_dir)
    if check_mode:
        check_recipients(wish.recipients)
        ensure_rclone(offsite)
        return _plan_only(options, wish, policy, run)
    hooks = Hooked(hooks_from(hook_pre_backup, hook_post_backup, hook_on_failure, hook_timeout_s), options, wish, run)
    with hooks.around():
        check_recipients(wish.recipients)
        ensure_rclone(offsite)
        result = _backup(options, wish, policy, run, offsite, lock_wait_s, log_path)
        hooks.finish(result)
    return result


def _backup(
    options: Options, wish: Wish, policy: Policy, run: Run, offsite: Offsite, lock_wait_s: float, log_path: str
) -> dict[str, Any]:
    """The real run: under the job lock sweep, make a set, copy it, let old ones go."""
    before = list_sets(wish.backup_dir, options.db).sets
    ready = get_ready(options, wish, before)  # whatever stops a backup is said before anything is touched
    with job_lock(options, JOB, run.run_id, lock_wait_s, allow_standby=ready.server.in_recovery):
        ensure_folder(wish.backup_dir)
        run.log_path = log_path or str(wish.backup_dir / log_name(utc_now()))
        try:
            swept = sweep(wish.backup_dir, options.db)
            if swept:
                run.log(f"removed the debris of earlier runs: {', '.join(swept)}")
            started = time.monotonic()
            made = make_backup(options, wish, run)
            seconds = round(time.monotonic() - started, 3)
            decisions, warnings = _retain(options, wish, policy, run)
        except BaseException as error:
            run.log(f"failed: {error or type(error).__name__}")
            run.progress("failed")
            raise
    # Without the lock: an upload may take hours, and no other job has to wait for it.
    copied = copy_away(offsite, made, run)
    run.progress("done")
    result = _result(options, wish, run, before, made, seconds, decisions, warnings, swept)
    return with_copy(result, copied, made)


def make_backup(options: Options, wish: Wish, run: Run) -> BackupSet:
    """Make one set, for a caller that holds the job lock: a restore before its cutover, or `backup`.

    Looks at tools and room first. No sweep, no retention.
    """
    check_recipients(wish.recipients)
    ready = get_ready(options, wish, list_sets(wish.backup_dir, options.db).sets)
    ensure_room(ready, wish.backup_dir)
    run.log(
        f"backing up database {options.db!r} of PostgreSQL {ready.server.version} on {options.server}: "
        f"{ready.facts.size_bytes} bytes, about {ready.estimate_bytes} expected, {ready.free_bytes} free"
    )
    made = make_set(options, wish, ready, run)
    run.log(
        f"made {made.name}: {made.manifest.size_bytes} bytes, {made.manifest.rows} rows in {len(made.manifest.tables)} "
        f"tables, {made.manifest.duration_s} s, verified: {made.verified}"
    )
    return made


def public_set(item: BackupSet) -> dict[str, Any]:
    """A set as results show it."""
    return {
        "name": item.name,
        "path": str(item.path),
        "size_bytes": item.manifest.size_bytes,
        "duration_s": item.manifest.duration_s,
        "verified": item.verified,
        "created": item.manifest.created,
        "purpose": item.manifest.purpose,
        "rows": item.manifest.rows,
        "tables": len(item.manifest.tables),
        "compression": item.manifest.compression,
        "globals": not item.manifest.globals_missing,
        "encrypted": item.manifest.encryption is not None,
    }


def public_proof(item: BackupSet | None) -> dict[str, Any]:
    """The newest set that was restored successfully, as results show it; empty where there is none."""
    if item is None:
        return {}
    return {
        "name": item.name,
        "created": item.manifest.created,
        "proven_at": item.standing.at,
        "restore_s": item.standing.restore_s,
    }


def public_decisions(decisions: Sequence[Decision]) -> list[dict[str, str]]:
    """What becomes of every set, and why, as results show it."""
    return [{"name": d.set.name, "action": d.action, "why": d.why} for d in decisions]


def _wish(
    backup_dir: str,
    state_dir: str,
    purpose: str,
    verify_level: str,
    jobs: int,
    nice: int,
    lock_timeout_ms: int,
    lock_deadline_s: float,
    contract: str,
) -> Wish:
    if not backup_dir or not Path(backup_dir).is_absolute():
        raise InvalidInput(f"backup_dir is {backup_dir!r}.", "Give an absolute path in scannerdb_backup_dir.")
    if purpose not in PURPOSES:
        raise InvalidInput(f"purpose is {purpose!r}.", f"Choose one of {', '.join(PURPOSES)}.")
    if verify_level not in ("none", *LEVELS):
        raise InvalidInput(f"verify_level is {verify_level!r}.", f"Choose one of none, {', '.join(LEVELS)}.")
    if not 0 <= jobs <= 64 or not 0 <= nice <= 19:
        raise InvalidInput(
            f"jobs is {jobs} and nice is {nice}.", "jobs goes from 0 (from the cores) to 64, nice to 19."
        )
    return Wish(
        backup_dir=Path(backup_dir),
        state_dir=state_dir,
        purpose=purpose,
        verify_level=verify_level,
        jobs=jobs,
        nice=nice,
        # Waiting for ACCESS SHARE stops no writer, so more than the writers' budget is fair; too little, and a dump
        # of many tables would never begin.
        lock_timeout_ms=max(FEWEST_DUMP_LOCK_MS, 10 * lock_timeout_ms),
        lock_deadline_s=lock_deadline_s,
        contract=contract,
    )


def checked_policy(policy: Policy) -> Policy:
    """The policy, unless it makes no sense."""
    wrong = [f"retention_{name} is {value}" for name, value in vars(policy).items() if value < 0]
    if wrong:
        raise InvalidInput(f"{' and '.join(wrong)}.", "None may be negative.")
    return policy


def _retain(options: Options, wish: Wish, policy: Policy, run: Run) -> tuple[list[Decision], list[str]]:
    """Remove what the plan removes. The new set is safe by now, so a failure here is a warning, not an error."""
    now = utc_now()
    latest = latest_target(wish.backup_dir)
    decisions = plan_retention(list_sets(wish.backup_dir, options.db).sets, policy, now, latest)
    warnings = []
    for decision in removable(decisions):
        try:
            remove_set(decision.set, wish.state_dir)
            run.log(f"removed {decision.set.name}: {decision.why}")
        except ScannerDbError as error:
            warnings.append(str(error))
    try:
        for path in old_logs(wish.backup_dir, policy.days, now):
            remove_tree(path)
    except ScannerDbError as error:
        warnings.append(str(error))
    for warning in warnings:
        run.log(f"warning: {warning}")
    return decisions, warnings


def _result(
    options: Options,
    wish: Wish,
    run: Run,
    before: Sequence[BackupSet],
    made: BackupSet,
    seconds: float,
    decisions: Sequence[Decision],
    warnings: Sequence[str],
    swept: Sequence[str],
) -> dict[str, Any]:
    after = list_sets(wish.backup_dir, options.db).sets
    removed = [d.set.name for d in removable(decisions) if d.set not in after]
    proof = "not verified" if made.verified == "none" else f"verified by {made.verified}"
    gone = f"; {len(removed)} old ones removed" if removed else ""
    return {
        "changed": True,
        "failed": False,
        "msg": f"Backup {made.name} made: {_megabytes(made.manifest.size_bytes)} in {seconds:.1f} s, "
        f"{made.manifest.rows} rows, {proof}{gone}.",
        "run_id": run.run_id,
        "log": run.log_path,
        "backup": {**public_set(made), "duration_s": seconds},  # with flush and verification
        "latest": latest_target(wish.backup_dir),
        "proven": public_proof(newest_proven(after)),
        "removed": removed,
        "retention": public_decisions(decisions),
        "swept": list(swept),
        "warnings": list(warnings),
        "diff": _diff(before, after),
    }


def _plan_only(options: Options, wish: Wish, policy: Policy, run: Run) -> dict[str, Any]:
    """What a run would do now, from the real server and the real folder."""
    listing = list_sets(wish.backup_dir, options.db)
    ready = get_ready(options, wish, listing.sets)
    ensure_room(ready, wish.backup_dir)
    now = utc_now()
    name = free_name(wish.backup_dir, options.db, now)
    coming = [_as_if_made(wish, name, format_time(now), listing.sets[0])] if listing.sets else []
    latest = name if wish.purpose == "regular" else latest_target(wish.backup_dir)
    decisions = [d for d in plan_retention([*coming, *listing.sets], policy, now, latest) if d.set.name != name]
    going = [d.set.name for d in removable(decisions)]
    gone = f", and {len(going)} old ones removed" if going else ""
    return {
        "changed": True,
        "msg": f"A backup of about {_megabytes(ready.estimate_bytes)} would be made with pg_dump {ready.tools.version} "
        f"({ready.compression}, {ready.jobs} jobs){gone}.",
        "run_id": run.run_id,
        "backup": {
            "name": name,
            "path": str(wish.backup_dir / name),
            "size_bytes": ready.estimate_bytes,
            "duration_s": 0.0,
            "verified": "none",
            "purpose": wish.purpose,
        },
        "plan": _public_plan(ready),
        "latest": latest_target(wish.backup_dir),
        "proven": public_proof(newest_proven(listing.sets)),
        "removed": going,
        "retention": public_decisions(decisions),
        "swept": [path.name for path in debris(wish.backup_dir, options.db)],
        "warnings": [],
        "diff": _diff(listing.sets, [s for s in listing.sets if s.name not in going], name),
    }


def _public_plan(ready: Ready) -> dict[str, Any]:
    return {
        "server_version": ready.server.version,
        "standby": ready.server.in_recovery,
        "pg_dump": ready.tools.path("pg_dump"),
        "pg_dump_version": ready.tools.version,
        "compression": ready.compression,
        "jobs": ready.jobs,
        "database_bytes": ready.facts.size_bytes,
        "estimate_bytes": ready.estimate_bytes,
        "free_bytes": ready.free_bytes,
    }


def _as_if_made(wish: Wish, name: str, created: str, model: BackupSet) -> BackupSet:
    """The set that would be made, for the plan of what would be removed then."""
    manifest = dataclasses.replace(model.manifest, name=name, created=created, purpose=wish.purpose)
    standing = Standing(level=wish.verify_level, at=created)
    return BackupSet(wish.backup_dir / name, manifest, model.manifest_sha256, standing)


def _diff(before: Sequence[BackupSet], after: Sequence[BackupSet], coming: str = "") -> dict[str, str]:
    names = [item.name for item in after] + ([coming] if coming else [])
    return {
        "before_header": "backup sets",
        "after_header": "backup sets",
        "before": "".join(f"{name}\n" for name in sorted(item.name for item in before)),
        "after": "".join(f"{name}\n" for name in sorted(names)),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
