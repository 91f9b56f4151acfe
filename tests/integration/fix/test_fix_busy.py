"""A fix run beside readers, writers, autovacuum, standbys and other runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from scannerdb.errors import JobLocked
from scannerdb.fixes.policy import FixPolicy
from scannerdb.fixes.rights import Writer
from scannerdb.jobs.fix import Working
from scannerdb.lockbudget import Budget

from demo import field
from tests.integration.support import (
    INVARIANTS,
    findings,
    ids,
    options,
    rows_of,
    run_fix,
    wait_until,
)
from tests.servers import Database, standby_of


def test_a_long_reader_holds_up_the_strong_lock_only(field_db: Database) -> None:
    """A running pg_dump or an old snapshot: the run waits with retries, then goes through; indexes are valid."""
    with field_db.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in ("endpoints", "models", "benchmark_results"):
            reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE".encode())
        timer = threading.Timer(1.5, reader.rollback)
        timer.start()
        result = run_fix(field_db, budget=Budget(50, 20))
        timer.join()
    assert not result["failures"], result["failures"]
    assert field_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_autovacuum_yields(field_db: Database) -> None:
    """Autovacuum gives way only after deadlock_timeout, which a 50 ms attempt never reaches; the soft lock does."""
    working = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%benchmark%'"
    )
    with field_db.connect() as conn:
        conn.execute("ALTER SYSTEM SET autovacuum = on")
        conn.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        conn.execute(
            "ALTER TABLE benchmark_results SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
            " autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)"
        )
        conn.execute("DELETE FROM benchmark_results WHERE id % 2 = 0")
        conn.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: field_db.value(working))  # autovacuum has come
            result = run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.*",)), budget=Budget(50, 30))
        finally:
            conn.execute("ALTER SYSTEM RESET autovacuum")
            conn.execute("ALTER SYSTEM SET autovacuum_naptime = 60")
            conn.execute("SELECT pg_reload_conf()")
    assert not result["failures"], result["failures"]
    assert [f["id"] for f in result["fixed"]] == ["schema.foreign_key.on_delete"]


@pytest.mark.parametrize("journal", [True, False])
def test_rows_that_others_hold_come_last(field_db: Database, journal: bool) -> None:
    held = ids(field_db, "check_null")[0]
    with field_db.connect(autocommit=False) as other:
        other.execute("SELECT 1 FROM endpoints WHERE id = %s FOR UPDATE", [held])
        timer = threading.Timer(1.0, other.rollback)
        timer.start()
        result = run_fix(field_db, policy=FixPolicy(only=("data.*",)), working=Working(journal=journal))
        timer.join()
    assert not result["failures"]
    assert field_db.value(f"SELECT last_check_date IS NOT NULL FROM endpoints WHERE id = {held}")


def test_a_lock_that_never_comes_is_a_failure_that_says_who(field_db: Database) -> None:
    with field_db.connect(autocommit=False, application_name="the scanner") as other:
        other.execute("SELECT 1 FROM benchmark_results LIMIT 1")
        only = FixPolicy(only=("schema.foreign_key.on_delete",))
        result = run_fix(field_db, policy=only, budget=Budget(50, 1))
        assert "the scanner" in result["failures"][0]
        other.rollback()
    assert run_fix(field_db, policy=only)["changed"]


def test_writers_see_no_error_and_no_long_wait(field_db: Database) -> None:
    """A writer load during every fix: no error, no lost update, and afterwards all invariants hold."""
    stop, errors, written = threading.Event(), [], []

    def write(number: int) -> None:
        with field_db.connect(login=field.APP_ROLE) as conn:
            counter = 0
            while not stop.is_set():
                counter += 1
                try:
                    ip = f"203.0.113.{number}"
                    row = conn.execute(
                        "INSERT INTO endpoints (ip, port, verified, verification_date, last_check_date)"
                        " VALUES (%s, %s, 0, NULL, now()) RETURNING id",
                        [ip, 10000 + counter],
                    ).fetchone()
                    assert row is not None
                    conn.execute("UPDATE endpoints SET honeypot_reason = %s WHERE id = %s", [str(counter), row[0]])
                    conn.execute("UPDATE endpoints SET last_check_date = now() WHERE id = %s", [1 + counter % 150])
                    written.append((row[0], str(counter)))
                except psycopg.Error as error:
                    errors.append(repr(error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: written)
        result = run_fix(field_db)
    finally:  # a writer that outlives its test would go on for ever
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert not result["failures"], result["failures"]
    stored = dict(field_db.sql("SELECT id, honeypot_reason FROM endpoints WHERE ip LIKE '203.0.113.%'"))
    assert written
    assert stored == dict(written)
    run_fix(field_db)
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_writers_through_the_view_see_no_error(field_db: Database) -> None:
    """The application inserts, moves and deletes servers through the view while rows are being fixed."""
    run_fix(field_db, policy=FixPolicy(only=("schema.*", "index.*")))
    stop, errors, kept = threading.Event(), [], []

    def write() -> None:
        with field_db.connect(login=field.APP_ROLE) as conn:
            counter = 0
            while not stop.is_set():
                counter += 1
                try:
                    insert = "INSERT INTO servers (ip, port) VALUES ('198.51.100.7', %s) RETURNING id"
                    row = conn.execute(insert, [counter]).fetchone()
                    assert row is not None
                    conn.execute("UPDATE servers SET port = port + 50000 WHERE id = %s", [row[0]])
                    if counter % 2:
                        conn.execute("DELETE FROM servers WHERE id = %s", [row[0]])
                    else:
                        kept.append((row[0], counter + 50000))
                except psycopg.Error as error:
                    errors.append(repr(error))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: kept)
        result = run_fix(field_db, policy=FixPolicy(only=("data.*",)), working=Working(batch_rows=50))
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert not result["failures"], result["failures"]
    assert kept
    assert dict(field_db.sql("SELECT id, port FROM servers WHERE ip = '198.51.100.7'")) == dict(kept)
    run_fix(field_db)
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


@pytest.mark.pg(17)
def test_a_run_ends_beside_a_writer_who_is_as_fast(field_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each transaction of the fix another row comes that needs it: those are the next run's."""
    run_fix(field_db, policy=FixPolicy(only=("schema.*", "index.*")))
    came: list[int] = []
    begin = Writer.transaction

    def one_more(self: Writer, *words: Any) -> Any:
        assert len(came) < 500, "the fix runs after the writer"
        insert = "INSERT INTO endpoints (ip, port, scan_date, last_check_date) VALUES ('198.51.100.7', %s, %s, NULL)"
        came.extend(n for (n,) in field_db.sql(f"{insert} RETURNING id", len(came) + 1, "2026-01-01"))
        return begin(self, *words)

    monkeypatch.setattr(Writer, "transaction", one_more)
    only = FixPolicy(only=("data.endpoints.last_check_date_null", "data.benchmark_results.*"))
    done = run_fix(field_db, policy=only, working=Working(batch_rows=50))
    monkeypatch.undo()
    assert done["fixed"] and not done["failures"], done
    assert field_db.value("SELECT count(*) FROM endpoints WHERE id = ANY(%s) AND last_check_date IS NULL", came)
    again = run_fix(field_db, policy=only)
    assert again["fixed"] and field_db.value("SELECT count(*) FROM endpoints WHERE last_check_date IS NULL") == 0


def test_the_run_waits_for_a_standby_that_is_behind(field_db: Database) -> None:
    waiting = Working(batch_rows=50, max_lag_bytes=1)
    behind = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) FROM pg_stat_replication"
    only = FixPolicy(only=("data.endpoints.last_check_date_null",))
    with standby_of(field_db) as standby:
        replaying = "SELECT count(replay_lsn) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(lambda: field_db.value(replaying))
        standby.sql("SELECT pg_wal_replay_pause()")
        field_db.sql("CREATE TABLE noise AS SELECT i FROM generate_series(1, 1000) i")
        wait_until(lambda: field_db.value(behind) > 1)
        result: dict[str, Any] = {}
        thread = threading.Thread(target=lambda: result.update(run_fix(field_db, policy=only, working=waiting)))
        thread.start()
        time.sleep(2)
        untouched = rows_of(findings(field_db), "data.endpoints.last_check_date_null")
        standby.sql("SELECT pg_wal_replay_resume()")
        thread.join()
    assert field_db.damage is not None
    assert untouched == field_db.damage.findings["data.endpoints.last_check_date_null"]
    assert not result["failures"], result["failures"]
    assert "data.endpoints.last_check_date_null" not in findings(field_db)


def test_two_runs_at_once(field_db: Database) -> None:
    with field_db.connect(autocommit=False) as other:
        other.execute("SELECT 1 FROM endpoints WHERE id = 1 FOR UPDATE")  # holds nothing up but keeps a session open
        from scannerdb.joblock import job_lock

        with job_lock(options(field_db), "fix", "20250418T031500Z-0a1b2c3d"), pytest.raises(JobLocked) as caught:
            run_fix(field_db)
    assert "scannerdb fix 20250418T031500Z-0a1b2c3d" in str(caught.value)
