"""What the backup job can be asked for: its options as an Ansible argument spec, and as checked values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..argspec import RetentionOptions
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import InvalidInput
from ..option import options_of
from ..process import checked_workers
from ..runs import checked_run_id, new_run_id
from ..sets.adopted import checked_patterns
from ..sets.names import checked_folder
from ..sets.offsite import Offsite
from ..sets.retention import RetentionPolicy
from ..sets.signing import Trust
from ..sets.storage import Storage
from .hooks import EVENTS, Hooks, hooks_from
from .options import BackupOptions
from .plan import FEWEST_DUMP_LOCK_MS, BackupRequest
from .standby import SourcePolicy

ADDRESS = re.compile(r"https?://.+", re.DOTALL)


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

    backup: BackupRequest
    policy: RetentionPolicy
    offsite: Offsite
    hooks: Hooks
    origin: SourcePolicy
    storage: Storage
    run_id: str
    contract: Contract
    place: str = BackupOptions.verify_place
    cluster_dir: Path = Path(BackupOptions.verify_cluster_dir)
    adopt: tuple[str, ...] = ()
    lock_wait_s: float = 0
    log_path: str = field(default="", repr=False)


def request_from(asked: BackupOptions) -> Request:
    """The request out of the module's options. Raises `InvalidInput` where they make no sense. Pure."""
    checked_choices(asked)
    return Request(
        backup=_backup(asked),
        policy=policy_from(asked),
        offsite=_offsite(asked),
        hooks=hooks_from(asked.hook_pre_backup, asked.hook_post_backup, asked.hook_on_failure, asked.hook_timeout_s),
        origin=SourcePolicy(asked.dump_from, asked.max_lag_mb << 20),
        storage=Storage(Path(asked.backup_dir), asked.storage),
        run_id=checked_run_id(asked.run_id) if asked.run_id else new_run_id(),
        contract=contract_with(asked.contract_overlay),
        place=asked.verify_place,
        cluster_dir=Path(asked.verify_cluster_dir),
        adopt=checked_patterns(asked.adopt),
        lock_wait_s=asked.lock_wait_s,
        log_path=asked.log_path,
    )


def checked_choices(asked: BackupOptions) -> None:
    """Raise `InvalidInput` where an option has a value that is none of its choices. Pure."""
    for name, one in options_of(type(asked)).items():
        if one.choices and getattr(asked, name) not in one.choices:
            raise InvalidInput(f"{name} is {getattr(asked, name)!r}.", f"Choose one of {', '.join(one.choices)}.")


def _backup(asked: BackupOptions) -> BackupRequest:
    folder, jobs, nice = asked.backup_dir, asked.jobs, asked.nice
    checked_workers(jobs, nice)
    refuse_bandwidth(asked.bandwidth)
    if asked.max_lag_mb < 0:
        raise InvalidInput(f"max_lag_mb is {asked.max_lag_mb}.", "Give a number of MB, 0 or more.")
    return BackupRequest(
        backup_dir=checked_folder(folder),
        state_dir=asked.state_dir,
        purpose=asked.purpose,
        verify_level=asked.verify_level,
        jobs=jobs,
        nice=nice,
        # Waiting for ACCESS SHARE stops no writer, so more than the writers' budget is fair; too little, and a dump
        # of many tables would never begin.
        lock_timeout_ms=max(FEWEST_DUMP_LOCK_MS, 10 * asked.lock_timeout_ms),
        lock_deadline_s=asked.lock_deadline_s,
        contract=asked.contract_fingerprint,
        fingerprints=asked.fingerprints,
        dump_format=asked.dump_format,
        recipients=tuple(asked.age_recipients),
        signers=Trust("", tuple(asked.trusted_signers)).checked().signers,
    )


def refuse_bandwidth(bytes_per_s: int) -> None:
    """The limit that pg_dump does not have: it went through a relay of our own, which is gone."""
    if bytes_per_s:
        raise InvalidInput(
            "scannerdb_backup_bandwidth is no more: nothing limits by the second what pg_dump reads from the server.",
            "Remove it. To give way, set scannerdb_backup_nice and scannerdb_backup_jobs=1, read from a standby, and "
            "limit uploads with scannerdb_backup_offsite_bandwidth.",
        )


def _offsite(asked: BackupOptions) -> Offsite:
    return Offsite(
        asked.offsite_remote,
        asked.offsite_config,
        asked.offsite_check,
        asked.offsite_bandwidth,
        checked_policy(RetentionPolicy(asked.offsite_days, asked.offsite_min)),
        asked.nice,
    ).checked()


def policy_from(asked: RetentionOptions) -> RetentionPolicy:
    """The retention policy that is asked for. Pure."""
    return checked_policy(
        RetentionPolicy(
            asked.retention_days,
            asked.retention_min,
            asked.retention_daily,
            asked.retention_weekly,
            asked.retention_monthly,
            asked.retention_yearly,
        )
    )


def checked_policy(policy: RetentionPolicy) -> RetentionPolicy:
    """The policy, unless it makes no sense."""
    wrong = [f"retention_{name} is {value}" for name, value in vars(policy).items() if value < 0]
    if wrong:
        raise InvalidInput(f"{' and '.join(wrong)}.", "None may be negative.")
    return policy
