"""Copies of sets on another machine, through rclone: uploaded, read back, and let go by a policy of their own.

The manifest goes last, so a copy that was cut short is no set. Beside what is unfinished lies a marker
(`.<name>.copying`); without a manifest only what has one is removed, since such a folder may be somebody else's. rclone
keeps its credentials in its own configuration or environment; nothing secret is ever among its arguments.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import BackupInvalid, InvalidInput, ScannerDbError, ToolFailed, ToolMissing
from ..files import ensure_free
from ..process import Finished, run_tool, tool_error
from ..runs import utc_now
from .catalogue import BackupSet
from .checksums import check_files
from .manifest import MANIFEST, VERIFICATIONS, from_json
from .names import parse_set_name, parse_time
from .retention import KEEP, RetentionPolicy, plan_retention, removable
from .staging import in_use
from .verification_log import VerificationStatus

RCLONE = "rclone"
CHECKS = ("download", "hash")
MARKER = re.compile(r"^\.(?P<name>.+)\.copying$")
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
    policy: RetentionPolicy = field(default_factory=RetentionPolicy)
    nice: int = 0

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

    def marker(self, name: str) -> str:
        """The place of the marker beside a copy that is on its way there, or on its way out."""
        return self.at(f".{name}.copying")


@dataclass
class Copied:
    """What became of the copies: of the new set's, of those that earlier runs missed, and of old ones.

    `left_alone` are folders named like sets of which nothing shows that they are ours.
    """

    remote: str
    copied: bool = False
    removed: list[str] = field(default_factory=list)
    caught_up: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True)
class Unfinished:
    """Names without a manifest on the remote: `ours` have our marker, `others` are older bundles' or anybody's."""

    ours: Sequence[str]
    others: Sequence[str]


def ensure_rclone(offsite: Offsite) -> None:
    """Raise where copies are wanted and rclone is not there, before a backup is made for nothing."""
    if offsite.remote:
        _rclone(replace(offsite, nice=0), ["version"])  # or `nice` would be what is not missing


def _rclone(
    offsite: Offsite, words: Sequence[str], good: Sequence[int] = (0,), feed: Iterable[bytes] | None = None
) -> Finished:
    command = [RCLONE, *words]
    if offsite.config:
        command.append(f"--config={offsite.config}")
    if offsite.bandwidth:
        command.append(f"--bwlimit={offsite.bandwidth}")
    try:
        finished = run_tool(command, None, check=False, nice=offsite.nice, feed=feed)
    except ToolMissing as error:
        raise ToolMissing(f"{error.message}", "Install rclone, or empty scannerdb_backup_offsite_remote.") from None
    if finished.returncode not in good:
        raise tool_error(RCLONE, finished)
    return finished


def copy_set(offsite: Offsite, item: BackupSet) -> None:
    """Copy a set and prove the copy; raises one of our errors where that fails."""
    place = offsite.at(item.name)
    _mark(offsite, item.name)
    apart = [f"--exclude=/{MANIFEST}", f"--exclude=/{VERIFICATIONS}"]
    _rclone(offsite, ["copy", "--checksum", *apart, str(item.path), place])
    _check(offsite, item.path, place, apart)
    if (item.path / VERIFICATIONS).exists():
        _rclone(offsite, ["copyto", str(item.path / VERIFICATIONS), f"{place}/{VERIFICATIONS}"])
    _rclone(offsite, ["copyto", str(item.path / MANIFEST), f"{place}/{MANIFEST}"])
    text = _rclone(offsite, ["cat", f"{place}/{MANIFEST}"]).stdout
    if hashlib.sha256(text.encode("utf-8")).hexdigest() != item.manifest_sha256:
        raise ToolFailed(f"The copy of {item.name} on {offsite.remote} has another manifest.")
    with contextlib.suppress(ToolFailed):  # beside a whole copy it means nothing
        _unmark(offsite, item.name)


def _mark(offsite: Offsite, name: str) -> None:
    said = f"scannerdb: {name} is being copied or removed; what has no manifest.json there is not a whole copy.\n"
    _rclone(offsite, ["rcat", offsite.marker(name)], feed=[said.encode("utf-8")])


def _unmark(offsite: Offsite, name: str) -> None:
    _rclone(offsite, ["deletefile", offsite.marker(name)], good=(0, *NOT_FOUND))


def _check(offsite: Offsite, path: Path, place: str, apart: Sequence[str]) -> None:
    words = ["check", "--one-way", *apart, str(path), place]
    if offsite.check == "hash":
        told = _rclone(offsite, words).stderr
        if "could not be checked" not in told:
            return
    _rclone(offsite, [*words, "--download"])


def remote_sets(offsite: Offsite, database: str) -> tuple[list[BackupSet], Unfinished]:
    """The copies of a database's sets on the remote, and what is named like one and has no manifest."""
    told = _rclone(offsite, ["lsf", offsite.at("")], good=(0, *NOT_FOUND)).stdout.splitlines()
    marked = [match["name"] for match in map(MARKER.match, told) if match and _is_of(match["name"], database)]
    folders = [line[:-1] for line in told if line.endswith("/") and _is_of(line[:-1], database)]
    sets, bare = [], []
    for name in folders:
        found = _rclone(offsite, ["cat", offsite.at(name, MANIFEST)], good=(0, *NOT_FOUND))
        if found.returncode or not found.stdout:  # on object storage, what is not there may be empty
            bare.append(name)
            continue
        item = _loaded(name, found.stdout, database)
        if item:
            sets.append(item)
    # A marker may be all that is there yet, or all that is left.
    ours = [name for name in marked if name in bare or name not in folders]
    return sets, Unfinished(ours, [name for name in bare if name not in marked])


def _is_of(name: str, database: str) -> bool:
    parsed = parse_set_name(name)
    return parsed is not None and parsed[0] == database


def _loaded(name: str, text: str, database: str) -> BackupSet | None:
    """The copy behind a manifest's text; None where it is not ours to touch."""
    try:
        manifest = from_json(text, name)
        parse_time(manifest.created)
    except (BackupInvalid, ValueError):
        return None
    if manifest.name != name or manifest.database.name != database:
        return None
    return BackupSet(
        Path(name), manifest, hashlib.sha256(text.encode("utf-8")).hexdigest(), VerificationStatus("checksum")
    )


def fetch_set(offsite: Offsite, item: BackupSet, folder: Path) -> Path:
    """Bring a copy back into a folder, and return where it lies there. What it is worth is for the caller to verify."""
    ensure_free(folder, item.manifest.size_bytes, f"the copy of {item.name}")
    _rclone(offsite, ["copy", offsite.at(item.name), str(folder / item.name)])
    return folder / item.name


def add_record(offsite: Offsite, path: Path) -> None:
    """Put what was found out about a copy that was brought to `path` beside the copy itself."""
    _rclone(offsite, ["copyto", str(path / VERIFICATIONS), offsite.at(path.name, VERIFICATIONS)])


def missed(
    here: Sequence[BackupSet], there: Sequence[BackupSet], policy: RetentionPolicy, now: datetime.datetime
) -> list[BackupSet]:
    """The sets here, newest first, that have no copy there though one would be kept. Pure."""
    copied = {copy.name for copy in there}
    sound = [s for s in here if s.purpose == "regular" and not s.damaged and s.name not in copied]
    plan = plan_retention([*there, *sound], policy, now)
    return [d.set for d in plan if d.action == KEEP and d.set.name not in copied]


def _catch_up(offsite: Offsite, items: Sequence[BackupSet], done: Copied, told: Callable[[str], object]) -> None:
    """Copy what earlier runs could not; what fails again is told, and left to the next run."""
    for item in items:
        try:
            with in_use(item.path):
                problems = check_files(item.path, item.manifest)
                if problems:
                    raise BackupInvalid(f"{item.name} is damaged: {problems[0]}")
                copy_set(offsite, item)
            done.caught_up.append(item.name)
            told(f"copied {item.name}, which an earlier run could not")
        except ScannerDbError as error:
            done.missing.append(item.name)
            told(f"warning: {item.name} has no copy: {error}")


def _let_go(offsite: Offsite, sets: Sequence[BackupSet], cut_short: Sequence[str], keep: str, done: Copied) -> None:
    """Remove copies that are too old, and what interrupted uploads and removals left."""
    gone = [d.set.name for d in removable(plan_retention(sets, offsite.policy, utc_now(), keep))]
    for name in gone:
        # Without its manifest it is no set any more, and by its marker it is ours, however far the removal comes.
        _mark(offsite, name)
        _rclone(offsite, ["deletefile", offsite.at(name, MANIFEST)])
    for name in [*gone, *cut_short]:
        _rclone(offsite, ["purge", offsite.at(name)], good=(0, *NOT_FOUND))
        _unmark(offsite, name)
        done.removed.append(name)


def replicate(
    offsite: Offsite, item: BackupSet, here: Sequence[BackupSet], told: Callable[[str], object] = lambda _: None
) -> Copied:
    """Copy a new set, then what earlier runs missed of the sets `here`, and let old copies go.

    What fails is told in `why`: the sets themselves are made and stay.
    """
    done = Copied(offsite.remote)
    try:
        copy_set(offsite, item)
        done.copied = True
        if item.purpose == "regular":
            there, unfinished = remote_sets(offsite, item.manifest.database.name)
            behind = missed(here, there, offsite.policy, utc_now())
            _catch_up(offsite, behind, done, told)
            copied = [s for s in behind if s.name in done.caught_up]
            # What is here may be on its way there by another run, and cannot go from here before it has arrived.
            debris, done.left_alone = (
                [name for name in names if not os.path.lexists(item.path.parent / name)]
                for names in (unfinished.ours, unfinished.others)
            )
            _let_go(offsite, [*there, *copied], debris, item.name, done)
    except ScannerDbError as error:
        done.why = str(error)
    return done


def as_json(done: Copied) -> str:
    """What became of the copies, as one line for the log."""
    return json.dumps(vars(done), sort_keys=True)
