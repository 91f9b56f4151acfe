"""The home of a disposable server: a private folder with a socket, locked while its run lives, swept after it.

What has no lock is what a killed run left. PostgreSQL refuses to run as root, so root lends the folder to an
unprivileged user.
"""

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

from .errors import InvalidInput, ScannerDbError
from .files import ensure_folder, file_errors, remove_tree
from .tools import Tools

HOMES = "/var/tmp"  # noqa: S108 - each home in it is private, and its name cannot be guessed
LONGEST_SOCKET = 107
SOCKET = Path("run", ".s.PGSQL.65535")  # below a home; the longest that it can be


@dataclass(frozen=True)
class ServerHome:
    """A disposable server: its home, the programs of its version, and who runs it (empty: we ourselves)."""

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
        return self.home / SOCKET.parent

    @property
    def log(self) -> Path:
        """The folder of its log."""
        return self.home / "log"

    @property
    def settings(self) -> Path:
        """The file of its settings, beside the data folder: what lies in there may be somebody else's."""
        return self.home / "postgresql.conf"

    def make_folders(self, *more: Path) -> None:
        """Make its folders, and more, for whoever runs it."""
        with file_errors("Making folders in", self.home):
            for folder in (self.data, self.socket, self.log, *more):
                folder.mkdir(mode=0o700)
                if self.user:
                    shutil.chown(folder, self.user)
            if self.user:
                self.home.chmod(0o711)  # its user has to get through, and can change nothing here

    def log_text(self) -> str:
        """What the server wrote to its log; a link among its files leads to somebody else's."""
        texts = []
        for path in sorted(self.log.glob("*.log")):
            with contextlib.suppress(OSError), os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                texts.append(stream.read().decode("utf-8", "replace"))
        return "\n".join(texts)


@contextlib.contextmanager
def private_home(parent: Path, prefix: str, option: str) -> Iterator[Path]:
    """A new private folder below `parent`; the server in it and the folder are gone after the block.

    `option` is the variable that names the parent. Raises `InvalidInput` where a socket's path would be too long.
    """
    ensure_folder(parent)
    with file_errors("Making a folder in", parent):
        home = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if len(os.fsencode(str(home / SOCKET))) > LONGEST_SOCKET:
            raise InvalidInput(f"{parent} is too long for a socket's path.", f"Set {option} to a shorter one.")
        yield home
    finally:
        end_server(home / "data")
        os.close(handle)
        with contextlib.suppress(ScannerDbError):
            remove_tree(home)


def setting_text(value: object) -> str:
    """A value as postgresql.conf takes it: in quotes, with what would end or change it escaped. Pure."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def debris(parent: Path, prefix: str) -> list[Path]:
    """Folders of ours below `parent` that no living run holds."""
    with file_errors("Listing", parent):
        entries = sorted(parent.iterdir()) if parent.is_dir() else []
    found = []
    for path in entries:
        if path.name.startswith(prefix) and not path.is_symlink() and path.is_dir():
            with contextlib.suppress(OSError):  # it went meanwhile, or is somebody else's
                if path.stat().st_uid == os.geteuid() and not _held(path):
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


def sweep(parent: Path, prefix: str) -> list[str]:
    """End and remove the servers of killed runs; returns the names of what went."""
    gone = debris(parent, prefix)
    for path in gone:
        end_server(path / "data")
        remove_tree(path)
    return [path.name for path in gone]


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
