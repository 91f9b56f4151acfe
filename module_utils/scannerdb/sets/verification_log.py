"""What verifications have shown about a set: one JSON line each, in `verification.jsonl` beside the manifest.

Whoever can write to the backup folder can write such lines. Which of them count is for `proofs.py` to say; the same
lines stand in the state folder, the host's own history.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disposable import HOMES
from ..errors import BackupInvalid, FileProblem
from ..files import append_line, ensure_folder, file_errors, read_if_there
from ..jsontext import read_json
from .manifest import VERIFICATIONS
from .names import parse_set_name

LEVELS = ("none", "checksum", "read", "restore")
PROOFS = LEVELS[1:]  # what can be asked for
PLACES = ("server", "cluster")  # where a drill restores to
LONGEST = 1 << 20  # bytes of a set's record that are read: some two thousand verifications
PROVEN, REFUTED, NOT_TRIED = "proven", "refuted", "not_tried"
CLUSTER_DIR = HOMES


def rank(level: str) -> int:
    """How much a level proves; unknown ones prove nothing. Pure."""
    return LEVELS.index(level) if level in LEVELS else 0


@dataclass(frozen=True)
class Verification:
    """The outcome of one verification. `manifest_sha256` ties it to the manifest that was looked at.

    `restore_s` and `place` belong to a drill: the seconds that bringing the database back took, and where it was done.
    `rows_whole` belongs to a failed one: all rows came back, though not all objects. `outcome` says which of three
    answers it is; one that could not be tried, with the reason in `problems`, proves nothing either way.
    """

    level: str
    ok: bool
    at: str
    manifest_sha256: str
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    tools: str = ""
    restore_s: float = 0.0
    place: str = ""
    rows_whole: bool = False
    outcome: str = ""

    def __post_init__(self) -> None:
        if not self.outcome:  # as in the records of older versions
            object.__setattr__(self, "outcome", PROVEN if self.ok else REFUTED)


@dataclass(frozen=True)
class Entry:
    """A line as it was read: the record, and what a signature in it would be of."""

    record: Verification
    signature: bytes = b""
    signed: bytes = b""


@dataclass(frozen=True)
class VerificationStatus:
    """What is known of a set now: the highest level it passed, when, and what the last failure said.

    `restore_s` is how long the restore took that proved it; 0 where none did.
    """

    level: str = "none"
    at: str = ""
    problems: tuple[str, ...] = ()
    restore_s: float = 0.0


# It may have been a failure.
UNREADABLE = Verification("none", False, "", "", problems=("a record of an earlier verification cannot be read",))


def standing(records: Iterable[Verification], manifest_sha256: str) -> VerificationStatus:
    """Sum up a set's verifications, oldest first.

    A failure cancels all that was proven before it; only a pass at the failed level or a higher one lifts it. A record
    that cannot be read cancels it as well, and any pass lifts that. Records of another manifest do not count. Pure.
    """
    now = VerificationStatus()
    failed = 0
    for record in records:
        if record is not UNREADABLE and record.manifest_sha256 != manifest_sha256:
            continue
        if record.outcome == NOT_TRIED:
            continue
        if not record.ok:
            failed = max(failed, rank(record.level))
            now = VerificationStatus("none", "", record.problems or ("it failed without a reason",))
        elif rank(record.level) >= failed:
            failed = 0
            if now.problems or rank(record.level) >= rank(now.level):
                now = VerificationStatus(record.level, record.at, (), record.restore_s)
    return now


def append_record(folder: Path, record: Verification, signature: str = "") -> None:
    """Add a verification to a set's record, with the signature of this host where there is one.

    Raises `FileProblem` where it cannot be written, or `BackupInvalid` where it is a failure: that must not be lost.
    """
    path = folder / VERIFICATIONS
    try:
        append_line(path, _line(record, signature), flush=True)
    except FileProblem as error:
        if record.ok:
            with contextlib.suppress(OSError):  # an empty one would tell of a failure
                if path.stat().st_size == 0:
                    path.unlink()
            raise
        with contextlib.suppress(OSError):  # what was proven before must not outlive a failure; this needs no room
            os.truncate(path, 0)
        raise BackupInvalid(
            f"Backup {folder.name} failed its verification ({record.level}): {' '.join(record.problems[:3])} "
            f"This could not be recorded either: {error.message}",
            error.hint,
        ) from error


def append_history(state_dir: str, set_name: str, record: Verification) -> None:
    """Add a verification to the state's own history, which outlives the set; nothing happens without a state folder."""
    if state_dir:
        ensure_folder(state_dir)
        append_line(Path(state_dir, VERIFICATIONS), _line(record, set_name=set_name), flush=True)


def last_drill(state_dir: str, database: str) -> dict[str, str]:
    """The last drill of a set of that database, by the state's history: its outcome, set, time and why; or nothing."""
    path = Path(state_dir, VERIFICATIONS)
    if not state_dir or not path.exists():
        return {}
    for line in reversed(read_if_there(path).split("\n")):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            name = str(read_json(line)["set"])
            record, parsed = _entry(line).record, parse_set_name(name)
            if record.level == "restore" and parsed and parsed[0] == database:
                why = " ".join(record.problems[:3])
                return {"outcome": record.outcome, "set": name, "at": record.at, "why": why}
    return {}


def read_records(folder: Path) -> list[Verification]:
    """A set's verifications, oldest first; `UNREADABLE` for a line that was changed, or that a full disk cut off."""
    return [entry.record for entry in read_entries(folder)]


def read_entries(folder: Path, longest: int = LONGEST) -> list[Entry]:
    """The lines of a record, oldest first. Of a file that is longer than `longest` bytes only the newest are read."""
    path = folder / VERIFICATIONS
    with file_errors("Reading", path):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:  # somebody's link: what it leads to is no record
                return [Entry(UNREADABLE)]
            raise
        with os.fdopen(handle, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - longest))
            text = stream.read(longest).decode("utf-8", errors="replace")
    cut_off = [Entry(UNREADABLE)] if size == 0 or size > longest else []
    lines = text.split("\n")[1 if size > longest else 0 :]
    return [*cut_off, *(_entry(line) for line in lines if line.strip())]


def signed_text(record: Verification) -> bytes:
    """What a signature of a record is of. Pure."""
    return _canonical(dataclasses.asdict(record))


def _line(record: Verification, signature: str = "", set_name: str = "") -> str:
    values = {**dataclasses.asdict(record), **({"signature": signature} if signature else {})}
    more = {"set": set_name} if set_name else {}
    return json.dumps({**more, **values, "crc32": _crc32(values)}, sort_keys=True, ensure_ascii=False)


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True).encode("ascii")


def _crc32(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_canonical(values)):08x}"


def _entry(line: str) -> Entry:
    try:
        values: dict[str, Any] = read_json(line)
        values.pop("set", "")  # of the state's history
        if values.pop("crc32", "") not in ("", _crc32(values)):  # older versions wrote none
            return Entry(UNREADABLE)
        signature = str(values.pop("signature", "")).encode("ascii")
        return Entry(_record(values), signature, _canonical(values))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Entry(UNREADABLE)


def _record(values: Mapping[str, Any]) -> Verification:
    return Verification(
        level=str(values["level"]),
        ok=values["ok"] is True,
        at=str(values["at"]),
        manifest_sha256=str(values["manifest_sha256"]),
        seconds=float(values.get("seconds", 0)),
        problems=tuple(str(problem) for problem in values.get("problems", [])),
        tools=str(values.get("tools", "")),
        restore_s=float(values.get("restore_s", 0)),
        place=str(values.get("place", "")),
        rows_whole=values.get("rows_whole") is True,
        outcome=str(values.get("outcome", "")),
    )
