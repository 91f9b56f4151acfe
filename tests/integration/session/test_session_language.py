"""Servers that speak another language: what is decided is decided by codes and by the catalog."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.backup import make
from scannerdb.connection import connect
from scannerdb.errors import AuthenticationFailed, ConnectionFailed, DatabaseMissing, PrivilegeMissing, ScannerDbError
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.signing import Trust

from tests.integration.support import options, run_backup, run_restore, run_verify
from tests.servers import FAST, Database, find_bin_dir, lone_server, make_home

LANGUAGES = {"de_DE.UTF-8": "existiert nicht", "ja_JP.UTF-8": "存在しません"}
HBA = "local all guarded scram-sha-256\nlocal all turned_away reject\n"
VERSION = 15  # the distribution's server has its translations, PyPI's have none


@pytest.fixture(scope="module", params=LANGUAGES)
def foreign(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of a server that speaks German or Japanese."""
    bin_dir = find_bin_dir(VERSION)
    assert bin_dir, "PostgreSQL 15 is not installed"
    home = make_home("scannerdb-loc-")
    name, charset = request.param.split(".")
    subprocess.run(["localedef", "-i", name, "-f", charset, "--no-archive", str(home / request.param)], check=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(home))
        home.chmod(0o755)
        with lone_server(bin_dir, {**FAST, "lc_messages": request.param}, HBA) as database:
            made = Database(database.server, "fremd")
            database.sql("CREATE DATABASE fremd")
            database.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'")
            database.sql("CREATE ROLE turned_away LOGIN")
            database.sql("CREATE ROLE uninvited LOGIN")
            made.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 100000) i")
            with pytest.raises(Exception, match=LANGUAGES[request.param]):
                made.sql("SELECT * FROM nothing")
            yield made
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize(
    ("login", "kind"),
    [
        ({"db": "absent"}, DatabaseMissing),
        ({"user": "absent"}, AuthenticationFailed),
        ({"user": "guarded", "password": "wrong"}, AuthenticationFailed),
        ({"user": "turned_away"}, AuthenticationFailed),
        ({"user": "uninvited", "db": "closed"}, ConnectionFailed),
        ({"user": "uninvited", "db": "private"}, PrivilegeMissing),
        ({"user": "uninvited", "db": "full"}, ConnectionFailed),
    ],
)
def test_why_a_connection_is_refused(foreign: Database, login: dict[str, Any], kind: type[Exception]) -> None:
    for statement in (
        "DROP DATABASE IF EXISTS closed",
        "DROP DATABASE IF EXISTS private",
        "DROP DATABASE IF EXISTS full",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "CREATE DATABASE private",
        "REVOKE CONNECT ON DATABASE private FROM public",
        'CREATE DATABASE "full" CONNECTION LIMIT 0',
    ):
        foreign.sql(statement.replace("EXISTS full", 'EXISTS "full"'))
    with pytest.raises(ScannerDbError) as caught:
        connect(options(foreign, **login))
    assert type(caught.value) is kind
    assert "cannot be reached" not in str(caught.value)


def test_a_dropped_database_comes_back(foreign: Database, tmp_path: Path) -> None:
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    run_backup(options(foreign), **folder)
    Database(foreign.server, "postgres").sql("DROP DATABASE fremd WITH (FORCE)")
    accepted = ["schema.table.missing", "schema.view.missing"]  # it is none of the scanner's
    done = run_restore(options(foreign), source="latest", confirm="fremd", grace_s=0, accept=accepted, **folder)
    assert done["changed"]
    assert foreign.value("SELECT count(*) FROM t") == 100000


@pytest.mark.parametrize("login", ["postgres", "maintainer"])
def test_a_session_that_an_administrator_ends_is_no_mark_against_a_set(
    foreign: Database, tmp_path: Path, login: str
) -> None:
    """Also for a role whose sessions cannot be made to speak English."""
    foreign.sql("DROP ROLE IF EXISTS maintainer")
    foreign.sql("CREATE ROLE maintainer LOGIN CREATEDB IN ROLE pg_read_all_data, pg_signal_backend, pg_monitor")
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    foreign.sql("DROP TABLE IF EXISTS slow")
    foreign.sql("CREATE TABLE slow AS SELECT i, repeat(md5(i::text), 20) AS m FROM generate_series(1, 150000) i")
    foreign.sql("CREATE INDEX ON slow (md5(md5(md5(m))))")
    path = run_backup(options(foreign), **folder)["backup"]["path"]
    foreign.sql("DROP TABLE slow")
    over = threading.Event()
    killer = threading.Thread(target=_end_loads, args=(foreign, over))
    killer.start()
    try:
        run_verify(options(foreign, user=login), **folder)
    except ScannerDbError:
        pass  # it says that nothing was proven
    finally:
        over.set()
        killer.join()
    assert not load_set(Path(path), Trust(folder["state_dir"])).damaged
    assert run_verify(options(foreign), **folder)["verification"]["passed"]
    assert load_set(Path(path), Trust(folder["state_dir"])).verified == "restore"


def test_a_dump_that_meets_a_strong_lock_is_tried_again(
    foreign: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the language in which pg_dump and pg_dumpall are told of it."""
    foreign.sql("DROP ROLE IF EXISTS maintainer")
    foreign.sql("CREATE ROLE maintainer LOGIN IN ROLE pg_read_all_data, pg_monitor")
    original, calls = make.run_dump, []

    def queue_up_first(*words: Any, **more: Any) -> None:
        calls.append(words)
        if len(calls) > 1:
            return original(*words, **more)
        with foreign.connect(autocommit=False, options="-c lock_timeout=20s") as holder:
            waiting = threading.Thread(target=_lock, args=(holder,))
            waiting.start()
            while not foreign.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                time.sleep(0.01)
            try:
                return original(*words, **more)
            finally:
                holder.cancel()
                waiting.join()

    monkeypatch.setattr(make, "run_dump", queue_up_first)
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    made = run_backup(options(foreign, user="maintainer"), **folder)
    assert len(calls) > 1 and made["backup"]["verified"] == "read"
    with foreign.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE pg_auth_members IN ACCESS EXCLUSIVE MODE")
        threading.Timer(3.0, holder.rollback).start()
        made = run_backup(options(foreign, user="maintainer"), **folder)
    assert made["backup"]["globals"]


def _lock(holder: Any) -> None:
    with contextlib.suppress(psycopg.Error):
        holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")


def _end_loads(foreign: Database, over: threading.Event) -> None:
    """End whatever loads rows, until it is over."""
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name IN ('scannerdb', 'pg_restore') AND query LIKE ANY (ARRAY['COPY%', 'CREATE INDEX%'])"
    )
    while not over.is_set():
        Database(foreign.server, "postgres").sql(query)
        time.sleep(0.005)
