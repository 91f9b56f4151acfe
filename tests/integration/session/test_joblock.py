"""The advisory lock that keeps two jobs on a database apart."""

from __future__ import annotations

import struct
import threading
import time

import pytest
from scannerdb.doctor import server as doctor_server
from scannerdb.errors import JobLocked
from scannerdb.joblock import job_lock, lock_key

from tests.integration.support import options
from tests.servers import Database


def test_it_is_free_for_the_next_job_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before the server has noticed that the session is gone: here it stays."""
    with job_lock(options(database), "check", "x") as conn:
        close = conn.close
        monkeypatch.setattr(conn, "close", lambda: None)
        with pytest.raises(JobLocked, match="scannerdb check x"), job_lock(options(database), "fix", "y"):
            pass
    with job_lock(options(database), "fix", "y"):
        pass
    close()


def test_a_session_that_is_lost_meanwhile_hides_no_error(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), job_lock(options(database), "check", "x") as conn:
        database.sql("SELECT pg_terminate_backend(%s, 5000)", conn.info.backend_pid)
        raise ZeroDivisionError
    with job_lock(options(database), "fix", "y"):
        pass


STRANGER = "stranger"


@pytest.fixture
def stranger(database: Database) -> str:
    """A role that may connect, and nothing else."""
    database.sql(f"CREATE ROLE {STRANGER} LOGIN")
    return STRANGER


def test_a_stranger_cannot_hold_it(database: Database, stranger: str) -> None:
    """Not by its documented key, nor by any number of keys that look like ours; and two runs of ours stay apart."""
    key = lock_key(database.name)
    family = struct.unpack(">i", struct.pack(">q", key)[:4])[0]
    with database.connect(stranger, dbname="postgres", application_name="scannerdb fix' (process 1)") as theirs:
        theirs.execute("SELECT pg_advisory_lock(%s)", [key])
        theirs.execute("SELECT pg_advisory_lock(%s, n) FROM generate_series(1, 200) n", [family])
        with job_lock(options(database), "check", "x") as conn:
            with pytest.raises(JobLocked, match="'scannerdb check x'"), job_lock(options(database), "fix", "y"):
                pass
            found = doctor_server.job_lock(conn, database.name, 0)
            assert (found.state, STRANGER in found.message) == ("wrong", True)
            assert '"scannerdb fix\' (process 1)"' in found.message and "pg_terminate_backend" in found.hint
        theirs.execute("SELECT pg_advisory_unlock_all()")
        with job_lock(options(database), "fix", "z"):
            pass


def test_a_prepared_transaction_of_a_stranger_does_not_hold_it(database: Database, stranger: str) -> None:
    with database.connect(stranger, dbname="postgres") as theirs:
        theirs.execute("BEGIN")
        theirs.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(database.name)])
        theirs.execute("PREPARE TRANSACTION 'for ever'")
    try:
        with job_lock(options(database), "check", "x"):
            pass
    finally:
        with database.connect(dbname="postgres") as conn:
            conn.execute("ROLLBACK PREPARED 'for ever'")


def test_the_stranger_who_leaves_in_between_lets_no_two_runs_in(database: Database, stranger: str) -> None:
    """One run has the second lock; the next finds the first one free, and must see the other run nevertheless."""
    theirs = database.connect(stranger, dbname="postgres")
    theirs.execute("SELECT pg_advisory_lock(%s)", [lock_key(database.name)])
    with job_lock(options(database), "check", "x"):
        theirs.close()
        with pytest.raises(JobLocked, match="check x"), job_lock(options(database), "fix", "y"):
            pass


def test_runs_that_race_for_it_under_a_stranger_never_work_together(database: Database, stranger: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with job_lock(options(database), "race", str(number), wait_s=60):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)
                inside.remove(number)

    with database.connect(stranger, dbname="postgres") as theirs:
        theirs.execute("SELECT pg_advisory_lock(%s)", [lock_key(database.name)])
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(most), max(most)) == (12, 1)


def test_a_role_that_maintains_counts_whoever_looks(database: Database, stranger: str) -> None:
    """A superuser's run respects one of the maintenance role, and the other way round."""
    database.sql(f"GRANT pg_signal_backend TO {stranger}")
    for first, second in ((stranger, "postgres"), ("postgres", stranger)):
        with (
            job_lock(options(database, user=first), "check", "x"),
            pytest.raises(JobLocked, match="check x"),
            job_lock(options(database, user=second), "fix", "y"),
        ):
            pass
