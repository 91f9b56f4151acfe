"""The advisory lock that keeps two jobs on a database apart."""

from __future__ import annotations

import pytest
from scannerdb.errors import JobLocked
from scannerdb.joblock import job_lock

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
