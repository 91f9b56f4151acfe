"""Real Patroni: its leader is worked on, and a switchover in the middle of a job is survived."""

from __future__ import annotations

import pytest
from psycopg.rows import tuple_row
from scannerdb.connection import connect, scalar
from scannerdb.fixes.batches import Worker
from scannerdb.jobs.fix import Working, fix
from scannerdb.patroni import look

from tests.integration.cluster.patroni_site import patroni_site
from tests.integration.support import INVARIANTS, NO_BACKUP

pytestmark = [pytest.mark.pg(15), pytest.mark.needs("postgresql-15", "patroni")]


def test_a_switchover_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fix goes on by itself, under its id, on the member that Patroni made the leader."""
    with patroni_site() as site:
        options = site.options()
        with connect(options) as conn:
            assert conn.info.port == site.ports[site.leader()]
        assert look(options.patroni_urls).standbys == 2
        site.pause(True)
        assert look(options.patroni_urls).paused
        site.pause(False)
        first = site.leader()
        act = [site.switchover]
        real = Worker._done

        def beside(self: Worker, rows: int) -> None:
            real(self, rows)
            if act:
                act.pop()()

        monkeypatch.setattr(Worker, "_done", beside)
        fix(options, safety=NO_BACKUP, working=Working(batch_rows=50))
        assert site.leader() != first
        with connect(options) as conn:
            conn.execute("SET search_path = public")
            assert conn.cursor(row_factory=tuple_row).execute(INVARIANTS).fetchall() == [(0, 0, 0, 0, 0)]
            assert scalar(conn, "SELECT count(DISTINCT run_id) FROM scannerdb_maintenance.journal") == 1
