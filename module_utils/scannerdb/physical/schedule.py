"""Which kind of backup is due, and what retention takes away from the window. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput
from .options import RETENTION_TYPES, PhysicalBackupOptions
from .window import PhysicalBackup

EARLY = datetime.timedelta(hours=2)  # a job that runs every night does not start at the same second


@dataclass(frozen=True)
class BackupPolicy:
    """Days from one full backup to the next, and to the next differential one; how many full ones are kept, or days."""

    full_days: float = PhysicalBackupOptions.full_days
    diff_days: float = PhysicalBackupOptions.diff_days
    retention_full: int = PhysicalBackupOptions.retention_full
    retention_type: str = PhysicalBackupOptions.retention_full_type

    def checked(self) -> BackupPolicy:
        """The policy, unless it makes no sense; raises `InvalidInput`."""
        if self.retention_type not in RETENTION_TYPES:
            raise InvalidInput(
                f"The retention's type is {self.retention_type!r}.", f"Choose {' or '.join(RETENTION_TYPES)}."
            )
        if self.full_days <= 0 or self.diff_days < 0 or self.retention_full < 1:
            raise InvalidInput(
                f"full_days is {self.full_days:g}, diff_days is {self.diff_days:g} and retention_full is "
                f"{self.retention_full}.",
                "At least one full backup is kept, and the days are positive (diff_days may be 0 for none).",
            )
        return self


def choose_kind(backups: Iterable[PhysicalBackup], now: datetime.datetime, policy: BackupPolicy) -> tuple[str, str]:
    """The kind that is due, and why; of `backups` none may be one that cannot be restored."""
    made = sorted(backups, key=lambda backup: backup.stopped)
    full = next((backup for backup in reversed(made) if backup.kind == "full"), None)
    if full is None:
        return "full", "there is no full backup that can be restored"
    if any(backup.page_errors for backup in made if backup.stopped >= full.stopped):
        return "full", "pages of the last backup did not match their checksum"
    if _due(full, now, policy.full_days):
        return "full", f"the last full backup, {full.label}, is {_days(now - full.stopped)} old"
    based = next(backup for backup in reversed(made) if backup.kind in ("full", "diff"))
    if policy.diff_days and _due(based, now, policy.diff_days):
        return "diff", f"the last full or differential backup, {based.label}, is {_days(now - based.stopped)} old"
    return "incr", f"{based.label} is {_days(now - based.stopped)} old"


def _due(backup: PhysicalBackup, now: datetime.datetime, days: float) -> bool:
    return now - backup.started + EARLY >= datetime.timedelta(days=days)


def _days(age: datetime.timedelta) -> str:
    return f"{age / datetime.timedelta(days=1):.1f} days"


def expiring_fulls(
    backups: Iterable[PhysicalBackup], policy: BackupPolicy, now: datetime.datetime, *, with_next: bool
) -> Sequence[PhysicalBackup]:
    """The full backups that retention removes now; `with_next` after one more full backup, which ends now."""
    fulls = sorted((backup for backup in backups if backup.kind == "full"), key=lambda backup: backup.stopped)
    if policy.retention_type == "time":  # one that is old enough is kept, or the days would not be covered
        old = [backup for backup in fulls if now - backup.stopped >= datetime.timedelta(days=policy.retention_full)]
        return old[:-1]
    surplus = len(fulls) + with_next - policy.retention_full
    return fulls[: max(0, surplus)]


def begin_after(
    backups: Sequence[PhysicalBackup], policy: BackupPolicy, now: datetime.datetime
) -> datetime.datetime | None:
    """Where the window begins after the next full backup, if later than today; None where it stays."""
    fulls = sorted((backup for backup in backups if backup.kind == "full"), key=lambda backup: backup.stopped)
    going = expiring_fulls(fulls, policy, now, with_next=True)
    if not going:
        return None
    left = fulls[len(going) :]
    return left[0].consistent if left else now
