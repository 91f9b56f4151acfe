"""Fixes beside the old script's SQL: what a writer waits, and how long the whole takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, Working, fix

from bench.figure import Beside, Figure, Goal
from bench.lab import Lab
from bench.load import INSERT_RESULT, UPDATE_ENDPOINT, Seen, beside, worst_lines
from bench.measure import interleave, timed

Ways = Mapping[str, Callable[[str], float]]
OLD = "the old script's SQL"
OLD_DATES = (
    "UPDATE endpoints SET verification_date = CURRENT_TIMESTAMP WHERE verification_date IS NULL AND verified = 1",
    "UPDATE endpoints SET last_check_date = CURRENT_TIMESTAMP WHERE last_check_date IS NULL",
)
OLD_KEY = (
    "ALTER TABLE benchmark_results DROP CONSTRAINT IF EXISTS benchmark_results_model_id_fkey",
    "ALTER TABLE benchmark_results ADD CONSTRAINT benchmark_results_model_id_fkey"
    " FOREIGN KEY (model_id) REFERENCES models(id) ON DELETE CASCADE",
)
DATES = ("data.endpoints.*",)
DATA = ("data.*",)
KEY = ("schema.foreign_key.on_delete",)
ALONE_S = 10.0


def _ours(lab: Lab, name: str, only: tuple[str, ...], journal: bool = True) -> float:
    """Seconds of the fixes themselves: the plan, which looks at everything, is the check's figure."""
    started = time.perf_counter()
    result = fix(
        lab.options(name),
        policy=FixPolicy(only=only),
        safety=Safety(require_backup=False),
        working=Working(journal=journal),
    )
    if not result["changed"] or result["failures"]:
        raise RuntimeError(f"The fix did not do its work: {result['msg']}")
    return sum(item["duration_s"] for item in result["fixed"]) or time.perf_counter() - started


def _old(lab: Lab, name: str, statements: tuple[str, ...]) -> float:
    def run() -> None:
        with lab.session(name) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    return timed(run)


def _on_copy(lab: Lab, work: Callable[[str], float]) -> float:
    with lab.copy() as name:
        return work(name)


def _beside(lab: Lab, write: str, work: Callable[[str], float]) -> Seen:
    """What clients see while `work` runs on a fresh copy."""
    with lab.copy() as name:
        return beside(lab, name, lambda: work(name), write)


def dates(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """The date fixes without and with the journal."""
    seen = interleave(
        repetitions,
        {
            "old": lambda: _on_copy(lab, lambda n: _old(lab, n, OLD_DATES)),
            "plain": lambda: _on_copy(lab, lambda n: _ours(lab, n, DATES, journal=False)),
            "journal": lambda: _on_copy(lab, lambda n: _ours(lab, n, DATES)),
        },
    )
    yield Figure("date fixes without the journal", "s", seen["plain"], seen["old"], OLD, Goal(times=1.2))
    yield Figure("date fixes with the journal", "s", seen["journal"], seen["old"], OLD, Goal(times=2))


def _compare(lab: Lab, repetitions: int, job: str, write: str, ways: Ways, goal: Goal) -> Iterator[Figure | Beside]:
    """A job beside clients, ours and the old script's; the worst writer decides."""
    seen = interleave(repetitions, {by: partial(_beside, lab, write, work) for by, work in ways.items()})
    worst = [[one.worst() for one in seen[by]] for by in ways]
    yield Figure(f"a writer's worst latency during {job}", "ms", worst[0], worst[1], OLD, goal)
    yield from worst_lines(job, seen)


def data_fixes(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """All data fixes beside clients."""
    ways: Ways = {"ours": lambda n: _ours(lab, n, DATA), OLD: lambda n: _old(lab, n, OLD_DATES)}
    yield from _compare(lab, repetitions, "all data fixes", UPDATE_ENDPOINT, ways, Goal(most=100, times=1 / 50))


def key_swap(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """The foreign key's rule changed beside clients."""
    ways: Ways = {"ours": lambda n: _ours(lab, n, KEY), OLD: lambda n: _old(lab, n, OLD_KEY)}
    yield from _compare(lab, repetitions, "the foreign key swap", INSERT_RESULT, ways, Goal(most=50))


def alone(lab: Lab, repetitions: int) -> Iterator[Beside]:
    """The same clients with nothing beside them: what the machine itself makes them wait."""
    with lab.copy() as name:
        seen = [beside(lab, name, lambda: time.sleep(ALONE_S)) for _ in range(repetitions)]
    yield from worst_lines("nothing", {"nobody": seen})


MEASUREMENTS = (dates, data_fixes, key_swap, alone)
