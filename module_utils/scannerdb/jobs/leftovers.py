"""What killed runs left on a host: half-made sets and half-written files; whatever job comes next removes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .. import disposable
from ..files import partials, sweep_partials
from ..physical.copy_folder import COPY_DIR, PREFIX
from ..sets.staging import debris, sweep
from ..trusted import as_user, walked

STATE_FOLDERS = ("progress", "runs", "manifests")


def remove_leftovers(backup_dir: str, state_dir: str, database: str, check_mode: bool = False) -> list[str]:
    """Remove them with the rights of whoever the folders belong to; returns the paths. Raises `FileProblem`.

    A living run holds what it makes, so no lock of a job is needed.
    """
    swept = _as_owner(backup_dir, partial(_sets, backup_dir, database, check_mode))
    swept += _as_owner(state_dir, partial(_files, state_dir, check_mode))
    return swept + remove_copies(Path(COPY_DIR), check_mode)


def remove_copies(parent: Path, check_mode: bool) -> list[str]:
    """Copies of clusters that restores to a point in time left, with the servers that still run in them."""
    who = os.geteuid()
    owners = {path.lstat().st_uid for path in parent.glob(f"{PREFIX}*")} if parent.is_dir() else set()
    find = disposable.debris if check_mode else disposable.sweep
    names: list[str] = []
    for uid in sorted(owners if who == 0 else owners & {who}):
        names += as_user(uid, lambda: [Path(one).name for one in find(parent, PREFIX)])
    return [str(parent / name) for name in names]


def _as_owner(folder: str, act: Callable[[], list[str]]) -> list[str]:
    if not folder:
        return []
    with walked(folder) as place:
        if place.rest and not place.theirs:  # there is no such folder
            return []
        found: list[str] = as_user(place.facts.st_uid if place.theirs else os.geteuid(), act)
    return found


def _sets(backup_dir: str, database: str, check_mode: bool) -> list[str]:
    folder = Path(backup_dir)
    if check_mode:
        return [str(path) for path in debris(folder, database)]
    return [str(folder / name) for name in sweep(folder, database)]


def _files(state_dir: str, check_mode: bool) -> list[str]:
    inner = [Path(state_dir), *(Path(state_dir, name) for name in STATE_FOLDERS)]
    find = partials if check_mode else sweep_partials
    return [str(path) for folder in inner if folder.is_dir() for path in find(folder)]
