"""Take a backup set out of the listing: put aside first, and removed for good only when that is asked for.

What was put aside lies in the hidden folder `.aside` of the backup folder, where no job takes it for a backup; one `mv`
brings it back.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..connection import Options
from ..errors import BackupInvalid, FileProblem, RestoreRefused
from ..files import ensure_folder, file_errors, fsync_folder, remove_tree
from ..joblock import job_lock
from ..partial import telling_changes
from ..runs import Run
from ..sets.catalogue import BackupSet, latest_target, list_sets, newest, point_latest
from ..sets.names import LATEST, parse_set_name

ASIDE = ".aside"
LIST = "playbooks/backups.yml lists what there is."


def remove_set(
    options: Options, *, backup_dir: str, name: str, final: bool = False, lock_wait_s: int = 0, check_mode: bool = False
) -> dict[str, Any]:
    """Put the set of that name aside, or with `final` remove one that was put aside; returns the module's result.

    Takes the job lock, so that no backup, drill or restore is at work on the set. Raises `BackupInvalid` where there is
    no such set, and `RestoreRefused` for the last one that is whole.
    """
    named = parse_set_name(name)
    if not named or named[0] != options.db:
        raise BackupInvalid(f"{name!r} is not the name of a backup set of {options.db!r}.", LIST)
    run = Run("remove", options.db)
    if check_mode:
        return _remove(Path(backup_dir), options.db, name, final, True, run)
    with telling_changes(run), job_lock(options, run.job, run.run_id, lock_wait_s):
        return _remove(Path(backup_dir), options.db, name, final, False, run)


def _remove(folder: Path, database: str, name: str, final: bool, check_mode: bool, run: Run) -> dict[str, Any]:
    aside = folder / ASIDE / name
    if final:
        return _remove_for_good(aside, check_mode, run)
    if aside.exists() and not (folder / name).exists():
        return _result(False, aside, f"{name} was put aside before, in {aside.parent}.")
    listing = list_sets(folder, database)
    known = [item.name for item in listing.sets] + [other for other, _ in listing.others]
    if name not in known:
        raise BackupInvalid(f"There is no backup set {name!r} in {folder}.", LIST)
    left = [item for item in listing.sets if item.name != name and not item.damaged]
    if not left and any(item.name == name and not item.damaged for item in listing.sets):
        raise RestoreRefused(
            f"{name} is the last backup that is not damaged.", "Make another with playbooks/backup.yml."
        )
    if not check_mode:
        _put_aside(folder, name, aside, left, run)
    would = "would be" if check_mode else "is"
    return _result(True, aside, f"{name} {would} put aside in {aside.parent}; no job takes it for a backup there.")


def _put_aside(folder: Path, name: str, aside: Path, left: list[BackupSet], run: Run) -> None:
    ensure_folder(aside.parent)
    with file_errors("Moving", folder / name):
        (folder / name).rename(aside)
    back = shlex.join(["mv", str(aside), f"{folder}/"])
    run.note_change(f"{name} was put aside.", f"To bring it back: {back}")
    fsync_folder(folder)
    if latest_target(folder) == name:
        follower = newest(left)
        if follower:
            point_latest(folder, follower.name)
        else:
            (folder / LATEST).unlink(missing_ok=True)


def _remove_for_good(aside: Path, check_mode: bool, run: Run) -> dict[str, Any]:
    if not aside.exists():
        raise BackupInvalid(
            f"{aside.name} was not put aside, so it is not removed.",
            f"Put it aside first: playbooks/remove.yml -e scannerdb_remove_set={aside.name}",
        )
    if not check_mode:
        try:
            remove_tree(aside)
        except FileProblem:
            run.note_change(f"{aside} is removed in part; run it again to remove the rest.")
            raise
    return _result(True, aside, f"{aside} {'would be' if check_mode else 'is'} removed for good.")


def _result(changed: bool, aside: Path, message: str) -> dict[str, Any]:
    return {
        "changed": changed,
        "aside": str(aside),
        "msg": message,
        "diff": {"before": "" if not changed else f"{aside.name}\n", "after": ""},
    }
