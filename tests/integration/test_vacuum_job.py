"""The vacuum job on real servers: what it does, what it leaves alone, and whom it never makes wait."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.connection import Options
from scannerdb.errors import DatabaseMissing, InvalidInput, JobLocked, QueryFailed
from scannerdb.joblock import job_lock
from scannerdb.jobs.vacuum import vacuum
from scannerdb.lockbudget import Budget
from scannerdb.vacuum.decide import Thresholds

from tests.servers import Database

SHORT = Budget(timeout_ms=50, deadline_s=1.0)
HOSTILE = 'we"ird; drop'
# Small tables must be worth a rebuild for these tests.
EAGER = Thresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)


def options(database: Database, **more: Any) -> Options:
    args = database.kwargs
    values = {"unix_socket": str(args["host"]), "port": args["port"], "user": "postgres", "db": database.name}
    return Options(**{**values, **more})


def fill(database: Database, name: str = "bloated", rows: int = 20_000, keep: int = 4) -> None:
    """A table of which only every `keep`th row lives, analyzed and not vacuumed."""
    with database.connect() as conn:
        table = psycopg.sql.Identifier(name)
        sql = psycopg.sql.SQL
        conn.execute(
            sql("CREATE TABLE {} (id serial PRIMARY KEY, t text) WITH (autovacuum_enabled = off)").format(table)
        )
        conn.execute(
            sql("INSERT INTO {} (t) SELECT repeat('x', 50) || i FROM generate_series(1, {}) i").format(table, rows)
        )
        conn.execute(sql("CREATE INDEX ON {} (t)").format(table))
        conn.execute(sql("DELETE FROM {} WHERE id % {} <> 0").format(table, keep))
        if conn.info.server_version >= 150000:
            conn.execute("SELECT pg_stat_force_next_flush()")
        conn.execute(sql("ANALYZE {}").format(table))


def dead(database: Database, name: str = "bloated") -> int:
    return int(database.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s", name))


def row(result: dict[str, Any], table: str) -> dict[str, Any]:
    return next(row for row in result["tables"] if row["table"] == table)


@contextlib.contextmanager
def locked(database: Database, lock: str, name: str = "bloated") -> Iterator[psycopg.Connection[Any]]:
    with database.connect(autocommit=False, application_name="the holder") as conn:
        conn.execute(f'LOCK TABLE "{name}" IN {lock} MODE'.encode())
        yield conn


def invalid_indexes(database: Database) -> list[str]:
    found = database.sql("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
    return [name for (name,) in found]


def test_a_dead_heavy_table_is_vacuumed_and_the_second_run_changes_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)
    planned = vacuum(options(database), check_mode=True, log_path=str(tmp_path / "no.log"))
    assert (planned["changed"], dead(database)) == (True, 15_000)
    assert not (tmp_path / "no.log").exists()

    log = tmp_path / "logs" / "db_maintenance_fix.log"
    result = vacuum(options(database), log_path=str(log), state_dir=str(tmp_path / "state"))
    assert result["changed"] and dead(database) == 0
    done, plan = row(result, "public.bloated"), row(planned, "public.bloated")
    assert [done[k] for k in ("action", "reason", "statements", "lock")] == [
        plan[k] for k in ("action", "reason", "statements", "lock")
    ]
    assert planned["diff"] == result["diff"]
    assert (done["dead_before"], done["dead_after"], plan["dead_after"]) == (15_000, 0, None)
    assert "15000 of 20000 rows are dead" in done["reason"] and "VACUUM (" in result["diff"]["after"]
    assert "SHARE UPDATE EXCLUSIVE" in result["diff"]["after"]
    assert result["run_id"] in log.read_text() and log.stat().st_mode & 0o77 == 0
    progress = json.loads((tmp_path / "state" / "progress" / f"{result['run_id']}.json").read_text())
    assert (progress["step"], progress["done"], progress["total"]) == ("done", 1, 1)

    again = vacuum(options(database))
    assert (again["changed"], again["tables"], again["diff"]["after"]) == (False, [], "")
    assert again["examined"] == 1


def test_the_fields_database(field_db: Database) -> None:
    assert field_db.damage is not None
    heavy = field_db.damage.objects["table.dead_tuples"]
    result = vacuum(options(field_db))
    assert [r["name"] for r in result["tables"]] == list(heavy)
    assert not vacuum(options(field_db))["changed"]


@pytest.mark.parametrize("database", [HOSTILE, "a=b"], indirect=True)
def test_hostile_names(database: Database) -> None:
    fill(database, HOSTILE)
    result = vacuum(options(database), method="reindex", tables=[HOSTILE])
    assert result["changed"] and not result["left_undone"]
    assert vacuum(options(database))["changed"] and dead(database, HOSTILE) == 0
    assert vacuum(options(database), method="full", allow_exclusive=True)["changed"]


def test_an_empty_database_and_a_missing_one(database: Database) -> None:
    result = vacuum(options(database))
    assert (result["changed"], result["msg"]) == (False, "0 tables examined: nothing to do.")
    with pytest.raises(DatabaseMissing):
        vacuum(options(database, db="there is none"))
    with pytest.raises(InvalidInput, match="no table named 'endpoints'"):
        vacuum(options(database), tables=["endpoints"])


def test_a_table_without_statistics_is_analyzed_once(database: Database) -> None:
    database.sql("CREATE TABLE fresh AS SELECT i FROM generate_series(1, 20) i")
    result = vacuum(options(database))
    assert row(result, "public.fresh")["action"] == "analyze"
    assert not vacuum(options(database))["changed"]


def test_a_locked_table_is_left_out_with_the_holder_named_and_the_others_have_their_turn(database: Database) -> None:
    fill(database, "bloated", 2000)
    fill(database, "other", 2000)
    for lock in ("SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"):
        with locked(database, lock):
            started = time.monotonic()
            result = vacuum(options(database))
            assert time.monotonic() - started < 10
        undone = [r for r in result["left_undone"] if r["table"] == "public.bloated"]
        assert undone[0]["action"] == "vacuum" and "the holder" in undone[0]["reason"]
        assert "public.bloated" not in [r["table"] for r in result["tables"]]
        assert dead(database) == 1500
    assert dead(database, "other") == 0
    assert vacuum(options(database))["changed"] and dead(database) == 0


def test_a_table_whose_lock_is_gone_by_the_end_is_not_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scannerdb.jobs import vacuum as job

    fill(database, "bloated", 2000)
    fill(database, "other", 2000)
    with locked(database, "SHARE UPDATE EXCLUSIVE") as holder:
        tell = job._tell

        def free(run: Any, step: Any) -> None:
            if step.decision.measure.name == "other":
                holder.rollback()
            tell(run, step)

        monkeypatch.setattr(job, "_tell", free)
        result = vacuum(options(database))
    assert result["left_undone"] == [] and dead(database) == 0


def test_an_old_snapshot_is_named_and_a_useless_vacuum_is_no_change(database: Database) -> None:
    with database.connect() as old:
        database.sql("CREATE TABLE first (i int)")
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM first")
        old.execute("SET application_name = 'the old one'")
        fill(database, "bloated", 2000)
        result = vacuum(options(database), tables=["bloated"])
        assert "the old one" in row(result, "public.bloated")["note"] and dead(database) == 1500
        result = vacuum(options(database), tables=["bloated"])
        assert not result["changed"], result
    assert vacuum(options(database))["changed"] and dead(database) == 0


def test_a_role_without_the_right_is_told_so(database: Database) -> None:
    fill(database, "bloated", 2000)
    database.sql("CREATE ROLE plain LOGIN")
    database.sql("CREATE TABLE its_own AS SELECT i FROM generate_series(1, 9) i")
    database.sql("ALTER TABLE its_own OWNER TO plain")
    result = vacuum(options(database, user="plain"))
    assert [r["table"] for r in result["tables"]] == ["public.its_own"]
    assert "may not maintain it: it belongs to postgres" in result["left_undone"][0]["reason"]
    assert dead(database) == 1500


def test_what_the_server_refuses_is_told_even_where_it_was_not_foreseen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from scannerdb.jobs import vacuum as job

    fill(database, "bloated", 2000)
    database.sql("CREATE ROLE plain LOGIN")
    seen = job.measure
    monkeypatch.setattr(job, "measure", lambda conn: [replace(t, may_vacuum=True) for t in seen(conn)])
    result = vacuum(options(database, user="plain"))
    assert not result["changed"] and not result["tables"]
    assert (
        "the server refused" in result["left_undone"][0]["reason"] and "bloated" in result["left_undone"][0]["reason"]
    )


def test_a_partitioned_table_stands_for_its_partitions(database: Database) -> None:
    database.sql("CREATE TABLE whole (i int) PARTITION BY LIST (i)")
    database.sql("CREATE TABLE part PARTITION OF whole FOR VALUES IN (1)")
    database.sql("INSERT INTO whole SELECT 1 FROM generate_series(1, 100)")
    database.sql("DELETE FROM whole")
    result = vacuum(options(database), tables=["whole"], method="vacuum")
    assert [r["table"] for r in result["tables"]] == ["public.part"]
    assert database.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'part'") == 0


def test_full_needs_leave_and_gives_the_space_back(database: Database, tmp_path: Path) -> None:
    fill(database)
    before = database.value("SELECT pg_total_relation_size('bloated')")
    for check_mode in (True, False):
        with pytest.raises(InvalidInput, match="allow_exclusive"):
            vacuum(options(database), method="full", check_mode=check_mode)
    assert database.value("SELECT pg_total_relation_size('bloated')") == before
    result = vacuum(options(database), method="full", tables=["bloated"], allow_exclusive=True)
    done = row(result, "public.bloated")
    assert done["max_lock_ms"] > 0 and "ACCESS EXCLUSIVE" in done["lock"]
    assert database.value("SELECT pg_total_relation_size('bloated')") == done["bytes_after"] < before / 2
    assert dead(database) == 0
    all_visible = database.sql("SELECT relallvisible, relpages FROM pg_class WHERE relname = 'bloated'")[0]
    assert all_visible[0] == all_visible[1] > 0


def test_full_under_a_writers_lock_gives_up_in_time_and_blocks_nobody(database: Database) -> None:
    fill(database)
    size = database.value("SELECT pg_relation_size('bloated')")
    slowest, stop = [0.0], threading.Event()

    def write() -> None:
        with database.connect(application_name="the writer") as conn:
            while not stop.is_set():
                started = time.monotonic()
                conn.execute("INSERT INTO bloated (t) VALUES ('new')")
                slowest[0] = max(slowest[0], time.monotonic() - started)
                time.sleep(0.005)

    with locked(database, "ROW EXCLUSIVE"):
        writer = threading.Thread(target=write)
        writer.start()
        try:
            started = time.monotonic()
            result = vacuum(options(database), method="full", allow_exclusive=True, budget=SHORT)
            assert time.monotonic() - started < SHORT.deadline_s + 2
        finally:
            stop.set()
            writer.join()
    assert not result["changed"] and not result["tables"]
    assert "the holder" in result["left_undone"][0]["reason"]
    assert database.value("SELECT pg_relation_size('bloated')") >= size
    assert 0 < slowest[0] < 0.5, f"a writer waited {slowest[0]:.3f} s"


def test_full_gets_its_lock_as_soon_as_the_writer_is_gone(database: Database) -> None:
    fill(database, "bloated", 2000)
    holder = database.connect(autocommit=False)
    holder.execute("LOCK TABLE bloated IN ROW EXCLUSIVE MODE")
    release = threading.Timer(0.6, holder.close)
    release.start()
    result = vacuum(options(database), method="full", allow_exclusive=True, budget=Budget(50, 20.0))
    release.join()
    assert result["changed"] and 0 < row(result, "public.bloated")["max_wait_ms"] < 500


def test_compaction_without_leave_rebuilds_indexes_only_and_says_what_is_left(
    database: Database, tmp_path: Path
) -> None:
    fill(database)
    wish = {"profile": "monthly", "thresholds": EAGER, "state_dir": str(tmp_path)}
    planned = vacuum(options(database), check_mode=True, **wish)
    result = vacuum(options(database), **wish)
    actions = row(result, "public.bloated")["action"]
    assert actions == row(planned, "public.bloated")["action"]
    assert actions == "vacuum, reindex bloated_pkey, reindex bloated_t_idx"
    assert "only VACUUM FULL" in result["left_undone"][0]["reason"]
    assert not vacuum(options(database), **wish)["changed"]


def test_compaction_with_leave_ends_the_bloat(database: Database, tmp_path: Path) -> None:
    fill(database)
    wish = {"method": "compact", "thresholds": EAGER, "allow_exclusive": True, "state_dir": str(tmp_path)}
    assert row(vacuum(options(database), **wish), "public.bloated")["action"] == "full"
    again = vacuum(options(database), **wish)
    assert (again["changed"], again["left_undone"]) == (False, [])


def test_a_wrong_estimate_does_not_repeat_a_rebuild(database: Database, tmp_path: Path) -> None:
    """Rows of 4100 bytes fit one to a page: nearly half of each page is room that no rewrite gives back."""
    database.sql("CREATE TABLE wide (t text)")
    database.sql("ALTER TABLE wide ALTER t SET STORAGE PLAIN")
    database.sql(
        "INSERT INTO wide SELECT repeat('x', CASE i % 3 WHEN 0 THEN 10 ELSE 4100 END) FROM generate_series(1, 400) i"
    )
    wish = {
        "method": "compact",
        "thresholds": Thresholds(bloat_bytes=10_000, bloat_share=0.1, bloat_least=0.1),
        "allow_exclusive": True,
    }
    vacuum(options(database))
    with_memory = {**wish, "state_dir": str(tmp_path)}
    assert vacuum(options(database), **with_memory)["changed"], "the estimate is not wrong here: nothing is tested"
    assert not vacuum(options(database), **with_memory)["changed"]
    assert vacuum(options(database), **wish)["changed"], "without memory it would be repeated"


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_interrupted_rebuild_leaves_nothing_after_the_next_run(database: Database, how: str) -> None:
    fill(database, "bloated", 2000)
    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")  # a rebuild waits for this snapshot
        with pytest.raises(psycopg.Error), database.connect(application_name="rebuild") as conn:
            killer = _when_waiting(database, "rebuild", f"SELECT {how}(pid) FROM pg_stat_activity WHERE pid = %s")
            conn.execute("REINDEX INDEX CONCURRENTLY bloated_t_idx")
        killer.join()
    assert invalid_indexes(database) == ["bloated_t_idx_ccnew"]
    planned = vacuum(options(database), check_mode=True)
    assert "DROP INDEX CONCURRENTLY" in planned["diff"]["after"]
    assert invalid_indexes(database) == ["bloated_t_idx_ccnew"]
    result = vacuum(options(database))
    assert result["changed"] and "drop_index bloated_t_idx_ccnew" in row(result, "public.bloated")["action"]
    assert invalid_indexes(database) == []
    assert database.value("SELECT count(*) FROM pg_index WHERE indrelid = 'bloated'::regclass") == 2


def test_our_own_interrupted_rebuild_clears_up_at_once(database: Database) -> None:
    fill(database, "bloated", 2000)
    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")

        def cancel_and_free(pid: int) -> None:
            database.sql("SELECT pg_cancel_backend(%s)", pid)
            time.sleep(0.2)  # the leftover cannot be dropped before this transaction ends
            old.execute("COMMIT")

        helper = _when_waiting(database, "scannerdb vacuum%", cancel_and_free)
        with pytest.raises(QueryFailed, match="cancel"):
            vacuum(options(database), method="reindex", tables=["bloated"])
        helper.join()
    assert invalid_indexes(database) == []


def test_a_leftover_in_use_is_left_for_the_next_run(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from scannerdb.vacuum import run

    monkeypatch.setattr(run, "SOFT_TIMEOUT_MS", 200)
    fill(database, "bloated", 2000)
    database.sql("ALTER TABLE bloated DROP CONSTRAINT bloated_pkey")  # one rebuild to wait in is enough
    with database.connect(application_name="the reader") as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")
        helper = _when_waiting(database, "scannerdb vacuum%", "SELECT pg_cancel_backend(%s)")
        with pytest.raises(QueryFailed):
            vacuum(options(database), method="reindex", tables=["bloated"])
        helper.join()
        assert len(invalid_indexes(database)) == 1
        result = vacuum(options(database))
        assert "the reader" in result["left_undone"][0]["reason"]
        assert len(invalid_indexes(database)) == 1
    vacuum(options(database))
    assert invalid_indexes(database) == []


def test_an_exclusively_locked_table_does_not_stop_the_measuring(database: Database) -> None:
    fill(database, "bloated", 2000)
    with locked(database, "ACCESS EXCLUSIVE"):
        started = time.monotonic()
        result = vacuum(options(database), check_mode=True)
        assert time.monotonic() - started < 2
    assert row(result, "public.bloated")["bytes_before"] > 0


def test_a_table_dropped_in_the_meantime_fails_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from scannerdb.jobs import vacuum as job

    fill(database, "bloated", 2000)
    fill(database, "gone", 2000)
    seen = job.perform

    def late(*args: Any) -> Any:
        database.sql("DROP TABLE gone")
        return seen(*args)

    monkeypatch.setattr(job, "perform", late)
    result = vacuum(options(database))
    assert [r["table"] for r in result["tables"]] == ["public.bloated"]
    assert [r["reason"] for r in result["left_undone"]] == ["it was dropped in the meantime"]


def test_one_job_at_a_time(database: Database) -> None:
    fill(database, "bloated", 2000)
    with job_lock(options(database), "backup", "20250101T000000Z-00000000"):
        with pytest.raises(JobLocked, match="backup"):
            vacuum(options(database))
        assert vacuum(options(database), check_mode=True)["changed"]
    assert dead(database) == 1500


def _when_waiting(database: Database, application: str, then: str | Callable[[int], None]) -> threading.Thread:
    """Start a thread that acts as soon as the session of that name waits inside a REINDEX."""

    def watch() -> None:
        for _ in range(1000):
            found = database.sql(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock' "
                "AND query ILIKE 'REINDEX%%'",
                application,
            )
            if found:
                pid = found[0][0]
                if callable(then):
                    then(pid)
                else:
                    database.sql(then, pid)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread
