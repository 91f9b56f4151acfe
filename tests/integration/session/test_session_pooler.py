"""Behind a pooler: what shares sessions is refused before anything is set, what does not is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.connection import Options, connect
from scannerdb.errors import ScannerDbError, ServerUnsupported
from scannerdb.jobs.check import check
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.fix import fix
from scannerdb.jobs.info import info
from scannerdb.jobs.schema import schema
from scannerdb.jobs.undo import undo

from tests.integration.session.pooler import pooled
from tests.integration.support import NO_BACKUP, options, run_backup, run_restore, run_vacuum, run_verify
from tests.servers import Database

STATE = """
SELECT name, setting FROM pg_catalog.pg_settings
 WHERE source IN ('session', 'client') AND name NOT IN ('application_name', 'client_encoding')
   AND name NOT LIKE 'transaction\\_%'
"""
LOCKS = "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory'"


def through(database: Database, port: int, **more: Any) -> Options:
    return options(database, host="127.0.0.1", unix_socket="", port=port, ssl_mode="disable", **more)


def jobs(login: Options, folder: Path) -> dict[str, Callable[[], Any]]:
    """Each job of the bundle."""
    sets = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s")}
    return {
        "check": lambda: check(login),
        "schema": lambda: schema(login),
        "backup": lambda: run_backup(login, **sets),
        "verify": lambda: run_verify(login, **sets),
        "fix": lambda: fix(login, safety=NO_BACKUP),
        "undo": lambda: undo(login, run_id="20260101T000000Z-00000000"),
        "vacuum": lambda: run_vacuum(login),
        "restore": lambda: run_restore(login, source="latest", confirm=login.db, grace_s=0, **sets),
        "info": lambda: info(login),
    }


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_no_job_leaves_anything_to_the_next_client(field_db: Database, tmp_path: Path, mode: str) -> None:
    direct = options(field_db)
    run_backup(direct, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    with pooled(field_db, mode) as port:
        where = f"host=127.0.0.1 port={port} user=postgres"
        for name, job in jobs(through(field_db, port), tmp_path).items():
            with pytest.raises(ServerUnsupported, match=r"several clients.*PostgreSQL itself"):
                job()
            for dbname in (field_db.name, "postgres"):
                with psycopg.connect(f"{where} dbname={dbname}", autocommit=True) as client:
                    assert client.execute(STATE).fetchall() == [], name
                    assert client.execute(LOCKS).fetchone() == (0,), name
        said = doctor(through(field_db, port), Places(*(str(tmp_path / n) for n in "bslrc")))
        found = next(d for d in said["diagnoses"] if d["cause"] == "server")
        assert found["state"] == "wrong" and "pooler" in found["message"] and "session mode" in found["hint"]


def test_busy_neighbours_do_not_hide_it(database: Database) -> None:
    """Whoever else takes the session that we were given a moment ago: we are never sure of it."""
    with pooled(database, "transaction", server_round_robin="1", min_pool_size="5") as port:
        where = f"host=127.0.0.1 port={port} user=postgres dbname={database.name}"
        others = [psycopg.connect(where) for _ in range(5)]
        for other in others:
            other.execute("SELECT 1")
        for other in others:
            other.commit()
        for _ in range(5):
            with pytest.raises(ServerUnsupported, match="pooler"):
                connect(through(database, port))
        for other in others:
            other.close()


def test_session_mode_is_used(field_db: Database, tmp_path: Path) -> None:
    with pooled(field_db, "session") as port:
        for name, job in jobs(through(field_db, port), tmp_path).items():
            if name in ("undo", "restore"):  # there is no such run; and a pool holds connections to what is renamed
                continue
            try:
                job()
            except ScannerDbError as error:
                raise AssertionError(name) from error
        where = f"host=127.0.0.1 port={port} user=postgres dbname={field_db.name}"
        with psycopg.connect(where, autocommit=True) as client:
            assert client.execute(STATE).fetchall() == []
