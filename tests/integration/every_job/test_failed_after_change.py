"""A task that changed something says so also when it fails: a fault after each step, held against what is there."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.connection import Connection
from scannerdb.errors import FileProblem, ScannerDbError
from scannerdb.jobs import uninstall as uninstall_job
from scannerdb.jobs.folders import folders
from scannerdb.jobs.legacy import legacy
from scannerdb.jobs.remove_set import remove_set
from scannerdb.jobs.uninstall import uninstall
from scannerdb.jobs.uninstall_files import Folders, uninstall_files
from scannerdb.runs import new_run_id
from scannerdb.sets.catalogue import list_sets
from scannerdb.vacuum import run as vacuum_run

from tests.integration.restore.restore_support import ansible_module, databases, maintenance, old_dump, options
from tests.integration.support import run_backup, run_fix, run_restore, run_sweep, run_vacuum, run_verify
from tests.integration.vacuum.vacuum_support import dead, fill
from tests.servers import Database

pytestmark = pytest.mark.pg(17)  # the version of the server does not matter
FAULT = "the fault of the test"


def failing(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception | None = None) -> None:
    """Let a function do its work, and raise then: what it did is done."""
    module, _, name = f"scannerdb.{place}".rpartition(".")
    honest = getattr(importlib.import_module(module), name)

    def work(*args: Any, **words: Any) -> Any:
        honest(*args, **words)
        raise error or FileProblem(FAULT)

    monkeypatch.setattr(importlib.import_module(module), name, work)


def refuse(*_: Any, **__: Any) -> None:
    """A step that does nothing but fail."""
    raise FileProblem(FAULT)


def failed(job: Callable[[], Any]) -> dict[str, Any]:
    """What a module would answer when the job fails."""
    with pytest.raises(ScannerDbError) as caught:
        job()
    result = caught.value.result
    assert FAULT in result["msg"] or "failed" in result["msg"] or "ended" in result["msg"], result
    return result


# --- backup and verify


@pytest.mark.parametrize(
    "place",
    [
        "backup.make._describe",
        "backup.make.fsync_tree",
        "backup.make.publish",
        "backup.make.point_latest",
        "backup.make.load_set",
        "jobs.backup._retain",
        "jobs.backup.copy_away",
        "jobs.backup.made_result",
    ],
)
def test_a_backup(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    failing(monkeypatch, place, RuntimeError(FAULT) if place == "backup.make.load_set" else None)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    with pytest.raises((ScannerDbError, RuntimeError)) as caught:
        run_backup(options(database), **words)
    done = getattr(caught.value, "done", {})
    made = [item.name for item in list_sets(tmp_path / "b").sets]
    assert done.get("changed", False) == bool(made)
    if made:
        assert made[0] in done["done"][0] and done["run_id"] and FAULT in done["msg"]
        assert f"remove.yml -e scannerdb_remove_set={made[0]}" in done["msg"]


def test_a_verification(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    name = run_backup(options(database), **words)["backup"]["name"]
    with monkeypatch.context() as patch:
        failing(patch, "jobs.verify._look_inside")
        assert "changed" not in failed(lambda: run_verify(options(database), **words))
        patch.setattr("scannerdb.drill.restore_drill.drop", refuse)
        told = failed(lambda: run_verify(options(database), **words))
        (scratch,) = (name for name in databases(database) if name.startswith("scannerdb_drill"))
        assert told["changed"] and f"scratch database {scratch!r} is still there" in told["done"][0]
    with monkeypatch.context() as patch:
        failing(patch, "jobs.verify._result")
        told = failed(lambda: run_verify(options(database), level="read", **words))
    assert told["changed"] and f"The record of {name} says now: read, passed." in told["done"]


# --- restore


STEPS = [
    "jobs.restore.make_plan",
    "jobs.restore.create_side",
    "jobs.restore.pre_restore_backup",
    "jobs.restore.fill_side",
    "jobs.restore.validate",
    "jobs.restore.give_properties",
    "restore.switch.switch_over",
    "jobs.restore.result_of",
]


def test_a_restore(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step: the set made before it, the role made for it, and the cutover are said when they are there."""
    field_db.sql("CREATE ROLE stranger NOLOGIN")
    field_db.sql("GRANT SELECT ON endpoints TO stranger")
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "grace_s": 0}
    words |= {"source": str(old_dump(field_db, tmp_path / "x")), "confirm": field_db.name, "missing_roles": "create"}
    for step in STEPS:
        field_db.sql("DROP OWNED BY stranger")
        field_db.sql("DROP ROLE stranger")
        before, sets = databases(field_db), len(list_sets(tmp_path / "b").sets)
        with monkeypatch.context() as patch:
            failing(patch, step, KeyError(FAULT) if step == "jobs.restore.result_of" else None)
            with pytest.raises((ScannerDbError, KeyError)) as caught:
                run_restore(options(field_db), **words)
        done = getattr(caught.value, "done", {})
        said = " ".join(done.get("done", []))
        fresh = databases(field_db) - before
        assert ("was made, and is kept" in said) == (len(list_sets(tmp_path / "b").sets) > sets), step
        with maintenance(field_db) as conn:
            role = conn.execute("SELECT FROM pg_roles WHERE rolname = 'stranger'").fetchone()
        assert ("'stranger' was created" in said) == (role is not None), step
        assert ("cutover was done" in said) == bool(fresh), (step, said)
        assert done.get("changed", False) == bool(said)
        for name in fresh:
            assert name in said and f"-e scannerdb_run_id={done['run_id']}" in done["msg"]
            undone = run_restore(options(field_db), state="undone", undo_run_id=done["run_id"], **words)
            assert undone["restore"]["previous_database"]
            with maintenance(field_db) as conn:
                conn.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(_kept(field_db))))
        if role is None:
            field_db.sql("CREATE ROLE stranger NOLOGIN")
    field_db.sql("DROP OWNED BY stranger")
    field_db.sql("DROP ROLE stranger")


def _kept(db: Database) -> str:
    return next(name for name in databases(db) if name.startswith(db.name) and name != db.name)


def test_a_cutover_whose_answer_is_lost(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block finishes on the server although the session is ended behind it; also an undo says so."""
    honest = importlib.import_module("scannerdb.restore.switch").switch_over

    def cut(conn: Connection, switch: Any) -> Any:
        honest(conn, switch)
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr("scannerdb.restore.switch.switch_over", cut)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "grace_s": 0, "prebackup": False}
    words |= {"source": str(old_dump(field_db, tmp_path / "x")), "confirm": field_db.name}
    first = failed(lambda: run_restore(options(field_db), **words))
    assert first["changed"] and "The cutover was done" in first["done"][0]
    second = failed(lambda: run_restore(options(field_db), state="undone", **words))
    assert second["changed"] and _kept(field_db) in second["done"][0]


def test_a_clone_tables_and_the_sweep(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    restoring = {**words, "source": str(old_dump(field_db, tmp_path / "x")), "grace_s": 0}
    clone = f"{field_db.name}_dev"
    with monkeypatch.context() as patch:
        failing(patch, "restore.cloning.counted")
        told = failed(lambda: run_restore(options(field_db), into_database=clone, confirm=clone, **restoring))
        assert told["changed"] and clone in databases(field_db) and f'DROP DATABASE "{clone}";' in told["msg"]
        failing(patch, "restore.tables.counted")
        told = failed(
            lambda: run_restore(
                options(field_db), tables=["models"], into_schema="back", confirm=field_db.name, **restoring
            )
        )
        assert told["changed"] and field_db.value("SELECT count(*) FROM back.models") > 0
        assert 'DROP SCHEMA "back" CASCADE;' in told["msg"]
    run_restore(options(field_db), confirm=field_db.name, prebackup=False, **restoring)
    kept = next(name for name in databases(field_db) - {clone, field_db.name} if name.startswith(field_db.name))
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    monkeypatch.setattr("scannerdb.jobs.restore_sweep.kept_until", lambda *_: long_ago)
    failing(monkeypatch, "jobs.restore_sweep._message")
    told = failed(lambda: run_sweep(options(field_db), keep_hours=1.0, run_id=new_run_id(), **words))
    assert told["changed"] and "was dropped" in told["done"][0]
    assert kept not in databases(field_db)
    with maintenance(field_db) as conn:
        conn.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(clone)))


# --- vacuum


def test_a_vacuum_whose_session_is_ended_in_its_middle(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, "first")
    fill(database, "second")
    honest, done = vacuum_run._gentle, []

    def gentle(conn: Connection, query: Any, measure: Any) -> str:
        if done:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        done.append(measure.name)
        return honest(conn, query, measure)

    monkeypatch.setattr(vacuum_run, "_gentle", gentle)
    told = failed(lambda: run_vacuum(options(database)))
    assert told["changed"] and told["done"] == [f"public.{done[0]}: vacuum is done."]
    assert dead(database, done[0]) == 0 and dead(database, "first" if done[0] == "second" else "second") > 0


def test_a_vacuum_that_fails_on_one_table(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, "first")
    fill(database, "second")
    honest = vacuum_run._gentle

    def gentle(conn: Connection, query: Any, measure: Any) -> str:
        if measure.name == "first":
            conn.execute("SELECT 1 / 0")
        return honest(conn, query, measure)

    monkeypatch.setattr(vacuum_run, "_gentle", gentle)
    told = failed(lambda: run_vacuum(options(database)))
    assert told["changed"] and [row["table"] for row in told["tables"]] == ["public.second"]
    assert "1 of 2 steps failed" in told["msg"] and "public.second: vacuum is done." in told["msg"]


# --- uninstall, folders, crontabs, sets


def test_an_uninstall(field_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_fix(field_db)
    honest = uninstall_job.job_lock

    @contextlib.contextmanager
    def lock(*args: Any, **words: Any) -> Iterator[Any]:
        with honest(*args, **words) as conn:
            yield conn
        raise FileProblem(FAULT)

    monkeypatch.setattr(uninstall_job, "job_lock", lock)
    assert failed(lambda: uninstall(options(field_db)))["changed"]
    assert "changed" not in failed(lambda: uninstall(options(field_db)))  # it was gone by then


def test_files_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = [tmp_path / name for name in ("etc", "state", "reports", "log", "backups")]
    for folder in inner:
        folder.mkdir()
    for name in ("lock", "vacuum.json", "db_schema_issues_report.md"):
        (tmp_path / ("reports" if name.endswith("md") else "state") / name).write_text("{}")
    honest = importlib.import_module("scannerdb.jobs.uninstall_files").remove_tree

    def remove(path: Path) -> None:
        if path.name.endswith(".md"):
            raise FileProblem(FAULT)
        honest(path)

    monkeypatch.setattr("scannerdb.jobs.uninstall_files.remove_tree", remove)
    done = uninstall_files(Folders(*map(str, inner)))
    assert done["failed"] and done["changed"] and FAULT in done["msg"]
    for path in done["removed"]:
        assert not Path(path).exists()
    assert (tmp_path / "reports" / "db_schema_issues_report.md").exists()
    assert str(tmp_path / "reports" / "db_schema_issues_report.md") not in done["removed"]


def test_folders_of_which_one_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ScannerDbError) as caught:
        folders([str(tmp_path / "a" / "b"), str(tmp_path / "file" / "c")])
    told = caught.value.result
    assert told["changed"] and told["made"] == [str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    with pytest.raises(ScannerDbError) as caught:
        folders([str(tmp_path / "a" / "b"), str(tmp_path / "file" / "c")])
    assert "changed" not in caught.value.result


def test_a_crontab_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "0 2 * * * cd /opt/scanner && ./backup_database.sh\n"
    for name in ("one", "two"):
        (tmp_path / name).write_text(line)
    honest, calls = os.chown, []

    def chown(*args: Any, **words: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise PermissionError(1, FAULT)
        honest(*args, **words)

    monkeypatch.setattr("scannerdb.jobs.legacy.os.chown", chown)
    told = failed(lambda: legacy(mode="take", crontabs=[str(tmp_path / "one"), str(tmp_path / "two")]))
    changed = [one["after_header"] for one in told["diff"] if Path(one["after_header"]).read_text() != line]
    assert told["changed"] and changed == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_a_set_that_is_put_aside(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    run_backup(options(database), **words)
    name = run_backup(options(database), **words)["backup"]["name"]
    monkeypatch.setattr("scannerdb.jobs.remove_set.point_latest", refuse)
    told = failed(lambda: remove_set(options(database), backup_dir=words["backup_dir"], name=name))
    assert told["changed"] and f"mv {tmp_path}/b/.aside/{name} {tmp_path}/b/" in told["msg"]


def test_the_module_answers_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told = ansible_module("scannerdb_folders", {"paths": [str(tmp_path / "a"), str(tmp_path / "file" / "c")]})
    assert told["failed"] and told["changed"] and told["made"] == [str(tmp_path / "a")]
