"""The folder of a disposable copy of the cluster: private, locked while its run lives, swept after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput, ScannerDbError
from ..files import ensure_folder, file_errors, remove_tree
from ..process import Tools

PREFIX = "scannerdb-copy-"
COPY_DIR = "/var/tmp"  # noqa: S108 - a private folder is made in it
LONGEST_SOCKET = 107


@dataclass(frozen=True)
class Copy:
    """A copy that is being made: its folder, the programs of its version, and who runs it (empty: we ourselves)."""

    home: Path
    programs: Tools
    user: str = ""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.home / "data"

    @property
    def socket(self) -> Path:
        """The folder of the socket."""
        return self.home / "run"

    @property
    def log(self) -> Path:
        """The folder of its log."""
        return self.home / "log"

    @property
    def wal(self) -> Path:
        """The folder for segments that are read."""
        return self.home / "wal"

    @property
    def tablespaces(self) -> Path:
        """The folder of all its tablespaces."""
        return self.home / "tablespaces"

    @property
    def settings(self) -> Path:
        """The file of its settings, beside the data folder: what lies in there came with the backup."""
        return self.home / "postgresql.conf"


def debris(parent: Path) -> list[Path]:
    """Folders of ours below `parent` that no living run holds."""
    found = []
    for path in sorted(parent.glob(f"{PREFIX}*")) if parent.is_dir() else []:
        with contextlib.suppress(OSError):  # it went meanwhile, or is somebody else's
            if not path.is_symlink() and path.is_dir() and path.stat().st_uid == os.geteuid() and not _held(path):
                found.append(path)
    return found


def _held(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sweep(parent: Path) -> list[str]:
    """End and remove the copies of killed runs; returns the names of what went."""
    gone = debris(parent)
    for path in gone:
        end_server(path / "data")
        remove_tree(path)
    return [path.name for path in gone]


@contextlib.contextmanager
def copy_folder(parent: Path, programs: Tools, user: str) -> Iterator[Copy]:
    """A new private folder below `parent` for a copy; it is gone after the block, whatever happens in it."""
    ensure_folder(parent)
    with file_errors("Making a folder in", parent):
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    owner = user if os.geteuid() == 0 else ""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        copy = Copy(home, programs, owner)
        if len(os.fsencode(str(copy.socket))) + len("/.s.PGSQL.65535") > LONGEST_SOCKET:
            raise InvalidInput(
                f"{parent} is too long for a socket's path.", "Set scannerdb_restore_copy_dir to a shorter one."
            )
        with file_errors("Making folders in", home):
            for folder in (copy.data, copy.socket, copy.log, copy.wal, copy.tablespaces):
                folder.mkdir(mode=0o700)
                if owner:
                    shutil.chown(folder, owner)
            if owner:
                home.chmod(0o711)  # its user has to get through, and can change nothing here
        yield copy
    finally:
        end_server(home / "data")
        os.close(handle)
        with contextlib.suppress(ScannerDbError):
            remove_tree(home)


def end_server(data: Path, patience_s: float = 10.0) -> None:
    """End the server of a data folder at once, and wait until it is gone."""
    deadline = time.monotonic() + patience_s
    while (pid := _postmaster(data)) and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
        time.sleep(0.05)


def _postmaster(data: Path) -> int:
    """The process id of the server on that data folder; 0 where none runs, also after its id was taken by another."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii", errors="replace").split("\n", 1)[0])
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if os.fsencode(str(data)) in words else 0
