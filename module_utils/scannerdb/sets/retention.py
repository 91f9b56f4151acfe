"""Which old backups go: a pure plan, with a reason for every set, and the removal that follows it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..argspec import RetentionOptions
from ..errors import FileProblem
from ..files import PARTIAL, file_errors, remove_tree
from ..runs import is_our_log
from .catalogue import BackupSet
from .known_hashes import forget_hash
from .names import parse_log_name
from .staging import held
from .verification_log import rank

KEEP, REMOVE = "keep", "remove"


@dataclass(frozen=True)
class RetentionPolicy:
    """How long backups are kept: `days`, and the newest `minimum` regular ones whatever their age.

    Beyond that, one set each of the last so many days, weeks (Monday to Sunday), months and years that have any; all
    in UTC.
    """

    days: int = RetentionOptions.retention_days
    minimum: int = RetentionOptions.retention_min
    daily: int = RetentionOptions.retention_daily
    weekly: int = RetentionOptions.retention_weekly
    monthly: int = RetentionOptions.retention_monthly
    yearly: int = RetentionOptions.retention_yearly


class Retainable(Protocol):
    """What retention has to know of a set."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def created(self) -> datetime.datetime:
        """When it was made, in UTC."""

    @property
    def purpose(self) -> str:
        """regular or pre_restore."""

    @property
    def verified(self) -> str:
        """The level it passed."""

    @property
    def damaged(self) -> bool:
        """True where its last verification failed."""


_Set = TypeVar("_Set", bound=Retainable)


@dataclass(frozen=True)
class RetentionDecision(Generic[_Set]):
    """What becomes of one set, and why."""

    set: _Set
    action: str
    why: str


def plan_retention(
    sets: Iterable[_Set], policy: RetentionPolicy, now: datetime.datetime, latest: str = ""
) -> list[RetentionDecision[_Set]]:
    """Decide for each set of one database, newest first. Pure.

    Never removed: the set that `latest` names, the newest verified one, the newest that a restore has proven, and
    whatever is younger than the newest verified regular one. Pre-restore and damaged sets have the same age limit but
    do not count toward the minimum.
    """
    ordered = sorted(sets, key=_order, reverse=True)
    sound = [s for s in ordered if s.purpose == "regular" and not s.damaged]
    counted = {s.name for s in sound[: max(0, policy.minimum)]}
    generations = generations_of(sound, policy)
    proven = next((s for s in ordered if _verified(s)), None)
    restored = next((s for s in ordered if _verified(s) and s.verified == "restore"), None)
    regular = next((s for s in sound if _verified(s)), None)
    decisions: list[RetentionDecision[_Set]] = []
    for item in ordered:
        age = now - item.created
        if item.name == latest:
            decisions.append(RetentionDecision(item, KEEP, "latest.backup leads to it"))
        elif item in (proven, regular):
            decisions.append(RetentionDecision(item, KEEP, f"the newest verified one ({item.verified})"))
        elif item == restored:
            decisions.append(RetentionDecision(item, KEEP, "the newest that a restore has proven"))
        elif regular and _order(item) > _order(regular):
            decisions.append(RetentionDecision(item, KEEP, "younger than the newest verified one"))
        elif age < datetime.timedelta(days=policy.days):
            decisions.append(RetentionDecision(item, KEEP, f"younger than {policy.days} days"))
        elif item.name in counted:
            decisions.append(RetentionDecision(item, KEEP, f"one of the newest {policy.minimum}"))
        elif item.name in generations:
            decisions.append(RetentionDecision(item, KEEP, f"the newest of {generations[item.name]}"))
        else:
            decisions.append(RetentionDecision(item, REMOVE, f"{age.days} days old; {policy.days} are kept"))
    return decisions


_PERIODS = (("daily", "day %Y-%m-%d"), ("weekly", "week %G-W%V"), ("monthly", "month %Y-%m"), ("yearly", "year %Y"))


def generations_of(sound: Sequence[Retainable], policy: RetentionPolicy) -> dict[str, str]:
    """The sets that stand for a day, week, month or year, by name, with what they stand for. Pure.

    `sound` are the undamaged regular sets, newest first. Of each period it is the newest verified one, else the newest.
    """
    kept: dict[str, str] = {}
    for kind, form in _PERIODS:
        chosen: dict[str, Retainable] = {}
        for item in sound:
            period = item.created.strftime(form)
            if period not in chosen or (_verified(item) and not _verified(chosen[period])):
                chosen[period] = item
        newest = sorted(chosen.values(), key=_order, reverse=True)[: max(0, getattr(policy, kind))]
        for item in newest:
            words = item.created.strftime(form)
            kept[item.name] = f"{kept[item.name]} and {words}" if item.name in kept else words
    return kept


def _order(item: Retainable) -> tuple[datetime.datetime, str]:
    return (item.created, item.name)


def _verified(item: Retainable) -> bool:
    return rank(item.verified) > 0 and not item.damaged


def removable(decisions: Sequence[RetentionDecision[_Set]]) -> list[RetentionDecision[_Set]]:
    """The decisions that remove a set. Pure."""
    return [decision for decision in decisions if decision.action == REMOVE]


def remove_set(item: BackupSet, state_dir: str) -> None:
    """Remove a set: it stops being one in a single rename, so a removal that is cut short leaves only debris."""
    hidden = item.path.with_name(f".{item.name}{PARTIAL}")
    if held(item.path):
        raise FileProblem(
            f"Backup {item.name} is being read by another run, and was not removed.", "The next backup does."
        )
    with file_errors("Removing the backup", item.path):
        remove_tree(hidden)
        item.path.rename(hidden)
    remove_tree(hidden)
    forget_hash(state_dir, item.name)


def old_logs(backup_dir: Path, days: int, now: datetime.datetime) -> list[Path]:
    """Logs of backup runs that are older than `days`: only files that the bundle wrote."""
    found = []
    with file_errors("Listing", backup_dir):
        for path in sorted(backup_dir.iterdir()):
            when = parse_log_name(path.name)
            if when and now - when >= datetime.timedelta(days=max(1, days)) and is_our_log(path):
                found.append(path)
    return found
