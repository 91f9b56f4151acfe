"""What earlier runs saw: one line of JSON a run in `<state_dir>/check_history.jsonl`, and what follows from them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileProblem
from ..files import append_line, ensure_folder, read_if_there, write_atomic
from ..jsontext import read_json
from ..runs import STAMP

NAME = "check_history.jsonl"
KEPT = 400  # runs; the file is cut when it has twice as many
WEEK = datetime.timedelta(days=7)


def read_history(state_dir: str, database: str) -> list[dict[str, Any]]:
    """The earlier runs on a database, the newest last. A line that is damaged is passed over."""
    lines = read_if_there(Path(state_dir, NAME)).splitlines() if state_dir else []
    runs = [run for run in map(_parsed, lines) if run and run.get("database") == database]
    return sorted(runs, key=lambda run: str(run["at"]))[-KEPT:]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        run = read_json(line)
        when(run)
        counts = run["summary"]
        sizes = [run["bytes"], *run["tables"].values(), *run["sequences"].values()]
        fits = all(isinstance(n, int) for n in [*sizes, *(counts[s] for s in ("critical", "warning", "info"))])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return run if fits else None


def add_to_history(state_dir: str, run: Mapping[str, Any]) -> None:
    """Add a run; the file never grows beyond a bound."""
    path = ensure_folder(Path(state_dir)) / NAME
    append_line(path, json.dumps(run, sort_keys=True))
    lines = read_if_there(path).splitlines()
    if len(lines) > 2 * KEPT:
        write_atomic(path, "\n".join(lines[-KEPT:]) + "\n")


def remember(state_dir: str, run: Mapping[str, Any]) -> str:
    """Add a run where there is a state folder; a history that cannot be written is a sentence, no failure."""
    if not state_dir:
        return ""
    try:
        add_to_history(state_dir, run)
    except FileProblem as error:
        return str(error)
    return ""


def when(run: Mapping[str, Any]) -> datetime.datetime:
    """A run's time."""
    return datetime.datetime.strptime(run["at"], STAMP).replace(tzinfo=datetime.timezone.utc)


def pace(past: Sequence[Mapping[str, Any]], sequence: str, now: datetime.datetime, last: int) -> float | None:
    """How many values a day a sequence hands out, since the oldest run of the last week that is an hour old. Pure."""
    start = _start(past, now)
    if start is None or sequence not in start["sequences"]:
        return None
    days = (now - when(start)).total_seconds() / 86400
    used = last - start["sequences"][sequence]
    return float(used / days) if used > 0 else None


def growth(past: Sequence[Mapping[str, Any]], now: datetime.datetime, size: int) -> dict[str, Any] | None:
    """Bytes and percent since then. Pure."""
    start = _start(past, now)
    if start is None or not start["bytes"]:
        return None
    more = size - start["bytes"]
    return {"bytes": more, "percent": round(100 * more / start["bytes"], 1), "since": start["at"]}


def _start(past: Sequence[Mapping[str, Any]], now: datetime.datetime) -> Mapping[str, Any] | None:
    hour = datetime.timedelta(hours=1)
    usable = [run for run in past if hour <= now - when(run)]
    recent = [run for run in usable if now - when(run) <= WEEK]
    return recent[0] if recent else usable[-1] if usable else None
