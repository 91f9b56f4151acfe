"""The health check beside a bare count(*) of the tables, on a database of 5,000 tables, and with a writer beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

from psycopg.sql import SQL, Identifier
from scannerdb.jobs.check import check

from bench.common import UPDATE_ENDPOINT, Figure, Lab, writer

TABLES = ("endpoints", "verified_endpoints", "models", "benchmark_results")
WIDE_TABLES = 5000
WIDE = """
DO $$BEGIN
    FOR i IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, a int, b text)', i);
        EXECUTE format('CREATE INDEX ON t%s (a)', i);
        EXECUTE format('CREATE INDEX ON t%s (b)', i);
    END LOOP;
END$$
"""


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _count(lab: Lab, name: str) -> None:
    with lab.session(name) as conn:
        for table in TABLES:
            conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table))).fetchall()


def _beside(lab: Lab, name: str, work: Callable[[], object]) -> float:
    """A writer's worst latency in ms while `work` runs."""
    with writer(lab, name, UPDATE_ENDPOINT) as seen:
        time.sleep(0.3)
        work()
    return seen["worst"]


def _make_wide(lab: Lab) -> str:
    with lab.session("postgres") as conn:
        conn.execute("CREATE DATABASE bench_wide")
    with lab.session("bench_wide") as conn:
        for first in range(0, WIDE_TABLES, 250):
            conn.execute(WIDE.format(first=first, last=first + 249).encode())
        conn.execute("VACUUM ANALYZE")
    return "bench_wide"


def figures(lab: Lab, repetitions: int) -> list[Figure]:
    """Interleaved repetitions on one copy: a check changes nothing."""
    wide = lab.options(_make_wide(lab))
    seen: dict[str, list[float]] = {key: [] for key in ("count", "data", "cross", "wide", "lone", "beside")}
    with lab.copy() as name:
        options = lab.options(name)
        for _ in range(repetitions):
            seen["count"].append(_seconds(lambda: _count(lab, name)))
            seen["data"].append(_seconds(lambda: check(options)))
            seen["cross"].append(_seconds(lambda: check(options, cross_table=True)))
            seen["wide"].append(_seconds(lambda: check(wide)))
            seen["lone"].append(_beside(lab, name, lambda: _count(lab, name)))
            seen["beside"].append(_beside(lab, name, lambda: check(options)))
    count = "count(*) of the four tables"
    return [
        Figure("a check", "s", seen["data"], seen["count"], count, "at most 5 times", lambda o, p: o <= 5 * p),
        Figure(
            "a check with the cross-table rule",
            "s",
            seen["cross"],
            seen["count"],
            count,
            "at most 8 times",
            lambda o, p: o <= 8 * p,
        ),
        Figure("a check of 5,000 tables", "s", seen["wide"], [], "none", "at most 1 s", lambda o, _: o <= 1),
        Figure(
            "a writer's worst latency beside a check",
            "ms",
            seen["beside"],
            seen["lone"],
            count,
            "about the same",
            lambda o, p: o <= 3 * p + 20,
        ),
    ]
