"""What vacuum runs leave for the next ones and for the report, in `<state_dir>/vacuum.json`.

Three things: the bytes per row that each rebuild reached, so that an estimate that is wrong is not believed twice; how
fast VACUUM FULL copied, so that the length of its lock can be foretold; and what each run gave back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..files import ensure_folder, read_if_there, write_atomic
from ..jsontext import read_json
from .decide import density
from .measure import TableMeasure
from .plan import REWRITE_BYTES_PER_S, REWRITES
from .result import ActionResult

NAME = "vacuum.json"
RUNS_KEPT = 60
TELLING_S = 0.2  # a shorter copy says little about the speed of a long one
TOTALS = ("seconds", "bytes_before", "bytes_after", "max_lock_ms")


@dataclass(frozen=True)
class Memory:
    """`rebuilt`: bytes per row by qualified name. `rate`: bytes a second. `runs`: `report.run_entry`s, newest last."""

    rebuilt: Mapping[str, float] = field(default_factory=dict)
    rate: float = REWRITE_BYTES_PER_S
    runs: tuple[Mapping[str, Any], ...] = ()


def read_memory(state_dir: str) -> Memory:
    """What earlier runs left in the state folder; raises `FileProblem` where it cannot be read."""
    return parse(read_if_there(Path(state_dir, NAME)) if state_dir else "")


def remember(state_dir: str, learnt: Memory) -> None:
    """Keep it there, where there is a state folder; raises `FileProblem`."""
    if state_dir:
        write_atomic(ensure_folder(state_dir) / NAME, render(learnt))


def parse(text: str) -> Memory:
    """The memory out of its file; anything unreadable counts as nothing."""
    try:
        values = read_json(text)
        rebuilt = {str(name): float(size) for name, size in values["rebuilt"].items()}
        rate = float(values.get("rate") or REWRITE_BYTES_PER_S)
        runs = tuple(run for run in values.get("runs", ()) if _whole(run))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Memory()
    return Memory(rebuilt, max(rate, 1.0), runs)


def _whole(run: Any) -> bool:
    """True for a run's entry that can be shown."""
    return isinstance(run, dict) and isinstance(run.get("at"), str) and all(_number(run.get(key)) for key in TOTALS)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def render(memory: Memory) -> str:
    """The memory as the content of its file."""
    known = {"rebuilt": dict(sorted(memory.rebuilt.items())), "rate": round(memory.rate), "runs": list(memory.runs)}
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def learn(memory: Memory, outcomes: Sequence[ActionResult], after: Mapping[str, TableMeasure]) -> Memory:
    """What is known after a run: `after` has the measures by qualified name. Objects that are gone are forgotten."""
    learnt = dict(memory.rebuilt)
    for outcome in outcomes:
        table = after.get(outcome.decision.measure.qualified)
        rewritten = outcome.action.kind in REWRITES
        if not outcome.done or table is None or not (rewritten or outcome.action.kind == "reindex"):
            continue
        if rewritten:
            learnt[table.qualified] = density(table.heap_bytes, table.live)
        for index in table.indexes:
            if rewritten or index.name == outcome.action.index:
                learnt[index.qualified] = density(index.bytes, index.rows)
    known = set(after) | {index.qualified for table in after.values() for index in table.indexes}
    kept = {name: size for name, size in learnt.items() if name in known}
    return replace(memory, rebuilt=kept, rate=_rate(outcomes, after) or memory.rate)


def _rate(outcomes: Iterable[ActionResult], after: Mapping[str, TableMeasure]) -> float:
    """Bytes a second that this run's VACUUM FULLs wrote under their locks; 0 where none says enough."""
    size = seconds = 0.0
    for outcome in outcomes:
        table = after.get(outcome.decision.measure.qualified)
        locked = outcome.lock.max_lock_ms / 1000
        if outcome.done and table and outcome.action.kind == "full" and locked >= TELLING_S:
            size, seconds = size + table.bytes, seconds + locked
    return size / seconds if seconds else 0.0


def with_run(memory: Memory, run: Mapping[str, Any]) -> Memory:
    """The memory with one more run; the oldest are forgotten."""
    return replace(memory, runs=(*memory.runs, run)[-RUNS_KEPT:])
