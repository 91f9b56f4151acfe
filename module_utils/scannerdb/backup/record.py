"""What verifications have shown about a set: one JSON line each, in `verification.jsonl` beside the manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import append_line, ensure_folder, file_errors
from .manifest import VERIFICATIONS

LEVELS = ("none", "checksum", "read", "restore")
PLACES = ("server", "cluster")  # where a drill restores to
CLUSTER_DIR = "/var/tmp"  # noqa: S108 - the folder made in it is private, and its name cannot be guessed


def rank(level: str) -> int:
    """How much a level proves; unknown ones prove nothing. Pure."""
    return LEVELS.index(level) if level in LEVELS else 0


@dataclass(frozen=True)
class Verification:
    """The outcome of one verification. `manifest_sha256` ties it to the manifest that was looked at.

    `restore_s` and `place` belong to a drill: the seconds that bringing the database back took, and where it was done.
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


@dataclass(frozen=True)
class Standing:
    """What is known of a set now: the highest level it passed, when, and what the last failure said.

    `restore_s` is how long the restore took that proved it; 0 where none did.
    """

    level: str = "none"
    at: str = ""
    problems: tuple[str, ...] = ()
    restore_s: float = 0.0


def standing(records: Iterable[Verification], manifest_sha256: str) -> Standing:
    """Sum up a set's verifications, oldest first.

    A failure cancels all that was proven before it; only a pass at the failed level or a higher one lifts it. Records
    of another manifest do not count. Pure.
    """
    now = Standing()
    failed = 0
    for record in records:
        if record.manifest_sha256 != manifest_sha256:
            continue
        if not record.ok:
            failed = max(failed, rank(record.level))
            now = Standing("none", "", record.problems or ("it failed without a reason",))
        elif rank(record.level) >= failed:
            failed = 0
            if now.problems or rank(record.level) >= rank(now.level):
                now = Standing(record.level, record.at, (), record.restore_s)
    return now


def append_record(folder: Path, record: Verification) -> None:
    """Add a verification to a set's record."""
    append_line(folder / VERIFICATIONS, json.dumps(dataclasses.asdict(record), sort_keys=True, ensure_ascii=False))


def append_history(state_dir: str, set_name: str, record: Verification) -> None:
    """Add a verification to the state's own history, which outlives the set; nothing happens without a state folder."""
    if state_dir:
        values = {"set": set_name, **dataclasses.asdict(record)}
        ensure_folder(state_dir)
        append_line(Path(state_dir, VERIFICATIONS), json.dumps(values, sort_keys=True, ensure_ascii=False))


def read_records(folder: Path) -> list[Verification]:
    """A set's verifications, oldest first; a line that cannot be read (a run was killed in it) is passed over."""
    path = folder / VERIFICATIONS
    if not path.exists():
        return []
    with file_errors("Reading", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    return [record for record in map(_record, text.splitlines()) if record]


def _record(line: str) -> Verification | None:
    try:
        values: dict[str, Any] = json.loads(line)
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
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
