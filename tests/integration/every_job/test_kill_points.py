"""Jobs that are killed at a random moment, and run again, end where an undisturbed run ends.

Each job is a process of its own that SIGKILL meets somewhere between its first connection and its end. A few points run
with the suite; SCANNERDB_KILL_POINTS=60 runs as many for each job.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.jobs.fix import fix
from scannerdb.jobs.schema import schema
from scannerdb.jobs.undo import undo
from scannerdb.sets.catalogue import list_sets
from scannerdb.sets.signing import Trust

from tests.integration.application.shape_support import made
from tests.integration.fix.fix_support import damaged, outcome
from tests.integration.restore.restore_support import databases, state
from tests.integration.support import NO_BACKUP, content, options, run_backup, schema_damage
from tests.integration.vacuum.vacuum_support import invalid_indexes
from tests.servers import Database, Databases

ROOT = Path(__file__).resolve().parents[3]
POINTS = int(os.environ.get("SCANNERDB_KILL_POINTS", "2"))
pytestmark = pytest.mark.pg(17)
RUN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
import psycopg
from scannerdb.backup.options import BackupOptions
from scannerdb.connection import Options
from scannerdb.drill.options import DrillOptions
from scannerdb.jobs.fix import Safety
from scannerdb.jobs.options import MigrateOptions
from scannerdb.restore.options import RestoreOptions
from scannerdb.vacuum.options import VacuumOptions
name, login, words = sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
login = Options(**{n: tuple(value) if isinstance(value, list) else value for n, value in login.items()})
job = getattr(importlib.import_module(f"scannerdb.jobs.{name}"), name)
typed = {"backup": BackupOptions, "migrate": MigrateOptions, "restore": RestoreOptions, "vacuum": VacuumOptions}
typed["verify"] = DrillOptions
given = (typed[name](**words),) if name in typed else ()
more = {"safety": Safety(require_backup=False)} if name == "fix" else {}
print("ready", flush=True)
job(login, *given, **({} if given else words), **more)
"""
# Tables whose rows have the time at which the example was made: counted only.
DATED = tuple(f"rows of public.{name}" for name in ("benchmark_results", "metadata", "schema_version"))
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scannerdb%' AND pid <> pg_backend_pid()"


@dataclass(frozen=True)
class Job:
    """A job, what it is given, and what its end looks like, to be compared with an undisturbed one's."""

    name: str
    prepare: Callable[[Database, Path], dict[str, Any]]
    ends: Callable[[Database, Path, dict[str, Any]], Any]
    make: Callable[[Databases], Database] = damaged


def started(job: Job, database: Database, words: dict[str, Any]) -> subprocess.Popen[str]:
    """The job's process, once it has read its programs."""
    arguments = [str(ROOT / "module_utils"), job.name, json.dumps(vars(options(database))), json.dumps(words)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, "-c", RUN, *arguments], **pipes)
    assert child.stdout and child.stdout.readline() == "ready\n", child.communicate()[1]
    return child


def finished(job: Job, database: Database, words: dict[str, Any]) -> float:
    """Run it undisturbed; its seconds."""
    child = started(job, database, words)
    began = time.monotonic()
    said = child.communicate(timeout=240)[1]
    assert child.returncode == 0, said
    return time.monotonic() - began


def nobody_there(database: Database) -> None:
    """Wait until the killed run's sessions are gone; seen from beside it, as a cutover that goes on has closed it."""
    deadline, beside = time.monotonic() + 120, Database(database.server, "postgres")
    while beside.value(SESSIONS):
        assert time.monotonic() < deadline, "the killed run's sessions are still there"
        time.sleep(0.05)


def folders(folder: Path) -> dict[str, str]:
    return {"state_dir": str(folder / "s"), "backup_dir": str(folder / "b")}


def records(folder: Path) -> dict[str, str]:
    return {"state_dir": str(folder / "s")}


def undeployed(database: Database, folder: Path) -> dict[str, Any]:
    return {"probe": True, **records(folder)}


def to_undo(database: Database, folder: Path) -> dict[str, Any]:
    done = fix(options(database), safety=NO_BACKUP, **records(folder))
    return {"run_id": done["run_id"], **records(folder)}


def backed_up(database: Database, folder: Path) -> dict[str, Any]:
    run_backup(options(database), **folders(folder))
    return folders(folder)


def to_restore(database: Database, folder: Path) -> dict[str, Any]:
    words = backed_up(database, folder)
    database.sql("DELETE FROM endpoints WHERE id % 2 = 0")
    return {**words, "source": "latest", "confirm": database.name, "grace_s": 0, "prebackup": False}


def worn(database: Database, folder: Path) -> dict[str, Any]:
    database.sql("UPDATE endpoints SET scan_date = scan_date")
    return {"profile": "weekly", **records(folder)}


def ours(database: Database) -> list[str]:
    """Databases that a job has made, and left."""
    return sorted(name for name in databases(database) if name.startswith("scannerdb"))


def sets_of(database: Database, folder: Path, words: dict[str, Any]) -> Any:
    """The newest set is verified and is `latest`; nothing half made lies about."""
    sets = list_sets(folder / "b", database.name, Trust(words["state_dir"])).sets
    hidden = [path.name for path in (folder / "b").iterdir() if path.name.startswith(".")]
    latest = (folder / "b" / "latest.backup").resolve()
    return latest == sets[0].path, sets[0].verified, hidden, ours(database)


def rows_back(database: Database, folder: Path, _: dict[str, Any]) -> Any:
    """The rows, and what is left half made."""
    return content(database), ours(database)


def older(make: Databases) -> Database:
    """A database in an older layout."""
    return made(make, "older")


def to_migrate(database: Database, folder: Path) -> dict[str, Any]:
    return {**folders(folder), "confirm": database.name, "grace_s": 0}


def migrated(database: Database, folder: Path, words: dict[str, Any]) -> Any:
    """What is in it; that the old one is kept once; what is left half made."""
    kept = [name for name in databases(database) if name.startswith(f"{database.name}__")]
    whole = {key: value[0] if key in DATED else value for key, value in state(database).items()}
    return whole, len(kept), ours(database)


def undone(database: Database, folder: Path, _: dict[str, Any]) -> Any:
    return outcome(database)[0]


JOBS = {
    "fix": Job("fix", lambda _, folder: records(folder), lambda database, *_: outcome(database)),
    "deploy": Job("schema", undeployed, lambda database, *_: (schema_damage(database), content(database))),
    "undo": Job("undo", to_undo, undone),
    "backup": Job("backup", lambda _, folder: folders(folder), sets_of),
    "verify": Job("verify", lambda d, f: {**backed_up(d, f), "source": "latest", "level": "restore"}, sets_of),
    "restore": Job("restore", to_restore, rows_back),
    "vacuum": Job("vacuum", worn, lambda database, *_: (invalid_indexes(database), content(database))),
    "migrate": Job("migrate", to_migrate, migrated, older),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_ends_where_an_undisturbed_one_ends(
    make_database: Databases, tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    job, chance, killed = JOBS[name], random.Random(name), 0
    first = job.make(make_database)
    words = job.prepare(first, tmp_path / "first")
    seconds = finished(job, first, words)
    right = job.ends(first, tmp_path / "first", words)
    for number in range(POINTS):
        database, folder = job.make(make_database), tmp_path / str(number)
        words = job.prepare(database, folder)
        child = started(job, database, words)
        time.sleep(chance.uniform(0, seconds))
        killed += child.poll() is None
        child.kill()
        child.communicate()
        nobody_there(database)
        finished(job, database, words)
        assert job.ends(database, folder, words) == right, f"point {number} of {name}"
        database.sql("SELECT pg_stat_clear_snapshot()")
        make_database.clean()
    record_property("killed", killed)
    print(f"{name}: {killed} of {POINTS} killed before their end")  # with -s


def of_the_site(database: Database) -> list[Any]:
    """What a change would change; the journal itself is ours."""
    own = [[row for row in part if not str(row[0]).startswith(("journal", "seal"))] for part in outcome(database)]
    return [*own, schema_damage(database)]


class Cut:
    """Ends the session that executes the statement number `at`, just before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.seen, self.at, plain = 0, at, psycopg.Connection.execute

        def execute(conn: Any, *words: Any, **more: Any) -> Any:
            self.seen += 1
            if self.seen == self.at:
                with psycopg.connect(conn.info.dsn, autocommit=True) as other:
                    plain(other, "SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
            return plain(conn, *words, **more)

        monkeypatch.setattr(psycopg.Connection, "execute", execute)


CHANGES: dict[str, Callable[[Database, dict[str, Any]], Any]] = {
    "fix": lambda database, words: fix(options(database), safety=NO_BACKUP, **words),
    "deploy": lambda database, words: schema(options(database), **words),
    "undo": lambda database, words: undo(options(database), **words),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_session_that_is_cut_in_the_middle_says_what_was_changed(
    make_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And the way back, or on; whatever was committed by then."""
    prepare, chance = JOBS[name].prepare, random.Random(name)
    with monkeypatch.context() as patch:
        database = damaged(make_database)
        words = prepare(database, tmp_path / "first")
        count = Cut(patch, 0)
        CHANGES[name](database, words)
    points = sorted(chance.sample(range(1, count.seen), min(count.seen - 1, max(8, POINTS))))
    told = 0
    for at in points:
        database, folder = damaged(make_database), tmp_path / str(at)
        words = prepare(database, folder)
        before = of_the_site(database)
        error = None
        with monkeypatch.context() as patch:
            Cut(patch, at)
            try:
                result = CHANGES[name](database, words)
            except ScannerDbError as caught:
                error, result = caught, caught.done
        changed = of_the_site(database) != before
        if changed:
            assert result.get("changed"), f"statement {at}: {error}"
        if changed and error:
            told += 1
            assert str(error) in result["msg"], f"statement {at}: {result['msg']}"
            if name == "fix":
                assert f"scannerdb_run_id={result['run_id']}" in result["msg"], f"statement {at}: {result['msg']}"
        make_database.clean()
    print(f"{name}: {told} of {len(points)} cut sessions had changed something")
