"""Compaction by REPACK (CONCURRENTLY) of PostgreSQL 19: what it gives back, and what it is never allowed to do."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.vacuum import repack as repacking
from scannerdb.vacuum.thresholds import VacuumThresholds

from demo import user
from tests.integration.support import run_vacuum, wait_until
from tests.integration.vacuum.vacuum_support import dead, fill, locked, options, row
from tests.needs import lack, needs
from tests.servers import FAST, Database, lone_server
from tests.system.needs import NEXT

EAGER = VacuumThresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)
MONTHLY: dict[str, Any] = {"profile": "monthly", "thresholds": EAGER}
BY_NAME: dict[str, Any] = {"method": "repack", "tables": ["bloated"]}
HELD = 7  # the advisory lock that REPACK waits for in its middle, and nobody else
# An index over it holds REPACK where it builds that index, or where it adds a row to it.
FUNCTION = f"""
CREATE FUNCTION held(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    WHILE t LIKE '%%MARK%%'
      AND EXISTS (SELECT FROM pg_catalog.pg_stat_progress_repack WHERE pid = pg_catalog.pg_backend_pid())
      AND NOT pg_catalog.pg_try_advisory_xact_lock_shared({HELD}) LOOP
        PERFORM pg_catalog.pg_sleep(0.02);
    END LOOP;
    RETURN t;
END $$
"""
SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
HELD_THERE = SLEEPS.replace("%s", "current_database()")
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'bloated'::regclass AND mode = %s"
ALONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = %s"
BUSY = """
SELECT count(*) FROM pg_stat_activity
 WHERE query ~ '^SELECT pg_sleep' AND state = 'active' AND clock_timestamp() - xact_start > interval '1.1 s'
"""
pytestmark = [pytest.mark.pg(NEXT, always=True)]


class Work:
    """A vacuum in a thread of its own, and its result."""

    def __init__(self, database: Database, user: str = "postgres", **request: Any) -> None:
        self.result: dict[str, Any] = {}
        asked = options(database, user=user)
        self._thread = threading.Thread(target=lambda: self.result.update(run_vacuum(asked, **request)))
        self._thread.start()

    def done(self) -> dict[str, Any]:
        """The result; empty where the job failed."""
        self._thread.join(60)
        return self.result


@contextlib.contextmanager
def holding(database: Database, mark: str = "", login: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Keep REPACK at the first row that has the mark; the connection lets it go by ending its transaction."""
    database.sql(FUNCTION.replace("MARK", mark).replace("%%", "%"))
    database.sql("CREATE INDEX a_held ON bloated (held(t))")
    with database.connect(login, application_name="the one who holds") as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", [HELD])
        yield conn


def blind(database: Database) -> None:
    """A role that may maintain the table, and cannot look at other roles' sessions."""
    database.sql("CREATE ROLE blind LOGIN IN ROLE pg_maintain")
    database.sql("GRANT SELECT ON bloated TO blind")
    database.sql("GRANT USAGE ON SCHEMA public TO blind")


def file_of(database: Database) -> int:
    return int(database.value("SELECT pg_relation_filenode('bloated')"))


def nothing_left(database: Database) -> bool:
    """No slot, no worker, and no copy of a table or index."""
    return not database.sql(
        "SELECT slot_name::text FROM pg_replication_slots UNION ALL "
        "SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'REPACK%' UNION ALL "
        "SELECT relname::text FROM pg_class WHERE relname ~ 'repacknew|^pg_temp_[0-9]'"
    )


@contextlib.contextmanager
def watched_guard(told: list[str]) -> Iterator[None]:
    """Note why the guard cancels, whenever it does."""
    cancel = repacking._Guard._cancel

    def noting(self: Any, own: Any, why: str) -> None:
        told.append(why)
        cancel(self, own, why)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repacking._Guard, "_cancel", noting)
        yield


def test_it_gives_back_what_vacuum_full_would(database: Database, tmp_path: Path) -> None:
    """Also for a role that may only maintain the table, whose owner may not even log in."""
    fill(database)
    database.sql("CREATE ROLE lord NOLOGIN")
    database.sql("CREATE ROLE plain LOGIN IN ROLE pg_maintain, pg_read_all_stats")
    database.sql("ALTER TABLE bloated OWNER TO lord")
    database.sql("GRANT SELECT ON bloated TO plain")
    database.sql("GRANT USAGE ON SCHEMA public TO plain")
    content = database.sql("SELECT * FROM bloated ORDER BY id")
    planned = run_vacuum(options(database, user="plain"), check_mode=True, free_gb=1, **MONTHLY)
    assert "REPACK (CONCURRENTLY)" in planned["diff"]["after"] and dead(database) == 15_000
    result = run_vacuum(options(database, user="plain"), state_dir=str(tmp_path), free_gb=1, **MONTHLY)
    done = row(result, "public.bloated")
    assert (done["action"], result["left_undone"]) == ("repack", [])
    assert database.sql("SELECT * FROM bloated ORDER BY id") == content
    assert database.value("SELECT pg_total_relation_size('bloated')") == done["bytes_after"] < done["bytes_before"] / 2
    assert nothing_left(database)
    assert not run_vacuum(options(database, user="plain"), state_dir=str(tmp_path), **MONTHLY)["changed"]
    database.sql("VACUUM FULL bloated")
    least = database.value("SELECT pg_total_relation_size('bloated')")
    assert done["bytes_before"] - done["bytes_after"] >= 0.95 * (done["bytes_before"] - least)


def test_what_it_lacks_is_told_before_anything_begins(database: Database) -> None:
    poor = {"max_repack_replication_slots": "0", "wal_level": "minimal", "max_wal_senders": "0"}
    with lone_server(database.server.bin_dir, {**FAST, **poor}) as other:
        fill(other)
        result = run_vacuum(options(other), check_mode=True, **MONTHLY)
        reason = result["left_undone"][0]["reason"]
        assert "max_repack_replication_slots of at least 1" in reason and "wal_level replica" in reason
    fill(database)
    database.sql("ALTER TABLE bloated REPLICA IDENTITY NOTHING")
    reason = run_vacuum(options(database), check_mode=True, **MONTHLY)["left_undone"][0]["reason"]
    assert "needs a primary key or an index as replica identity" in reason
    database.sql("ALTER TABLE bloated REPLICA IDENTITY DEFAULT")
    database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bloated_t_idx'::regclass")
    reason = run_vacuum(options(database), check_mode=True, **MONTHLY)["left_undone"][0]["reason"]
    assert "invalid index, which bloated_t_idx is" in reason


def test_who_is_in_the_way_is_named_and_not_waited_for_for_ever(database: Database) -> None:
    """A lock on the table, and a transaction anywhere in the cluster that has written something."""
    fill(database)
    before = file_of(database)
    with locked(database, "ACCESS SHARE"):
        reason = run_vacuum(options(database), lock_deadline_s=0.5, **BY_NAME)["left_undone"][0]["reason"]
    assert "the holder" in reason
    with database.connect(dbname="postgres", autocommit=False, application_name="the writer elsewhere") as other:
        other.execute("SELECT pg_current_xact_id()")
        reason = run_vacuum(options(database), lock_deadline_s=0.5, **BY_NAME)["left_undone"][0]["reason"]
        assert "the writer elsewhere" in reason
    assert file_of(database) == before and nothing_left(database)


def test_nobody_finds_the_table_empty(database: Database) -> None:
    """A session that keeps its snapshot, from before or from the middle, reads all rows; and the work is told of."""
    fill(database)
    before, rows = file_of(database), database.value("SELECT count(*) FROM bloated")
    told: list[str] = []
    with database.connect(autocommit=False, application_name="the one who dumps") as keeper:
        keeper.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        keeper.execute("SELECT 1")
        left = run_vacuum(options(database), **BY_NAME)["left_undone"][0]["reason"]
        assert "the one who dumps" in left and "keeps its snapshot" in left
        keeper.rollback()
        with holding(database) as holder, watched_guard(told):
            work = Work(database, **BY_NAME)
            wait_until(lambda: database.value(HELD_THERE))
            keeper.execute("SELECT 1")
            wait_until(lambda: told)
            holder.execute("SELECT pg_advisory_unlock(%s)", [HELD])
            assert "the one who dumps" in work.done()["left_undone"][0]["reason"]
        assert keeper.execute("SELECT count(*) FROM bloated").fetchone() == (rows,)
    assert told and file_of(database) == before and nothing_left(database)


def test_whoever_waits_longer_than_the_budget_sees_it_cancelled(database: Database) -> None:
    """It has its lock, and the latest changes take long: with a reader behind it, it is given up, and tried again."""
    fill(database)
    told: list[str] = []
    with holding(database, "slow") as holder, database.connect(autocommit=False) as writer, watched_guard(told):
        writer.execute("LOCK TABLE bloated IN ROW EXCLUSIVE MODE")
        work = Work(database, lock_timeout_ms=4000, lock_deadline_s=4, **BY_NAME)
        wait_until(lambda: database.value(WAITS, "AccessExclusiveLock"))
        writer.execute("INSERT INTO bloated (t) VALUES ('slow')")
        writer.commit()
        wait_until(lambda: database.value(HELD_THERE))
        assert database.value("SELECT count(*) FROM bloated WHERE t = 'slow'") == 1, "it waited behind REPACK"
        holder.execute("SELECT pg_advisory_unlock(%s)", [HELD])
        assert work.done()["tables"][0]["action"] == "repack"
    assert "faster than REPACK can catch up" in told[0] and nothing_left(database)


@needs("root", "mounting")
def test_a_full_disk_costs_nothing_but_the_attempt(database: Database, tmp_path: Path) -> None:
    with disk(database) as folder:
        fill(database)
        before, content = file_of(database), database.sql("SELECT * FROM bloated ORDER BY id")
        with holding(database) as holder, failing() as said:
            work = Work(database, **MONTHLY)
            wait_until(lambda: database.value(HELD_THERE))
            with contextlib.suppress(OSError):
                (folder / "filler").write_bytes(b"x" * (1 << 27))
            holder.execute("SELECT pg_advisory_unlock(%s)", [HELD])
            work.done()
        assert "No space left on device" in said[0]
        (folder / "filler").unlink()
        assert file_of(database) == before and nothing_left(database)
        assert database.sql("SELECT * FROM bloated ORDER BY id") == content
        assert row(run_vacuum(options(database), **MONTHLY), "public.bloated")["action"] == "repack"
        database.sql("DROP TABLE bloated")


@contextlib.contextmanager
def failing() -> Iterator[list[str]]:
    """What the threads of the block fail of."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda told: said.append(str(told.exc_value)))
        yield said


@contextlib.contextmanager
def disk(database: Database) -> Iterator[Path]:
    """A small file system, with the tablespace that new tables of the database go to."""
    folder = user.make_short_folder("scannerdb-disk-")
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, check=False)
    try:
        if done.returncode:
            lack("mounting", done.stderr.decode().strip())
        place = folder / "space"
        place.mkdir()
        user.give_away(place)
        folder.chmod(0o755)
        database.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        database.sql(f"ALTER DATABASE {database.name} SET default_tablespace = small")
        yield folder
    finally:
        with contextlib.suppress(psycopg.Error):
            database.sql("DROP TABLESPACE small")
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        folder.rmdir()


def test_who_cannot_be_looked_at_counts_as_in_the_way(database: Database) -> None:
    """Without pg_read_all_stats nobody sees what another role's session keeps."""
    fill(database)
    blind(database)
    before = file_of(database)
    with database.connect() as other:
        reason = run_vacuum(options(database, user="blind"), **BY_NAME)["left_undone"][0]["reason"]
        assert f"process {other.info.backend_pid} ('postgres')" in reason and "pg_read_all_stats" in reason
    assert file_of(database) == before
    with database.connect(dbname="postgres") as elsewhere:  # who looks from inside would be one whom nobody sees
        wait_until(lambda: elsewhere.execute(ALONE, [database.name]).fetchone() == (True,))
    with database.connect(dbname="postgres", replication="true"):  # as a standby does
        result = run_vacuum(options(database, user="blind"), **BY_NAME)
    assert not result["left_undone"]
    done = row(result, "public.bloated")
    assert done["action"] == "repack"
    assert "how far standbys fell behind is not to be seen" in done["note"]


def test_repack_is_not_in_its_own_way(database: Database) -> None:
    """Its worker is a session of the first superuser, which a role without pg_read_all_stats cannot look at."""
    fill(database)
    before = file_of(database)
    blind(database)
    looks: list[str] = []
    keeper = repacking.snapshot_keeper

    def noting(conn: Any, *workers: Any) -> str:
        looks.append(keeper(conn, *workers))
        return looks[-1]

    with (
        pytest.MonkeyPatch.context() as patch,
        holding(database, login="blind") as holder,
        database.connect(dbname="postgres") as elsewhere,
    ):
        patch.setattr(repacking, "snapshot_keeper", noting)
        work = Work(database, user="blind", **BY_NAME)
        wait_until(lambda: elsewhere.execute(SLEEPS, [database.name]).fetchone() == (1,) and len(looks) > 2)
        holder.execute("SELECT pg_advisory_unlock(%s)", [HELD])
        assert work.done()["tables"][0]["action"] == "repack"
    assert set(looks) == {""} and file_of(database) != before


def test_a_session_at_work_may_keep_its_snapshot(database: Database) -> None:
    """In REPEATABLE READ it does, also while it is busy with a long query that has nothing to do with the table."""
    fill(database)
    before = file_of(database)
    with database.connect(autocommit=False, application_name="the long reader") as keeper:
        keeper.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        keeper.execute("SELECT 1")

        def work() -> None:
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                keeper.execute("SELECT pg_sleep(600)")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            wait_until(lambda: database.value(BUSY))
            reason = run_vacuum(options(database), **BY_NAME)["left_undone"][0]["reason"]
        finally:
            database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'")
            thread.join()
    assert "the long reader" in reason and "may keep its snapshot" in reason and file_of(database) == before


def test_a_watcher_that_ends_takes_its_repack_with_it(database: Database) -> None:
    """Whatever ends it: an error in what it looks at, of any kind."""
    fill(database)
    before, keeper = file_of(database), repacking.snapshot_keeper

    def failing_beside(conn: Any, *workers: Any) -> str:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("this is not foreseen")
        return keeper(conn, *workers)

    with holding(database), pytest.MonkeyPatch.context() as patch:
        patch.setattr(repacking, "snapshot_keeper", failing_beside)
        reason = run_vacuum(options(database), **BY_NAME)["left_undone"][0]["reason"]
    assert "could look no longer: this is not foreseen" in reason
    assert file_of(database) == before and nothing_left(database)
