"""Copies of sets on another machine, through rclone: uploaded, read back, and let go by a policy of their own.

The manifest goes last, so a copy that was cut short is no set. rclone keeps its credentials in its own configuration or
environment; nothing secret is ever among its arguments.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..connection import Options
from ..errors import BackupInvalid, InvalidInput, ScannerDbError, ToolFailed, ToolMissing
from ..files import ensure_free
from ..process import Finished, run_tool, tool_error
from .manifest import MANIFEST, VERIFICATIONS, from_json
from .names import parse_set_name, parse_time
from .record import Standing
from .retention import Policy, plan_retention, removable
from .sets import BackupSet

RCLONE = "rclone"
CHECKS = ("download", "hash")
NOT_FOUND = (3, 4)  # rclone's exit codes for a folder and a file that are not there


@dataclass(frozen=True)
class Offsite:
    """Where copies go. `remote` is rclone's, such as `s3:bucket/scanner` or a folder; empty: there are none.

    `check` is `download` (every byte is read back) or `hash` (the storage's own checksums; what has none is read back).
    """

    remote: str = ""
    config: str = ""
    check: str = "download"
    bandwidth: str = ""
    policy: Policy = field(default_factory=Policy)

    def checked(self) -> Offsite:
        """Itself, unless it makes no sense."""
        if self.check not in CHECKS:
            raise InvalidInput(f"offsite_check is {self.check!r}.", f"Choose one of {', '.join(CHECKS)}.")
        if self.remote.startswith("-"):
            raise InvalidInput(f"offsite_remote is {self.remote!r}.", "Name a remote of rclone, or a folder.")
        return self

    def at(self, *parts: str) -> str:
        """A place on the remote."""
        return "/".join([self.remote.rstrip("/"), *parts])


@dataclass
class Copied:
    """What became of the copies."""

    remote: str
    copied: bool = False
    removed: list[str] = field(default_factory=list)
    why: str = ""


def ensure_rclone(offsite: Offsite) -> None:
    """Raise where copies are wanted and rclone is not there, before a backup is made for nothing."""
    if offsite.remote:
        _rclone(offsite, ["version"])


def _rclone(offsite: Offsite, words: Sequence[str], good: Sequence[int] = (0,)) -> Finished:
    command = [RCLONE, *words]
    if offsite.config:
        command.append(f"--config={offsite.config}")
    if offsite.bandwidth:
        command.append(f"--bwlimit={offsite.bandwidth}")
    try:
        finished = run_tool(command, Options(), check=False)
    except ToolMissing as error:
        raise ToolMissing(f"{error.message}", "Install rclone, or empty scannerdb_backup_offsite_remote.") from None
    if finished.returncode not in good:
        raise tool_error(RCLONE, finished)
    return finished


def copy_set(offsite: Offsite, item: BackupSet) -> None:
    """Copy a set and prove the copy; raises one of our errors where that fails."""
    place = offsite.at(item.name)
    apart = [f"--exclude=/{MANIFEST}", f"--exclude=/{VERIFICATIONS}"]
    _rclone(offsite, ["copy", "--checksum", *apart, str(item.path), place])
    _check(offsite, item.path, place, apart)
    if (item.path / VERIFICATIONS).exists():
        _rclone(offsite, ["copyto", str(item.path / VERIFICATIONS), f"{place}/{VERIFICATIONS}"])
    _rclone(offsite, ["copyto", str(item.path / MANIFEST), f"{place}/{MANIFEST}"])
    text = _rclone(offsite, ["cat", f"{place}/{MANIFEST}"]).stdout
    if hashlib.sha256(text.encode("utf-8")).hexdigest() != item.manifest_sha256:
        raise ToolFailed(f"The copy of {item.name} on {offsite.remote} has another manifest.")


def _check(offsite: Offsite, path: Path, place: str, apart: Sequence[str]) -> None:
    words = ["check", "--one-way", *apart, str(path), place]
    if offsite.check == "hash":
        told = _rclone(offsite, words).stderr
        if "could not be checked" not in told:
            return
    _rclone(offsite, [*words, "--download"])


def remote_sets(offsite: Offsite, database: str) -> tuple[list[BackupSet], list[str]]:
    """The copies of a database's sets on the remote, and the names of those that were cut short."""
    told = _rclone(offsite, ["lsf", "--dirs-only", offsite.at("")], good=(0, *NOT_FOUND))
    sets, cut_short = [], []
    for line in told.stdout.splitlines():
        name = line.rstrip("/")
        parsed = parse_set_name(name)
        if not parsed or parsed[0] != database:
            continue
        found = _rclone(offsite, ["cat", offsite.at(name, MANIFEST)], good=(0, *NOT_FOUND))
        if found.returncode or not found.stdout:  # on object storage, what is not there may be empty
            cut_short.append(name)
            continue
        item = _loaded(name, found.stdout, database)
        if item:
            sets.append(item)
    return sets, cut_short


def _loaded(name: str, text: str, database: str) -> BackupSet | None:
    """The copy behind a manifest's text; None where it is not ours to touch."""
    try:
        manifest = from_json(text, name)
        parse_time(manifest.created)
    except (BackupInvalid, ValueError):
        return None
    if manifest.name != name or manifest.database.name != database:
        return None
    return BackupSet(Path(name), manifest, hashlib.sha256(text.encode("utf-8")).hexdigest(), Standing("checksum"))


def fetch_set(offsite: Offsite, item: BackupSet, folder: Path) -> Path:
    """Bring a copy back into a folder, and return where it lies there. What it is worth is for the caller to verify."""
    ensure_free(folder, item.manifest.size_bytes, f"the copy of {item.name}")
    _rclone(offsite, ["copy", offsite.at(item.name), str(folder / item.name)])
    return folder / item.name


def add_record(offsite: Offsite, path: Path) -> None:
    """Put what was found out about a copy that was brought to `path` beside the copy itself."""
    _rclone(offsite, ["copyto", str(path / VERIFICATIONS), offsite.at(path.name, VERIFICATIONS)])


def let_go(offsite: Offsite, database: str, now: datetime.datetime, keep: str, removed: list[str]) -> None:
    """Remove old copies, and what interrupted uploads left; adds what went to `removed`. `keep` is never touched."""
    sets, cut_short = remote_sets(offsite, database)
    gone = [d.set.name for d in removable(plan_retention(sets, offsite.policy, now, keep))]
    for name in gone:
        # Without its manifest it is no set any more, however far the removal comes.
        _rclone(offsite, ["deletefile", offsite.at(name, MANIFEST)])
    for name in [*gone, *(name for name in cut_short if name != keep)]:
        _rclone(offsite, ["purge", offsite.at(name)], good=(0, *NOT_FOUND))
        removed.append(name)


def replicate(offsite: Offsite, item: BackupSet, now: datetime.datetime) -> Copied:
    """Copy a set and let old copies go. What fails is told in `why`: the set itself is made and stays."""
    done = Copied(offsite.remote)
    try:
        copy_set(offsite, item)
        done.copied = True
        if item.manifest.purpose == "regular":
            let_go(offsite, item.manifest.database.name, now, item.name, done.removed)
    except ScannerDbError as error:
        done.why = str(error)
    return done


def as_json(done: Copied) -> str:
    """What became of the copies, as one line for the log."""
    return json.dumps(vars(done), sort_keys=True)
