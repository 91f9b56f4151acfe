"""What could not be tested on this machine: noted by every step of `make test`, told at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.system.needs import BY_NAME, required

NOTES = Path(os.environ.get("SCANNERDB_NOT_TESTED") or Path(__file__).resolve().parents[2] / ".not-tested.jsonl")
HEAD = ("not tested here", "why", "how to have it")


def forget() -> None:
    """Begin a new run."""
    NOTES.unlink(missing_ok=True)


def note(name: str, why: str, tests: int = 0) -> None:
    """Write down that something is absent, and how many tests were left out for it."""
    with NOTES.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "why": why, "tests": tests}) + "\n")


def noted() -> dict[str, tuple[str, int]]:
    """Why each absent thing is absent, and how many tests were left out for it, over all steps."""
    found: dict[str, tuple[str, int]] = {}
    lines = NOTES.read_text(encoding="utf-8").splitlines() if NOTES.exists() else []
    for line in map(json.loads, lines):
        why, count = found.get(line["name"], (line["why"], 0))
        found[line["name"]] = (why, count + line["tests"])
    return found


def report(release: str) -> int:
    """Print what was not tested; the exit code is 1 where that is a failure."""
    rows, unlawful = [], []
    for name, (why, count) in sorted(noted().items()):
        need = BY_NAME[name]
        if not need.lawful(release):
            unlawful.append(name)
        rows.append((f"{need.tests} ({count} tests)" if count else need.tests, why, need.remedy(release)))
    if not rows:
        print("Everything was tested.")
        return 0
    widths = [max(len(row[n]) for row in [HEAD, *rows]) for n in range(len(HEAD))]
    for row in [HEAD, tuple("-" * width for width in widths), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if required() and unlawful:
        print(f"Required here, and absent: {', '.join(unlawful)}.")
        return 1
    return 0
