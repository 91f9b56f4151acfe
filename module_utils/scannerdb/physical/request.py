"""What the jobs are told of physical backups, as checked values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InvalidInput
from .options import CHOICES, METHODS, MethodOptions, PhysicalBackupOptions
from .schedule import BackupPolicy


@dataclass(frozen=True)
class Stanza:
    """Where the physical backups of the cluster are; `wanted` is false where there are none."""

    wanted: bool = False
    name: str = MethodOptions.stanza
    config: str = ""


def stanza_from(asked: MethodOptions) -> Stanza:
    """The stanza out of the options; raises `InvalidInput`. Pure."""
    methods = checked_methods(asked.backup_method)
    return Stanza("pgbackrest" in methods, asked.stanza, asked.pgbackrest_config)


def checked_methods(methods: Sequence[str]) -> Sequence[str]:
    """The methods, of which there is at least one; raises `InvalidInput`. Pure."""
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        said = f"{unknown[0]!r} is no method of a backup" if unknown else "No method of a backup is chosen"
        raise InvalidInput(f"{said}.", f"Set scannerdb_backup_method to some of {', '.join(METHODS)}.")
    return methods


def policy_of(asked: PhysicalBackupOptions) -> BackupPolicy:
    """The policy out of the options; raises `InvalidInput`. Pure."""
    return BackupPolicy(asked.full_days, asked.diff_days, asked.retention_full, asked.retention_full_type).checked()


def checked_kind(kind: str) -> str:
    """A kind of backup, or auto; raises `InvalidInput`. Pure."""
    if kind not in CHOICES:
        raise InvalidInput(f"{kind!r} is no kind of a physical backup.", f"Choose one of {', '.join(CHOICES)}.")
    return kind
