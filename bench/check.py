"""The health check beside a bare count(*) of the tables, on a database of 5,000 tables, and with a writer beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import psycopg
from psycopg.sql import SQL, Identifier
from scannerdb.checks.options import CheckOptions
from scannerdb.jobs.check import check

from bench.figure import Beside, Figure, Goal
from bench.lab import TABLES, Lab
from bench.load import Seen, beside, worst_lines
from bench.measure import clean_env, interleave, timed

COUNT = "count(*) of the four tables"
SMALL = 0.02  # 1,000 endpoints: here the way of asking counts, not the rows
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


def _count(lab: Lab, name: str) -> None:
    with lab.session(name) as conn:
        for table in TABLES:
            conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table))).fetchall()


def data(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """The whole check, and with the rule that joins the two largest tables."""
    with lab.copy() as name:  # a check changes nothing
        options = lab.options(name)
        seen = interleave(
            repetitions,
            {
                "count": lambda: timed(lambda: _count(lab, name)),
                "data": lambda: timed(lambda: check(options)),
                "cross": lambda: timed(lambda: check(options, CheckOptions(cross_table=True))),
            },
        )
    yield Figure("a check", "s", seen["data"], seen["count"], COUNT, Goal(times=5))
    yield Figure("a check with the cross-table rule", "s", seen["cross"], seen["count"], COUNT, Goal(times=8))


def wide(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """The catalog part: 5,000 tables with 15,000 indexes."""
    name = _make_wide(lab)
    seconds = [timed(lambda: check(lab.options(name))) for _ in range(repetitions)]
    lab.drop(name)
    yield Figure("a check of 5,000 tables", "s", seconds, goal=Goal(most=1))


def processes(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """The same queries, one psql process for each, as scripts do it."""
    with lab.copy(scale=SMALL) as name:
        options = lab.options(name)
        queries = _queries(lab, name)
        seen = interleave(
            repetitions,
            {
                "ours": lambda: timed(lambda: check(options)),
                "psql": lambda: timed(lambda: _ask(lab, name, queries)),
            },
        )
    peer = f"one psql process for each of its {len(queries)} queries"
    yield Figure("a check of a small database", "s", seen["ours"], seen["psql"], peer, Goal(times=1 / 6))


def _queries(lab: Lab, name: str) -> list[str]:
    """What a check asks the server, as text."""
    said: list[str] = []
    execute = psycopg.Connection.execute

    def listen(self: psycopg.Connection[Any], query: Any, params: Any = None, **more: Any) -> Any:
        said.append(psycopg.ClientCursor(self).mogrify(query, params))
        return execute(self, query, params, **more)

    with mock.patch.object(psycopg.Connection, "execute", listen):
        check(lab.options(name))
    return [text for text in said if text.lstrip().startswith(("SELECT", "WITH"))]


def _ask(lab: Lab, name: str, queries: Sequence[str]) -> None:
    words = lab.server.connect_args(name)
    where = ["-h", str(words["host"]), "-p", str(words["port"]), "-U", words["user"], "-d", name]
    command = [str(lab.server.bin_dir / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where]
    env = clean_env(PGOPTIONS="-c search_path=pg_catalog")
    for query in queries:
        subprocess.run(command, input=query, text=True, check=True, stdout=subprocess.DEVNULL, env=env)


def clients(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """What clients see beside a check, and beside a bare count."""
    with lab.copy() as name:
        options = lab.options(name)
        ways: dict[str, Callable[[], Seen]] = {
            "ours": lambda: beside(lab, name, lambda: check(options)),
            COUNT: lambda: beside(lab, name, lambda: _count(lab, name)),
        }
        seen = interleave(repetitions, ways)
    ours, lone = ([one.worst() for one in seen[by]] for by in ways)
    yield Figure("a writer's worst latency beside a check", "ms", ours, lone, COUNT, Goal(times=3, plus=20))
    yield from worst_lines("a check", seen)


def _make_wide(lab: Lab) -> str:
    lab.drop("bench_wide")
    with lab.session("postgres") as conn:
        conn.execute("CREATE DATABASE bench_wide")
    with lab.session("bench_wide") as conn:
        for first in range(0, WIDE_TABLES, 250):
            conn.execute(WIDE.format(first=first, last=first + 249).encode())
        conn.execute("VACUUM ANALYZE")
    return "bench_wide"


MEASUREMENTS = (data, processes, wide, clients)
