"""Which backup is meant: `latest`, a name, a path, or a moment."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import BackupInvalid, InvalidInput
from ..files import file_errors, tree_bytes
from .archive import Header, detect, read_header
from .catalogue import BackupSet, list_sets, load_set
from .signing import NOBODY, Trust

LATEST = "latest.backup"
MANIFEST = "manifest.json"
_STAMPED = re.compile(r"_(\d{8}_\d{6})\.backup$")
_MOMENT = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}))?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?$")


@dataclass(frozen=True)
class Source:
    """What is restored from. `path` is what people name (a set's folder, a file), `dump` what pg_restore reads.

    `is_set` tells a set of this bundle from an archive or an SQL file of somebody else's pg_dump.
    """

    path: Path
    dump: Path
    kind: str
    header: Header
    size_bytes: int
    is_set: bool = False
    told: str = ""

    @property
    def place(self) -> str:
        """What people name: `told` where it was brought to `path` for this run, else the path."""
        return self.told or str(self.path)

    @property
    def name(self) -> str:
        """The last part of that."""
        return self.place.rpartition("/")[2]


def parse_moment(text: str) -> Optional[datetime.datetime]:
    """A time such as `2025-04-18 12:00` or `2025-04-18T12:00:00Z` (UTC unless it says otherwise); None for others.

    A bare date means its last second. Pure; raises `InvalidInput` for a date that does not exist.
    """
    match = _MOMENT.match(text.strip())
    if not match:
        return None
    day, clock, seconds, zone = match.groups()
    offset = "+0000" if zone in (None, "Z") else str(zone).replace(":", "").ljust(5, "0")
    try:
        return datetime.datetime.strptime(
            f"{day} {clock or '23:59'}:{seconds or ('00' if clock else '59')} {offset}", "%Y-%m-%d %H:%M:%S %z"
        )
    except ValueError:
        raise InvalidInput(f"{text!r} is not a time.", "Write it like 2025-04-18T12:00:00Z.") from None


def find_backup(backup_dir: Path, text: str, database: str | None = None) -> Path:
    """Where the backup lies that is meant by `latest`, a name, a path or a moment; the one answer for every job.

    Moments and `latest` are looked for among the regular sets of the database. Raises as `locate` does.
    """
    sets = [(s.created, s.path) for s in list_sets(backup_dir, database).sets if s.manifest.purpose == "regular"]
    return locate(text, backup_dir, sets)


def find_set(backup_dir: Path, text: str, trust: Trust = NOBODY, database: str | None = None) -> BackupSet:
    """The set that is meant; raises `BackupInvalid` where that is no set of this bundle."""
    path = find_backup(backup_dir, text, database)
    if not is_set(path):
        raise BackupInvalid(
            f"{path} is no backup set.",
            "Only sets can be verified; what a restore of another file would do, restore.yml says with --check.",
        )
    return load_set(path, trust)


def locate(text: str, backup_dir: Path, sets: Iterable[tuple[datetime.datetime, Path]] = ()) -> Path:
    """The path that a request means. `sets` are the regular sets of this database, with their times.

    Raises `BackupInvalid` where there is nothing of the kind, `InvalidInput` for an empty request.
    """
    if not text.strip():
        raise InvalidInput(
            "It is not said which backup is meant.",
            "Name latest, a backup, a path, or a time such as 2025-04-18T12:00:00Z.",
        )
    if text in ("latest", LATEST):
        return _latest(backup_dir, bool(list(sets)))
    moment = parse_moment(text)
    if moment:
        return _at(moment, text, backup_dir, sets)
    names = [text, f"{text}.backup"]
    for place in [*(backup_dir / name for name in names), Path(text)]:
        if place.exists():
            return Path(place).resolve()
    raise BackupInvalid(
        f"There is no backup {text!r}, neither in {backup_dir} nor as a path.",
        "scannerdb_backup_info lists what there is.",
    )


def _latest(backup_dir: Path, has_sets: bool) -> Path:
    link = backup_dir / LATEST
    if not has_sets and not link.exists():
        old = _newest_old_file(backup_dir)
        if old:
            return old
    if not link.is_symlink() and not link.exists():
        raise BackupInvalid(f"{backup_dir} has no {LATEST}.", "Make a backup first, or name a backup or a path.")
    with file_errors("Following the link", link):
        target = link.resolve()
    if not target.exists():
        raise BackupInvalid(f"{link} leads to {target}, which is not there.", "Name another backup.")
    return target


def _at(moment: datetime.datetime, text: str, backup_dir: Path, sets: Iterable[tuple[datetime.datetime, Path]]) -> Path:
    known = [*sets, *stamped_files(backup_dir)]
    usable = [pair for pair in known if pair[0] <= moment]
    if not usable:
        first = f"the oldest is of {min(known)[0]:%Y-%m-%d %H:%M:%S} UTC" if known else "there is none at all"
        raise BackupInvalid(f"{backup_dir} has no backup of {text} or before; {first}.")
    return max(usable)[1]


def _newest_old_file(backup_dir: Path) -> Optional[Path]:
    """The newest file with the old script's name: its own link is written from another folder, and leads nowhere.

    Raises `BackupInvalid` where the folder holds the files of several databases.
    """
    files = stamped_files(backup_dir)
    bases = sorted({_STAMPED.sub("", path.name) for _, path in files})
    if len(bases) > 1:
        raise BackupInvalid(
            f"{backup_dir / LATEST} leads nowhere, and the folder has old backups of {', '.join(bases)}.",
            "Name the file that you mean.",
        )
    return max(files)[1] if files else None


def stamped_files(backup_dir: Path) -> list[tuple[datetime.datetime, Path]]:
    """Plain files with the old script's names; their times are taken for UTC."""
    found = []
    for path in backup_dir.glob("*.backup") if backup_dir.is_dir() else ():
        match = _STAMPED.search(path.name)
        if match and path.is_file() and not path.is_symlink():
            try:
                when = datetime.datetime.strptime(match.group(1), "%Y%m%d_%H%M%S")
            except ValueError:
                continue
            found.append((when.replace(tzinfo=datetime.timezone.utc), path))
    return found


def open_source(path: Path, set_dump: str = "") -> Source:
    """Look at what lies there. `set_dump` is the dump's place inside a set; empty for a bare archive.

    Raises `BackupInvalid` or `RestoreRefused` where it is nothing that can be restored.
    """
    dump = path / set_dump if set_dump else path
    kind = detect(dump)
    return Source(path, dump, kind, read_header(dump, kind), tree_bytes(path.resolve()), bool(set_dump))


def is_set(path: Path) -> bool:
    """True for a folder that has a manifest."""
    return path.is_dir() and (path / MANIFEST).is_file()
