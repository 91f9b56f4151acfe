"""Fixes beside the old script's SQL: what a writer waits, and how long the whole takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from scannerdb.fixes.policy import Policy
from scannerdb.jobs.fix import Safety, Working, fix

from bench.common import INSERT_RESULT, UPDATE_ENDPOINT, Figure, Lab, writer

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
KEY = ("schema.foreign_key.on_delete",)


def _ours(lab: Lab, name: str, only: tuple[str, ...], journal: bool = True) -> float:
    started = time.perf_counter()
    result = fix(
        lab.options(name),
        policy=Policy(only=only),
        safety=Safety(require_backup=False),
        working=Working(journal=journal),
    )
    assert result["changed"] and not result["failures"], result["msg"]
    return sum(item["duration_s"] for item in result["fixed"]) or time.perf_counter() - started


def _old(lab: Lab, name: str, statements: tuple[str, ...]) -> float:
    started = time.perf_counter()
    with lab.session(name) as conn:
        for statement in statements:
            conn.execute(statement.encode())
    return time.perf_counter() - started


def _beside(lab: Lab, statement: str, work: Callable[[str], float]) -> tuple[float, float]:
    """Run `work` on a fresh copy beside a writer; returns (seconds, the writer's worst latency in ms)."""
    with lab.copy() as name, writer(lab, name, statement) as seen:
        time.sleep(0.3)
        seconds = work(name)
    return seconds, seen["worst"]


def figures(lab: Lab, repetitions: int) -> list[Figure]:
    """Interleaved repetitions of ours and the old script's."""
    quiet: dict[str, list[float]] = {"old": [], "plain": [], "journal": []}
    busy: dict[str, list[float]] = {"old": [], "ours": [], "old_key": [], "our_key": []}
    for _ in range(repetitions):
        with lab.copy() as name:
            quiet["old"].append(_old(lab, name, OLD_DATES))
        with lab.copy() as name:
            quiet["plain"].append(_ours(lab, name, DATES, journal=False))
        with lab.copy() as name:
            quiet["journal"].append(_ours(lab, name, DATES))
        busy["old"].append(_beside(lab, UPDATE_ENDPOINT, lambda n: _old(lab, n, OLD_DATES))[1])
        busy["ours"].append(_beside(lab, UPDATE_ENDPOINT, lambda n: _ours(lab, n, ("data.*",)))[1])
        busy["old_key"].append(_beside(lab, INSERT_RESULT, lambda n: _old(lab, n, OLD_KEY))[1])
        busy["our_key"].append(_beside(lab, INSERT_RESULT, lambda n: _ours(lab, n, KEY))[1])
    old = "the old script's SQL"
    return [
        Figure(
            "date fixes without the journal",
            "s",
            quiet["plain"],
            quiet["old"],
            old,
            "ratio at most 1.2",
            lambda ours, peer: ours <= 1.2 * peer,
        ),
        Figure(
            "date fixes with the journal",
            "s",
            quiet["journal"],
            quiet["old"],
            old,
            "ratio at most 2",
            lambda ours, peer: ours <= 2 * peer,
        ),
        Figure(
            "a writer's worst latency during all data fixes",
            "ms",
            busy["ours"],
            busy["old"],
            old,
            "at most 100 ms and 1/50",
            lambda ours, peer: ours <= 100 and ours <= peer / 50,
        ),
        Figure(
            "a writer's worst latency during the foreign key swap",
            "ms",
            busy["our_key"],
            busy["old_key"],
            old,
            "at most 50 ms",
            lambda ours, _: ours <= 50,
        ),
    ]
