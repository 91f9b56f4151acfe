"""The cutover on real servers: killed clients, crashes, sessions that stay, clients at full speed; and healing."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.connection import connect
from scannerdb.errors import ConnectionFailed, RestoreRefused
from scannerdb.restore import plan
from scannerdb.restore.cutover import Switch, switch_over
from scannerdb.restore.cutover_waker import CutoverWaker
from scannerdb.restore.heal import diagnose, find, heal, set_comment
from scannerdb.restore.marks import DatabaseMark, kept_name, side_name

from tests.integration.restore.restore_support import databases, maintenance, oid, old_dump, options, state
from tests.integration.support import run_restore, wait_until
from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]
RUN = "20250418T031500Z-0a1b2c3d"
HOSTILE = [None, "we\"ird; drop \\ 'x", "ü" + "x" * 61]


def is_open(db: Database, name: str = "") -> bool:
    with maintenance(db) as conn:
        row = conn.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [name or db.name]).fetchone()
    return bool(row and row[0])


def prepare(db: Database, **more: Any) -> Switch:
    """A side database as a restore would leave it just before its cutover, and the switch that follows."""
    mark = DatabaseMark("side", db.name, RUN, "2025-04-18T03:15:00Z", "a test")
    side = side_name(db.name, RUN)
    with connect(options(db), dbname="postgres") as conn:
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(side)))
        set_comment(conn, side, mark.text())
    kept = DatabaseMark("kept", db.name, RUN, mark.at, mark.source, comment="as it was")
    values = {"live_exists": True, "comment": "the new one", "patience_s": 60.0, **more}
    return Switch(live=db.name, incoming=side, kept=kept_name(db.name, RUN), mark=mark, kept_mark=kept, **values)


CHILD = """
import sys
sys.path[:0] = [{root!r} + "/module_utils", {root!r}]
import psycopg
from psycopg.rows import dict_row
from scannerdb.restore.cutover import Switch, switch_over
from scannerdb.restore.marks import DatabaseMark
import scannerdb.restore.cutover as cutover
cutover.SETTINGS.update({settings!r})
# From the start: a change of the interval counts only when the timer that runs has fired.
watched = "-c client_connection_check_interval=100ms"
conn = psycopg.connect(**{login!r}, options=watched, application_name="child", autocommit=True, row_factory=dict_row)
switch_over(conn, {switch!r})
"""


@contextlib.contextmanager
def in_a_child(db: Database, switch: Switch, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    login = {**db.kwargs, "dbname": "postgres"}
    login = {word: str(value) for word, value in login.items()}
    code = CHILD.format(root=str(ROOT), login=login, switch=switch, settings=settings)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def blocks_at_work(database: Database) -> int:
    """How many sessions of a child there are."""
    with maintenance(database) as conn:
        return len(conn.execute("SELECT FROM pg_stat_activity WHERE application_name = 'child'").fetchall())


@pytest.mark.parametrize("database", HOSTILE, indirect=True)
def test_the_block_finishes_without_its_client(database: Database) -> None:
    switch = prepare(database)
    old, new = oid(database), oid(database, switch.incoming)
    with database.connect() as client, in_a_child(database, switch, {}) as child:
        wait_until(lambda: not is_open(database))  # closed, and waiting for the session to go
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(1)  # several times the interval at which the server looks for its client
        assert not is_open(database)
        client.close()
        wait_until(lambda: oid(database) == new and is_open(database))
    assert oid(database, switch.kept) == old
    assert is_open(database, switch.kept)


def test_that_test_can_fail(database: Database) -> None:
    """With the check for dead clients left on, the killed client takes the block with it; the next run heals."""
    switch = prepare(database)
    old = oid(database)
    settings = {"client_connection_check_interval": "100ms"}
    with database.connect() as client, in_a_child(database, switch, settings) as child:
        wait_until(lambda: not is_open(database))
        child.send_signal(signal.SIGKILL)
        child.wait()
        wait_until(lambda: not blocks_at_work(database))
        client.close()
    assert oid(database) == old
    assert not is_open(database)
    with connect(options(database), dbname="postgres") as conn:
        assert heal(conn, database.name)
    assert is_open(database)


def test_sessions_that_stay_put_everything_back(database: Database) -> None:
    switch = prepare(database, patience_s=0.5)
    old = oid(database)
    with database.connect(application_name="stubborn") as client:
        with connect(options(database), dbname="postgres") as conn:
            with pytest.raises(RestoreRefused, match=r"sessions remain: 'postgres' \('stubborn'\)"):
                switch_over(conn, switch)
            assert conn.execute("SHOW client_connection_check_interval").fetchone() == {
                "client_connection_check_interval": "10s"
            }
        assert client.execute("SELECT 1").fetchone() == (1,)
    assert oid(database) == old
    assert is_open(database)
    assert is_open(database, switch.incoming)
    assert database.value("SELECT 1") == 1


def test_what_no_list_of_sessions_shows_is_waited_for(database: Database) -> None:
    """A prepared transaction counts for RENAME and is no session: so does a client that was just turned away."""
    switch = prepare(database)
    new = oid(database, switch.incoming)
    with database.connect() as client:
        client.execute("BEGIN")
        client.execute("PREPARE TRANSACTION 'half'")
    with in_a_child(database, switch, {}):
        wait_until(lambda: not is_open(database), 60)
        time.sleep(0.3)
        assert oid(database) != new
        with maintenance(database) as other:
            other.execute(SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(Identifier(database.name)))
        database.sql("ROLLBACK PREPARED 'half'")
        wait_until(lambda: oid(database) == new and is_open(database), 60)


def test_nudges_end_the_servers_naps(database: Database) -> None:
    """A RENAME that waits in vain looks fifty times, 100 ms apart: without nudges it never takes less than 5 s."""
    target = SQL("ALTER DATABASE {} RENAME TO other").format(Identifier(database.name))
    took = [60.0]
    with database.connect(), connect(options(database), dbname="postgres") as conn:
        while min(took) >= 5 and len(took) < 6:  # a busy machine may make one attempt long
            with CutoverWaker(conn, options(database), RUN), pytest.raises(psycopg.errors.ObjectInUse):
                begun = time.monotonic()
                conn.execute(target)
            took.append(time.monotonic() - begun)
        assert min(took) < 5, took
        assert conn.execute("SELECT pg_listening_channels()").fetchall() == []


def test_a_name_in_the_way_puts_everything_back(database: Database) -> None:
    switch = prepare(database, terminate=True)
    old = oid(database)
    with connect(options(database), dbname="postgres") as conn:
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(switch.kept)))
        with pytest.raises(RestoreRefused, match="already exists"):
            switch_over(conn, switch)
        assert not [f for f in find(conn, database.name) if f.mark and f.mark.switching]
    assert oid(database) == old
    assert is_open(database)


@pytest.mark.parametrize("database", HOSTILE, indirect=True)
def test_a_crash_in_the_middle_is_healed(database: Database) -> None:
    """The block's own server process is ended while the database is closed, as a crash of the server would."""
    switch = prepare(database)
    old = oid(database)
    with database.connect() as client, connect(options(database), dbname="postgres") as conn:
        problem: list[BaseException] = []

        def cut() -> None:
            try:
                switch_over(conn, switch)
            except ConnectionFailed as error:
                problem.append(error)

        thread = threading.Thread(target=cut)
        thread.start()
        wait_until(lambda: not is_open(database))
        with maintenance(database) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [conn.info.backend_pid])
        thread.join()
        client.close()
    assert problem
    assert not is_open(database)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        database.connect()
    with connect(options(database), dbname="postgres") as conn:
        assert len(diagnose(find(conn, database.name), database.name)) == 2
        told = heal(conn, database.name)
        assert len(told) == 2
        assert heal(conn, database.name) == []
    assert oid(database) == old
    assert is_open(database)
    assert switch.incoming not in databases(database)


def test_a_database_closed_by_its_owner_stays_closed(database: Database) -> None:
    with connect(options(database), dbname="postgres") as conn:
        conn.execute(SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(Identifier(database.name)))
        assert heal(conn, database.name) == []
    assert not is_open(database)


def test_other_peoples_databases_are_left_alone(database: Database) -> None:
    """Names like ours, but a comment of somebody else's, or content: neither is removed."""
    with connect(options(database), dbname="postgres") as conn:
        names = [side_name(database.name, f"20250418T031500Z-{digit * 8}") for digit in "123"]
        for name in names:
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
        set_comment(conn, names[0], "mine")
        with database.connect(dbname=names[1]) as other:
            other.execute("CREATE TABLE mine ()")
        told = heal(conn, database.name, options(database))
        assert len(told) == 1
    assert set(names) - databases(database) == {names[2]}


def _speed(db: Database, stop: threading.Event, seen: list[tuple[float, int]], odd: list[str]) -> None:
    while not stop.is_set():
        try:
            with db.connect() as conn:
                row = conn.execute(
                    "SELECT d.oid, (SELECT count(*) FROM models) FROM pg_database d WHERE datname = current_database()"
                ).fetchone()
                seen.append((time.monotonic(), row[1]))
        except psycopg.OperationalError as error:
            known = ("accepting connections", "terminating connection", "dropped or renamed", "server closed")
            if not any(text in str(error) for text in known):
                odd.append(str(error))


@contextlib.contextmanager
def at_full_speed(db: Database) -> Iterator[list[list[tuple[float, int]]]]:
    """Four clients connect for the block as fast as they can; what each saw, in order. They meet no odd errors."""
    stop = threading.Event()
    seen: list[list[tuple[float, int]]] = [[] for _ in range(4)]
    odd: list[str] = []
    threads = [threading.Thread(target=_speed, args=(db, stop, mine, odd)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        yield seen
        had = [len(mine) for mine in seen]
        wait_until(lambda: all(len(mine) > before for mine, before in zip(seen, had, strict=True)), 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert odd == []


def test_clients_at_full_speed_see_the_old_or_the_new(field_db: Database, tmp_path: Path) -> None:
    dump = old_dump(field_db, tmp_path / "x")
    whole = field_db.value("SELECT count(*) FROM models")
    field_db.sql("DELETE FROM models WHERE id % 2 = 0")
    half = field_db.value("SELECT count(*) FROM models")
    more: dict[str, Any] = {"terminate": True, "grace_s": 0, "prebackup": False}
    with at_full_speed(field_db) as seen:
        result = run_restore(
            options(field_db),
            backup_dir=str(tmp_path),
            state_dir=str(tmp_path / "state"),
            source=str(dump),
            confirm=field_db.name,
            **more,
        )
    for mine in seen:
        counts = [count for _, count in mine]
        assert set(counts) == {half, whole}
        assert counts == sorted(counts), "nobody goes back"
    assert result["restore"]["cutover_ms"] > 0


def test_clients_at_full_speed_beside_a_cutover_that_fails(
    field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is closed, the rename fails, and it is open again: they lose a connection, and nothing else."""
    dump = old_dump(field_db, tmp_path / "x")
    field_db.sql("DELETE FROM models WHERE id % 2 = 0")
    half = field_db.value("SELECT count(*) FROM models")
    with maintenance(field_db) as conn:
        conn.execute("CREATE DATABASE in_the_way TEMPLATE template0")
    monkeypatch.setattr(plan, "kept_name", lambda *_: "in_the_way")
    before, names = state(field_db), databases(field_db)
    more: dict[str, Any] = {"terminate": True, "grace_s": 0, "prebackup": False}
    with at_full_speed(field_db) as seen, pytest.raises(RestoreRefused, match="open again under its own name"):
        run_restore(
            options(field_db),
            backup_dir=str(tmp_path),
            state_dir=str(tmp_path / "state"),
            source=str(dump),
            confirm=field_db.name,
            **more,
        )
    assert {count for mine in seen for _, count in mine} == {half}
    assert (state(field_db), databases(field_db)) == (before, names)
