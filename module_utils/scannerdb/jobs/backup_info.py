"""What backups there are: read from their folder, nothing written and no server asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..backup.retention import Decision, Policy, plan_retention
from ..backup.sets import BackupSet, latest_target, list_sets, newest_proven
from ..errors import InvalidInput
from ..runs import utc_now
from .backup import checked_policy, public_proof, public_set


def backup_info(
    *,
    backup_dir: str,
    database: str = "",
    retention_days: int = 30,
    retention_min: int = 7,
    retention_daily: int = 0,
    retention_weekly: int = 0,
    retention_monthly: int = 0,
    retention_yearly: int = 0,
) -> dict[str, Any]:
    """List the sets of a folder, newest first, of one database where that is given; returns the module's result."""
    if not backup_dir or not Path(backup_dir).is_absolute():
        raise InvalidInput(f"backup_dir is {backup_dir!r}.", "Give an absolute path in scannerdb_backup_dir.")
    policy = checked_policy(
        Policy(retention_days, retention_min, retention_daily, retention_weekly, retention_monthly, retention_yearly)
    )
    listing = list_sets(backup_dir, database or None)
    latest = latest_target(backup_dir)
    now = utc_now()
    decisions: dict[str, Decision] = {}
    for name in {item.manifest.database.name for item in listing.sets}:
        own = [item for item in listing.sets if item.manifest.database.name == name]
        plan = plan_retention(own, policy, now, latest)
        decisions.update({decision.set.name: decision for decision in plan})
    sets = [
        {
            **public_set(item),
            "database": item.manifest.database.name,
            "server_version": item.manifest.server_version,
            "pg_dump_version": item.manifest.pg_dump_version,
            "verified_at": item.standing.at,
            "restore_s": item.standing.restore_s,
            "problems": list(item.standing.problems),
            "latest": item.name == latest,
            "age_h": round((now - item.created).total_seconds() / 3600, 1),
            "retention": {"action": decisions[item.name].action, "why": decisions[item.name].why},
        }
        for item in listing.sets
    ]
    best = newest_proven(listing.sets)
    return {
        "changed": False,
        "msg": _sentence(len(sets), backup_dir, latest, best),
        "proven": public_proof(best),
        "sets": sets,
        "latest": latest,
        "latest_found": any(item.name == latest for item in listing.sets),
        "others": [{"name": name, "why": why} for name, why in listing.others],
    }


def _sentence(count: int, backup_dir: str, latest: str, best: BackupSet | None) -> str:
    if not count:
        return f"There is no backup set in {backup_dir}."
    proof = f"{best.name}, restored at {best.standing.at}" if best else "none"
    return (
        f"{count} backup {'set' if count == 1 else 'sets'} in {backup_dir}; the latest is {latest or 'not set'}; "
        f"the newest proven restorable: {proof}."
    )
