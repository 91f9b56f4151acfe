"""Compaction by pg_repack: what it gives back, what it is never allowed to do, and what it leaves when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import connect
from scannerdb.errors import ConnectionFailed
from scannerdb.lockbudget import Budget, LockRecord
from scannerdb.vacuum.measure import measure
from scannerdb.vacuum.online_rewrite import find_online_rewrite
from scannerdb.vacuum.pgrepack import run_pg_repack
from scannerdb.vacuum.result import Means, Refused
from scannerdb.vacuum.thresholds import VacuumThresholds

from tests.integration.support import run_vacuum, wait_until
from tests.integration.vacuum.vacuum_support import dead, fill, locked, options, row
from tests.needs import needs
from tests.servers import DISTRIBUTION, Database

ROOT = Path(__file__).resolve().parents[3]
EAGER = VacuumThresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)
MONTHLY: dict[str, Any] = {"profile": "monthly", "thresholds": EAGER}
WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_repack' "
    "AND query LIKE 'SELECT pid FROM pg_locks WHERE locktype = ''virtualxid''%%' AND datname = current_database()"
)
pytestmark = [needs("pg_repack"), pytest.mark.pg(DISTRIBUTION, always=True)]


@pytest.fixture
def packable(database: Database) -> Iterator[Database]:
    """A database with the extension, on a server that has pg_repack."""
    database.sql("CREATE EXTENSION pg_repack")
    return database


def debris(database: Database) -> list[str]:
    """Everything that an interrupted pg_repack leaves."""
    found = database.sql(
        "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('repack') "
        "AND relname ~ '^(log|table|pk)_[0-9]+' AND relkind IN ('r', 'c') "
        "UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname = 'repack_trigger'"
    )
    return [name for (name,) in found]


def test_it_gives_back_what_vacuum_full_would(packable: Database, tmp_path: Path) -> None:
    fill(packable)
    fill(packable, 'we"ird; drop', rows=8000)
    content = packable.sql("SELECT * FROM bloated ORDER BY id")
    planned = run_vacuum(options(packable), check_mode=True, **MONTHLY)
    assert "--no-kill-backend" in planned["diff"]["after"] and dead(packable) == 15_000
    result = run_vacuum(options(packable), state_dir=str(tmp_path), **MONTHLY)
    done = row(result, "public.bloated")
    assert (done["action"], result["left_undone"]) == ("pg_repack", [])
    assert packable.sql("SELECT * FROM bloated ORDER BY id") == content
    assert packable.value("SELECT pg_total_relation_size('bloated')") == done["bytes_after"] < done["bytes_before"] / 2
    assert debris(packable) == []
    visible = packable.sql("SELECT relallvisible, relpages FROM pg_class WHERE relname = 'bloated'")[0]
    assert visible[0] == visible[1] > 0
    assert not run_vacuum(options(packable), state_dir=str(tmp_path), **MONTHLY)["changed"]
    packable.sql("VACUUM FULL bloated")
    least = packable.value("SELECT pg_total_relation_size('bloated')")
    assert done["bytes_before"] - done["bytes_after"] >= 0.95 * (done["bytes_before"] - least)


def test_what_it_lacks_is_told_before_anything_begins(packable: Database) -> None:
    fill(packable)

    def said(**login: Any) -> str:
        result = run_vacuum(options(packable, **login), check_mode=True, **MONTHLY)
        return str(result["left_undone"][0]["reason"])

    packable.sql("CREATE ROLE plain LOGIN")
    packable.sql("ALTER TABLE bloated OWNER TO plain")
    assert "insists on a superuser" in said(user="plain")
    assert "program pg_repack is not installed" in said(pg_bin_dir="/nowhere")
    packable.sql("UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'pg_repack'")
    assert "its extension 0.1" in said()
    packable.sql("DROP EXTENSION pg_repack")
    assert "CREATE EXTENSION pg_repack" in said()
    packable.sql("CREATE EXTENSION pg_repack")
    packable.sql("ALTER TABLE bloated DROP CONSTRAINT bloated_pkey")
    assert "needs a primary key" in said()


def test_by_name_it_rewrites_what_needs_no_rewrite(packable: Database) -> None:
    packable.sql("CREATE TABLE fine AS SELECT i FROM generate_series(1, 1000) i")
    packable.sql("ALTER TABLE fine ALTER i SET NOT NULL")
    packable.sql("CREATE UNIQUE INDEX ON fine (i)")
    file = packable.value("SELECT pg_relation_filenode('fine')")
    assert row(run_vacuum(options(packable), method="repack", tables=["fine"]), "public.fine")["action"] == "pg_repack"
    assert packable.value("SELECT pg_relation_filenode('fine')") != file


def test_nobody_queues_behind_it_and_nobody_is_ended(packable: Database) -> None:
    """With a reader in the way it asks, is held back as soon as a writer queues, asks again, and gives up in time."""
    fill(packable)
    written, stop = [0], threading.Event()

    def write() -> None:
        with packable.connect() as conn:
            while not stop.is_set():
                conn.execute("INSERT INTO bloated (t) VALUES ('new')")
                written[0] += 1
                time.sleep(0.002)

    record, budget = LockRecord(), Budget(timeout_ms=50, deadline_s=2.0)
    writer = threading.Thread(target=write)
    with locked(packable, "ACCESS SHARE") as holder, connect(options(packable)) as conn:
        holder.execute("SELECT pg_backend_pid()")
        (table,) = measure(conn)
        means = Means(options(packable), Budget(50, 1000.0), find_online_rewrite(conn, options(packable)).program)
        writer.start()
        wait_until(lambda: written[0])
        try:
            with pytest.raises(Refused, match="did not get its lock"):
                run_pg_repack(conn, table, Means(means.options, budget, means.program), record)
        finally:
            stop.set()
            writer.join()
        assert holder.execute("SELECT 1").fetchone() is not None, "the reader lives"
    assert record.retries > 0, "no writer queued: nothing is tested"
    assert written[0] > 0 and debris(packable) == []


def test_an_old_transaction_is_named_and_not_waited_for_for_ever(packable: Database) -> None:
    fill(packable)
    size = packable.value("SELECT pg_relation_size('bloated')")
    with packable.connect(application_name="the old one") as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        result = run_vacuum(options(packable), lock_deadline_s=3.0, **MONTHLY)
        assert row(result, "public.bloated")["action"] == "vacuum", "a rebuild would wait for it too"
        reason = result["left_undone"][0]["reason"]
        assert "older transaction" in reason and "the old one" in reason
        assert debris(packable) == []
        time.sleep(1.1)
        again = run_vacuum(options(packable), lock_deadline_s=1.0, **MONTHLY)
        assert "would wait for an older transaction" in again["left_undone"][0]["reason"]
        assert old.execute("SELECT 1").fetchone() is not None
    assert packable.value("SELECT pg_relation_size('bloated')") == size


JOB = """
import sys
sys.path[:0] = sys.argv[1:3]
from scannerdb.connection import Options
from scannerdb.jobs.vacuum import vacuum
from scannerdb.vacuum.options import VacuumOptions
login = Options(unix_socket=sys.argv[3], port=int(sys.argv[4]), user="postgres", db=sys.argv[5])
vacuum(login, VacuumOptions(method="repack"))
"""


def test_killed_midway_the_next_run_clears_up(packable: Database, tmp_path: Path) -> None:
    fill(packable)
    before = packable.value("SELECT count(*) FROM bloated")
    with packable.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")  # so that it comes no further than to waiting
        args = packable.kwargs
        where = [str(ROOT / "module_utils"), str(ROOT), str(args["host"]), str(args["port"]), packable.name]
        job = subprocess.Popen([sys.executable, "-c", JOB, *where], start_new_session=True)
        try:
            wait_until(lambda: packable.value(WAITS))
        finally:
            os.kill(job.pid, signal.SIGKILL)
            job.wait()
    assert "repack_trigger" in debris(packable) and len(debris(packable)) >= 3
    planned = run_vacuum(options(packable), check_mode=True)
    assert 'DROP TRIGGER IF EXISTS "repack_trigger" ON "public"."bloated"' in planned["diff"]["after"]
    result = run_vacuum(options(packable))
    assert result["changed"] and "drop_repack" in row(result, "public.bloated")["action"]
    assert debris(packable) == []
    packable.sql("INSERT INTO bloated (t) VALUES ('it can be written')")
    assert packable.value("SELECT count(*) FROM bloated") == before + 1
    assert row(run_vacuum(options(packable), method="repack"), "public.bloated")["action"] == "pg_repack"


def test_a_pg_repack_of_somebody_else_is_left_alone(packable: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from scannerdb.vacuum import pgrepack

    monkeypatch.setattr(pgrepack, "GIVE_UP_LOCK_S", 0.5)
    fill(packable, rows=2000)
    oid = packable.value("SELECT 'bloated'::regclass::oid::bigint")
    packable.sql(f"CREATE TABLE repack.log_{oid} (id int)")
    with packable.connect() as theirs:
        theirs.execute("SELECT pg_advisory_lock(16185446, (-2147483648 + %s::bigint)::int)", [oid])
        result = run_vacuum(options(packable))
        assert "another pg_repack is at work" in result["left_undone"][0]["reason"]
        assert debris(packable) == [f"log_{oid}"]
    assert run_vacuum(options(packable))["changed"] and debris(packable) == []


def test_a_connection_cut_is_an_error_and_leaves_nothing_after_the_next_run(packable: Database) -> None:
    fill(packable)
    with packable.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")

        def cut() -> None:
            wait_until(lambda: packable.value(WAITS))
            packable.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'scannerdb vacuum%%'"
            )

        helper = threading.Thread(target=cut)
        helper.start()
        try:
            with pytest.raises(ConnectionFailed):
                run_vacuum(options(packable), method="repack")
        finally:
            helper.join()
    run_vacuum(options(packable))
    assert debris(packable) == []
