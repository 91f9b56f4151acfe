"""A backup that is killed, cut off, misled or misplaced, at whatever step: what stood before stands, and the next run
finds nothing in its way."""

from __future__ import annotations

import datetime
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import scannerdb
from scannerdb.backup import make, snapshot
from scannerdb.drill import restore_drill
from scannerdb.errors import BackupInvalid, FileProblem, ScannerDbError
from scannerdb.jobs import backup as job
from scannerdb.runs import utc_now
from scannerdb.sets.catalogue import list_sets
from scannerdb.sets.locate import find_set
from scannerdb.sets.signing import Trust

from tests.backup_sets import make_set
from tests.integration.backup.backup_support import ROWS, children, options_of, run, sessions, visible
from tests.integration.restore.restore_support import databases
from tests.integration.support import run_backup, wait_until
from tests.needs import lack
from tests.servers import Database

pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


# A run that kills itself: when it says that it begins a step, or just before it calls a function.
KILLED = """
import importlib, os, signal, sys
sys.path.insert(0, sys.argv[1])
from scannerdb.backup.options import BackupOptions
from scannerdb.connection import Options
from scannerdb.jobs.backup import backup
from scannerdb.runs import Run

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[3]
module, _, function = where.rpartition(".")
if module:
    setattr(importlib.import_module(module), function, die)
else:
    progress = Run.progress
    Run.progress = lambda self, step, *more, **rest: die() if step == where else progress(self, step, *more, **rest)
backup(Options(**eval(sys.argv[2])), BackupOptions(**eval(sys.argv[4])))
"""
STEPS = [
    "hash",
    "scannerdb.backup.make.write_manifest",
    "scannerdb.backup.make.verify_set",
    "create",  # the drill's scratch database
    "compare",
    "encrypt",
    "flush",
    "scannerdb.backup.make.record_hash",
    "scannerdb.backup.make.publish",
    "scannerdb.backup.make.point_latest",
    "scannerdb.sets.retention.remove_tree",  # an old set is hidden, and not gone
    "scannerdb.sets.retention.forget_hash",
    "done",
]


def test_killed_at_any_step(database: Database, tmp_path: Path) -> None:
    """One database and one folder for all, so that whatever one run left is in the next one's way."""
    database.sql(ROWS)
    folder, state = tmp_path / "b", tmp_path / "s"
    key = ""
    if shutil.which("age-keygen"):
        subprocess.run(["age-keygen", "-o", str(tmp_path / "key")], check=True, capture_output=True)
        key = (tmp_path / "key").read_text(encoding="ascii").partition("public key: ")[2].split()[0]
    words = {"backup_dir": str(folder), "state_dir": str(state), "verify_level": "restore", "retention_min": 1}
    words |= {"retention_days": 1, "age_recipients": [key] if key else []}
    options = options_of(database)
    login = {k: getattr(options, k) for k in ("unix_socket", "port", "user", "db", "pg_bin_dir")}
    package = str(Path(scannerdb.__file__).parents[1])
    before = run_backup(options, **words)["backup"]["name"]
    made = {before}
    for age, step in enumerate(STEPS, start=9):
        if step == "encrypt" and not key:
            continue
        make_set(folder, utc_now() - datetime.timedelta(days=age), database.name)  # for retention
        command = [sys.executable, "-c", KILLED, package, repr(login), step, repr(words)]
        told = subprocess.run(command, check=False, capture_output=True, text=True)
        assert told.returncode == -9, (step, told.stderr)
        sets = {s.name for s in list_sets(folder, database.name, Trust(str(state))).sets if s.verified == "restore"}
        latest = find_set(folder, "latest")
        assert latest.name in sets, step
        assert latest.name == before or step in STEPS[STEPS.index("scannerdb.sets.retention.remove_tree") :], step
        wait_until(lambda: not sessions(database))
        assert made <= sets, step
        made = sets
        before = latest.name
    result = run_backup(options, **words)
    assert not [name for name in visible(folder) if name.startswith(".")]
    assert {s.name for s in list_sets(folder).sets} >= {result["backup"]["name"]}
    assert not [name for name in databases(database) if name.startswith("scannerdb_drill")]
    assert find_set(folder, "latest").name == result["backup"]["name"]


def test_the_server_restarts_during_the_dump(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE SEQUENCE halting")
    database.sql(ROWS)
    first = run(database, tmp_path)["backup"]["name"]
    holder = database.connect(autocommit=False)
    holder.execute("ALTER SEQUENCE halting RENAME TO moved")  # pg_dump stops at it

    def restart() -> None:
        wait_until(lambda: children("pg_dump", tmp_path))
        database.server.stop()
        database.server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    with pytest.raises(ScannerDbError, match=r"(?i)connection|cannot be reached") as caught:
        run(database, tmp_path)
    thread.join()
    holder.close()
    assert "Traceback" not in str(caught.value)
    assert visible(tmp_path / "b") == {first, "latest.backup"}
    assert run(database, tmp_path)["swept"] == []


def test_a_session_that_is_lost_at_any_statement_is_told_in_a_sentence(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    honest, asked = psycopg.Connection.execute, itertools.count()
    victim = -1

    def execute(self: Any, *words: Any, **more: Any) -> Any:
        if next(asked) == victim:
            with psycopg.connect(**database.kwargs, autocommit=True) as other:
                honest(other, "SELECT pg_terminate_backend(%s, 5000)", [self.info.backend_pid])
        return honest(self, *words, **more)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    run(database, tmp_path)
    total, failed = next(asked), 0
    for place in range(total):
        asked, victim = itertools.count(), place
        try:
            run(database, tmp_path)
        except ScannerDbError as error:
            assert "failed: " in error.message or "connect" in error.message, (place, error.message)
            failed += 1
    assert failed > total / 2, "most statements matter"


def test_a_table_is_altered_during_the_dump(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ALTER that queues up behind our lock stands before pg_dump's: it is let through, and the dump begins anew."""
    database.sql(ROWS)
    original = snapshot._lock
    threads: list[threading.Thread] = []

    def then_alter(conn: Any, relations: Any) -> None:
        original(conn, relations)
        if not threads:
            alter = threading.Thread(target=database.sql, args=("ALTER TABLE t ADD COLUMN late int DEFAULT 7",))
            threads.append(alter)
            alter.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass"
            wait_until(lambda: database.value(waiting))

    monkeypatch.setattr(snapshot, "_lock", then_alter)
    result = run(database, tmp_path, lock_timeout_ms=1)
    threads[0].join()
    assert "Trying again" in Path(result["log"]).read_text(encoding="utf-8")
    assert (result["backup"]["rows"], result["backup"]["verified"]) == (1000, "read")
    told = subprocess.run(
        [str(database.server.bin_dir / "pg_restore"), "--file=-", f"{result['backup']['path']}/dump"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "late integer" in told.stdout


def test_two_at_once(database: Database, tmp_path: Path) -> None:
    """One waits for the other; both make their set, and neither takes the other's work for debris."""
    database.sql(ROWS)
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(database, tmp_path, lock_wait_s=60))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {result["backup"]["name"] for result in results}
    assert len(names) == 2
    assert [result["swept"] for result in results] == [[], []]
    assert visible(tmp_path / "b") == {*names, "latest.backup"}
    assert find_set(tmp_path / "b", "latest").name == max(names)


def test_the_clock_goes_back(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set made after it is `latest`; those that seem to come from the future stay, and are in nobody's way."""
    database.sql(ROWS)
    ahead = datetime.timedelta(days=1)
    with monkeypatch.context() as patch:
        for module in (make, job):
            patch.setattr(module, "utc_now", lambda: utc_now() + ahead)
        first = run(database, tmp_path)["backup"]["name"]
    assert find_set(tmp_path / "b", "latest").created > utc_now()
    second = run(database, tmp_path, retention_days=0, retention_min=0)
    assert (second["removed"], second["latest"]) == ([], second["backup"]["name"])
    third = run(database, tmp_path)
    assert third["latest"] == third["backup"]["name"]
    assert {s.name for s in list_sets(tmp_path / "b").sets} == {first, second["latest"], third["latest"]}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that is mounted read-only."""
    folder = tmp_path / "ro"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lack("mounting", done.stderr.strip())
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cannot_be_written(database: Database, tmp_path: Path, read_only: Path) -> None:
    with pytest.raises(FileProblem, match="mounted read-only"):
        run_backup(
            options_of(database), backup_dir=str(read_only / "b"), state_dir=str(read_only / "s"), storage="persistent"
        )
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match=r"Not a directory|File exists"):
        run_backup(options_of(database), backup_dir=str(tmp_path / "file" / "b"))


def test_links_in_the_place_of_files(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever may write into the folder can plant links; nothing is written through one."""
    database.sql(ROWS)
    precious = tmp_path / "precious"
    precious.write_text("precious", encoding="ascii")
    folder, state = tmp_path / "b", tmp_path / "s"
    first = run(database, tmp_path)["backup"]["name"]
    now = utc_now()
    for second in range(1, 91):  # the first set may be of this very second
        when = now + datetime.timedelta(seconds=second)
        (folder / f".{database.name}_{when:%Y%m%d_%H%M%S}.backup.partial").symlink_to(precious)
        (state / "manifests" / f"{database.name}_{when:%Y%m%d_%H%M%S}.backup.sha256").symlink_to(precious)
    (folder / f".latest.backup.{os.getpid()}.partial").symlink_to(precious)
    result = run(database, tmp_path)
    assert find_set(folder, "latest").name == result["backup"]["name"]
    log = tmp_path / "log"
    log.symlink_to(precious)
    assert run(database, tmp_path, log_path=str(log))["changed"]
    assert "There is a link in its place: remove it." in capsys.readouterr().err
    record = folder / first / "verification.jsonl"
    record.unlink()
    record.symlink_to(precious)
    (folder / first / "dump" / "toc.dat").unlink()
    (folder / first / "dump" / "toc.dat").symlink_to(precious)
    assert run(database, tmp_path)["changed"]
    assert precious.read_text(encoding="ascii") == "precious"


# Level restore: a drill of the new set before it has its name.


def test_a_new_set_is_drilled(field_db: Database, tmp_path: Path) -> None:
    words = {"verify_level": "restore", "fingerprints": True}
    assert run(field_db, tmp_path, **words, check_mode=True)["changed"]
    for place in ("server", "cluster"):
        result = run(field_db, tmp_path, **words, verify_place=place)
        assert result["backup"]["verified"] == "restore"
        assert result["proven"]["name"] == result["backup"]["name"]
        assert result["proven"]["restore_s"] > 0
    assert not [name for name in databases(field_db) if name.startswith("scannerdb_drill")]
    history = (tmp_path / "s" / "verification.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(history) == 2


def test_a_drill_that_cannot_be_done_costs_no_backup(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    database.sql("CREATE ROLE bk_modest LOGIN")
    database.sql("GRANT pg_read_all_data TO bk_modest")
    options = options_of(database, user="bk_modest")
    result = run_backup(options, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), verify_level="restore")
    assert (result["failed"], result["backup"]["verified"]) == (False, "read")
    assert "could not be drilled, and was read instead" in " ".join(result["warnings"])
    assert find_set(tmp_path / "b", "latest").name == result["backup"]["name"]


def test_a_set_that_fails_its_drill_does_not_count(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    first = run(database, tmp_path)["backup"]["name"]
    real = restore_drill._build

    def lose_rows(conn: Any, server: Any, options: Any, drill: Any, ready: Any, name: str) -> Any:
        loaded = real(conn, server, options, drill, ready, name)
        with database.connect(dbname=name) as side:
            side.execute("DELETE FROM t WHERE i = 7")
        return loaded

    monkeypatch.setattr(restore_drill, "_build", lose_rows)
    with pytest.raises(BackupInvalid, match=r"failed its verification \(restore\): public.t has 999 rows"):
        run(database, tmp_path, verify_level="restore")
    assert find_set(tmp_path / "b", "latest").name == first
    monkeypatch.undo()
    assert len(run(database, tmp_path)["swept"]) == 1
