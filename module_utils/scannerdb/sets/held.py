"""What is loaded is what was judged, though somebody else may write to the folder that it lies in.

A set is reached through one open descriptor, so a folder that takes its place under its name is not met. Where somebody
else may write to it, its dump is copied into a private folder, and judged and run from there: as a whole, for newer
releases of pg_restore follow no link to a file with rows. Times of change, which nobody but the system's administrator
can set, are compared when all was loaded, and what has changed meanwhile is not believed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BackupInvalid, ScannerDbError
from ..files import BEGINNING_S, file_errors, open_path, remove_tree, sha256
from .manifest import VERIFICATIONS
from .staging import held as at_work
from .staging import in_use

PREFIX = "scannerdb_dump_"
TICK_S = 0.02  # file systems note times in steps of some milliseconds
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class HeldSet:
    """A folder or file that is held open: `path` reaches it whatever becomes of its `name`."""

    name: Path
    path: Path
    seen: Mapping[str, Stamp] = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Raise `BackupInvalid` where something was written, replaced or renamed in it since it was opened."""
        now = _stamps(self.path)
        changed = sorted(name for name in {*now, *self.seen} if now.get(name) != self.seen.get(name))
        if changed:
            raise BackupInvalid(
                f"{self.name} was changed while it was read ({', '.join(name or '.' for name in changed[:3])}), so "
                "nothing of it is believed.",
                "See who writes to that folder, and run again.",
            )


@contextlib.contextmanager
def held(name: Path) -> Iterator[HeldSet]:
    """Hold a folder or file open for the block; errors in it speak of the name that people know."""
    with file_errors("Opening", name):
        handle = os.open(name, os.O_RDONLY)
    try:
        path = open_path(handle) or name
        seen = _stamps(path)
        time.sleep(TICK_S)  # what is written in the same tick is read with the rest
        try:
            yield HeldSet(name, path, seen)
        except ScannerDbError as error:
            error.message = error.message.replace(str(path), str(name))
            error.args = tuple(str(word).replace(str(path), str(name)) for word in error.args)
            raise
    finally:
        os.close(handle)


def _stamps(path: Path) -> dict[str, Stamp]:
    """What the system noted of every file and folder; not of our own record, whose making changes the top's times."""
    with file_errors("Looking at", path):
        if not path.is_dir():
            return {"": _stamp(path, link=True)}
        found = {}
        for base, folders, names in os.walk(path):
            for name in [*folders, *names]:
                one = Path(base, name)
                if one.name != VERIFICATIONS:
                    found[one.relative_to(path).as_posix()] = _stamp(one)
        return found


def _stamp(path: Path, link: bool = False) -> Stamp:
    """Written back first: what somebody has mapped into his memory gets its time of change then."""
    facts = path.stat() if link else path.lstat()
    if stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if link else os.O_NOFOLLOW))
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            facts = path.stat() if link else path.lstat()
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)  # no inode numbers: in FUSE they come and go


@contextlib.contextmanager
def private_dump(kept: HeldSet, dump_path: str, expected: Mapping[str, str] | None = None) -> Iterator[Path]:
    """The dump in a held folder (or the held file itself), as pg_restore is to read it in the block.

    It is copied where others may write to it, and compared with the SHA-256 in `expected`, by the paths of the set.
    Where nobody may it is used as it lies.
    """
    source = kept.path / dump_path if dump_path else kept.path
    if not source.exists():
        raise BackupInvalid(f"{kept.name} has no {dump_path}.", "It is damaged or incomplete: use another backup.")
    with file_errors("Listing", kept.name):
        files = list(source.iterdir()) if source.is_dir() else []
    if not any(map(others_may_write, {source, kept.path, *files})):
        yield source
        return
    _sweep(Path(tempfile.gettempdir()))
    with file_errors("Making a private folder in", tempfile.gettempdir()):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with in_use(folder), file_errors("Copying", kept.name):
            yield _copied(source, folder / (source.name if dump_path else "dump"), dump_path, expected or {})
    finally:
        remove_tree(folder)


def _copied(source: Path, target: Path, dump_path: str, expected: Mapping[str, str]) -> Path:
    if not source.is_dir():
        _copy(source, target, expected.get(dump_path, ""))
        return target
    target.mkdir(mode=0o700)
    for one in sorted(source.iterdir()):
        _copy(one, target / one.name, expected.get(f"{dump_path}/{one.name}", ""))
    return target


def _copy(source: Path, target: Path, expected: str) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    if expected and sha256(target) != expected:
        raise BackupInvalid(f"{source} has changed: its SHA-256 is not the recorded one.")


def _sweep(parent: Path) -> None:
    """Remove what killed runs of this user left."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ScannerDbError):
            facts = path.lstat()
            dead = time.time() - facts.st_mtime > BEGINNING_S and not at_work(path)
            if facts.st_uid == os.geteuid() and stat.S_ISDIR(facts.st_mode) and dead:
                remove_tree(path)


def others_may_write(path: Path) -> bool:
    """Whether somebody but this user and root may write to a file or folder."""
    with file_errors("Looking at", path):
        facts = path.stat()
    return facts.st_uid not in (os.geteuid(), 0) or bool(facts.st_mode & 0o022)
