"""What the backup job can be asked for: its options as an Ansible argument spec, and as checked values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..argspec import (
    budget_arguments,
    encryption_arguments,
    offsite_arguments,
    overlay_arguments,
    retention_arguments,
    run_arguments,
    trust_arguments,
)
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import InvalidInput
from ..process import checked_workers
from ..runs import checked_run_id, new_run_id
from ..sets.adopted import checked_patterns
from ..sets.manifest import DUMP_FORMATS, PURPOSES
from ..sets.names import checked_folder
from ..sets.offsite import CHECKS, Offsite
from ..sets.retention import RetentionPolicy
from ..sets.signing import Trust
from ..sets.storage import STORAGES, Storage
from ..sets.verification_log import CLUSTER_DIR, LEVELS, PLACES
from .hooks import EVENTS, Hooks, hooks_from
from .plan import FEWEST_DUMP_LOCK_MS, BackupRequest
from .standby import ORIGINS, SourcePolicy

ADDRESS = re.compile(r"https?://.+", re.DOTALL)


def backup_arguments() -> dict[str, dict[str, Any]]:
    """The options of a backup, as an Ansible argument spec; their defaults count for every caller."""
    words = {"type": "list", "elements": "str", "default": []}
    return {
        **budget_arguments(),
        **encryption_arguments(),
        **offsite_arguments(),
        **overlay_arguments(),
        **retention_arguments(),
        **run_arguments(),
        **trust_arguments(),
        "backup_dir": {"type": "path", "required": True},
        "verify_level": {"type": "str", "default": "read", "choices": list(LEVELS)},
        "verify_place": {"type": "str", "default": "server", "choices": list(PLACES)},
        "verify_cluster_dir": {"type": "path", "default": CLUSTER_DIR},
        "purpose": {"type": "str", "default": "regular", "choices": list(PURPOSES)},
        "jobs": {"type": "int", "default": 0},
        "nice": {"type": "int", "default": 0},
        "bandwidth": {"type": "bytes", "default": 0},
        "contract_fingerprint": {"type": "str", "default": ""},
        "dump_format": {"type": "str", "default": "directory", "choices": list(DUMP_FORMATS)},
        "fingerprints": {"type": "bool", "default": False},
        "dump_from": {"type": "str", "default": "auto", "choices": list(ORIGINS)},
        "max_lag_mb": {"type": "int", "default": 64},
        "storage": {"type": "str", "default": "persistent", "choices": list(STORAGES)},
        "adopt": words,
        "hook_pre_backup": words,
        "hook_post_backup": words,
        "hook_on_failure": words,
        "hook_timeout_s": {"type": "int", "default": 60},
        "offsite_check": {"type": "str", "default": "download", "choices": list(CHECKS)},
        "offsite_days": {"type": "int", "default": 90},
        "offsite_min": {"type": "int", "default": 7},
        "run_id": {"type": "str", "default": ""},
    }


def addresses_in(given: Mapping[str, Any]) -> set[str]:
    """The addresses in the hooks, which may hold a token: no output may show them. Takes unchecked values. Pure."""
    values = [given.get(f"hook_{event}") for event in EVENTS]
    words = [w for value in values for w in (value if isinstance(value, list) else str(value).split(","))]
    return {match[0].strip() for match in map(ADDRESS.search, map(str, words)) if match}


@dataclass(frozen=True)
class Request:
    """What is wanted, checked. `contract`, `place` and `cluster_dir` are for a drill of the new set.

    `adopt` are names or patterns of dumps that retention may treat like sets.
    """

    wish: BackupRequest
    policy: RetentionPolicy
    offsite: Offsite
    hooks: Hooks
    origin: SourcePolicy
    storage: Storage
    run_id: str
    contract: Contract
    place: str = "server"
    cluster_dir: Path = Path(CLUSTER_DIR)
    adopt: tuple[str, ...] = ()
    lock_wait_s: float = 0
    log_path: str = field(default="", repr=False)


def request_from(given: Mapping[str, Any]) -> Request:
    """A request out of options by name; those left out have their default. Raises `InvalidInput`. Pure."""
    known = backup_arguments()
    values = {**{name: spec.get("default") for name, spec in known.items()}, **given}
    if set(values) != set(known):
        raise TypeError(f"unknown options: {set(values) - set(known)}")
    checked_choices(values, known)
    return Request(
        wish=_wish(values),
        policy=policy_from(values),
        offsite=_offsite(values),
        hooks=hooks_from(*(values[f"hook_{e}"] for e in (*EVENTS, "timeout_s"))),
        origin=SourcePolicy(values["dump_from"], values["max_lag_mb"] << 20),
        storage=Storage(Path(values["backup_dir"]), values["storage"]),
        run_id=checked_run_id(values["run_id"]) if values["run_id"] else new_run_id(),
        contract=contract_with(values["contract_overlay"]),
        place=values["verify_place"],
        cluster_dir=Path(values["verify_cluster_dir"]),
        adopt=checked_patterns(values["adopt"]),
        lock_wait_s=values["lock_wait_s"],
        log_path=values["log_path"],
    )


def checked_choices(values: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `InvalidInput` where an option has a value that is none of its choices. Pure."""
    for name, spec in known.items():
        if "choices" in spec and values[name] not in spec["choices"]:
            raise InvalidInput(f"{name} is {values[name]!r}.", f"Choose one of {', '.join(spec['choices'])}.")


def _wish(values: Mapping[str, Any]) -> BackupRequest:
    folder, jobs, nice = values["backup_dir"], values["jobs"], values["nice"]
    checked_workers(jobs, nice)
    refuse_bandwidth(values["bandwidth"])
    if values["max_lag_mb"] < 0:
        raise InvalidInput(f"max_lag_mb is {values['max_lag_mb']}.", "Give a number of MB, 0 or more.")
    return BackupRequest(
        backup_dir=checked_folder(folder),
        state_dir=values["state_dir"],
        purpose=values["purpose"],
        verify_level=values["verify_level"],
        jobs=jobs,
        nice=nice,
        # Waiting for ACCESS SHARE stops no writer, so more than the writers' budget is fair; too little, and a dump
        # of many tables would never begin.
        lock_timeout_ms=max(FEWEST_DUMP_LOCK_MS, 10 * values["lock_timeout_ms"]),
        lock_deadline_s=values["lock_deadline_s"],
        contract=values["contract_fingerprint"],
        fingerprints=values["fingerprints"],
        dump_format=values["dump_format"],
        recipients=tuple(values["age_recipients"]),
        signers=Trust("", tuple(values["trusted_signers"])).checked().signers,
    )


def refuse_bandwidth(bytes_per_s: int) -> None:
    """The limit that pg_dump does not have: it went through a relay of our own, which is gone."""
    if bytes_per_s:
        raise InvalidInput(
            "scannerdb_backup_bandwidth is no more: nothing limits by the second what pg_dump reads from the server.",
            "Remove it. To give way, set scannerdb_backup_nice and scannerdb_backup_jobs=1, read from a standby, and "
            "limit uploads with scannerdb_backup_offsite_bandwidth.",
        )


def _offsite(values: Mapping[str, Any]) -> Offsite:
    return Offsite(
        values["offsite_remote"],
        values["offsite_config"],
        values["offsite_check"],
        values["offsite_bandwidth"],
        checked_policy(RetentionPolicy(values["offsite_days"], values["offsite_min"])),
        values["nice"],
    ).checked()


def policy_from(values: Mapping[str, Any]) -> RetentionPolicy:
    """The retention policy out of the `retention_*` options; those left out have their default. Pure."""
    names = ("days", "min", "daily", "weekly", "monthly", "yearly")
    defaults = {name: spec["default"] for name, spec in retention_arguments().items()}
    return checked_policy(RetentionPolicy(*({**defaults, **values}[f"retention_{name}"] for name in names)))


def checked_policy(policy: RetentionPolicy) -> RetentionPolicy:
    """The policy, unless it makes no sense."""
    wrong = [f"retention_{name} is {value}" for name, value in vars(policy).items() if value < 0]
    if wrong:
        raise InvalidInput(f"{' and '.join(wrong)}.", "None may be negative.")
    return policy
