"""Dumps that somebody else made and that retention may treat like sets, because it was told to by name."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileProblem, InvalidInput, ScannerDbError
from ..files import file_errors, remove_tree
from .catalogue import list_sets, load_set
from .manifest import MANIFEST, REGULAR
from .names import LATEST, parse_stamp
from .signing import NOBODY, Trust
from .staging import free_name, held, hidden

_STAMP = re.compile(r"(\d{8}_\d{6})")


@dataclass(frozen=True)
class Adopted:
    """A dump in the backup folder: an archive of pg_dump, or a set under another name. Only its age is known."""

    path: Path
    database: str
    created: datetime.datetime
    verified: str = "none"
    damaged: bool = False
    purpose: str = REGULAR

    @property
    def name(self) -> str:
        """The name of the file or folder."""
        return self.path.name


def checked_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns; raises `InvalidInput` for one that leads out of the folder or means everything. Pure."""
    wrong = [pattern for pattern in patterns if "/" in pattern or not pattern.strip("*?. ")]
    if wrong:
        raise InvalidInput(f"adopt has {wrong[0]!r}.", "Give names, or patterns that name something, without a path.")
    return tuple(patterns)


def find_adopted(
    backup_dir: Path,
    patterns: Sequence[str],
    database: str,
    database_in: Callable[[Path], str],
    trust: Trust = NOBODY,
) -> tuple[list[Adopted], list[tuple[str, str]]]:
    """What the patterns mean in a folder, newest first, and what they name but may not have, with the reason.

    Only dumps of this database are adopted: `database_in` tells it from a file's content, never from its name. Sets of
    our own, links and hidden files are never meant. Raises `InvalidInput` for a pattern that leads out of the folder.
    """
    if not checked_patterns(patterns) or not backup_dir.is_dir():
        return [], []
    own = {item.name for item in list_sets(backup_dir).sets}
    found, refused = [], []
    with file_errors("Listing", backup_dir):
        names = sorted(path.name for path in backup_dir.iterdir() if not path.is_symlink())
    for name in names:
        if name.startswith(".") or name == LATEST or name in own:
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            try:
                found.append(_adopt(backup_dir / name, database, database_in, trust))
            except ScannerDbError as error:
                refused.append((name, error.message))
    return sorted(found, key=lambda a: (a.created, a.name), reverse=True), refused


def _adopt(path: Path, database: str, database_in: Callable[[Path], str], trust: Trust) -> Adopted:
    if (path / MANIFEST).is_file():
        item = load_set(path, trust)
        theirs, created, verified, damaged = item.manifest.database.name, item.created, item.verified, item.damaged
    else:
        theirs, created, verified, damaged = database_in(path), _age(path), "none", False
    if theirs != database:
        raise InvalidInput(f"{path.name} is a dump of {theirs!r}, not of {database!r}.")
    return Adopted(path, database, created, verified, damaged)


def _age(path: Path) -> datetime.datetime:
    """When a dump was made: as its name says (taken for UTC), else when it was last written."""
    stamps = [when for text in _STAMP.findall(path.name) if (when := parse_stamp(text))]
    if stamps:
        return stamps[-1]
    with file_errors("Looking at", path):
        return datetime.datetime.fromtimestamp(path.stat().st_mtime, tz=datetime.timezone.utc)


def remove_adopted(item: Adopted) -> None:
    """Remove it; a folder is hidden first under a name that a sweep knows."""
    if held(item.path):
        raise FileProblem(f"{item.name} is being read by another run, and was not removed.", "The next backup does.")
    target = item.path
    if target.is_dir():
        target = hidden(item.path.parent, free_name(item.path.parent, item.database, item.created))
        with file_errors("Removing the backup", item.path):
            item.path.rename(target)
    remove_tree(target)
