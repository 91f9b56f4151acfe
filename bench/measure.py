"""Ways to measure: seconds, turn by turn."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ran:
    """What a program took, in seconds, and what it said."""

    seconds: float
    output: str


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(repetitions: int, ways: Mapping[str, Callable[[], Value]]) -> dict[str, list[Value]]:
    """Run all ways in each repetition, beginning with another one each time; the values by way, in order.

    What the machine does meanwhile, and what one leaves in the caches, so meets all of them.
    """
    names = list(ways)
    seen: dict[str, list[Value]] = {name: [] for name in names}
    for turn in range(repetitions):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seen[name].append(ways[name]())
    return seen


def measured(command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run a program to its end. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, cwd=cwd)
        process.wait()
        seconds = time.perf_counter() - started
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}: {output[-2000:]}")
    return Ran(seconds, output)


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what steers PostgreSQL's tools and Ansible elsewhere."""
    foreign = ("PG", "DB_", "POSTGRES_", "ANSIBLE_", "SCANNERDB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "LC_ALL": "C.UTF-8", **more}
