"""Each command of the vacuum job interrupted in its middle: after the next run nothing of it is left behind.

The commands run at the same time, each in a database of its own, and are held where they are: VACUUM by its own cost
delay, the others in the build of an index over a function that waits for a lock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.support import run_vacuum, wait_until
from tests.integration.vacuum.vacuum_support import dead, fill, options, row
from tests.needs import lack
from tests.servers import DISTRIBUTION, Database, Databases
from tests.system.needs import NEXT

ROOT = Path(__file__).resolve().parents[3]
HELD = 7  # the advisory lock that the index waits for; not in a queue, where lock_timeout would end the command
FUNCTION = f"""
CREATE FUNCTION held(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    WHILE NOT pg_catalog.pg_try_advisory_xact_lock_shared({HELD}) LOOP
        PERFORM pg_catalog.pg_sleep(0.02);
    END LOOP;
    RETURN t;
END $$
"""
JOB = """
import sys
sys.path.insert(0, sys.argv[1])
from scannerdb.connection import Options
from scannerdb.jobs.vacuum import vacuum
from scannerdb.vacuum.options import VacuumOptions
login = Options(unix_socket=sys.argv[2], port=int(sys.argv[3]), user="postgres", db=sys.argv[4])
vacuum(login, VacuumOptions(method=sys.argv[5], tables=["bloated"], allow_exclusive=True))
"""
MIDDLE = {
    "vacuum": "SELECT pid FROM pg_stat_progress_vacuum WHERE datname = current_database() AND heap_blks_scanned > 0",
    "waiting": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
}
# Every relation, index, trigger, type and constraint that a user or a tool can have made.
OBJECTS = """
SELECT c.relkind::text || ' ' || n.nspname || '.' || c.relname || coalesce(' valid: ' || i.indisvalid, '')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
UNION ALL SELECT 'toast ' || count(*) FROM pg_class WHERE relnamespace = 'pg_toast'::regnamespace
UNION ALL SELECT 'trigger ' || tgname || ' ' || tgenabled::text FROM pg_trigger
UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace::regnamespace::text IN ('public', 'repack')
UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
 ORDER BY 1
"""


@pytest.fixture
def commands(make_database: Databases, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The methods to try: the server's own commands on 17, unless another was asked for; REPACK or pg_repack."""
    version, asked = request.node.callspec.params["server"], request.config.getoption("--pg")
    if version == NEXT:
        return ("repack",)  # by itself: it would wait for the others, which have written something
    own = ("vacuum", "reindex", "full") if version == 17 or asked else ()
    tools = ("repack",) if (make_database.server.bin_dir / "pg_repack").exists() else ()
    return own + tools or lack("pg_repack")


@dataclass
class Victim:
    """One command at work in a database of its own, and what the database held before."""

    method: str
    database: Database
    before: list[Any]
    job: subprocess.Popen[str]
    holder: psycopg.Connection[Any]
    pid: int = 0  # of the session at work

    def in_the_middle(self) -> bool:
        """True once the command is where it is held."""
        assert self.job.poll() is None, f"{self.method} ended before it was interrupted: {self.job.stderr}"
        found = self.database.sql(MIDDLE["vacuum" if self.method == "vacuum" else "waiting"])
        self.pid = found[0][0] if found else 0
        return bool(found)


def state(database: Database) -> list[Any]:
    """The rows, and everything there is."""
    return [database.sql("SELECT * FROM bloated ORDER BY id"), database.sql(OBJECTS)]


def begin(database: Database, method: str) -> Victim:
    """Start the job in a process of its own, held in its middle."""
    fill(database, rows=4000)
    database.sql(FUNCTION)
    database.sql("CREATE INDEX a_held ON bloated (held(t))")
    if method == "repack" and (database.server.bin_dir / "pg_repack").exists():
        database.sql("CREATE EXTENSION pg_repack")
    before = state(database)
    database.sql(f"ALTER DATABASE {database.name} SET vacuum_cost_delay = 100")
    database.sql(f"ALTER DATABASE {database.name} SET vacuum_cost_limit = 1")
    holder = database.connect()
    holder.execute("SELECT pg_advisory_lock(%s)", [HELD])
    where = [str(ROOT / "module_utils"), str(database.server.socket_dir), str(database.server.port), database.name]
    job = subprocess.Popen([sys.executable, "-c", JOB, *where, method], stderr=subprocess.PIPE, text=True)
    return Victim(method, database, before, job, holder)


@contextlib.contextmanager
def at_work(make_database: Databases, commands: tuple[str, ...]) -> Iterator[list[Victim]]:
    """All commands in their middle; afterwards nothing holds them any more."""
    victims = [begin(make_database(), method) for method in commands]
    try:
        for victim in victims:
            wait_until(victim.in_the_middle)
        yield victims
        for victim in victims:
            assert victim.job.wait(60) != 0, f"{victim.method} was not interrupted"
    finally:
        for victim in victims:
            victim.job.kill()
            victim.job.communicate()
            victim.holder.close()


def interrupt(how: str, victims: list[Victim]) -> None:
    if how == "module":
        for victim in victims:
            os.kill(victim.job.pid, signal.SIGKILL)
    elif how == "server":
        os.kill(victims[0].database.server.pid, signal.SIGQUIT)
    else:
        for victim in victims:
            victim.database.sql(f"SELECT {how}(%s)", victim.pid)


def back_again(database: Database) -> None:
    """Start the server where it was killed."""
    while True:
        try:
            with database.connect():
                return
        except psycopg.OperationalError:
            database.server.start()


@pytest.mark.pg(17, DISTRIBUTION, NEXT)
@pytest.mark.parametrize("how", ["module", "pg_cancel_backend", "pg_terminate_backend", "server"])
def test_nothing_is_left_after_the_next_run(make_database: Databases, commands: tuple[str, ...], how: str) -> None:
    with at_work(make_database, commands) as victims:
        interrupt(how, victims)
    back_again(victims[0].database)
    for victim in victims:
        database = victim.database
        for setting in ("vacuum_cost_delay", "vacuum_cost_limit"):
            database.sql(f"ALTER DATABASE {database.name} RESET {setting}")
        left = run_vacuum(
            options(database), method=victim.method, tables=["bloated"], allow_exclusive=True, lock_wait_s=60
        )
        assert left["left_undone"] == [], (victim.method, left)
        assert state(database) == victim.before, f"{victim.method}, {how}"
        assert row(left, "public.bloated")["action"] and (victim.method == "reindex" or dead(database) == 0), (
            victim.method
        )
