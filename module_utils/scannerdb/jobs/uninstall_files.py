"""Taking the bundle's files off a host: what is recognisably its own, and folders that are empty then.

The folders may be anybody's, such as /var/log. So a file goes by its name, a log also by how it begins, a backup set by
its manifest; whatever else lies there stays, and is said.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from ..checks import history
from ..checks.options import FILES
from ..errors import FileProblem, JobLocked
from ..files import PARTIAL, file_errors, remove_tree
from ..fixes.seals import KEY_FILE
from ..runs import RUN_ID, is_our_log
from ..schedule.installed import FILE
from ..schedule.records import LOCK
from ..sets.catalogue import list_sets
from ..sets.manifest import VERIFICATIONS
from ..sets.names import LATEST
from ..sets.signing import KEY
from ..sets.staging import debris
from ..trusted import as_user, walked
from ..vacuum import memory
from .options import UninstallFilesOptions

RUN = rf"{RUN_ID.pattern.strip('^$')}\.json"
ID = "[0-9a-f]{16}"
# By folder, its own files as patterns of their names; `/` stands between the names on the way.
STATE = (
    *map(re.escape, (LOCK, history.NAME, memory.NAME, VERIFICATIONS, KEY, f"{KEY}.pub", KEY_FILE)),
    rf"(runs|progress)/{RUN}",
    r"manifests/.+_\d{8}_\d{6}\.backup\.sha256",
    "ansible/tmp/ansible-.+",
)
CONFIG = (re.escape(FILE), r"(inventory|login)\.json")
REPORTS = tuple(map(re.escape, FILES.values()))
BUNDLE = (rf"releases/{ID}", rf"venvs/{ID}", r"wheelhouse/.+\.whl")
# Folders within one of those that are its own as well; an outer one comes first.
WITHIN = {
    "state_dir": ("runs", "progress", "manifests", "ansible", "ansible/tmp"),
    "bundle_dir": ("releases", "venvs", "wheelhouse"),
}
LOGS = r"(db_schema_check|db_maintenance_fix|view_update_fix|verify)\.log"
BACKUP_LOGS = r"(backup|restore)_\d{8}_\d{6}\.log"
ROTATED = r"(\.\d+|-\d{8})?(\.gz)?"
SHARED = "scannerdb"  # folders of this name are shared by the databases of a machine
SAID = 5


@dataclass(frozen=True)
class Folders:
    """The folders of one database, and where the bundle is installed; '' for one that there is not."""

    config_dir: str
    state_dir: str
    report_dir: str
    log_dir: str
    backup_dir: str
    bundle_dir: str = ""


def folders_of(request: UninstallFilesOptions) -> Folders:
    """The folders that are asked for."""
    return Folders(**{one.name: getattr(request, one.name) for one in fields(Folders)})


@file_errors("Removing", "the files of the bundle")
def uninstall_files(
    folders: Folders,
    *,
    database: str = "",
    job_logs: Sequence[str] = (),
    metrics_path: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Remove the bundle's files; returns the module's result: `removed` and `left`, by path.

    With the name of a `database` its backup sets go, and the logs among them, also those of the scheduled jobs
    (`job_logs`). The installed bundle goes with the last database of the machine. Raises `JobLocked` while a job is at
    work, and `FileProblem`.
    """
    alone = not _others(Path(folders.config_dir))
    parts = _parts(folders, metrics_path)
    for uid, part in parts.items():
        if part.folders.state_dir:
            as_user(uid, partial(_ensure_idle, part.folders.state_dir))
    files: list[str] = []
    emptied: list[str] = []
    failures: list[str] = []
    for uid, part in parts.items():
        done = as_user(uid, partial(_clear, part, database, tuple(job_logs), alone, check_mode))
        files += done["files"]
        emptied += done["emptied"]
        failures += done["failures"]
    gone = [*files, *emptied]
    tops = _tops(folders, gone, check_mode)
    left = _left(folders, {*gone, *tops})
    return {
        "changed": bool(gone or tops),
        "failed": bool(failures),
        "removed": list(dict.fromkeys([*gone, *tops])),
        "left": left,
        "msg": " ".join([*failures, _sentence(len(files), left)]),
    }


@dataclass(frozen=True)
class Part:
    """The folders of one system user, who removes what is in them: a link that is planted there leads root nowhere."""

    folders: Folders
    metrics_path: str = ""


def _parts(folders: Folders, metrics_path: str) -> dict[int, Part]:
    """The folders by the user who may write to them, root's first."""
    kinds = {field.name: getattr(folders, field.name) for field in fields(folders) if getattr(folders, field.name)}
    owners = {kind: _owner(path) for kind, path in kinds.items()}
    mine = os.geteuid()
    metrics = _owner(str(Path(metrics_path).parent)) if metrics_path else mine
    nothing = dict.fromkeys((field.name for field in fields(folders)), "")
    return {
        uid: Part(
            Folders(**{**nothing, **{kind: path for kind, path in kinds.items() if owners[kind] == uid}}),
            metrics_path if metrics == uid else "",
        )
        for uid in sorted({mine, metrics, *owners.values()})
    }


def _owner(path: str) -> int:
    """Whose rights are enough for what lies in a folder."""
    with walked(path) as place:
        return place.facts.st_uid if place.theirs else os.geteuid()


def _clear(part: Part, database: str, job_logs: Sequence[str], alone: bool, check_mode: bool) -> dict[str, list[str]]:
    """Remove the bundle's files from folders of one user, and the folders within that are empty then; returns both."""
    files = list(dict.fromkeys(_files(part, database, job_logs, alone)))
    emptied = _emptied(part.folders, {str(path) for path in files})
    failures = []
    if not check_mode:
        for path in list(files):
            try:
                remove_tree(path)
            except FileProblem as error:  # the others have their turn
                failures.append(str(error))
                files.remove(path)
        emptied = _emptied(part.folders, {str(path) for path in files})
        for folder in emptied:
            with contextlib.suppress(OSError):  # something came in between, or its parent is root's
                folder.rmdir()
    gone = {"files": [str(path) for path in files], "emptied": [str(path) for path in emptied]}
    return {**gone, "failures": failures}


def _tops(folders: Folders, gone: Sequence[str], check_mode: bool) -> list[str]:
    """The folders themselves, and the shared ones above, that are empty; only an empty folder can be removed."""
    emptied = [str(path) for path in _emptied(folders, set(gone))]
    for path in emptied if not check_mode else []:
        with contextlib.suppress(OSError, FileProblem), walked(Path(path).parent) as place:
            if not place.rest and not place.theirs:
                os.rmdir(Path(path).name, dir_fd=place.handle)
    return emptied


def _ensure_idle(state_dir: str) -> None:
    try:
        handle = os.open(Path(state_dir, LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobLocked(
            "A scheduled job is at work.", "Its schedule is gone; run this again when it has ended."
        ) from None
    finally:
        os.close(handle)


def _files(part: Part, database: str, job_logs: Sequence[str], alone: bool) -> Iterator[Path]:
    """What goes, folders that are emptied by it aside; the installed bundle where no other database has a schedule."""
    folders = part.folders
    for kind, names in (("config_dir", CONFIG), ("state_dir", STATE), ("report_dir", REPORTS)):
        yield from _named(folders, kind, names)
    yield from _logs(folders.log_dir, LOGS)
    if part.metrics_path and os.path.lexists(part.metrics_path):
        yield Path(part.metrics_path)
    if database and folders.backup_dir:
        yield from _backups(Path(folders.backup_dir), database)
        yield from _logs(folders.backup_dir, "|".join([BACKUP_LOGS, *map(re.escape, job_logs)]))
    if folders.bundle_dir and alone:
        yield from _named(folders, "bundle_dir", BUNDLE)
        current = Path(folders.bundle_dir, "current")
        if current.is_symlink() and re.fullmatch(rf"releases/{ID}", str(current.readlink())):
            yield current


def _named(folders: Folders, kind: str, names: Iterable[str]) -> Iterator[Path]:
    """Entries of a folder, and of those within, whose names from there on fit; also half-written ones."""
    wanted = re.compile("|".join(names))
    if not getattr(folders, kind):
        return
    top = Path(getattr(folders, kind))
    for folder in (top, *_within(folders, kind)):
        for path in _entries(folder):
            whole = path.with_name(re.sub(rf"^\.(.+)\.\w+{re.escape(PARTIAL)}$", r"\1", path.name))
            if wanted.fullmatch(str(whole.relative_to(top))):
                yield path


def _within(folders: Folders, kind: str) -> list[Path]:
    """The folders within one that are the bundle's own as well; a link is never followed."""
    inner = [Path(getattr(folders, kind), name) for name in WITHIN.get(kind, ()) if getattr(folders, kind)]
    outer = Path(getattr(folders, kind))
    return [
        path for path in inner if path.is_dir() and not any(p.is_symlink() for p in (path, path.parent) if p != outer)
    ]


def _logs(folder: str, pattern: str) -> Iterator[Path]:
    """Our logs and what logrotate made of them. An empty one tells nothing, and is of no use to anybody."""
    for path in _entries(Path(folder)) if folder else []:
        if re.fullmatch(f"({pattern}){ROTATED}", path.name) and (is_our_log(path) or _is_empty(path)):
            yield path


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


def _backups(folder: Path, database: str) -> Iterator[Path]:
    """The sets of a database, those that were never finished, and the link to the newest."""
    sets = [item.path for item in list_sets(folder, database).sets]
    yield from (*sets, *debris(folder, database))
    latest = folder / LATEST
    if latest.is_symlink() and (folder / latest.readlink() in sets or not latest.exists()):
        yield latest


def _others(config_dir: Path) -> list[Path]:
    """The schedules of other databases of this machine."""
    if not config_dir.parent.is_dir():
        return []
    with file_errors("Looking for other schedules in", config_dir.parent):
        return [path for path in config_dir.parent.rglob(FILE) if path.parent != config_dir]


def _entries(folder: Path) -> list[Path]:
    with file_errors("Listing", folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _emptied(folders: Folders, gone: set[str]) -> list[Path]:
    """The folders in which nothing is left once `gone` is, the innermost first; of shared ones only by their name."""
    kinds = [field.name for field in fields(folders) if getattr(folders, field.name)]
    own = [Path(getattr(folders, kind)) for kind in kinds]
    inner = [path for kind in kinds for path in _within(folders, kind)]
    shared = [path.parent for path in own if path.parent.name == SHARED]
    emptied: list[Path] = []
    for folder in sorted({*own, *inner, *shared}, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not folder.is_symlink() and not os.path.ismount(folder):
            inside = {str(path) for path in _entries(folder)}
            if inside <= gone | {str(path) for path in emptied}:
                emptied.append(folder)
    return emptied


def _left(folders: Folders, gone: set[str]) -> list[str]:
    """What stays in the folders of this database."""
    own = {folders.config_dir, folders.state_dir, folders.report_dir, folders.log_dir, folders.backup_dir}
    return sorted({str(path) for folder in own if folder for path in _entries(Path(folder))} - gone - own)


def _sentence(count: int, left: Sequence[str]) -> str:
    said = f"{count} files of the bundle are removed."
    if left:
        more = f", and {len(left) - SAID} more" if len(left) > SAID else ""
        said += f" What is not known to be its own stays: {', '.join(left[:SAID])}{more}."
    return said
