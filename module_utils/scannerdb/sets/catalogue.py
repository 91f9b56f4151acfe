"""The backup sets in a folder: listed, found, and the link to the latest. Reads only, except `point_latest`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import BackupInvalid, FileProblem, ScannerDbError
from ..files import file_errors, is_open, swap_symlink
from .manifest import REGULAR, Manifest, read_manifest
from .names import LATEST, parse_set_name, parse_time
from .proofs import Witness, adopt_records, standing_of, witness_of
from .signing import NOBODY, Trust
from .verification_log import VerificationStatus, rank

CLOCKS_DIFFER = datetime.timedelta(minutes=10)  # two hosts' clocks may; a set that is more ahead has a wrong date


@dataclass(frozen=True)
class BackupSet:
    """A complete set that the bundle made: its folder, its manifest and what verifications have shown."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    standing: VerificationStatus = field(default_factory=VerificationStatus)
    called: str = ""  # its folder's name, where `path` is another way to it

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.called or self.path.name

    @property
    def purpose(self) -> str:
        """regular or pre_restore."""
        return self.manifest.purpose

    @property
    def created(self) -> datetime.datetime:
        """When the snapshot was taken, in UTC."""
        return parse_time(self.manifest.created)

    @property
    def verified(self) -> str:
        """The highest level it passed: none, checksum, read or restore."""
        return self.standing.level

    @property
    def damaged(self) -> bool:
        """True where its last verification failed."""
        return bool(self.standing.problems)


@dataclass(frozen=True)
class Listing:
    """What a backup folder holds: `sets`, newest first, and other entries named like sets with the reason why not."""

    sets: tuple[BackupSet, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


def load_set(path: Path, trust: Trust = NOBODY) -> BackupSet:
    """The set in a folder, whatever the folder's name; raises `BackupInvalid` or `FileProblem` where there is none.

    What it has passed counts by `trust`: without one, nothing does.
    """
    return _load(path, witness_of(trust))


def _load(path: Path, witness: Witness) -> BackupSet:
    with file_errors("Looking at", path):
        is_folder = path.is_dir() and (is_open(path) or not path.is_symlink())
    if not is_folder:
        raise BackupInvalid(f"{path} is not a folder, so not a backup set of this bundle.")
    manifest, digest = read_manifest(path)
    try:
        parse_time(manifest.created)
    except ValueError:
        raise BackupInvalid(f"{path} says it was made at {manifest.created!r}.") from None
    return BackupSet(path, manifest, digest, standing_of(path, manifest.name, digest, witness))


def load_held(path: Path, item: BackupSet) -> BackupSet:
    """The set, by the way to it that is held open; raises `BackupInvalid` where it is another by now."""
    found = load_set(path)
    if found.manifest_sha256 != item.manifest_sha256:
        raise BackupInvalid(f"{item.name} became another while it was opened.", "Run again.")
    return replace(found, standing=item.standing, called=item.name)


def list_sets(backup_dir: Path | str, database: str | None = None, trust: Trust = NOBODY) -> Listing:
    """The sets in a folder, newest first; of one database where that is given. A missing folder holds none."""
    folder, witness = Path(backup_dir), witness_of(trust)
    sets: list[BackupSet] = []
    others: list[tuple[str, str]] = []
    with file_errors("Listing", folder):
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        if name == LATEST or name.startswith(".") or not name.endswith(".backup"):
            continue
        try:
            found = _own(folder / name, witness)
        except ScannerDbError as error:
            others.append((name, error.message))
            continue
        if database is None or found.manifest.database.name == database:
            sets.append(found)
    sets.sort(key=lambda s: (s.created, s.name), reverse=True)
    return Listing(tuple(sets), tuple(others))


def _own(path: Path, witness: Witness) -> BackupSet:
    """A set that lies under the name the bundle would have given it; only such ones may ever be removed."""
    parsed = parse_set_name(path.name)
    if not parsed:
        raise BackupInvalid(f"{path.name} is not named like a backup set of this bundle.")
    found = _load(path, witness)
    if found.manifest.database.name != parsed[0]:
        raise BackupInvalid(f"{path.name} holds a backup of {found.manifest.database.name!r}.")
    if found.manifest.name != path.name:
        raise BackupInvalid(f"{path.name} holds the manifest of {found.manifest.name!r}, a copy under another name.")
    return found


def adopt_all(backup_dir: Path | str, database: str, state_dir: str) -> list[str]:
    """Take what an earlier release noted beside this host's sets into its history; returns their names."""
    sets = list_sets(backup_dir, database).sets
    return [s.name for s in sets if adopt_records(s.path, s.manifest.name, s.manifest_sha256, state_dir)]


def latest_target(backup_dir: Path | str) -> str:
    """The name of the set that `latest.backup` points to; empty where there is no such link or it leads elsewhere."""
    link = Path(backup_dir, LATEST)
    with file_errors("Reading the link", link):
        target = str(link.readlink()) if link.is_symlink() else ""
    return target if "/" not in target and parse_set_name(target) else ""


def ensure_link_or_nothing(backup_dir: Path) -> None:
    """Raise `FileProblem` where a file or folder stands in the place of the link `latest.backup`."""
    link = backup_dir / LATEST
    with file_errors("Looking at", link):
        blocked = link.exists() and not link.is_symlink()
    if blocked:
        raise FileProblem(f"{link} is not a link.", "Move it away: the bundle keeps a link of that name.")


def point_latest(backup_dir: Path, name: str) -> None:
    """Let `latest.backup` lead to a set, in one step; a file or folder in its place is left alone and reported."""
    ensure_link_or_nothing(backup_dir)
    swap_symlink(backup_dir / LATEST, name)


def newest(sets: Sequence[BackupSet], purpose: str = REGULAR) -> BackupSet | None:
    """The newest set of a purpose. Pure."""
    return max((s for s in sets if s.manifest.purpose == purpose), key=lambda s: (s.created, s.name), default=None)


def newest_at(sets: Sequence[BackupSet], moment: datetime.datetime, purpose: str = REGULAR) -> BackupSet | None:
    """The newest set whose snapshot is not younger than a moment. Pure."""
    return newest([s for s in sets if s.created <= moment], purpose)


def ahead(item: BackupSet, now: datetime.datetime) -> bool:
    """True where a set's date is in the future: a clock was wrong, and its age says nothing. Pure."""
    return item.created - now > CLOCKS_DIFFER


def newest_verified(
    sets: Sequence[BackupSet], level: str, max_age: datetime.timedelta, now: datetime.datetime
) -> BackupSet | None:
    """The newest set that passed `level` or more and is not older than `max_age`, whatever its purpose. Pure.

    One from the future does not count.
    """
    fresh = [s for s in sets if now - s.created <= max_age and not ahead(s, now)]
    good = [s for s in fresh if rank(s.verified) >= rank(level) and not s.damaged]
    return max(good, key=lambda s: (s.created, s.name), default=None)


def newest_proven(sets: Sequence[BackupSet]) -> BackupSet | None:
    """The newest set that passed a restore drill and has not failed since, whatever its purpose. Pure."""
    good = [s for s in sets if s.verified == "restore" and not s.damaged]
    return max(good, key=lambda s: (s.created, s.name), default=None)
