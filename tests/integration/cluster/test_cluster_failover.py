"""One inventory host that is a cluster: its primary is found, its loss survived, and the old one never written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.backup import make
from scannerdb.connection import connect, job_entry, member_of, scalar
from scannerdb.errors import ConnectionFailed, JobLocked, PrimaryMoved, ServerUnsupported
from scannerdb.fixes.batches import Worker
from scannerdb.fixes.standbys import StandbyPause
from scannerdb.joblock import job_lock
from scannerdb.jobs import check as check_job
from scannerdb.jobs import restore as restore_job
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import Working, fix
from scannerdb.standbylag import UNSEEN, let_catch_up

from tests.integration.cluster.pair import NAME, Pair, pair_of_servers, silent_server
from tests.integration.support import INVARIANTS, NO_BACKUP, run_backup, run_restore
from tests.servers import Database

pytestmark = pytest.mark.pg(17)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of_servers() as made:
        yield made


def databases(server: Database) -> list[str]:
    return [name for (name,) in server.sql("SELECT datname FROM pg_database WHERE datname <> 'postgres' ORDER BY 1")]


def test_the_primary_is_found_and_kept(pair: Pair) -> None:
    """Whatever the order, with a member that says nothing and one that is not there."""
    with silent_server() as silent:
        options = pair.options(silent, "127.0.0.1:1")
        with connect(options) as conn:
            assert conn.info.port == pair.old.server.port
        assert (member_of(options).host, member_of(options).port) == (
            str(pair.old.server.socket_dir),
            pair.old.server.port,
        )
        found = check(options)
        assert found["server"]["in_recovery"] is False

    with connect(pair.options()) as conn:
        pair.new.sql("SELECT pg_wal_replay_pause()")
        pair.old.sql("CREATE TABLE load AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 3000) i")
        assert re.fullmatch(r"a standby stayed [23] MiB behind for 0.5 s", let_catch_up(conn, 1 << 20, 0.5))
        assert let_catch_up(conn, 16 << 20, 0.5) == ""
        pair.new.sql("SELECT pg_wal_replay_resume()")
        assert let_catch_up(conn, 1 << 20) == ""
        # A role that may not look: that is no lag of none.
        said: list[str] = []
        conn.execute("SET ROLE pg_signal_backend")
        assert let_catch_up(conn, 1 << 20) == UNSEEN
        pause = StandbyPause(conn, 1 << 20, 0.5, said.append)
        pause()
        pause()
        assert said == [f"warning: {UNSEEN}"]

    @job_entry("The test")
    def split(where: Any) -> dict[str, Any]:
        with connect(where) as conn:
            assert scalar(conn, "SELECT 1") == 1
        pair.lose_the_primary()
        with connect(where) as conn:
            raise AssertionError(f"the run went on at {conn.info.port}")

    with pytest.raises(PrimaryMoved, match=r"^The test ended, because the primary was \S+ port \d+ \(timeline 1\) and"):
        split(pair.options())
    with connect(pair.options()) as conn:
        assert conn.info.port == pair.new.server.port
    pair.new.server.stop()
    with pytest.raises(ConnectionFailed) as error:
        connect(pair.options())
    said = error.value.message
    assert said.startswith("None of the servers ")
    assert "\n" not in said
    assert said.count("cannot be reached") == 2


def test_no_batch_goes_to_a_primary_that_was_replaced(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs and takes writes, for nobody told it; the run goes on where the standby was promoted."""
    promote = pair.once(lambda: (pair.caught_up(), pair.new.sql("SELECT pg_promote()")))
    real = Worker._done

    def beside(self: Worker, rows: int) -> None:
        real(self, rows)
        promote()

    monkeypatch.setattr(Worker, "_done", beside)
    with pytest.raises(PrimaryMoved, match=r"\(timeline 1\) and two servers say that they are the primary now"):
        fix(pair.options(), safety=NO_BACKUP, working=Working(batch_rows=50))
    with pytest.raises(ServerUnsupported, match="both say that they are the primary"):
        connect(pair.options())
    written = pair.old.value("SELECT count(*) FROM scannerdb_maintenance.journal")
    assert written == pair.new.value("SELECT count(*) FROM scannerdb_maintenance.journal")
    pair.old.server.stop()
    fix(pair.options(), safety=NO_BACKUP)
    assert pair.new.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_a_fix_goes_on_under_its_id(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    lose = pair.once(pair.lose_the_primary)
    real = Worker._done

    def beside(self: Worker, rows: int) -> None:
        real(self, rows)
        lose()

    monkeypatch.setattr(Worker, "_done", beside)
    result = fix(pair.options(), safety=NO_BACKUP, working=Working(batch_rows=50))
    assert result["failures"] == []
    assert pair.new.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]
    assert pair.new.sql("SELECT DISTINCT run_id FROM scannerdb_maintenance.journal") == [(result["run_id"],)]
    assert fix(pair.options(), safety=NO_BACKUP)["changed"] is False


def test_a_fix_that_cannot_begin_again_tells_what_it_had_done(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run is at work on the new primary: what was committed before is told, with the way back."""
    real = Worker._done
    place = pair.options().at(str(pair.new.server.socket_dir), pair.new.server.port)
    with job_lock(place, "check", "20250418T120000Z-0a1b2c3d", allow_standby=True):
        lose = pair.once(pair.lose_the_primary)
        monkeypatch.setattr(Worker, "_done", lambda self, rows: (real(self, rows), lose())[0])
        with pytest.raises(JobLocked) as error:
            fix(pair.options(), safety=NO_BACKUP, working=Working(batch_rows=50))
    (written,) = pair.new.sql("SELECT DISTINCT run_id FROM scannerdb_maintenance.journal")
    told = error.value.result
    assert (told["changed"], told["run_id"]) == (True, written[0])
    assert told["failures"][-1] == f"{error.value}"
    assert told["msg"].endswith(f"playbooks/undo.yml -e scannerdb_run_id={written[0]}")


def test_checks_and_backups_begin_again_and_a_restore_says_it(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {"backup_dir": str(tmp_path), "state_dir": str(tmp_path / "state")}
    lose = pair.once(pair.lose_the_primary)
    real_count, real_inspect, real_validate = make._count, check_job.inspect, restore_job.validate
    run_backup(pair.options(), **words)
    with monkeypatch.context() as patch:
        patch.setattr(make, "_count", lambda *args: (lose(), real_count(*args))[1])
        made = run_backup(pair.options(), **words, dump_from="primary")["backup"]
    assert made["verified"] == "read"
    assert len([path for path in tmp_path.glob("*.backup") if not path.is_symlink()]) == 2, "and no half of one"
    # The former primary becomes a standby of the new one, and that is lost in turn.
    with pair.returned() as back:
        again = back.once(back.lose_the_primary)
        with monkeypatch.context() as patch:
            patch.setattr(check_job, "inspect", lambda *args, **more: (again(), real_inspect(*args, **more))[1])
            assert check(back.options())["server"]["in_recovery"] is False
        with back.returned() as last:
            gone = last.once(last.lose_the_primary)
            with monkeypatch.context() as patch:
                patch.setattr(restore_job, "validate", lambda *args: (gone(), real_validate(*args))[1])
                with pytest.raises(PrimaryMoved) as error:
                    run_restore(last.options(), **words, source="latest", confirm=NAME)
            old, new = last.old.server.port, last.new.server.port
            assert f"port {old} (timeline" in error.value.message
            assert f"port {new} (timeline" in error.value.message
            assert error.value.message.startswith("The restore ended, because the primary was ")
            assert len(databases(last.new)) > 3, "the side database came along"
            run_restore(last.options(), **words, source="latest", confirm=NAME)
            left = [name for name in databases(last.new) if name not in (NAME, "template0", "template1")]
            assert len(left) == 1, f"only what was replaced is kept: {left}"
