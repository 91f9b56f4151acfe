"""Causes on the machine itself: folders and disks, client programs, the clock, cron. No server is asked."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import ScannerDbError
from ..files import PARTIAL, free_bytes, too_small
from ..tools import find_tools, installed_tools
from .diagnosis import FINE, Diagnosis, fine, from_error, unknown, wrong

LEAST_FREE = 100 << 20
CLOCK_S = 5.0
CRONS = ("cron", "crond")


def folders(places: Mapping[str, str], needed: Mapping[str, int]) -> Iterator[Diagnosis]:
    """Each folder is there, writable for whoever runs this, private, and has room for `needed` bytes."""
    for name, path in places.items():
        yield from _folder(f"folder: {name}", path, max(needed.get(name, 0), LEAST_FREE))


def hidden(path: str) -> str:
    """Why it cannot be told whether there is such a folder, or what is in it; empty where it can."""
    try:
        with os.scandir(path):
            return ""
    except PermissionError as error:
        return f"this user may not look into {error.filename}."
    except OSError:
        return ""


def _folder(cause: str, path: str, needed: int) -> Iterator[Diagnosis]:
    """Everything that is wrong with one folder; the answer is `fine` once, and only where nothing is."""
    try:
        there = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - is_dir() takes what it may not see for missing
    except PermissionError:
        yield unknown(cause, f"this user may not look for {path}.")
        return
    except OSError:
        there = False
    if not there:
        yield _missing(cause, Path(path))
        return
    found = [_room(cause, path, needed)]
    if not os.access(path, os.W_OK | os.X_OK):
        text = f"{path} cannot be written by this user."
        found.append(wrong(cause, text, "Change its owner to the user that runs the jobs."))
    if Path(path).stat().st_mode & stat.S_IRWXO:
        found.append(wrong(cause, f"Everybody may look into {path}.", f"chmod 0700 {path}"))
    yield from [one for one in found if one.state != FINE] or found[:1]


def _missing(cause: str, path: Path) -> Diagnosis:
    """A folder that nobody has needed yet is no trouble where whoever runs this can make it."""
    above = next((one for one in path.parents if one.is_dir()), Path("/"))
    if os.access(above, os.W_OK | os.X_OK):
        return fine(cause, f"There is no folder {path} yet; the first run that needs it makes it.")
    text = f"There is no folder {path}, and this user cannot make it in {above}."
    return wrong(cause, text, f"As root: install -d -m 0700 -o USER {path}")


def _room(cause: str, path: str, needed: int) -> Diagnosis:
    try:
        free, facts = free_bytes(path), os.statvfs(path)
    except (ScannerDbError, OSError) as error:
        return unknown(cause, str(error))
    if free < needed:
        text = too_small(path, free, "its next use", needed)
        return wrong(cause, text, "Free some space (df -h), lower scannerdb_retention_days, or choose another folder.")
    if facts.f_files and not facts.f_favail:
        return wrong(cause, f"The file system of {path} has no inode left.", "Remove small files there (df -i).")
    return fine(cause, f"{path} has {free >> 20} MiB free.")


def programs(pg_bin_dir: str, server_major: int) -> Iterator[Diagnosis]:
    """pg_dump and pg_restore are there, and new enough for the server (0: its version is not known)."""
    for program in ("pg_dump", "pg_restore"):
        if not server_major:
            found = installed_tools(pg_bin_dir, program)
            there = fine(program, f"{program} {found[0].version} is there.") if found else None
            yield there or wrong(
                program, f"There is no {program}.", "Install postgresql-client, or set scannerdb_pg_bin_dir."
            )
            continue
        try:
            tools = find_tools(pg_bin_dir, server_major, program)
        except ScannerDbError as error:
            yield from_error(program, error)
        else:
            yield fine(program, f"{tools.path(program)} is version {tools.version}.")


def clock(
    difference_s: float | None, newest: datetime.datetime | None, now: datetime.datetime, settled: str = ""
) -> Diagnosis:
    """This machine's clock against the server's, and against what it has written before.

    `settled` says what to do with the newest thing, which stays in the future when the clock is right again.
    """
    hint = "Let the machines keep their time (chrony or systemd-timesyncd)."
    if difference_s is not None and abs(difference_s) > CLOCK_S:
        return wrong("clock", f"This machine and the server differ by {difference_s:+.0f} s.", hint)
    if newest and (newest - now).total_seconds() > CLOCK_S:
        return wrong(
            "clock", f"A backup or a run is from the future ({newest:%Y-%m-%d %H:%M} UTC).", f"{hint} {settled}".strip()
        )
    if difference_s is None:
        return fine("clock", "Nothing here is from the future; the server was not asked.")
    return fine("clock", "It agrees with the server's.")


def scheduler(kind: str) -> Diagnosis:
    """The daemon that is to start the jobs runs on this machine."""
    names = process_names()
    if names is None:
        return unknown("scheduler", "this system has no /proc")
    if kind == "cron":
        if names & set(CRONS):
            return fine("scheduler", "cron is running.")
        return wrong(
            "scheduler", "The jobs are for cron, but cron is not running.", "systemctl enable --now cron (or crond)"
        )
    if Path("/run/systemd/system").is_dir():
        return fine("scheduler", "systemd is running.")
    return wrong("scheduler", "The jobs are timers, but systemd is not running.", "Use scannerdb_schedule_kind=cron.")


def process_names() -> set[str] | None:
    """The short names of all processes, those in containers aside; None where there is no /proc."""
    mine = _namespace(Path("/proc/self"))
    if mine is None:
        return None
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        if _namespace(folder) in (mine, ""):
            with contextlib.suppress(OSError):
                found.add((folder / "comm").read_text(encoding="utf-8", errors="replace").strip())
    return found


def _namespace(folder: Path) -> str | None:
    """The process's namespace of process numbers; '' where only root may know, None where it is gone."""
    try:
        return str((folder / "ns" / "pid").readlink())
    except PermissionError:
        return ""
    except OSError:
        return None


def holders(path: Path) -> set[int] | None:
    """The processes that have a file open; None where that cannot be told. Others' are seen by root only."""
    if not Path("/proc/self/fd").exists():
        return None
    try:
        wanted = path.stat()
    except OSError:
        return set()
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            facts = link.stat()
        except OSError:
            continue
        if (facts.st_dev, facts.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.add(int(re.split("/", str(link))[2]))
    return found - {os.getpid()}


def debris(backup_dir: str) -> Diagnosis:
    """Hidden folders that killed backups left."""
    why = hidden(backup_dir)
    if why:
        return unknown("unfinished backups", why)
    left = sorted(p.name for p in Path(backup_dir).glob(f".*{PARTIAL}")) if Path(backup_dir).is_dir() else []
    if left:
        text = f"{backup_dir} holds {', '.join(left[:3])}: a backup is at work, was killed, or failed its verification."
        return wrong(
            "unfinished backups", text, "If none is at work, the next backup removes it; playbooks/backup.yml."
        )
    return fine("unfinished backups", "There is none.")
