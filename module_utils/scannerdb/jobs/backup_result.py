"""How sets, decisions and the outcome of a backup look in a module's result. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backup.plan import BackupRequest, Ready
from ..runs import Run
from ..sets.catalogue import BackupSet, latest_target, list_sets, newest_proven
from ..sets.manifest import TableCount
from ..sets.retention import RetentionDecision, removable
from ..sets.verification_log import VerificationStatus

MOST = 3


@dataclass
class Made:
    """What a run did: the new set and how long it took, what became of the others, and what people should know."""

    item: BackupSet
    seconds: float
    decisions: Sequence[RetentionDecision[Any]]
    removed: Sequence[str]
    warnings: list[str]
    swept: Sequence[str]


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
        "standby": item.manifest.server_is_standby,
    }


def unprinted(tables: Sequence[TableCount], wanted: bool) -> list[str]:
    """What to say of tables that have no fingerprint although they were to have one. Pure."""
    names = [f"{table.schema}.{table.name}" for table in tables if wanted and not table.fingerprint]
    if not names:
        return []
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return [
        f"No fingerprint of {', '.join(names[:MOST])}{more}: others could give them code that reading them would "
        "run, and they could not be locked against that. Their rows were counted."
    ]


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


def public_decisions(decisions: Sequence[RetentionDecision[Any]]) -> list[dict[str, str]]:
    """What becomes of every set, and why, as results show it."""
    return [{"name": d.set.name, "action": d.action, "why": d.why} for d in decisions]


def public_plan(ready: Ready, free_bytes: int) -> dict[str, Any]:
    """What was found out before a backup."""
    return {
        "server": ready.options.server,
        "server_version": ready.server.version,
        "standby": ready.server.in_recovery,
        "pg_dump": ready.tools.path("pg_dump"),
        "pg_dump_version": ready.tools.version,
        "compression": ready.compression,
        "jobs": ready.jobs,
        "database_bytes": ready.facts.size_bytes,
        "estimate_bytes": ready.estimate_bytes,
        "free_bytes": free_bytes,
    }


def made_result(
    database: str, request: BackupRequest, run: Run, before: Sequence[BackupSet], done: Made
) -> dict[str, Any]:
    """The result of a backup that was made."""
    after = list_sets(request.backup_dir, database, request.trust).sets
    made = done.item
    proof = "not verified" if made.verified == "none" else f"verified by {made.verified}"
    gone = f"; {len(done.removed)} old ones removed" if done.removed else ""
    return {
        "changed": True,
        "failed": False,
        "msg": f"Backup {made.name} made: {megabytes(made.manifest.size_bytes)} in {done.seconds:.1f} s, "
        f"{made.manifest.rows} rows, {proof}{gone}.",
        "run_id": run.run_id,
        "log": run.log_path,
        "backup": {**public_set(made), "duration_s": done.seconds},  # with flush and verification
        "latest": latest_target(request.backup_dir),
        "proven": public_proof(newest_proven(after)),
        "removed": list(done.removed),
        "retention": public_decisions(done.decisions),
        "swept": list(done.swept),
        "warnings": list(done.warnings),
        "diff": names_diff([s.name for s in before], [s.name for s in after]),
    }


def planned_result(
    request: BackupRequest,
    run: Run,
    ready: Ready,
    free_bytes: int,
    sets: Sequence[BackupSet],
    name: str,
    decisions: Sequence[RetentionDecision[Any]],
) -> dict[str, Any]:
    """What a run would do, as its result: a set of that name, and those decisions about the others."""
    going = [d.set.name for d in removable(decisions)]
    gone = f", and {len(going)} old ones removed" if going else ""
    names = [s.name for s in sets]
    return {
        "changed": True,
        "msg": f"A backup of about {megabytes(ready.estimate_bytes)} would be made with pg_dump {ready.tools.version} "
        f"({ready.compression}, {ready.jobs} jobs){gone}.",
        "run_id": run.run_id,
        "backup": {
            "name": name,
            "path": str(request.backup_dir / name),
            "size_bytes": ready.estimate_bytes,
            "duration_s": 0.0,
            "verified": "none",
            "purpose": request.purpose,
        },
        "plan": public_plan(ready, free_bytes),
        "latest": latest_target(request.backup_dir),
        "proven": public_proof(newest_proven(sets)),
        "removed": going,
        "retention": public_decisions(decisions),
        "diff": names_diff(names, [*(n for n in names if n not in going), name]),
    }


def as_if_made(request: BackupRequest, name: str, created: str, model: BackupSet) -> BackupSet:
    """The set that would be made, for the plan of what would be removed then."""
    manifest = dataclasses.replace(model.manifest, name=name, created=created, purpose=request.purpose)
    standing = VerificationStatus(level=request.verify_level, at=created)
    return BackupSet(request.backup_dir / name, manifest, model.manifest_sha256, standing)


def names_diff(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Sets before and after."""
    return {
        "before_header": "backup sets",
        "after_header": "backup sets",
        "before": "".join(f"{name}\n" for name in sorted(before)),
        "after": "".join(f"{name}\n" for name in sorted(after)),
    }


def megabytes(size: int) -> str:
    """A size for a sentence."""
    return f"{size / 1e6:.1f} MB"
