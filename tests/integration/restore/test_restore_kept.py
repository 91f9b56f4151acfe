"""Databases that restores replaced: kept for their time, reported, dropped by a later run, and never anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.connection import connect
from scannerdb.errors import JobLocked
from scannerdb.joblock import job_lock
from scannerdb.jobs.check import check
from scannerdb.restore.heal import find, set_comment
from scannerdb.restore.marks import kept_name, parse_mark

from tests.integration.restore.restore_support import age, ansible_module, databases, maintenance, old_dump, options
from tests.integration.support import run_restore, run_sweep
from tests.servers import Database

HOSTILE = [None, "we\"ird; drop \\ 'x", "ü" + "x" * 61]


def restored(db: Database, folder: Path) -> str:
    """Restore once; the name of the replaced database."""
    dump = old_dump(db, folder / "x")
    result = run_restore(
        options(db),
        backup_dir=str(folder),
        state_dir=str(folder / "state"),
        source=str(dump),
        confirm=db.name,
        grace_s=0,
        prebackup=False,
        keep_hours=5,
    )
    assert "for 5 hours" in result["msg"]
    return str(result["restore"]["previous_database"])


def swept(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    return run_sweep(
        options(db), **{"backup_dir": str(folder), "state_dir": str(folder / "state"), "keep_hours": 5.0, **more}
    )


@pytest.mark.parametrize("field_db", HOSTILE, indirect=True)
def test_kept_for_its_time_then_dropped_by_a_later_run(field_db: Database, tmp_path: Path) -> None:
    names = databases(field_db)
    kept = restored(field_db, tmp_path)
    assert check(options(field_db))["server"]["left_by_restores"] == [kept]  # maintain.yml sweeps where there are any
    young = swept(field_db, tmp_path)
    assert young["changed"] is False
    assert [one["name"] for one in young["kept"]] == [kept]
    assert young["kept"][0]["kept_until"] > young["kept"][0]["kept_at"]
    assert kept in databases(field_db)
    age(field_db, kept, 6)
    assert swept(field_db, tmp_path, keep_hours=0)["kept"][0]["kept_until"] == ""
    files = sorted(tmp_path.rglob("*"))
    planned = swept(field_db, tmp_path, check_mode=True)
    assert planned["changed"] is True
    assert sorted(tmp_path.rglob("*")) == files
    assert kept in databases(field_db)
    done = swept(field_db, tmp_path)
    assert [one["name"] for one in done["dropped"]] == [one["name"] for one in planned["dropped"]] == [kept]
    assert "was dropped" in Path(done["log"]).read_text()
    assert databases(field_db) == names
    assert swept(field_db, tmp_path)["changed"] is False
    assert check(options(field_db))["server"]["left_by_restores"] == []


def test_never_in_the_same_run(field_db: Database, tmp_path: Path) -> None:
    kept = restored(field_db, tmp_path)
    age(field_db, kept, 6)
    with maintenance(field_db) as conn:
        row = conn.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [kept])
        mark = parse_mark((row.fetchone() or [None])[0])
    assert mark
    assert swept(field_db, tmp_path, run_id=mark.run_id)["dropped"] == []
    assert kept in databases(field_db)


def test_nothing_else_is_dropped(field_db: Database, tmp_path: Path) -> None:
    """The name without the comment, the comment without the name, another database's, and the live one: all stay."""
    kept = restored(field_db, tmp_path)
    age(field_db, kept, 6)
    with connect(options(field_db), dbname="postgres") as conn:
        mark = next(f.mark for f in find(conn, field_db.name) if f.name == kept)
        assert mark
        bait = {
            kept_name(field_db.name, "20250418T031500Z-11111111"): "",
            kept_name(field_db.name, "20250418T031500Z-22222222"): "mine",
            "somebody_elses": mark.text(),
            kept_name("another", mark.run_id): replace(mark, database="another").text(),
            f"{kept}_copy": mark.text(),
        }
        for name, comment in bait.items():
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
            set_comment(conn, name, comment)
        set_comment(conn, field_db.name, mark.text())
    assert [one["name"] for one in swept(field_db, tmp_path)["dropped"]] == [kept]
    assert {field_db.name, *bait} <= databases(field_db)


def test_one_in_use_stays_and_is_told(field_db: Database, tmp_path: Path) -> None:
    kept = restored(field_db, tmp_path)
    age(field_db, kept, 6)
    with field_db.connect(dbname=kept):
        for dry in (True, False):
            told = swept(field_db, tmp_path, check_mode=dry)
            assert told["changed"] is False
            assert told["left_undone"] == [{"name": kept, "why": "1 sessions are in it"}]
            assert "it stays" in told["warnings"][0]
    assert kept in databases(field_db)


def test_a_sweep_waits_for_its_turn(field_db: Database, tmp_path: Path) -> None:
    with job_lock(options(field_db), "restore", "x"), pytest.raises(JobLocked):
        swept(field_db, tmp_path)


def test_the_module_sweeps(field_db: Database, tmp_path: Path) -> None:
    kept = restored(field_db, tmp_path)
    age(field_db, kept, 6)
    values = {
        **field_db.login,
        "backup_dir": str(tmp_path),
        "state_dir": str(tmp_path / "state"),
        "state": "swept",
        "keep_hours": 5,
    }
    for dry in (True, False):
        told = ansible_module("scannerdb_restore", values, dry)
        assert told["changed"] is True, told
        assert (kept in databases(field_db)) is dry
    assert ansible_module("scannerdb_restore", values)["changed"] is False
