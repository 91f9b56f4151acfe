"""Files that are whole or not there: written beside their target, fsynced and renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import FileProblem

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PARTIAL = ".partial"  # the mark of everything that is being made; sweeping may remove it
BEGINNING_S = 5.0  # from making a file to locking it; more than enough
SURELY_DEAD_S = 600.0  # nobody takes that long to write a small file, where nothing can be locked
DISK_FULL = "The disk is full: free some space or choose another folder."


@contextlib.contextmanager
def file_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Turn an OSError inside the block into a `FileProblem` with a hint that fits its cause."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: DISK_FULL,
            errno.EDQUOT: "The disk quota is used up: free some space or choose another folder.",
            errno.EACCES: "The user that runs this task may not write there: change the owner of the folder.",
            errno.EPERM: "The user that runs this task may not do that there: change the owner of the folder.",
            errno.EROFS: "That file system is mounted read-only.",
            errno.ELOOP: "There is a link in its place: remove it.",
            errno.ENAMETOOLONG: "Give a shorter path.",
            errno.ENOENT: "Create the folder first; the scannerdb roles do.",
        }
        hint = hints.get(error.errno or 0, "")
        raise FileProblem(f"{doing} {path} failed: {error.strerror or error}.", hint) from error


def open_path(handle: int) -> Path | None:
    """A path to what a descriptor of this process holds open; None on a system without /proc."""
    path = Path(f"/proc/{os.getpid()}/fd/{handle}")
    return path if path.exists() else None


def is_open(path: Path) -> bool:
    """True for a path of `open_path`: the system shows it as a link."""
    return path.parent == Path(f"/proc/{os.getpid()}/fd")


def ensure_folder(path: Path | str, mode: int = PRIVATE_FOLDER) -> Path:
    """Make a folder and its parents where they are missing, private whatever the umask; an existing one stays."""
    folder = Path(path)
    with file_errors("Making the folder", folder):
        for missing in [one for one in (*reversed(folder.parents), folder) if not one.is_dir()]:
            missing.mkdir(mode=mode, exist_ok=True)
    return folder


def fsync_folder(path: Path | str) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Flush one file to its disk."""
    with file_errors("Flushing", path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def forget_cached(path: Path) -> None:
    """Let a flushed file go out of memory where the system can: who reads it next reads the disk."""
    if hasattr(os, "posix_fadvise"):
        with file_errors("Opening", path):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and itself."""
    with file_errors("Flushing", folder):
        for base, _folders, names in os.walk(folder):
            for name in names:
                fsync_file(Path(base, name))
            fsync_folder(base)


def encoded(text: str) -> bytes:
    """A text as UTF-8. What a database without an encoding has in other bytes is escaped, as JSON would read it."""
    return text.encode("utf-8", "backslashreplace")


def write_atomic(path: Path | str, data: str | bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace a file's content in one step, or leave it as it was."""
    target = Path(path)
    content = encoded(data) if isinstance(data, str) else data
    with file_errors("Writing", target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                with contextlib.suppress(OSError):  # while it is held, no sweep takes it for debris
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stream.write(content)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        fsync_folder(target.parent)


def sweep_partials(folder: Path) -> list[Path]:
    """Remove what killed runs left of `write_atomic` in a folder, once nobody is at it any more; returns what went."""
    gone = partials(folder)
    for path in gone:
        with file_errors("Sweeping", folder):
            path.unlink(missing_ok=True)
    return gone


def partials(folder: Path) -> list[Path]:
    """What killed runs left of `write_atomic` in a folder."""
    with file_errors("Sweeping", folder):
        return [path for path in folder.glob(f".*{PARTIAL}") if _is_left(path)]


def _is_left(path: Path) -> bool:
    """Whether a half-written file has lost its writer: nobody holds it, or it is old."""
    try:
        facts = path.lstat()
        age = time.time() - facts.st_mtime
        if not stat.S_ISREG(facts.st_mode) or age < BEGINNING_S:
            return False
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return age > SURELY_DEAD_S
    finally:
        os.close(handle)
    return True


def read_if_there(path: Path | str) -> str:
    """A file's text, empty where there is none; raises `FileProblem` where it, or its folder, may not be read."""
    with file_errors("Reading", path):
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def append_line(path: Path | str, line: str, flush: bool = False) -> None:
    """Add one line to a private file, never through a link; with a single write, so that concurrent ones do not mix.

    What a full disk or a power cut left of a line before stays a line of its own. With `flush` it is on the disk then.
    """
    with file_errors("Writing", path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            data = encoded("\n" * torn + line.rstrip("\n") + "\n")
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if flush:
                os.fsync(handle)
        finally:
            os.close(handle)


def swap_symlink(link: Path, target: str) -> None:
    """Point `link` at the relative `target` in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}{PARTIAL}")
    with file_errors("Pointing the link", link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        fsync_folder(link.parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with file_errors("Reading", path), path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a file, link or folder with what is below it; one that is already gone is fine."""
    with file_errors("Removing", path):
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        elif path.exists():
            shutil.rmtree(path)


def tree_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    with file_errors("Looking at", path):
        return sum(one.lstat().st_size for one in (path, *path.rglob("*")) if one.is_file() and not one.is_symlink())


def free_bytes(path: Path | str) -> int:
    """Bytes that an ordinary user may still write on the file system of `path`."""
    with file_errors("Looking at the disk of", path):
        return shutil.disk_usage(path).free


def ensure_free(folder: Path, needed: int, what: str) -> None:
    """Raise `FileProblem` where `what`, of so many bytes, has no room in a folder."""
    free = free_bytes(folder)
    if free < needed:
        raise FileProblem(too_small(folder, free, what, needed), "Free some space.")


def too_small(place: Path | str, free: int, what: str, needed: int) -> str:
    """The sentence for a disk that has no room for what needs so many bytes. Pure."""
    return f"{place} has {free >> 20} MiB free; {what} needs about {needed >> 20} MiB."
