"""The vacuum job beside other sessions: whom it never makes wait, and what an interruption leaves."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from scannerdb.connection import connect
from scannerdb.errors import JobLocked, QueryFailed
from scannerdb.joblock import job_lock
from scannerdb.lockbudget import CONFLICTS, who_blocks

from tests.integration.support import run_vacuum, wait_until
from tests.integration.vacuum.vacuum_support import dead, fill, invalid_indexes, locked, options, row
from tests.servers import Database

SHORT = {"lock_deadline_s": 1}


def test_a_locked_table_is_left_out_with_the_holder_named_and_the_others_have_their_turn(database: Database) -> None:
    fill(database, "bloated", 2000)
    fill(database, "other", 2000)
    for lock in ("SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"):
        with locked(database, lock):
            result = run_vacuum(options(database))
        undone = [r for r in result["left_undone"] if r["table"] == "public.bloated"]
        assert undone[0]["action"] == "vacuum" and "the holder" in undone[0]["reason"]
        assert "public.bloated" not in [r["table"] for r in result["tables"]]
        assert dead(database) == 1500
    assert dead(database, "other") == 0
    assert run_vacuum(options(database))["changed"] and dead(database) == 0


def test_a_table_whose_lock_is_gone_by_the_end_is_not_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scannerdb.vacuum import run

    fill(database, "bloated", 2000)
    fill(database, "other", 2000)
    with locked(database, "SHARE UPDATE EXCLUSIVE") as holder:
        attempt = run._attempt

        def free(conn: Any, decision: Any, *rest: Any) -> Any:
            if decision.measure.name == "other":
                holder.rollback()
            return attempt(conn, decision, *rest)

        monkeypatch.setattr(run, "_attempt", free)
        result = run_vacuum(options(database))
    assert result["left_undone"] == [] and dead(database) == 0


def test_an_old_snapshot_is_named_and_a_useless_vacuum_is_no_change(database: Database) -> None:
    with database.connect() as old:
        database.sql("CREATE TABLE first (i int)")
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM first")
        old.execute("SET application_name = 'the old one'")
        fill(database, "bloated", 2000)
        result = run_vacuum(options(database), tables=["bloated"])
        assert "the old one" in row(result, "public.bloated")["note"] and dead(database) == 1500
        result = run_vacuum(options(database), tables=["bloated"])
        assert not result["changed"], result
    assert run_vacuum(options(database))["changed"] and dead(database) == 0


def test_full_under_a_writers_lock_gives_up_in_time_and_blocks_nobody(database: Database) -> None:
    fill(database)
    size = database.value("SELECT pg_relation_size('bloated')")
    written, stop = [0], threading.Event()

    def write() -> None:
        with database.connect(application_name="the writer") as conn:
            while not stop.is_set():
                conn.execute("INSERT INTO bloated (t) VALUES ('new')")
                written[0] += 1
                time.sleep(0.005)

    with locked(database, "ROW EXCLUSIVE"):
        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: written[0])
        before = written[0]
        try:
            result = run_vacuum(options(database), method="full", allow_exclusive=True, **SHORT)
        finally:
            stop.set()
            writer.join()
    assert not result["changed"] and not result["tables"]
    assert "the holder" in result["left_undone"][0]["reason"]
    assert database.value("SELECT pg_relation_size('bloated')") >= size
    assert written[0] > before + 5, "the writer had its turn only before and after the attempts"


def test_full_gets_its_lock_as_soon_as_the_writer_is_gone(database: Database) -> None:
    fill(database, "bloated", 2000)
    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE bloated IN ROW EXCLUSIVE MODE")
    begun, held = time.monotonic(), []

    def let_go() -> None:
        held.append(time.monotonic() - begun)
        holder.close()

    release = threading.Timer(3, let_go)
    release.start()
    result = run_vacuum(options(database), method="full", allow_exclusive=True, lock_deadline_s=20.0)
    release.join()
    longest_s = row(result, "public.bloated")["max_wait_ms"] / 1000
    assert result["changed"] and 0 < longest_s < held[0] / 2, "many short waits, and not a long one"


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_interrupted_rebuild_leaves_nothing_after_the_next_run(database: Database, how: str) -> None:
    fill(database, "bloated", 2000)
    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")  # a rebuild waits for this snapshot
        with pytest.raises(psycopg.Error), database.connect(application_name="rebuild") as conn:
            killer = _when_waiting(database, "rebuild", f"SELECT {how}(pid) FROM pg_stat_activity WHERE pid = %s")
            conn.execute("REINDEX INDEX CONCURRENTLY bloated_t_idx")
        killer.join()
    assert invalid_indexes(database) == ["bloated_t_idx_ccnew"]
    planned = run_vacuum(options(database), check_mode=True)
    assert "DROP INDEX CONCURRENTLY" in planned["diff"]["after"]
    assert invalid_indexes(database) == ["bloated_t_idx_ccnew"]
    result = run_vacuum(options(database))
    assert result["changed"] and "drop_index bloated_t_idx_ccnew" in row(result, "public.bloated")["action"]
    assert invalid_indexes(database) == []
    assert database.value("SELECT count(*) FROM pg_index WHERE indrelid = 'bloated'::regclass") == 2


def test_our_own_interrupted_rebuild_clears_up_at_once(database: Database) -> None:
    fill(database, "bloated", 2000)
    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")

        def cancel_and_free(pid: int) -> None:
            database.sql("SELECT pg_cancel_backend(%s)", pid)
            time.sleep(0.2)  # the leftover cannot be dropped before this transaction ends
            old.execute("COMMIT")

        helper = _when_waiting(database, "scannerdb vacuum%", cancel_and_free)
        with pytest.raises(QueryFailed, match="cancel"):
            run_vacuum(options(database), method="reindex", tables=["bloated"])
        helper.join()
    assert invalid_indexes(database) == []


def test_a_leftover_in_use_is_left_for_the_next_run(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from scannerdb.vacuum import rebuild

    monkeypatch.setattr(rebuild, "SOFT_TIMEOUT_MS", 200)
    fill(database, "bloated", 2000)
    database.sql("ALTER TABLE bloated DROP CONSTRAINT bloated_pkey")  # one rebuild to wait in is enough
    with database.connect(application_name="the reader") as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")
        helper = _when_waiting(database, "scannerdb vacuum%", "SELECT pg_cancel_backend(%s)")
        with pytest.raises(QueryFailed):
            run_vacuum(options(database), method="reindex", tables=["bloated"])
        helper.join()
        assert len(invalid_indexes(database)) == 1
        result = run_vacuum(options(database))
        assert "the reader" in result["left_undone"][0]["reason"]
        assert len(invalid_indexes(database)) == 1
    run_vacuum(options(database))
    assert invalid_indexes(database) == []


def test_an_exclusively_locked_table_does_not_stop_the_measuring(database: Database) -> None:
    fill(database, "bloated", 2000)
    with locked(database, "ACCESS EXCLUSIVE"):
        result = run_vacuum(options(database), check_mode=True)
    assert row(result, "public.bloated")["bytes_before"] > 0


def test_one_job_at_a_time(database: Database) -> None:
    fill(database, "bloated", 2000)
    with job_lock(options(database), "backup", "20250101T000000Z-00000000"):
        with pytest.raises(JobLocked, match="backup"):
            run_vacuum(options(database))
        assert run_vacuum(options(database), check_mode=True)["changed"]
    assert dead(database) == 1500


def test_only_who_really_blocks_is_named(database: Database) -> None:
    """Beside a reader and a writer a vacuum goes on: neither is why it was blocked."""
    fill(database, "bloated", 2000)
    with database.connect(autocommit=False, application_name="a reader") as reader:
        reader.execute("SELECT count(*) FROM bloated")
        with database.connect(autocommit=False, application_name="a writer") as writer:
            writer.execute("UPDATE bloated SET t = 'x' WHERE id = 4")
            with locked(database, "SHARE UPDATE EXCLUSIVE"):
                reason = run_vacuum(options(database))["left_undone"][0]["reason"]
                assert "the holder" in reason and "a reader" not in reason and "a writer" not in reason
                full = run_vacuum(options(database), method="full", allow_exclusive=True, **SHORT)
    reason = full["left_undone"][0]["reason"]
    assert all(who in reason for who in ("the holder", "a reader", "a writer")), "VACUUM FULL waits for all of them"


MODES = (
    *("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"),
    *("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"),
)


def test_the_table_of_conflicts_is_the_servers(database: Database) -> None:
    database.sql("CREATE TABLE bloated (i int)")
    with connect(options(database)) as conn, database.connect(autocommit=False) as other:
        for held, wanted in itertools.product(MODES, CONFLICTS):
            with locked(database, held):
                try:
                    other.execute(f"LOCK TABLE bloated IN {wanted} MODE NOWAIT".encode())
                    blocked = False
                except psycopg.errors.LockNotAvailable:
                    blocked = True
                other.rollback()
                said = who_blocks(conn, [("public", "bloated")], wanted)
            assert ("the holder" in said) == blocked, f"{wanted} beside {held}: {said}"


def _when_waiting(database: Database, application: str, then: str | Callable[[int], None]) -> threading.Thread:
    """Start a thread that acts as soon as the session of that name waits inside a REINDEX."""

    def watch() -> None:
        for _ in range(1000):
            found = database.sql(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock' "
                "AND query ILIKE 'REINDEX%%'",
                application,
            )
            if found:
                pid = found[0][0]
                if callable(then):
                    then(pid)
                else:
                    database.sql(then, pid)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread
