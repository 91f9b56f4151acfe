"""Real Patroni: its leader is worked on; a switchover or a lost leader in the middle of a job is survived, or said."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import tuple_row
from scannerdb.backup import make
from scannerdb.connection import connect, scalar
from scannerdb.errors import PrimaryMoved
from scannerdb.fixes.batches import Worker
from scannerdb.jobs import restore as restore_job
from scannerdb.jobs import vacuum as vacuum_job
from scannerdb.jobs.backup import backup
from scannerdb.jobs.fix import Working, fix
from scannerdb.jobs.restore import restore
from scannerdb.patroni import look

from tests.integration.cluster.patroni_site import NAME, PatroniSite, patroni_site
from tests.integration.support import INVARIANTS, NO_BACKUP, run_vacuum, wait_until

pytestmark = [pytest.mark.pg(15), pytest.mark.needs("postgresql-15", "patroni")]


@pytest.fixture(scope="module")
def running() -> Iterator[PatroniSite]:
    with patroni_site() as site:
        yield site


@pytest.fixture
def site(running: PatroniSite) -> PatroniSite:
    """With a leader and two standbys of it."""
    wait_until(running.well, 120)
    return running


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


def test_a_switchover_in_the_middle(site: PatroniSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fix goes on by itself, under its id, on the member that Patroni made the leader."""
    options = site.options()
    with connect(options) as conn:
        assert conn.info.port == site.ports[site.leader()]
    assert look(options.patroni_urls).standbys == 2
    site.pause(True)
    assert look(options.patroni_urls).paused
    site.pause(False)
    first = site.leader()
    monkeypatch.setattr(Worker, "_done", once(site.switchover, Worker._done))
    fix(options, safety=NO_BACKUP, working=Working(batch_rows=50))
    assert site.leader() != first
    assert is_fixed(site)


def test_a_backup_begins_again_and_a_restore_and_a_vacuum_say_it(
    site: PatroniSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = site.options()
    words: dict[str, Any] = {"backup_dir": str(tmp_path), "state_dir": str(tmp_path / "state")}
    with monkeypatch.context() as patch:
        patch.setattr(make, "_count", once(site.switchover, make._count))
        made = backup(options, **words, dump_from="primary")["backup"]
    assert (made["verified"], made["standby"]) == ("read", False)
    said = r"ended, because the primary was 127\.0\.0\.1 port \d+ \(timeline \d+\) and is 127\.0\.0\.1 port"
    wait_until(site.well, 120)
    with monkeypatch.context() as patch:
        patch.setattr(restore_job, "validate", once(site.switchover, restore_job.validate))
        with pytest.raises(PrimaryMoved, match=rf"^The restore {said}"):
            restore(options, **words, source="latest", confirm=NAME)
    wait_until(site.well, 120)
    with monkeypatch.context() as patch:
        patch.setattr(vacuum_job, "_work", once(site.switchover, vacuum_job._work))
        with pytest.raises(PrimaryMoved, match=rf"^The vacuum {said}"):
            run_vacuum(options, method="vacuum", tables=["endpoints"])
    with contextlib.closing(connect(options, dbname="postgres")) as conn:
        left = scalar(conn, "SELECT count(*) FROM pg_database WHERE NOT datistemplate")
        assert left == 3, "postgres, the database, and what the restore had begun"
    run_vacuum(options, method="vacuum", tables=["endpoints"])


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
