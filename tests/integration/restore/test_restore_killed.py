"""Restores that end at any step, because they are killed or the server crashes: the live database is as it was, to
the byte, until the cutover, and as the backup from then on; the next run puts the rest right."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.restore import build
from scannerdb.runs import Run

from demo.server import Server
from tests import servers
from tests.integration.own_server import crash, own_databases, own_db, own_server
from tests.integration.restore.restore_support import ROOT, damage, databases, old_dump, options, state
from tests.integration.support import run_backup, run_fix, run_restore, wait_until
from tests.servers import Database, Databases

__all__ = ["own_databases", "own_db", "own_server"]

# A restore that kills itself: when it says for the n-th time that it is at a step, just before it calls a function, or
# when psql has got half of a script.
CHILD = """
import importlib, os, signal, sys
root, where, times, login, words = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4]), eval(sys.argv[5])
sys.path[:0] = [root + "/module_utils", root]
from scannerdb import process
from scannerdb.connection import Options
from scannerdb.jobs.restore import restore
from scannerdb.load import sql_file
from scannerdb.restore.options import RestoreOptions
from scannerdb.runs import Run

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half(*arguments):
    for piece in pieces(*arguments):
        yield piece[: len(piece) // 2]
        die()

def progress(self, step, *more, **rest):
    global times
    times -= step == where
    if not times:
        die()

module, _, function = where.rpartition(".")
if where == "half of a script":
    pieces, sql_file._pieces = sql_file._pieces, half
elif module:
    setattr(importlib.import_module("scannerdb." + module), function, die)
else:
    process.TICK_S = 0.01  # a restore tells how far its load is at every tick
    Run.progress = progress
restore(Options(**login), RestoreOptions(**words))
"""
BEFORE = [
    ("jobs.restore.make_plan", 1),
    ("verify", 1),
    ("restore.proof.read_contents", 1),
    ("create", 1),
    ("restore.build.set_comment", 1),  # the side database is there and says nothing of itself
    ("backup", 1),
    ("dump", 1),
    ("hash", 1),
    ("flush", 1),
    ("backup.make.publish", 1),
    ("load", 1),
    ("load", 2),  # while pg_restore is at work
    ("analyze", 1),
    ("validate", 1),
    ("load.validation.count_rows", 1),
    ("fingerprints", 1),
    ("restore.build.read_catalog", 1),
    ("restore.build.write_probe", 1),
    ("jobs.restore.give_properties", 1),
    ("grace", 1),
    ("cutover", 1),
    ("restore.switch.switch_over", 1),
]
AFTER = [("jobs.restore.result_of", 1), ("done", 1)]


def kill(db: Database, folder: Path, where: str, times: int = 1, **more: Any) -> None:
    """Run a restore that dies there."""
    given = options(db)
    login = {word: getattr(given, word) for word in ("unix_socket", "port", "user", "db", "pg_bin_dir")}
    words = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "source": "latest",
        "confirm": db.name,
        "grace_s": 0,
        "lock_wait_s": 60,
        **more,
    }
    command = [sys.executable, "-c", CHILD, str(ROOT), where, str(times), repr(login), repr(words)]
    died = subprocess.run(command, check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, (where, times, died.stderr)
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^(scannerdb|pg_)'"
    wait_until(lambda: not db.value(ours))  # what it was doing has ended


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Any:
    """Databases on one server: what happens when does not depend on its version."""
    factory = Databases(pool, pool.server(servers.asked_version(request.config, 17)))
    yield factory
    factory.clean()


def test_killed_at_every_step(one: Databases, tmp_path: Path) -> None:
    """One database and one folder for all, so that whatever one run left is in the next one's way."""
    db = one(filled=True)
    run_fix(db)  # else the write probe is left out
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), fingerprints=True)
    latest, whole = (tmp_path / "latest.backup").readlink(), state(db)
    damage(db)
    before, names = state(db), databases(db)
    for where, times in BEFORE:
        kill(db, tmp_path, where, times)
        assert state(db) == before, (where, times)
        assert (tmp_path / "latest.backup").readlink() == latest, (where, times)
        assert len(databases(db) - names) <= 1, (where, times)
    for where, times in AFTER:
        kill(db, tmp_path, where, times)
        assert state(db) == whole, (where, times)
    kept = databases(db) - names
    assert len(kept) == len(AFTER)
    for where in ("cutover", "restore.switch.switch_over"):
        kill(db, tmp_path, where, state="undone")
        assert state(db) == whole, where
    result = run_restore(
        options(db),
        backup_dir=str(tmp_path),
        state_dir=str(tmp_path / "state"),
        confirm=db.name,
        grace_s=0,
        state="undone",
        lock_wait_s=60,
    )
    assert databases(db) == names | kept - {result["restore"]["source"]} | {result["restore"]["previous_database"]}
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_killed_in_the_middle_of_a_script(one: Databases, tmp_path: Path) -> None:
    db = one(filled=True)
    dump = old_dump(db, tmp_path / "x.sql", "p")
    damage(db)
    before, names = state(db), databases(db)
    for where, times in (("verify", 1), ("half of a script", 1), ("analyze", 1)):
        kill(db, tmp_path, where, times, source=str(dump), prebackup=False)
        assert state(db) == before, where
    result = run_restore(
        options(db),
        backup_dir=str(tmp_path),
        state_dir=str(tmp_path / "state"),
        source=str(dump),
        confirm=db.name,
        grace_s=0,
    )
    assert databases(db) == {*names, result["restore"]["previous_database"]}


CRASHES = ["verify", "create", "backup", "dump", "load", "analyze", "validate", "grace", "cutover"]


def test_the_server_crashes_at_every_step(
    own_db: Database, own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = own_db
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    damage(db)
    before, names = state(db), databases(db)
    monkeypatch.setattr(build, "RECONNECT_S", 0.1)
    words = {
        "backup_dir": str(tmp_path),
        "state_dir": str(tmp_path / "state"),
        "source": "latest",
        "confirm": db.name,
        "grace_s": 0,
        "lock_wait_s": 60,
    }
    told = Run.progress
    for step in CRASHES:

        def progress(self: Run, now: str, *more: Any, at: str = step, **rest: Any) -> None:
            if now == at and own_server.pid:
                crash(own_server)
            told(self, now, *more, **rest)

        monkeypatch.setattr(Run, "progress", progress)
        try:
            with pytest.raises(ScannerDbError) as caught:
                run_restore(options(db), **words)
        finally:
            monkeypatch.setattr(Run, "progress", told)
            own_server.start()
        assert str(caught.value).endswith("."), (step, str(caught.value))
        assert state(db) == before, step
    result = run_restore(options(db), **words)
    assert databases(db) == {*names, result["restore"]["previous_database"]}
