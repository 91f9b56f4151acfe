"""A fix run killed at any statement: the database is consistent, and the next run ends where an undisturbed one ends.

The points are spread over all statements of a run, so over every fix and over batches. Three things are killed: the
module (SIGKILL), its session's backend, and the whole server (immediate shutdown, then crash recovery).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.fix.fix_support import damaged, outcome
from tests.integration.support import options, run_fix, schema_damage
from tests.servers import VERSIONS, Database, Databases
from tests.system.needs import NEXT

ROOT = Path(__file__).resolve().parents[3]
POINTS = 16  # on each version; with three versions, 48
BATCH_ROWS = 50
RUN = f"""
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import psycopg
from scannerdb.connection import Options
from scannerdb.jobs.fix import Safety, Working, fix

at, what, seen, plain = int(sys.argv[3]), sys.argv[4], 0, psycopg.Connection.execute

def execute(self, *args, **kwargs):
    global seen
    seen += 1
    if seen == at:
        if what == "module":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "backend":
            plain(self, "SELECT pg_terminate_backend(pg_backend_pid())")
        if what == "server":
            os.kill(int(sys.argv[5]), signal.SIGQUIT)
    return plain(self, *args, **kwargs)

psycopg.Connection.execute = execute
fix(Options(**json.loads(sys.argv[2])), safety=Safety(require_backup=False), working=Working(batch_rows={BATCH_ROWS}))
print(seen)
"""


def run_until(database: Database, at: int, what: str) -> subprocess.CompletedProcess[str]:
    """A fix run in a process of its own in which `what` dies at the statement number `at`."""
    command = [
        sys.executable,
        "-c",
        RUN,
        str(ROOT / "module_utils"),
        json.dumps(vars(options(database))),
        str(at),
        what,
    ]
    return subprocess.run(
        [*command, str(database.server.pid)], capture_output=True, text=True, check=False, timeout=120
    )


_UNDISTURBED: dict[int, tuple[int, list[Any]]] = {}


def undisturbed(make_database: Databases) -> tuple[int, list[Any]]:
    """How many statements a run has on this server, and what it leads to."""
    port = make_database.server.port
    if port not in _UNDISTURBED:
        database = damaged(make_database)
        finished = run_until(database, 0, "nothing")
        assert finished.returncode == 0, finished.stderr
        _UNDISTURBED[port] = (int(finished.stdout), outcome(database))
    return _UNDISTURBED[port]


def back_again(database: Database) -> None:
    """Start the server where it was killed, and wait until the killed run's sessions are gone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if not database.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scannerdb fix%'"):
                return
        except psycopg.OperationalError:
            database.server.start()
        time.sleep(0.05)
    raise AssertionError("the killed run's sessions are still there")


@pytest.mark.parametrize("point", range(POINTS))
def test_the_next_run_ends_where_an_undisturbed_one_ends(make_database: Databases, point: int) -> None:
    total, expected = undisturbed(make_database)
    database = damaged(make_database)
    version = int(database.value("SHOW server_version_num")) // 10000
    what = ("module", "module", "backend", "module")[point % 4] if point != POINTS - 2 else "server"
    shift = (*VERSIONS, NEXT).index(version)  # other points on other versions
    # A server ends a little after it was told to; the run must not be over by then.
    last = total - 1 if what != "server" else total // 2
    at = max(2, min(last, round((point + shift / len(VERSIONS)) * total / POINTS)))
    assert run_until(database, at, what).returncode != 0, "the run was not disturbed"
    back_again(database)
    assert half_done(database) == 0
    result = run_fix(database)
    assert not result["failures"], result["failures"]
    assert outcome(database) == expected
    assert not run_fix(database)["changed"]
    assert schema_damage(database) == []


def half_done(database: Database) -> int:
    """Journalled rows that are not what the journal says: a batch would have been half kept."""
    if database.value("SELECT to_regclass('scannerdb_maintenance.journal')") is None:
        return 0
    return int(
        database.value(
            "SELECT count(*) FROM scannerdb_maintenance.journal j LEFT JOIN endpoints e ON e.id = j.row_id"
            " WHERE j.table_name = 'endpoints' AND j.operation = 'update'"
            " AND j.before || j.after IS DISTINCT FROM to_jsonb(e)"
            " AND j.seq = (SELECT max(k.seq) FROM scannerdb_maintenance.journal k"
            "               WHERE k.table_name = 'endpoints' AND k.row_id = j.row_id)"
        )
    )
