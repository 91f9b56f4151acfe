"""Restores that the world stops: full disks, crashed servers, damaged sources. The live database is untouched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from scannerdb import process
from scannerdb.errors import BackupInvalid, FileProblem, RestoreRefused, ScannerDbError, ToolFailed, ToolMissing
from scannerdb.load import validation
from scannerdb.restore import build, plan

from demo.server import Server
from tests import servers
from tests.backup_sets import add_file, add_hidden_file, add_link, replace_by_folder, replace_by_link
from tests.integration.backup.backup_support import cut, empty, flip, grow
from tests.integration.own_server import crash, own_databases, own_db, own_server, small_disk, wait_for
from tests.integration.restore.restore_support import ROOT, damage, databases, maintenance, old_dump, options, state
from tests.integration.support import run_backup, run_restore, run_verify
from tests.servers import Database, Databases

__all__ = ["own_databases", "own_db", "own_server"]


def run(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    values = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "source": "latest",
        "confirm": db.name,
        "grace_s": 0,
        "lock_wait_s": 60,
    }
    return run_restore(options(db), **{**values, **more})


# --- full disks


@contextlib.contextmanager
def small_home(db: Database, folder: Path) -> Iterator[None]:
    """The database lies on a small disk for the block: a second one does not fit on it, but an empty one does."""
    with maintenance(db) as conn:
        sizes = conn.execute("SELECT pg_database_size(%s), pg_database_size('template0')", [db.name]).fetchone()
    with small_disk(folder, sizes[0] + sizes[1] // 2):  # an empty database has holes
        try:
            with maintenance(db) as conn:
                conn.execute(SQL("CREATE TABLESPACE small LOCATION {}").format(str(folder)))
                conn.execute(SQL("ALTER DATABASE {} SET TABLESPACE small").format(Identifier(db.name)))
            yield
        finally:
            with maintenance(db) as conn:
                conn.execute(SQL("ALTER DATABASE {} SET TABLESPACE pg_default").format(Identifier(db.name)))
                conn.execute("DROP TABLESPACE small")


@pytest.mark.parametrize("when", ["before", "midway"])
def test_the_servers_disk_is_full(
    own_databases: Databases, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = own_databases(filled=True)
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    if when != "before":
        monkeypatch.setattr(plan, "check_room", lambda *_: None)
    kinds = {"before": FileProblem, "midway": ScannerDbError}  # in the load, or where the loaded one is looked at
    with small_home(db, own_databases.server.home / f"small-{when}"):
        before, names = state(db), databases(db)
        with pytest.raises(kinds[when], match=r"No space left|a second database needs"):
            run(db, tmp_path, prebackup=False)
        assert (state(db), databases(db)) == (before, names)


def test_a_drill_looks_for_room_where_the_database_lies(own_databases: Databases, tmp_path: Path) -> None:
    db = own_databases(filled=True)
    with small_home(db, own_databases.server.home / "small-drill"):
        run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
        names = databases(db)
        for check in (True, False):
            with pytest.raises(FileProblem, match="a second database needs"):
                run_verify(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), check_mode=check)
        assert databases(db) == names


def test_the_backups_disk_is_full(own_db: Database, tmp_path: Path) -> None:
    dump = old_dump(own_db, tmp_path / "x")
    before, names = state(own_db), databases(own_db)
    with small_disk(tmp_path / "small", 96 << 10) as folder:
        (folder / "filler").write_bytes(b"x" * (80 << 10))
        with pytest.raises(RestoreRefused, match=r"backup before the restore failed|space"):
            run(own_db, folder, source=str(dump))
    assert (state(own_db), databases(own_db)) == (before, names)


# --- crashed servers


def test_the_server_crashes_during_the_load(
    own_db: Database, own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(own_db), databases(own_db)
    honest = build.load_archive

    def load(work: Any, wanted: Any, roles: Any, tick: Any) -> Any:
        return honest(work, wanted, roles, lambda: crash(own_server) if own_server.pid else None)

    monkeypatch.setattr(process, "TICK_S", 0.02)
    monkeypatch.setattr(build, "load_archive", load)
    monkeypatch.setattr(build, "RECONNECT_S", 0.1)
    try:
        with pytest.raises(ScannerDbError):
            run(own_db, tmp_path, prebackup=False)
    finally:
        own_server.start()
    assert state(own_db) == before
    monkeypatch.undo()
    own_db.sql("DELETE FROM models")
    result = run(own_db, tmp_path, prebackup=False)
    assert state(own_db) == before
    assert databases(own_db) == {*names, result["restore"]["previous_database"]}


def test_the_server_crashes_in_the_cutover(own_db: Database, own_server: Server, tmp_path: Path) -> None:
    """While the database is closed, and the block waits for a session that nobody may end."""
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(own_db), databases(own_db)
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r} + '/module_utils', {str(ROOT)!r}]\n"
        "from scannerdb.connection import Options\n"
        "from scannerdb.jobs import restore as job\n"
        "from scannerdb.restore import options, switch\n"
        "switch.check_sessions = job.check_sessions = lambda *_: []\n"
        f"asked = options.RestoreOptions(backup_dir={str(tmp_path)!r}, source='latest',"
        f" state_dir={str(tmp_path / 'state')!r}, confirm={own_db.name!r}, grace_s=0, prebackup=False)\n"
        f"job.restore({options(own_db)!r}, asked)\n"
    )
    with own_db.connect():
        child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        try:
            with maintenance(own_db) as watch:
                wait_for(
                    lambda: watch.execute(
                        "SELECT NOT datallowconn FROM pg_database WHERE datname = %s", [own_db.name]
                    ).fetchone()[0]
                )
            crash(own_server)
            child.wait(120)
        finally:
            child.kill()
            own_server.start()
    assert child.returncode == 1
    result = run(own_db, tmp_path, state="restored", prebackup=False)
    assert state(own_db) == before
    assert databases(own_db) == {*names, result["restore"]["previous_database"]}


def test_a_server_process_is_killed_and_the_server_restarts_itself(
    own_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(own_db), databases(own_db)

    honest = validation.count_rows

    def kill(side: Any, tables: Any) -> Any:
        os.kill(side.info.backend_pid, signal.SIGKILL)
        with contextlib.suppress(psycopg.Error):  # the server ends all sessions, and comes back
            wait_for(lambda: not side.execute("SELECT true").fetchone())
        return honest(side, tables)

    def answers() -> bool:
        try:
            return bool(own_db.value("SELECT true"))
        except psycopg.OperationalError:
            return False

    monkeypatch.setattr(validation, "count_rows", kill)
    with pytest.raises(ScannerDbError):
        run(own_db, tmp_path, prebackup=False)
    monkeypatch.undo()

    wait_for(answers)
    assert state(own_db) == before
    result = run(own_db, tmp_path, prebackup=False)
    assert databases(own_db) == {*names, result["restore"]["previous_database"]}


# --- damaged sources, on the shared server of one version


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Any:
    """A small copy of the field's database on one server: what a source is does not depend on the version."""
    factory = Databases(pool, pool.server(servers.asked_version(request.config, 17)))
    yield factory
    factory.clean()


@pytest.fixture
def databases_below(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[Databases]:
    """On a server that is older than 18, where the other one of a pair is 18 or newer."""
    factory = Databases(pool, pool.server(min(17, servers.asked_version(request.config, 17))))
    yield factory
    factory.clean()


def biggest(path: Path) -> Path:
    return max(path.joinpath("dump").iterdir(), key=lambda p: p.stat().st_size)


def edit_manifest(path: Path) -> None:
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": ', '"rows": 1'))


def swap_files(path: Path) -> None:
    first, second, *_ = sorted(path.joinpath("dump").glob("*.dat*"))
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def no_dump(path: Path) -> None:
    shutil.rmtree(path / "dump")


HARMS: dict[str, Callable[[Path], None]] = {
    "data flipped": lambda path: flip(biggest(path)),
    "data cut": lambda path: cut(biggest(path)),
    "data grown": lambda path: grow(biggest(path)),
    "data emptied": lambda path: empty(biggest(path)),
    "data gone": lambda path: biggest(path).unlink(),
    "contents flipped": lambda path: flip(path / "dump" / "toc.dat"),
    "contents cut": lambda path: cut(path / "dump" / "toc.dat"),
    "contents gone": lambda path: (path / "dump" / "toc.dat").unlink(),
    "roles flipped": lambda path: flip(path / "globals.sql"),
    "manifest edited": edit_manifest,
    "manifest cut": lambda path: cut(path / "manifest.json"),
    "manifest gone": lambda path: (path / "manifest.json").unlink(),
    "files swapped": swap_files,
    "a file added": add_file,
    "a hidden file added": add_hidden_file,
    "a link added": add_link,
    "a file is a link": replace_by_link,
    "a file is a folder": replace_by_folder,
    "dump gone": no_dump,
}


def test_every_kind_of_damage_to_a_set(one: Databases, tmp_path: Path) -> None:
    db = one(filled=True)
    made = Path(run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))["backup"]["path"])
    whole = tmp_path / "whole"
    shutil.copytree(made, whole)
    damage(db)
    before, names = state(db), databases(db)
    for what, harm in HARMS.items():
        shutil.rmtree(made)
        shutil.copytree(whole, made)
        harm(made)
        with pytest.raises((BackupInvalid, RestoreRefused)) as caught:  # an edited manifest is nobody's
            run(db, tmp_path, source=made.name, state_dir=str(tmp_path / "state"))
        assert str(caught.value).endswith("."), what
        assert (state(db), databases(db)) == (before, names), what


def test_a_set_of_a_newer_server(
    request: pytest.FixtureRequest, pool: servers.Pool, databases_below: Databases, tmp_path: Path
) -> None:
    """Its tools are needed, and what only the newer server knows stops the restore."""
    above = max(18, servers.asked_version(request.config, 18))
    newer = Databases(pool, pool.server(above))
    try:
        source = newer(filled=True)
        source.sql("CREATE TABLE novel (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)")
        dump = str(old_dump(source, tmp_path / "x"))
    finally:
        newer.clean()
    db = databases_below(filled=True)
    before, names = state(db), databases(db)
    with pytest.raises(ToolMissing, match=f"made by pg_dump {above}"):
        run(db, tmp_path, source=dump)
    with pytest.raises(ToolFailed, match=r"novel|VIRTUAL|syntax error"):
        run_restore(
            options(db, pg_bin_dir=str(servers.find_bin_dir(above))),
            backup_dir=str(tmp_path),
            state_dir=str(tmp_path / "state"),
            source=dump,
            confirm=db.name,
            grace_s=0,
            prebackup=False,
        )
    assert (state(db), databases(db)) == (before, names)


def test_another_databases_dump(one: Databases, tmp_path: Path) -> None:
    db, other = one(filled=True), one("cats")
    other.sql("CREATE TABLE cats (name text)")
    dump = str(old_dump(other, tmp_path / "x"))
    before, names = state(db), databases(db)
    told = run(db, tmp_path, source=dump, check_mode=True)
    assert any("named 'cats'" in warning for warning in told["warnings"])
    with pytest.raises(ScannerDbError, match=r"lacks what the database must have: schema\.table\.missing"):
        run(db, tmp_path, source=dump, prebackup=False)
    assert (state(db), databases(db)) == (before, names)


# --- killed: clones and single tables too

CHILD = """
import sys
sys.path[:0] = [{root!r} + "/module_utils", {root!r}]
from scannerdb.connection import Options
from scannerdb.jobs import restore
from scannerdb.restore import {module} as room
from scannerdb.restore.options import RestoreOptions
import os, signal
room.{place} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
asked = RestoreOptions(backup_dir={folder!r}, state_dir={folder!r} + "/state", source="latest", **{more!r})
restore.restore({options!r}, asked)
"""


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("cloning", "mask"),
        ("cloning", "switched"),
        ("tables", "_regroup"),
        ("tables", "load_script"),
        ("tables", "clear_up"),
    ],
)
def test_clones_and_tables_killed(one: Databases, tmp_path: Path, module: str, place: str) -> None:
    db = one(filled=True)
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    script = tmp_path / "mask.sql"
    script.write_text("UPDATE endpoints SET ip = md5(ip);", encoding="utf-8")
    more = {"confirm": "dev", "into_database": "dev", "masking_sql": str(script)}
    if module == "tables":
        more = {"confirm": db.name, "tables": ["models"], "into_schema": "old"}
    before, names = state(db), databases(db)
    words = {"root": str(ROOT), "module": module, "place": place, "options": options(db), "folder": str(tmp_path)}
    died = subprocess.run([sys.executable, "-c", CHILD.format(more=more, **words)], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    if place != "clear_up":  # then the tables had arrived
        assert state(db) == before
    db.sql("DROP SCHEMA IF EXISTS old CASCADE")
    run_restore(
        options(db),
        backup_dir=str(tmp_path),
        state_dir=str(tmp_path / "state"),
        source="latest",
        lock_wait_s=60,
        **more,
    )
    assert databases(db) == names | ({"dev"} if "into_database" in more else set())
    assert not list(tmp_path.glob(".*")), "no debris"


def test_two_at_once(one: Databases, tmp_path: Path) -> None:
    """One waits for the other; both end well, and nothing is left over."""
    db = one(filled=True)
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(db), databases(db)
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(db, tmp_path, prebackup=False, grace_s=30)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state(db) == before
    assert databases(db) == names | {result["restore"]["previous_database"] for result in results}
    assert len(results) == 2
