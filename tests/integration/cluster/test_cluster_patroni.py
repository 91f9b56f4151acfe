"""Real Patroni: its leader is worked on; a switchover or a lost leader in the middle of a job is survived, or said."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import tuple_row
from scannerdb.backup import make
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import connect, scalar
from scannerdb.drill import restore_drill
from scannerdb.drill.scratch import left_over
from scannerdb.errors import PrimaryMoved, RestoreRefused
from scannerdb.fixes.batches import Worker
from scannerdb.jobs import check as check_job
from scannerdb.jobs import restore as restore_job
from scannerdb.jobs import vacuum as vacuum_job
from scannerdb.jobs.check import check
from scannerdb.jobs.cluster import cluster
from scannerdb.jobs.fix import Working, fix
from scannerdb.restore.heal import find
from scannerdb.restore.marks import SIDE
from scannerdb.sets.staging import debris

from tests.integration.cluster.patroni_site import NAME, PatroniSite, patroni_site
from tests.integration.support import INVARIANTS, NO_BACKUP, run_backup, run_restore, run_vacuum, run_verify, wait_until

pytestmark = [pytest.mark.pg(15), pytest.mark.needs("postgresql-15", "patroni")]


class Running:
    """The cluster of these tests. One that does not come back after what a test did to it makes place for another."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack, self.site = stack, stack.enter_context(patroni_site())

    def well(self) -> PatroniSite:
        """The cluster, with a leader and two standbys of it."""
        try:
            wait_until(self.site.well, 60)
        except AssertionError:
            self.stack.close()
            self.site = self.stack.enter_context(patroni_site())
        return self.site


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        yield Running(stack)


@pytest.fixture
def site(running: Running) -> PatroniSite:
    return running.well()


def once(act: Callable[[], object], real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, and the first time `act` before it."""
    left = [act]

    def called(*args: Any, **more: Any) -> Any:
        if left:
            left.pop()()
        return real(*args, **more)

    return called


def is_fixed(site: PatroniSite, runs: int = 1) -> bool:
    """Whether the leader's rows are as they should be, by that many runs."""
    with contextlib.closing(connect(site.options())) as conn:
        conn.execute("SET search_path = public")
        rows = conn.cursor(row_factory=tuple_row).execute(INVARIANTS).fetchall()
        known = scalar(conn, "SELECT count(DISTINCT run_id) FROM scannerdb_maintenance.journal")
    return (rows, known) == ([(0, 0, 0, 0, 0)], runs)


@dataclass(frozen=True)
class Moment:
    """A job, and the step of it (a function by the name it is called by) before which something happens."""

    run: Callable[[PatroniSite, dict[str, Any]], Any]
    owner: Any
    step: str


def run_check(site: PatroniSite, folders: dict[str, Any]) -> Any:
    return check(site.options(), CheckOptions(**folders))


def run_fix(site: PatroniSite, _: dict[str, Any]) -> Any:
    return fix(site.options(), safety=NO_BACKUP, working=Working(batch_rows=50))


JOBS = {
    "backup": Moment(lambda site, where: run_backup(site.options(), **where, dump_from="primary"), make, "_count"),
    "check": Moment(run_check, check_job, "inspect"),
    "fix": Moment(run_fix, Worker, "_done"),
    "verify": Moment(
        lambda site, where: run_verify(site.options(), **where, source="latest"), restore_drill, "_compare"
    ),
    "restore": Moment(
        lambda site, where: run_restore(site.options(), **where, source="latest", confirm=NAME), restore_job, "validate"
    ),
}
EVENTS: dict[str, Callable[[PatroniSite], object]] = {
    "switchover": lambda site: site.switchover(),
    "kill": lambda site: site.kill_server(site.leader(), signal.SIGKILL),
    "pause": lambda site: site.pause(True),
}
NEXT: dict[str, Callable[[PatroniSite], dict[str, Any]]] = {  # any job that writes clears up
    "switchover": lambda site: run_vacuum(site.options(), method="vacuum", tables=["endpoints"]),
    "kill": lambda site: fix(site.options(), safety=NO_BACKUP),
}
SAID = r" ended, because the primary was 127\.0\.0\.1 port \d+ \(timeline \d+\) and is 127\.0\.0\.1 port \d+ "


@pytest.fixture(scope="module")
def folders(running: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where a backup lies, made while all was well."""
    home = tmp_path_factory.mktemp("sets")
    where = {"backup_dir": str(home), "state_dir": str(home / "state")}
    JOBS["backup"].run(running.well(), where)
    return where


def left_by(site: PatroniSite, folders: dict[str, Any]) -> list[str]:
    """What a run left that did not come to its end: half-made databases on the leader, half-made sets."""
    with contextlib.closing(connect(site.options(), dbname="postgres")) as conn:
        sides = [one.name for one in find(conn, NAME) if one.mark and one.mark.kind == SIDE]
        return [*sides, *left_over(conn, NAME), *map(str, debris(Path(folders["backup_dir"]), NAME))]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_in_the_middle_of_which_it_happens(
    site: PatroniSite, folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch, job: str, event: str
) -> None:
    """It ends by itself, or in the sentence that names both primaries; the next run leaves nothing of it behind."""
    moment, first = JOBS[job], site.leader()
    if job == "fix":
        site.fill()
        wait_until(site.well, 120)
    monkeypatch.setattr(
        moment.owner, moment.step, once(lambda: EVENTS[event](site), getattr(moment.owner, moment.step))
    )
    try:
        if job == "restore" and event != "pause":
            with pytest.raises(PrimaryMoved, match=f"^The restore{SAID}"):
                moment.run(site, folders)
        else:
            assert not moment.run(site, folders).get("failed")
        assert (site.leader() == first) == (event == "pause")
        said = cluster(site.options())
        assert (said["paused"], "is paused" in said["msg"]) == (event == "pause",) * 2
    finally:
        if event == "pause":
            site.pause(False)
    if job == "fix":
        assert is_fixed(site)
    wait_until(lambda: site.leader() >= 0, 120)
    if job == "restore" and event != "pause":
        left = left_by(site, folders)
        assert left, "it came along to the new primary"
        after = NEXT[event](site)
        assert after["changed"]
        assert all(name in after["msg"] for name in left)
    assert not left_by(site, folders)


def test_nothing_heavy_is_begun_while_a_standby_is_missing(site: PatroniSite, folders: dict[str, Any]) -> None:
    """Three are wanted and two are there: a restore is refused, and a fix and a rewrite are left with that reason."""
    said = "2 standbys stream from the primary, and scannerdb_cluster_min_standbys is 3"
    site.fill()
    wait_until(site.well, 120)
    options = site.options(min_standbys=3)
    with pytest.raises(RestoreRefused, match=f"^{said}"):
        run_restore(options, **folders, source="latest", confirm=NAME)
    assert not left_by(site, folders)
    planned = run_restore(options, **folders, source="latest", confirm=NAME, check_mode=True)
    assert f"This would stop the restore: {said}." in planned["warnings"]
    fixed = fix(options, safety=NO_BACKUP)
    assert not fixed["changed"]
    assert f"{said}." in {left["why"] for left in fixed["left_undone"]}
    rewrite: dict[str, Any] = {"method": "full", "tables": ["endpoints"], "allow_exclusive": True, "free_gb": 9}
    full = run_vacuum(options, **rewrite)
    assert (full["changed"], [left["reason"] for left in full["left_undone"]]) == (False, [said])
    assert run_vacuum(site.options(min_standbys=2), **rewrite)["changed"]


def test_a_vacuum_says_it(site: PatroniSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum_job, "_work", once(site.switchover, vacuum_job._work))
    with pytest.raises(PrimaryMoved, match=f"^The vacuum{SAID}"):
        run_vacuum(site.options(), method="vacuum", tables=["endpoints"])
    wait_until(site.well, 120)
    run_vacuum(site.options(), method="vacuum", tables=["endpoints"])


def test_a_leader_that_is_killed_in_the_middle(site: PatroniSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine and all: a fix goes on where Patroni promotes another, which takes as long as the leader's lease lasts.

    On a busy machine that may be more than a job waits for a new primary: then it says so, and the next run goes on.
    """
    site.fill()
    wait_until(site.well, 120)
    first = site.leader()

    def lose() -> None:
        site.processes[f"m{first}"].kill()
        site.kill_server(first, signal.SIGKILL)

    monkeypatch.setattr(Worker, "_done", once(lose, Worker._done))
    runs = 1
    try:
        fix(site.options(), safety=NO_BACKUP, working=Working(batch_rows=50))
    except PrimaryMoved as error:
        assert "and no new primary answered within 30 s" in error.message
        wait_until(lambda: site.leader() not in (-1, first), 120)
        runs += bool(fix(site.options(), safety=NO_BACKUP)["fixed"])
    assert site.leader() not in (-1, first)
    assert is_fixed(site, runs)
