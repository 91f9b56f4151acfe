"""The hidden folder in which a set is made, and what killed runs left of theirs.

`.<name>.partial` is held with a file lock while its run lives, so that a sweep can tell debris from work.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import FileProblem
from ..files import PARTIAL, PRIVATE_FOLDER, file_errors, fsync_folder, remove_tree
from .names import LATEST, parse_set_name, set_name

TRIES = 120


@contextlib.contextmanager
def claimed(backup_dir: Path, dbname: str, now: datetime.datetime) -> Iterator[tuple[str, Path]]:
    """A new set's name and its hidden folder, which is ours alone for the block.

    Where the second is taken already, the name gets a later one. The folder stays where it is if the block fails:
    the caller decides what becomes of it.
    """
    name, folder = _make(backup_dir, dbname, now)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name, folder
    finally:
        os.close(handle)


def _make(backup_dir: Path, dbname: str, now: datetime.datetime) -> tuple[str, Path]:
    while True:
        name = free_name(backup_dir, dbname, now)
        folder = hidden(backup_dir, name)
        with file_errors("Making the folder", folder):
            try:
                folder.mkdir(mode=PRIVATE_FOLDER)
            except FileExistsError:  # another run took it since
                continue
            if not os.path.lexists(backup_dir / name):
                return name, folder
            folder.rmdir()


@contextlib.contextmanager
def borrowed(backup_dir: Path, dbname: str) -> Iterator[Path]:
    """A hidden folder for the block, gone afterwards; what a killed run leaves of it goes with the next sweep."""
    with claimed(backup_dir, dbname, datetime.datetime.now(tz=datetime.timezone.utc)) as (_, folder):
        try:
            yield folder
        finally:
            remove_tree(folder)


def free_name(backup_dir: Path, dbname: str, now: datetime.datetime) -> str:
    """The first name from this second on that no set and no run has."""
    for second in range(TRIES):
        name = set_name(dbname, now + datetime.timedelta(seconds=second))
        if not os.path.lexists(backup_dir / name) and not os.path.lexists(hidden(backup_dir, name)):
            return name
    raise FileProblem(f"No name is free for a backup in {backup_dir}.", "Look at what is in that folder.")


def hidden(backup_dir: Path, name: str) -> Path:
    """Where a set is made, and where it goes on its way out."""
    return backup_dir / f".{name}{PARTIAL}"


def publish(backup_dir: Path, name: str) -> Path:
    """Give a finished, flushed set its own name."""
    final = backup_dir / name
    with file_errors("Naming the backup", final):
        hidden(backup_dir, name).rename(final)
        fsync_folder(backup_dir)
    return final


def debris(backup_dir: Path, dbname: str) -> list[Path]:
    """Half-made and half-removed sets of this database, and half-swapped links, that no living run holds.

    Where the file system has no locks no run can be told from its debris, and only links are found.
    """
    found: list[Path] = []
    with file_errors("Listing", backup_dir):
        for path in sorted(backup_dir.iterdir()) if backup_dir.is_dir() else []:
            if not path.name.startswith(".") or not path.name.endswith(PARTIAL):
                continue
            inner = path.name[1 : -len(PARTIAL)]
            parsed = parse_set_name(inner)
            swapped = inner.startswith(f"{LATEST}.") and path.is_symlink()
            if swapped or (parsed and parsed[0] == dbname and _locked(path) is False):
                found.append(path)
    return found


def held(folder: Path) -> bool:
    """True where a living run is known to make this set, or to read it."""
    return bool(_locked(folder))


def _locked(folder: Path) -> bool | None:
    """Whether a living run holds a lock on the folder; None where that cannot be found out."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def sweep(backup_dir: Path, dbname: str) -> list[str]:
    """Remove the debris of killed runs; returns the names of what went."""
    gone = debris(backup_dir, dbname)
    for path in gone:
        remove_tree(path)
    return [path.name for path in gone]


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep retention away from a set for the block; several readers may hold it."""
    with file_errors("Opening", folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
