"""Nothing is waited for without an end: servers that stop answering, locks, connections that are used up."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb import connection
from scannerdb.connection import Options, connect, scalar
from scannerdb.errors import ConnectionFailed, ScannerDbError
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import fix
from scannerdb.jobs.info import info
from scannerdb.jobs.schema import schema
from scannerdb.lockbudget import Budget

from tests.integration.support import NO_BACKUP, options, run_backup, run_restore, run_vacuum, run_verify
from tests.servers import Database


class Relay:
    """A line to the server that can be made to swallow everything, while it stays open."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    target.close()
                    return
                if self.open.is_set():
                    target.sendall(data)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


@pytest.fixture
def relay(database: Database) -> Iterator[Relay]:
    """A relay before the test's server."""
    made = Relay(f"{database.server.socket_dir}/.s.PGSQL.{database.server.port}")
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's limit lies half a second above the server's, so that the test does not take half a minute."""
    monkeypatch.setattr(connection, "LOOK_S", 0.5)


def test_a_line_that_swallows_everything(database: Database, relay: Relay, impatient: None) -> None:
    login = options(database, host="127.0.0.1", unix_socket="", port=relay.port, ssl_mode="disable")
    with contextlib.closing(connect(login, statement_timeout_s=1)) as conn:
        assert scalar(conn, "SELECT 1") == 1
        relay.open.clear()
        with pytest.raises(ConnectionFailed), connection.explained("Asking"):
            scalar(conn, "SELECT 1")
        assert conn.closed


def test_a_server_process_that_is_frozen(database: Database, impatient: None) -> None:
    with contextlib.closing(connect(options(database), statement_timeout_s=1)) as conn:
        pid = conn.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionFailed), connection.explained("Asking"):
                scalar(conn, "SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_long_statement_within_its_limit_is_left_alone(database: Database, impatient: None) -> None:
    with contextlib.closing(connect(options(database), statement_timeout_s=5)) as conn:
        assert scalar(conn, "SELECT 1 FROM pg_sleep(3)") == 1


def test_both_sides_look_for_each_other(database: Database) -> None:
    """Together below a minute: silence, then so many unanswered questions; and what was sent and not received."""
    server = database.server
    login = options(database, host="127.0.0.1", unix_socket="", port=server.port, password=server.password)
    with contextlib.closing(connect(login)) as conn:
        names = ("idle", "interval", "count")
        idle, interval, count = (int(scalar(conn, f"SHOW tcp_keepalives_{name}").rstrip("s")) for name in names)
        assert idle + interval * count <= 50
        assert scalar(conn, "SHOW tcp_user_timeout") == "45000"
        with socket.socket(fileno=os.dup(conn.fileno())) as line:
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            asked = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            mine = [line.getsockopt(socket.IPPROTO_TCP, what) for what in asked]
            assert mine[0] + mine[1] * mine[2] <= 50
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45000


def test_a_deadline_holds_for_what_stops_no_writer_too(field_db: Database) -> None:
    """CREATE INDEX CONCURRENTLY waits for every older transaction; here for one that does not end."""
    planned = fix(options(field_db), safety=NO_BACKUP, check_mode=True)
    assert any("CONCURRENTLY" in text for text in planned["statements"])
    started = time.monotonic()
    with field_db.connect(autocommit=False) as idle:
        idle.execute("LOCK TABLE models, benchmark_results, endpoints IN ROW EXCLUSIVE MODE")
        done = fix(options(field_db), safety=NO_BACKUP, budget=Budget(deadline_s=1.0))
        idle.rollback()
    assert time.monotonic() - started < 100, "an hour was the limit"
    assert "schema.index.missing" in {item["id"] for item in done["left_undone"]}
    fix(options(field_db), safety=NO_BACKUP)
    assert not field_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid")


def test_a_backup_with_few_connections_left(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE ROLE limited LOGIN CONNECTION LIMIT 4 IN ROLE pg_read_all_data")
    made = run_backup(options(database, user="limited"), backup_dir=str(tmp_path / "b"), jobs=4)
    assert made["changed"]
    assert any("one worker in place of 4" in text for text in made["warnings"])
    again = run_backup(options(database), backup_dir=str(tmp_path / "b"), jobs=4)
    assert not any("worker" in text for text in again["warnings"])


def _jobs(login: Options, folder: Path) -> dict[str, Callable[[], Any]]:
    sets = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s")}
    return {
        "check": lambda: check(login),
        "info": lambda: info(login),
        "schema": lambda: schema(login),
        "fix": lambda: fix(login, safety=NO_BACKUP),
        "vacuum": lambda: run_vacuum(login),
        "backup": lambda: run_backup(login, **sets),
        "verify": lambda: run_verify(login, **sets),
        "restore": lambda: run_restore(login, source="latest", confirm=login.db, grace_s=0, **sets),
    }


def test_sessions_that_die_anywhere_give_sentences(field_db: Database, tmp_path: Path) -> None:
    """Whenever an administrator ends our sessions, each job says so; what else it raises would be a fault of ours."""
    run_backup(options(field_db), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'scannerdb %'"
    dice = random.Random(20)
    over = threading.Event()

    def kill() -> None:
        with field_db.connect(dbname="postgres") as conn:
            while not over.is_set():
                time.sleep(dice.uniform(0, 0.25))
                conn.execute(query)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for job in _jobs(options(field_db), tmp_path).values():
            for _ in range(4):
                with contextlib.suppress(ScannerDbError):
                    job()
    finally:
        over.set()
        killer.join()
    assert check(options(field_db))["server"]
