"""Writers and readers beside a job, in a process of their own (`bench.load_process`), and what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.figure import Beside
from bench.lab import ROOT, Lab

UPDATE_ENDPOINT = "UPDATE endpoints SET inactive_reason = %(text)s WHERE id = %(id)s"
INSERT_RESULT = "INSERT INTO benchmark_results (endpoint_id) VALUES (%(id)s)"
READ_SERVER = "SELECT ip, port, scan_date FROM servers WHERE id = %(id)s"
READ_MODELS = "SELECT name, size_mb FROM models WHERE endpoint_id = %(id)s"


@dataclass
class Seen:
    """What the clients saw; filled when the block has ended. `by` holds, for "writers" and "readers", the figures."""

    by: dict[str, dict[str, Any]] = field(default_factory=dict)

    def worst(self, who: str = "writers") -> float:
        """The worst latency in ms."""
        return float(self.by[who]["worst_ms"])


def beside(lab: Lab, name: str, work: Callable[[], object], write: str = UPDATE_ENDPOINT) -> Seen:
    """What a writer and a reader see while `work` runs on a database."""
    with load(lab, name, [write], [READ_SERVER]) as seen:
        work()
    return seen


def worst_lines(job: str, seen: Mapping[str, Sequence[Seen]]) -> Iterator[Beside]:
    """The clients' lines in their table, beside which job and by whom: of each kind the run with the worst latency."""
    for by, runs in seen.items():
        for who in runs[0].by:
            yield Beside(job, by, who, **max(runs, key=lambda one: one.worst(who)).by[who])


@contextmanager
def load(
    lab: Lab,
    name: str,
    writes: Sequence[str] = (UPDATE_ENDPOINT,),
    reads: Sequence[str] = (),
    settle_s: float = 0.3,
) -> Iterator[Seen]:
    """One client for each of the statements during the block, each with a pause of 1 ms between two requests.

    A client whose connection is lost connects again and counts an error for each failed request. The block begins
    `settle_s` seconds after all clients are connected.
    """
    seen = Seen()
    words = {key: str(value) for key, value in lab.server.connect_args(name).items()}
    task = {"connect": words, "writers": list(writes), "readers": list(reads), "settle_s": settle_s}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load_process"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("The clients could not connect to the database.")
        try:
            yield seen
        finally:
            process.stdin.close()
            seen.by.update(json.loads(process.stdout.readline()))
