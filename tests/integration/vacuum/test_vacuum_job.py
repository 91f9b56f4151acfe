"""The vacuum job on real servers: what it does, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scannerdb.drill.scratch import scratch_name
from scannerdb.errors import DatabaseMissing, InvalidInput
from scannerdb.vacuum.thresholds import VacuumThresholds

from tests.integration.support import run_vacuum
from tests.integration.vacuum.vacuum_support import dead, fill, options, row
from tests.servers import VERSIONS, Database

HOSTILE = 'we"ird; drop'
# Small tables must be worth a rebuild for these tests.
EAGER = VacuumThresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)
# Newer servers compact a table beside its users.
BEFORE_REPACK = pytest.mark.pg(*VERSIONS, always=True)


def test_what_of_earlier_runs_cannot_be_removed_keeps_nothing_else(database: Database) -> None:
    """A subscription hangs on it: the vacuum is done, and the next run that can removes it."""
    name = scratch_name(database.name, "killed")
    database.sql(f'CREATE DATABASE "{name}"')
    scratch = Database(database.server, name)
    scratch.sql("CREATE SUBSCRIPTION s CONNECTION 'host=/' PUBLICATION p WITH (connect = false, slot_name = NONE)")
    fill(database)
    try:
        first = run_vacuum(options(database), method="vacuum")
        assert row(first, "public.bloated")["action"] == "vacuum" and name not in first["msg"]
    finally:
        scratch.sql("DROP SUBSCRIPTION s")
    assert f"{name!r}, which an earlier drill had left, was removed" in run_vacuum(options(database))["msg"]
    assert not database.sql("SELECT FROM pg_database WHERE datname = %s", name)


def test_a_dead_heavy_table_is_vacuumed_and_the_second_run_changes_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)
    planned = run_vacuum(options(database), check_mode=True, log_path=str(tmp_path / "no.log"))
    assert (planned["changed"], dead(database)) == (True, 15_000)
    assert not (tmp_path / "no.log").exists()

    log = tmp_path / "logs" / "db_maintenance_fix.log"
    result = run_vacuum(options(database), log_path=str(log), state_dir=str(tmp_path / "state"))
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

    again = run_vacuum(options(database))
    assert (again["changed"], again["tables"], again["diff"]["after"]) == (False, [], "")
    assert again["examined"] == 1


def test_the_fields_database(field_db: Database) -> None:
    assert field_db.damage is not None
    heavy = field_db.damage.objects["table.dead_tuples"]
    result = run_vacuum(options(field_db))
    assert [r["name"] for r in result["tables"]] == list(heavy)
    assert not run_vacuum(options(field_db))["changed"]


@pytest.mark.parametrize("database", [HOSTILE, "a=b"], indirect=True)
def test_hostile_names(database: Database) -> None:
    fill(database, HOSTILE)
    result = run_vacuum(options(database), method="reindex", tables=[HOSTILE])
    assert result["changed"] and not result["left_undone"]
    assert run_vacuum(options(database))["changed"] and dead(database, HOSTILE) == 0
    assert run_vacuum(options(database), method="full", allow_exclusive=True)["changed"]


def test_an_empty_database_and_a_missing_one(database: Database) -> None:
    result = run_vacuum(options(database))
    assert (result["changed"], result["msg"]) == (False, "0 tables examined: nothing to do.")
    with pytest.raises(DatabaseMissing):
        run_vacuum(options(database, db="there is none"))
    with pytest.raises(InvalidInput, match="no table named 'endpoints'"):
        run_vacuum(options(database), tables=["endpoints"])


def test_a_table_without_statistics_is_analyzed_once(database: Database) -> None:
    database.sql("CREATE TABLE fresh AS SELECT i FROM generate_series(1, 20) i")
    result = run_vacuum(options(database))
    assert row(result, "public.fresh")["action"] == "analyze"
    assert not run_vacuum(options(database))["changed"]


def test_a_role_without_the_right_is_told_so(database: Database) -> None:
    fill(database, "bloated", 2000)
    database.sql("CREATE ROLE plain LOGIN")
    database.sql("CREATE TABLE its_own AS SELECT i FROM generate_series(1, 9) i")
    database.sql("ALTER TABLE its_own OWNER TO plain")
    result = run_vacuum(options(database, user="plain"))
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
    result = run_vacuum(options(database, user="plain"))
    assert not result["changed"] and not result["tables"]
    assert (
        "the server refused" in result["left_undone"][0]["reason"] and "bloated" in result["left_undone"][0]["reason"]
    )


def test_a_partitioned_table_stands_for_its_partitions(database: Database) -> None:
    database.sql("CREATE TABLE whole (i int) PARTITION BY LIST (i)")
    database.sql("CREATE TABLE part PARTITION OF whole FOR VALUES IN (1)")
    database.sql("INSERT INTO whole SELECT 1 FROM generate_series(1, 100)")
    database.sql("DELETE FROM whole")
    result = run_vacuum(options(database), tables=["whole"], method="vacuum")
    assert [r["table"] for r in result["tables"]] == ["public.part"]
    assert database.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'part'") == 0


def test_full_needs_leave_and_gives_the_space_back(database: Database, tmp_path: Path) -> None:
    fill(database)
    before = database.value("SELECT pg_total_relation_size('bloated')")
    for check_mode in (True, False):
        with pytest.raises(InvalidInput, match="allow_exclusive"):
            run_vacuum(options(database), method="full", check_mode=check_mode)
    assert database.value("SELECT pg_total_relation_size('bloated')") == before
    result = run_vacuum(options(database), method="full", tables=["bloated"], allow_exclusive=True)
    done = row(result, "public.bloated")
    first, second = result["diff"]["after"].splitlines()
    assert "(FULL)" in first and "ACCESS EXCLUSIVE" in first and "ACCESS EXCLUSIVE" not in second
    assert done["max_lock_ms"] > 0 and "ACCESS EXCLUSIVE" in done["lock"]
    assert database.value("SELECT pg_total_relation_size('bloated')") == done["bytes_after"] < before / 2
    assert dead(database) == 0
    all_visible = database.sql("SELECT relallvisible, relpages FROM pg_class WHERE relname = 'bloated'")[0]
    assert all_visible[0] == all_visible[1] > 0


@BEFORE_REPACK
def test_compaction_without_leave_rebuilds_indexes_only_and_says_what_is_left(
    database: Database, tmp_path: Path
) -> None:
    fill(database)
    request = {"profile": "monthly", "thresholds": EAGER, "state_dir": str(tmp_path)}
    planned = run_vacuum(options(database), check_mode=True, **request)
    result = run_vacuum(options(database), **request)
    actions = row(result, "public.bloated")["action"]
    assert actions == row(planned, "public.bloated")["action"]
    assert actions == "vacuum, reindex bloated_pkey, reindex bloated_t_idx"
    assert "VACUUM FULL is not allowed" in result["left_undone"][0]["reason"]
    assert not run_vacuum(options(database), **request)["changed"]


@BEFORE_REPACK
def test_compaction_with_leave_ends_the_bloat(database: Database, tmp_path: Path) -> None:
    fill(database)
    request = {"method": "compact", "thresholds": EAGER, "allow_exclusive": True, "state_dir": str(tmp_path)}
    assert row(run_vacuum(options(database), **request), "public.bloated")["action"] == "full"
    again = run_vacuum(options(database), **request)
    assert (again["changed"], again["left_undone"]) == (False, [])


def test_a_wrong_estimate_does_not_repeat_a_rebuild(database: Database, tmp_path: Path) -> None:
    """Rows of 4100 bytes fit one to a page: nearly half of each page is room that no rewrite gives back."""
    database.sql("CREATE TABLE wide (t text)")
    database.sql("ALTER TABLE wide ALTER t SET STORAGE PLAIN")
    database.sql(
        "INSERT INTO wide SELECT repeat('x', CASE i % 3 WHEN 0 THEN 10 ELSE 4100 END) FROM generate_series(1, 400) i"
    )
    request = {
        "method": "compact",
        "thresholds": VacuumThresholds(bloat_bytes=10_000, bloat_share=0.1, bloat_least=0.1),
        "allow_exclusive": True,
    }
    run_vacuum(options(database))
    with_memory = {**request, "state_dir": str(tmp_path)}
    assert run_vacuum(options(database), **with_memory)["changed"], "the estimate is not wrong here: nothing is tested"
    assert not run_vacuum(options(database), **with_memory)["changed"]
    assert run_vacuum(options(database), **request)["changed"], "without memory it would be repeated"


def test_a_table_dropped_in_the_meantime_fails_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from scannerdb.jobs import vacuum as job

    fill(database, "bloated", 2000)
    fill(database, "gone", 2000)
    seen = job.perform

    def late(*args: Any) -> Any:
        database.sql("DROP TABLE gone")
        return seen(*args)

    monkeypatch.setattr(job, "perform", late)
    result = run_vacuum(options(database))
    assert [r["table"] for r in result["tables"]] == ["public.bloated"]
    assert [r["reason"] for r in result["left_undone"]] == ["it was dropped in the meantime"]
