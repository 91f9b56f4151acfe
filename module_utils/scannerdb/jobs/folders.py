"""The private folders that the jobs write to: made, and given to the jobs' user."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

from ..errors import FileProblem, ScannerDbError
from ..files import PRIVATE_FOLDER, file_errors
from ..trusted import HeldFolder, as_user, give, opened, step, user_id, user_name, walked
from .leftovers import remove_leftovers

DISK_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
PARENT_MODE = 0o755  # below root's own parents other databases' folders may lie, which are other users'


@file_errors("Making the folders", "of the jobs")
def folders(
    paths: Sequence[str],
    *,
    owner: str = "",
    from_owner: str = "",
    backup_dir: str = "",
    state_dir: str = "",
    database: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Make folders private and `owner`'s own; returns the module's result: `made`, `swept`, `changed`, `diff`.

    What `from_owner` had in them is handed over as well. What killed runs on `database` left goes (`remove_leftovers`).
    A full or read-only disk is a warning: it may be what the job is to repair. Raises `FileProblem` and `InvalidInput`.
    """
    made: list[str] = []
    diffs: list[dict[str, Any]] = []
    wanted = user_id(owner) if owner else None
    giver = user_id(from_owner) if from_owner else None
    warnings: list[str] = []
    swept: list[str] = []
    before = os.umask(0)  # each folder is made with its mode: changing it later would be one more look at a name
    try:
        for path in paths:
            with _troubles(warnings, DISK_TROUBLES), _as_far_as(path, made, diffs, check_mode), walked(path) as place:
                _one(place, wanted, giver, made, diffs, check_mode)
    finally:
        os.umask(before)
    with _troubles(warnings, (*DISK_TROUBLES, errno.EACCES)):
        swept += remove_leftovers(backup_dir, state_dir, database, check_mode) if database else []
    return {"changed": bool(diffs or swept), "made": made, "swept": swept, "diff": diffs, "warnings": warnings}


@contextlib.contextmanager
def _as_far_as(path: str, made: list[str], diffs: list[dict[str, Any]], check: bool) -> Iterator[None]:
    """Let an error say what was made before it: of earlier paths, and of this one, as far as it went."""
    missing = [str(p) for p in reversed([Path(path), *Path(path).parents]) if not os.path.lexists(p)]
    known, before = list(made), list(diffs)
    try:
        with file_errors("Making the folder", path):
            yield
    except ScannerDbError as error:
        fresh = [name for name in missing if Path(name).is_dir() and name not in known]
        made[:], diffs[:] = [*known, *fresh], [*before, *map(_absent, fresh)]
        if diffs and not check:
            settled = [*made, *(d["after"]["path"] for d in before if "state" not in d["after"])]
            done = {"changed": True, "made": made, "swept": [], "diff": diffs}
            error.done = {**done, "msg": f"{error} Before that these were made, or made private: {', '.join(settled)}."}
        raise


@contextlib.contextmanager
def _troubles(warnings: list[str], kinds: Sequence[int]) -> Iterator[None]:
    """Let troubles of some kinds be warnings."""
    try:
        yield
    except FileProblem as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in kinds:
            raise
        warnings.append(str(error))


def _one(
    place: HeldFolder,
    wanted: Optional[int],
    giver: Optional[int],
    made: list[str],
    diffs: list[dict[str, Any]],
    check: bool,
) -> None:
    """Make what is missing of one path, and settle its last folder."""
    if place.rest and place.theirs:
        _theirs(place, wanted, made, diffs, check)
    elif place.rest:
        names = [str(place.path.joinpath(*place.rest[: n + 1])) for n in range(len(place.rest))]
        fresh = [name for name in names if name not in made]
        made += fresh
        diffs += [_absent(name) for name in fresh]
        if not check:
            _make(place, wanted)
    else:
        diffs += _settle(place, wanted, giver, check)


def _absent(path: str) -> dict[str, Any]:
    return {"before": {"path": path, "state": "absent"}, "after": {"path": path, "state": "directory"}}


def _make(place: HeldFolder, wanted: Optional[int]) -> None:
    """Make the names that are missing, one held folder after the other."""
    name = place.rest[0]
    last = len(place.rest) == 1
    if last and wanted is not None and place.shared and not place.sticky:
        raise FileProblem(
            f"{place.path / name} was not made for {user_name(wanted)}: others than root write to {place.path}, "
            "and could put another folder in its place.",
            "Name a folder below one that is root's alone, or make it yourself.",
        )
    os.mkdir(name, PRIVATE_FOLDER if last else PARENT_MODE, dir_fd=place.handle)
    ahead = step(place, name)
    try:
        if ahead.theirs:
            raise FileProblem(f"{ahead.path} was taken by {ahead.owner} while it was made.", "Run it again.")
        if last and wanted is not None:
            with opened(ahead) as handle:
                os.fchown(handle, wanted, -1)
        if not last:
            _make(ahead, wanted)
    finally:
        os.close(ahead.handle)


def _settle(place: HeldFolder, wanted: Optional[int], giver: Optional[int], check: bool) -> list[dict[str, Any]]:
    """Give an existing folder its owner and mode; returns its diff, which is empty where both were right."""
    mode, uid = stat.S_IMODE(place.facts.st_mode), place.facts.st_uid
    owner = uid if wanted is None else wanted
    if (mode, uid) == (PRIVATE_FOLDER, owner):
        return []
    _ensure_stays(place, owner)
    if not check:
        with opened(place) as handle:
            if giver is not None and giver == uid != owner:
                give(handle, giver, owner)
            if owner != uid:
                os.fchown(handle, owner, -1)
            os.fchmod(handle, PRIVATE_FOLDER)
    facts = [
        {"path": str(place.path), "mode": f"{m:04o}", "owner": user_name(u)}
        for m, u in ((mode, uid), (PRIVATE_FOLDER, owner))
    ]
    return [{"before": facts[0], "after": facts[1]}]


def _ensure_stays(place: HeldFolder, owner: int) -> None:
    """Raise `FileProblem` where others could have put the folder in its place, and it would change hands."""
    above = place.above
    if owner == place.facts.st_uid or above is None or os.geteuid() != 0:
        return
    if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (above.st_mode & stat.S_ISVTX and place.facts.st_uid == 0):
        raise FileProblem(
            f"{place.path} was not given to {user_name(owner)}: it is {place.owner}'s, and others than root write "
            "to the folder that it lies in.",
            "Name another folder, or give it to that user yourself.",
        )


def _theirs(
    place: HeldFolder, wanted: Optional[int], made: list[str], diffs: list[dict[str, Any]], check: bool
) -> None:
    """The rest of a path below a lesser user's folder: with that user's own rights, and only for that user."""
    uid = place.facts.st_uid
    if wanted is not None and wanted != uid:
        raise FileProblem(
            f"{place.path.joinpath(*place.rest)} lies in a folder of {place.owner}, who could put a link in its place: "
            f"root makes nothing there for {user_name(wanted)}.",
            f"Name a folder elsewhere, or give {place.path} to {user_name(wanted)}.",
        )
    done = as_user(uid, partial(_below, place, list(made), check))
    made += done["made"]
    diffs += done["diffs"]


def _below(place: HeldFolder, known: list[str], check: bool) -> dict[str, Any]:
    """The work of `_theirs`, done by the owner of the folder."""
    made: list[str] = []
    for number in range(1, len(place.rest) + 1):
        name = "/".join(place.rest[:number])
        if not _is_folder(place, name):
            made.append(str(place.path / name))
            if not check:
                with file_errors("Making the folder", made[-1]):
                    os.mkdir(name, PRIVATE_FOLDER, dir_fd=place.handle)
    made = [path for path in made if path not in known]
    return {"made": made, "diffs": [*map(_absent, made), *([] if made else _close(place, check))]}


def _is_folder(place: HeldFolder, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=place.handle).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _close(place: HeldFolder, check: bool) -> list[dict[str, Any]]:
    """Make an existing folder private; returns its diff."""
    name = "/".join(place.rest)
    path = str(place.path / name)
    with file_errors("Closing to others the folder", path):
        if not _is_folder(place, name):  # a plan only
            return []
        facts = os.stat(name, dir_fd=place.handle)
        mode = stat.S_IMODE(facts.st_mode)
        if facts.st_uid != os.geteuid():
            raise FileProblem(
                f"{path} belongs to {user_name(facts.st_uid)}, and lies in a folder of {place.owner}.",
                f"Give it to {place.owner}, or name another folder.",
            )
        if mode == PRIVATE_FOLDER:
            return []
        if not check:
            os.chmod(name, PRIVATE_FOLDER, dir_fd=place.handle)
    return [{"before": {"path": path, "mode": f"{mode:04o}"}, "after": {"path": path, "mode": f"{PRIVATE_FOLDER:04o}"}}]
