"""What backups there are: read from their folder, nothing written and no server asked."""

from __future__ import annotations

import datetime
from typing import Any

from ..backup.request import policy_from
from ..files import file_errors
from ..runs import utc_now
from ..sets.adopted import Adopted, find_adopted
from ..sets.catalogue import BackupSet, latest_target, list_sets, newest_proven
from ..sets.names import checked_folder, format_time
from ..sets.offsite import Offsite, remote_sets
from ..sets.options import BackupInfoOptions
from ..sets.retention import Retainable, RetentionDecision, plan_retention
from ..sets.signature import SetOrigin, origin_of
from ..sets.signing import OWN, Trust, public_key
from .around_backup import database_in
from .backup_result import public_proof, public_set


@file_errors("Looking at", "the backups")
def backup_info(asked: BackupInfoOptions) -> dict[str, Any]:
    """List the sets of a folder, newest first, of one database where that is given; returns the module's result.

    Where a remote is given it is asked which sets have a copy there.
    """
    trust = Trust(asked.state_dir, tuple(asked.trusted_signers)).checked()
    folder, policy = checked_folder(asked.backup_dir), policy_from(asked)
    offsite = Offsite(asked.offsite_remote, asked.offsite_config, bandwidth=asked.offsite_bandwidth).checked()
    listing = list_sets(asked.backup_dir, asked.database or None, trust)
    latest, now = latest_target(asked.backup_dir), utc_now()
    decisions: dict[str, RetentionDecision[Retainable]] = {}
    dumps: list[Adopted] = []
    copies: set[str] = set()
    for name in sorted({item.manifest.database.name for item in listing.sets} | ({asked.database} - {""})):
        found, _ = find_adopted(folder, asked.adopt, name, database_in, trust)
        dumps += found
        own: list[Retainable] = [item for item in listing.sets if item.manifest.database.name == name]
        decisions.update({d.set.name: d for d in plan_retention([*own, *found], policy, now, latest)})
        copies |= {copy.name for copy in remote_sets(offsite, name)[0]} if offsite.remote else set()
    sets = [
        {
            **_public(item, now),
            **_public_origin(origin_of(item, trust)),
            "latest": item.name == latest,
            "copied": item.name in copies if offsite.remote else None,
            "retention": _decision(decisions[item.name]),
        }
        for item in listing.sets
    ]
    adopted = {dump.name: {**_public_dump(dump, now), "retention": _decision(decisions[dump.name])} for dump in dumps}
    best = newest_proven(listing.sets)
    return {
        "changed": False,
        "msg": _sentence(len(sets), asked.backup_dir, latest, best),
        "proven": public_proof(best),
        "sets": sets,
        "signing_key": public_key(asked.state_dir),
        "latest": latest,
        "latest_found": any(item.name == latest for item in listing.sets),
        "adopted": list(adopted.values()),
        "others": [{"name": name, "why": why} for name, why in listing.others if name not in adopted],
    }


def _public(item: BackupSet, now: datetime.datetime) -> dict[str, Any]:
    return {
        **public_set(item),
        "database": item.manifest.database.name,
        "server_version": item.manifest.server_version,
        "pg_dump_version": item.manifest.pg_dump_version,
        "verified_at": item.standing.at,
        "restore_s": item.standing.restore_s,
        "problems": list(item.standing.problems),
        "age_h": _hours(now - item.created),
    }


def _public_origin(origin: SetOrigin) -> dict[str, Any]:
    return {"made_here": origin.kind == OWN, "origin": origin.sentence}


def _public_dump(dump: Adopted, now: datetime.datetime) -> dict[str, Any]:
    return {
        "name": dump.name,
        "path": str(dump.path),
        "database": dump.database,
        "created": format_time(dump.created),
        "age_h": _hours(now - dump.created),
    }


def _hours(age: datetime.timedelta) -> float:
    return round(age.total_seconds() / 3600, 1)


def _decision(decision: RetentionDecision[Retainable]) -> dict[str, str]:
    return {"action": decision.action, "why": decision.why}


def _sentence(count: int, backup_dir: str, latest: str, best: BackupSet | None) -> str:
    if not count:
        return f"There is no backup set in {backup_dir}."
    proof = f"{best.name}, restored at {best.standing.at}" if best else "none"
    return (
        f"{count} backup {'set' if count == 1 else 'sets'} in {backup_dir}; the latest is {latest or 'not set'}; "
        f"the newest proven restorable: {proof}."
    )
