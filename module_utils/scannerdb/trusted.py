"""Folders, as root: never through what a lesser user may swap between a look and an act.

A path is walked by descriptors, each name opened below its held parent and never through a link. A link is followed
only where root alone could have put it there. Below a lesser user's folder root does nothing: that user's own rights do
(`as_user`), so that a link planted there leads to nothing that they did not reach before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from . import errors
from .errors import FileProblem, InvalidInput
from .files import file_errors

LINKS = 40  # as many as the kernel follows
LOOK = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # passes where only passing is allowed


def user_id(name: str) -> int:
    """The number of a system user; raises `InvalidInput` where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise InvalidInput(f"There is no system user {name!r} here.", "Create it first.") from None


def user_name(uid: int) -> str:
    """The name of a system user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    """What `act` returns (plain data), done by a child process with that user's rights; as oneself where one is he."""
    if os.geteuid() == uid:
        return act()
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        os._exit(_act_as(uid, act, outlet))
    os.close(outlet)
    with os.fdopen(inlet, "rb") as stream:
        answer = stream.read()
    _pid, status = os.waitpid(child, 0)
    if status or not answer:
        raise FileProblem(f"What was done as {user_name(uid)} ended without an answer.", "Run it again with -vvv.")
    done = json.loads(answer)
    if "error" in done:
        raise getattr(errors, done["kind"])(*done["error"])
    return done["result"]


def _act_as(uid: int, act: Callable[[], Any], outlet: int) -> int:
    """Become a user for good, act, and write the answer; returns the exit code."""
    try:
        group = _group(uid)
        with contextlib.suppress(KeyError):
            os.initgroups(pwd.getpwuid(uid).pw_name, group)
        os.setgid(group)
        os.setuid(uid)
        answer = {"result": act()}
    except errors.ScannerDbError as error:
        answer = {"kind": type(error).__name__, "error": [error.message, error.hint]}
    except Exception as error:  # the parent says it
        answer = {"kind": "FileProblem", "error": [f"Acting as {user_name(uid)} failed: {error}.", ""]}
    with os.fdopen(outlet, "wb") as stream:
        stream.write(json.dumps(answer).encode())
    return 0


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


class HeldFolder:
    """How far a path was walked: a held folder, and the names that are left below it.

    Whoever may write to the folder decides what its names mean.
    """

    def __init__(self, handle: int, path: PurePosixPath, rest: list[str]) -> None:
        self.handle, self.path, self.rest = handle, path, rest
        self.facts = os.fstat(handle)
        self.above: os.stat_result | None = None  # the folder it was stepped into from

    @property
    def theirs(self) -> bool:
        """Whether it belongs to a lesser user than the one who runs this."""
        return os.geteuid() == 0 and self.facts.st_uid != 0

    @property
    def shared(self) -> bool:
        """Whether others than its owner put names into it or take them away."""
        return os.geteuid() == 0 and bool(self.facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH))

    @property
    def sticky(self) -> bool:
        """Whether others can at least not take away what is not their own."""
        return bool(self.facts.st_mode & stat.S_ISVTX)

    @property
    def owner(self) -> str:
        """Name of the user it belongs to."""
        return user_name(self.facts.st_uid)


@contextlib.contextmanager
def walked(path: Path | str) -> Iterator[HeldFolder]:
    """Walk a path as far as it exists and nobody lesser decides what lies on it; the last folder is held meanwhile.

    A folder of a lesser user ends the walk: what is below it is for `as_user`. Raises `FileProblem`.
    """
    with file_errors("Walking to", path):
        place = _root(Path(os.path.normpath(Path(path).absolute())).parts[1:])
        links = 0
        try:
            while place.rest and not place.theirs:
                ahead = _next(place)
                if ahead is None:
                    break
                links += ahead.path == PurePosixPath("/")
                os.close(place.handle)
                place = ahead
                if links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            yield place
        finally:
            os.close(place.handle)


def _root(names: Sequence[str]) -> HeldFolder:
    return HeldFolder(os.open("/", LOOK), PurePosixPath("/"), list(names))


def _next(place: HeldFolder) -> HeldFolder | None:
    """The folder of the next name, the root again where a link leads on, or None where nothing is there."""
    name, rest = place.rest[0], place.rest[1:]
    try:
        return step(place, name)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        facts = os.stat(name, dir_fd=place.handle, follow_symlinks=False)
        if not stat.S_ISLNK(facts.st_mode):
            raise
        if place.shared:
            raise OSError(
                errno.ELOOP, f"{place.path / name} is a link, and others than root could have put it there"
            ) from None
        target = os.path.normpath(place.path / os.readlink(name, dir_fd=place.handle))
        return _root([*Path(target).parts[1:], *rest])


def step(place: HeldFolder, name: str) -> HeldFolder:
    """The folder of that name in a place, held; never through a link."""
    ahead = HeldFolder(os.open(name, LOOK | os.O_NOFOLLOW, dir_fd=place.handle), place.path / name, place.rest[1:])
    ahead.above = place.facts
    return ahead


@contextlib.contextmanager
def opened(place: HeldFolder) -> Iterator[int]:
    """The folder itself, open for changes of its owner and mode and for listing."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.handle)
    try:
        yield handle
    finally:
        os.close(handle)


def read_plain(path: Path) -> tuple[str, os.stat_result]:
    """The text of a plain file and what it is; a link, a device or a pipe in its place is refused (`OSError`)."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, encoding="utf-8", errors="surrogateescape") as stream:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        return stream.read(), facts


def give(handle: int, giver: int, taker: int) -> int:
    """Hand what a user owns in a held folder, however deep, to another user; returns how much it was.

    Only what is surely the giver's own, by the open file itself: folders, and files that have no second name elsewhere.
    Links stay his: whoever owns the folder replaces them.
    """
    count = 0
    for name in os.listdir(handle):
        facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if facts.st_uid == giver and (stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                count += _give_one(handle, name, giver, taker)
    return count


def _give_one(folder: int, name: str, giver: int, taker: int) -> int:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        facts = os.fstat(handle)
        inside = give(handle, giver, taker) if stat.S_ISDIR(facts.st_mode) and facts.st_uid == giver else 0
        alone = stat.S_ISDIR(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1)
        if facts.st_uid != giver or not alone:
            return inside
        os.fchown(handle, taker, _group(taker) if facts.st_gid == _group(giver) else -1)
        return inside + 1
    finally:
        os.close(handle)
