"""A real history, gone back into: the exact rows for each kind of target, or a refusal before anything is restored."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import Options, connect, fetch
from scannerdb.disposable import debris
from scannerdb.errors import FileProblem, InvalidInput, RestoreRefused
from scannerdb.jobs.leftovers import remove_copies
from scannerdb.jobs.point_in_time import Point, PointRequest, at_point, judged_point
from scannerdb.physical.copy_folder import PREFIX
from scannerdb.physical.recovery import Paused
from scannerdb.physical.request import Stanza
from scannerdb.physical.target import parse_target, stamp
from scannerdb.restorepoint import set_restore_point
from scannerdb.runs import Run

from tests import needs
from tests.integration.physical.history import History, made_history
from tests.integration.physical.physical_support import STANZA, has_pgbackrest
from tests.integration.restore.restore_support import damage, databases, options, state
from tests.integration.support import processes, run_restore, wait_until
from tests.servers import Databases, Pool, find_bin_dir, make_home

MICROSECOND = datetime.timedelta(microseconds=1)
ROOT = Path(__file__).resolve().parents[3]
HOLDING = """
import time
from tests.integration.physical import test_point_in_time as here

def hold(paused):
    print("standing", flush=True)
    time.sleep(600)

with here.point_of({login!r}, {config!r}, {target!r}, 1, {folder!r}) as (point, options):
    here.at_point(point, options, here.Run("test", options.db), hold)
"""


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    """Made once for all tests of this file."""
    if not has_pgbackrest():
        needs.lack("pgbackrest")
    if find_bin_dir(15) is None:
        needs.lack("postgresql-15")
    with made_history() as made:
        yield made


@contextlib.contextmanager
def point_of(login: dict[str, Any], config: str, target: str, timeline: int, folder: str) -> Iterator[Any]:
    """A judged target, and the options of the live server."""
    there = Options(**login)
    asked = PointRequest(Stanza(True, STANZA, config), parse_target(target), timeline, copy_dir=folder)
    with contextlib.closing(connect(there)) as conn, judged_point(conn, there, asked, Run("test", there.db)) as point:
        yield point, there


def login_of(history: History) -> dict[str, Any]:
    server = history.cluster.database.server
    return {
        "unix_socket": str(server.socket_dir),
        "port": server.port,
        "user": "postgres",
        "db": "postgres",
        "pg_bin_dir": str(server.bin_dir),
    }


def judged(history: History, target: str, folder: Path, timeline: int = 0) -> Any:
    return point_of(login_of(history), str(history.cluster.config), target, timeline, str(folder))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    made = make_home("scannerdb-copies-")
    os.chown(made, os.geteuid(), os.getegid())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def rows_at(point: Point, there: Any) -> tuple[set[int], int]:
    """The rows in the copy, and one out of the other tablespace."""
    found: list[Any] = []

    def work(paused: Paused) -> None:
        with contextlib.closing(connect(paused.options, allow_standby=True)) as conn:
            found.extend(row["id"] for row in fetch(conn, "SELECT id FROM public.moments"))
            found.append(fetch(conn, "SELECT answer FROM public.apart")[0]["answer"])

    at_point(point, there, Run("test", there.db), work)
    return set(found[:-1]), found[-1]


def between(history: History, timeline: int, index: int) -> str:
    """A time in the middle between two commits along a timeline."""
    line = history.line(timeline)
    return stamp(line[index].at + (line[index + 1].at - line[index].at) / 2)


def of_kind(history: History, kind: str) -> tuple[str, int, set[int]]:
    """A target, a timeline that is named with it, and the rows that are right."""
    first, second = history.line(1), history.line(2)
    if kind == "a quiet time":
        return between(history, 1, 17), 0, {one.id for one in first[:18]}
    if kind == "just before a commit":
        return stamp(first[20].at - MICROSECOND), 1, {one.id for one in first[:20]}
    if kind == "a position":
        return f"lsn:{first[5].before}", 1, {one.id for one in first[:5]}
    if kind == "with a transaction of another timeline":
        return f"xid:{second[-2].xid}", 2, {one.id for one in second[:-1]}
    if kind == "without a transaction":
        return f"before-xid:{first[22].xid}", 1, {one.id for one in first[:22]}
    return "name:fork_3", 0, {one.id for one in second[: history.points["fork_3"][1]]}


KINDS = (
    "a quiet time",
    "just before a commit",
    "a position",
    "with a transaction of another timeline",
    "without a transaction",
    "a restore point of another timeline",
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_holds_exactly_the_rows_of_the_target(history: History, folder: Path, kind: str) -> None:
    target, timeline, rows = of_kind(history, kind)
    before = sorted(str(path) for path in history.elsewhere.rglob("*"))
    with judged(history, target, folder, timeline) as (point, there):
        assert rows_at(point, there) == (rows, 42)
    assert sorted(str(path) for path in history.elsewhere.rglob("*")) == before, "the live tablespace was written to"
    assert list(folder.iterdir()) == []


def test_what_cannot_be_reached_is_refused_with_what_can(history: History, folder: Path) -> None:
    lost = history.gap[0] + (history.gap[1] - history.gap[0]) / 2
    hour = datetime.timedelta(hours=1)
    cases = {
        stamp(lost): "WAL is missing",
        stamp(history.backups[0].started - hour): "What can be reached: timeline 1 from",
        stamp(datetime.datetime.now(tz=datetime.timezone.utc) + hour): "has not come yet",
        "lsn:FF/0": "cannot be reached",
        "name:nobody set it": "cannot be reached",
    }
    for target, words in cases.items():
        with pytest.raises(RestoreRefused) as told, judged(history, target, folder):
            pass
        assert words in str(told.value), target
    with pytest.raises(RestoreRefused) as told, judged(history, between(history, 1, 20), folder, timeline=9):
        pass
    assert "along timeline 9" in str(told.value)


def test_timelines_that_differ_are_asked_about_and_others_are_not(history: History, folder: Path) -> None:
    forked = history.parents[2][1]
    with judged(history, between(history, 1, forked - 2), folder) as (point, _):
        assert point.plan.landing.last_in.xid == history.line(1)[forked - 2].xid
    with pytest.raises(RestoreRefused) as told, judged(history, between(history, 2, forked), folder):
        pass
    assert "More than one timeline holds" in str(told.value)
    for timeline in (1, 2):
        assert f"timeline {timeline} (its last transaction then is" in str(told.value)
        with judged(history, between(history, 2, forked), folder, timeline) as (point, _):
            moment = point.plan.target.moment
            known = [one.at for one in history.line(timeline) if one.at <= moment]
            assert known[-1] <= point.plan.landing.last_in.at <= moment < point.plan.landing.first_out.at


def test_what_was_committed_last_is_switched_out_first(history: History, folder: Path) -> None:
    """A quiet database: nothing was committed after the target, and PostgreSQL would not end there."""
    with history.cluster.database.connect() as conn:
        history.commit(conn, 1)
        now = conn.execute("SELECT clock_timestamp()").fetchone()
    assert now
    with judged(history, stamp(now[0]), folder, 1) as (point, _):
        assert point.plan.landing.last_in.at >= history.line(1)[-1].at
        assert point.plan.landing.first_out is not None
    with judged(history, "physical:latest", folder) as (point, _):
        assert point.plan.landing.window.timeline == 1


def test_a_recovery_that_ends_too_early_is_told_and_not_believed(history: History, folder: Path) -> None:
    """The server answers before that, and pg_ctl would say that it has started."""
    worked: list[Paused] = []
    with judged(history, between(history, 1, 20), folder, 1) as (point, there):
        beyond = dataclasses.replace(point.plan.landing, stop=1 << 40, first_out=None)
        asked = dataclasses.replace(point, plan=dataclasses.replace(point.plan, landing=beyond))
        with pytest.raises(RestoreRefused) as told:
            at_point(asked, there, Run("test", there.db), worked.append)
    assert "before configured recovery target was reached" in str(told.value)
    assert "Nothing was changed" in str(told.value)
    assert not worked


def test_a_disk_that_is_too_small_is_said_before_anything_is_restored(history: History, folder: Path) -> None:
    with judged(history, between(history, 1, 20), folder, 1) as (point, there):
        huge = dataclasses.replace(point.plan.landing.base, size_bytes=1 << 50)
        landing = dataclasses.replace(point.plan.landing, base=huge)
        asked = dataclasses.replace(point, plan=dataclasses.replace(point.plan, landing=landing))
        with pytest.raises(FileProblem, match="the copy of the cluster needs about"):
            at_point(asked, there, Run("test", there.db), lambda paused: None)
        assert list(point.copy.data.iterdir()) == []


def test_a_killed_run_leaves_what_the_next_one_removes(history: History, folder: Path) -> None:
    script = HOLDING.format(
        login=login_of(history),
        config=str(history.cluster.config),
        target=between(history, 1, 20),
        folder=str(folder),
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/module_utils"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"standing\n"
        assert debris(folder, PREFIX) == []
        child.send_signal(signal.SIGKILL)
    (left,) = debris(folder, PREFIX)
    assert remove_copies(folder, True) == [str(left)]
    assert remove_copies(folder, False) == [str(left)]
    assert list(folder.iterdir()) == []
    wait_until(lambda: not processes(str(left)))


def without_sequences(seen: dict[str, Any]) -> dict[str, Any]:
    """Without sequences, which the WAL has up to 32 values ahead, as after any crash, and the database's own facts."""
    return {name: value for name, value in seen.items() if not name.startswith(("state of", "database"))}


def test_a_database_goes_back_to_a_second_and_forth_again(
    history: History, pool: Pool, folder: Path, tmp_path: Path
) -> None:
    """The plan, then what it would bring, then the restore with its cutover, and its undo."""
    factory = Databases(pool, history.cluster.database.server)
    try:
        db = factory(filled=True)
        before = state(db)
        moment = db.value("SELECT clock_timestamp()")
        damage(db)
        damaged = state(db)
        words = {
            "backup_dir": str(tmp_path),
            "state_dir": str(tmp_path / "state"),
            "source": stamp(moment),
            "backup_method": ["dump", "pgbackrest"],
            "stanza": STANZA,
            "pgbackrest_config": str(history.cluster.config),
            "copy_dir": str(folder),
            "timeline": 1,
            "grace_s": 0,
        }
        planned = run_restore(options(db), **words)
        assert (
            planned["changed"] and "WAL was switched" in planned["msg"] and "nothing was changed" not in planned["msg"]
        )
        assert planned["plan"]["timeline"] == 1
        assert planned["plan"]["first_out"]
        shown = run_restore(options(db), **words, show=True, confirm=db.name)
        assert shown["changed"] is False and "nothing was changed" in shown["msg"]
        tables = {one["table"]: one for one in shown["plan"]["tables"]}
        assert tables["public.models"]["rows_then"] == before["rows of public.models"][0]
        assert tables["public.models"]["rows_now"] == 0
        assert tables["public.chat_history"]["rows_now"] is None
        assert state(db) == damaged
        done = run_restore(options(db), **words, confirm=db.name)
        assert without_sequences(state(db)) == without_sequences(before)
        assert done["restore"]["source"].startswith("physical backup ")
        assert [path.name for path in folder.iterdir()] == []
        assert len(list(tmp_path.glob("*.backup"))) == 1, "only the backup before the restore is kept"
        run_restore(options(db), **{**words, "source": ""}, state="undone", confirm=db.name)
        assert without_sequences(state(db)) == without_sequences(damaged)
        copied = run_restore(options(db), **words, into_database="as_it_was", confirm="as_it_was")
        assert copied["restore"]["rows"] > 0
        assert "as_it_was" in databases(db)
    finally:
        factory.clean()


def test_a_job_sets_a_restore_point_where_it_may_and_says_where_not(history: History, tmp_path: Path) -> None:
    database = history.cluster.database
    run = Run("fix", "postgres", log_path=str(tmp_path / "fix.log"))
    with contextlib.closing(connect(options(database))) as conn:
        assert set_restore_point(conn, run) == f"scannerdb_fix_{run.run_id}"
    database.sql("CREATE ROLE modest LOGIN")
    with contextlib.closing(connect(options(database, user="modest"))) as conn:
        assert set_restore_point(conn, run) == ""
    told = (tmp_path / "fix.log").read_text()
    assert f"restore point scannerdb_fix_{run.run_id}" in told
    assert "no restore point was set: this role may not (GRANT EXECUTE" in told


def test_without_physical_backups_a_time_means_a_dump(history: History, tmp_path: Path) -> None:
    there = options(history.cluster.database)
    for source in ("lsn:0/3000028", "physical:latest", "physical:2026-11-24 03:10:00+00"):
        with pytest.raises(InvalidInput, match="none are configured"):
            run_restore(there, backup_dir=str(tmp_path), source=source, confirm="postgres")
