"""What keeps a vacuum from doing what it decided: the window, the disk; and what confirms, and tells how far it is."""

from __future__ import annotations

import datetime
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import JobLocked, QueryFailed
from scannerdb.joblock import job_lock
from scannerdb.jobs import vacuum as job
from scannerdb.jobs.fix import fix
from scannerdb.serverdisk import Room
from scannerdb.vacuum import progress, run
from scannerdb.vacuum.thresholds import VacuumThresholds
from scannerdb.window import Window

from tests.integration.support import content, findings, run_fix, run_vacuum, wait_until
from tests.integration.support import options as field_options
from tests.integration.vacuum.vacuum_support import dead, fill, invalid_indexes, options, row
from tests.servers import Database, Databases

EAGER = VacuumThresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)
FULL: dict[str, Any] = {"method": "compact", "allow_exclusive": True, "thresholds": EAGER}
HOUR = datetime.timedelta(hours=1)
BEFORE_REPACK = pytest.mark.pg(17, always=True)  # newer servers need no VACUUM FULL for these
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


def window(begins_in: datetime.timedelta, lasts: datetime.timedelta = HOUR) -> Window:
    """A window that opens so long from now, to the minute."""
    start = datetime.datetime.now(tz=datetime.timezone.utc) + begins_in
    return Window(start.time().replace(second=0, microsecond=0), lasts, "UTC")


def said(one: Window) -> dict[str, Any]:
    """The same as it is said in an inventory."""
    return {"start": f"{one.start:%H:%M}", "duration_h": one.duration / HOUR, "timezone": "UTC"}


def test_outside_its_window_nothing_is_begun_however_long_it_waited_for_its_turn(
    database: Database, tmp_path: Path
) -> None:
    fill(database, rows=2000)
    log = tmp_path / "log"
    result = run_vacuum(options(database), window=said(window(2 * HOUR)), log_path=str(log), state_dir=str(tmp_path))
    assert (result["changed"], result["examined"], dead(database)) == (False, 0, 1500)
    assert "opens next at" in result["msg"] and "opens next at" in result["left_undone"][0]["reason"]
    assert result["msg"] in log.read_text()
    assert run_vacuum(options(database), window=said(window(2 * HOUR)), check_mode=True)["changed"], (
        "a plan may be made any time"
    )
    with job_lock(options(database), "backup", "20250101T000000Z-00000000"), pytest.raises(JobLocked):
        run_vacuum(options(database), window=said(window(2 * HOUR)))
    assert run_vacuum(options(database), window=said(window(-HOUR / 2)))["changed"] and dead(database) == 0


def test_fixes_keep_to_the_window_too(make_database: Databases) -> None:
    field_db = make_database(filled=True)
    before = content(field_db)
    left = run_fix(field_db, window=window(2 * HOUR))
    assert not left["changed"] and not left["fixed"] and content(field_db) == before
    planned = fix(field_options(field_db), window=window(2 * HOUR), check_mode=True)
    reasons = [item["why"] for item in left["left_undone"] if "outside the window" in item["why"]]
    assert len(reasons) == len(planned["fixed"]) > 0
    assert run_fix(field_db, window=window(-HOUR / 2))["changed"]


def test_when_the_window_closes_it_stops_between_tables(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        fill(database, name, 2000)
    open_for, now = window(-HOUR / 2), job.utc_now
    finished = run._attempt

    def late(*args: Any) -> Any:
        outcome = finished(*args)
        monkeypatch.setattr(job, "utc_now", lambda: now() + HOUR)
        return outcome

    monkeypatch.setattr(run, "_attempt", late)
    result = run_vacuum(options(database), window=said(open_for))
    assert [r["table"] for r in result["tables"]] == ["public.a"]
    assert [r["table"] for r in result["left_undone"]] == ["public.b", "public.c"]
    assert all("outside the window" in r["reason"] for r in result["left_undone"])


@BEFORE_REPACK
def test_vacuum_full_is_not_begun_where_its_lock_would_outlast_the_window(database: Database, tmp_path: Path) -> None:
    fill(database)
    (tmp_path / "vacuum.json").write_text(json.dumps({"rebuilt": {}, "rate": 10}))  # ten bytes a second
    request = {**FULL, "state_dir": str(tmp_path)}
    result = run_vacuum(options(database), window=said(window(-HOUR / 2)), **request)
    assert "its lock would last about" in result["left_undone"][0]["reason"]
    assert "full" not in row(result, "public.bloated")["action"]
    assert row(run_vacuum(options(database), **request), "public.bloated")["action"] == "full"


def test_children_are_left_alone(database: Database) -> None:
    """From PostgreSQL 18 on, VACUUM without ONLY takes them along."""
    fill(database)
    database.sql("CREATE TABLE child (LIKE bloated) INHERITS (bloated)")
    node = "SELECT pg_relation_filenode('child')"
    before = database.value(node)
    assert run_vacuum(options(database), method="full", tables=["bloated"], allow_exclusive=True)["changed"]
    assert database.value(node) == before


def test_a_full_disk_is_noticed_before_the_copy(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database)
    little, much = 8192, 1 << 40
    result = run_vacuum(options(database), free_gb=(little) / (1 << 30), **FULL)
    assert "MiB free; the copy needs" in result["left_undone"][0]["reason"]
    assert row(result, "public.bloated")["action"] == "vacuum", "which needs no room"
    monkeypatch.setattr(run, "room_for", lambda conn, tablespace: Room(little))
    assert "MiB free; the copy needs" in run_vacuum(options(database), **FULL)["left_undone"][0]["reason"]
    told = run_vacuum(options(database), free_gb=(much) / (1 << 30), **FULL)
    assert "MiB free; the copy needs" in told["left_undone"][0]["reason"], "what was measured beats what was said"
    monkeypatch.undo()
    assert run_vacuum(options(database), **FULL)["changed"], "this very disk has room"


@BEFORE_REPACK
def test_a_table_whose_rewrite_is_refused_gets_what_it_would_have_had_without(database: Database) -> None:
    """Its vacuum must not wait for the next run."""
    fill(database)
    planned = run_vacuum(options(database), check_mode=True, **FULL)
    result = run_vacuum(
        options(database), free_gb=(database.value("SELECT pg_total_relation_size('bloated')") - 1) / (1 << 30), **FULL
    )
    assert row(planned, "public.bloated")["action"] == "full"
    done = row(result, "public.bloated")
    assert done["action"] == "vacuum, reindex bloated_pkey, reindex bloated_t_idx" and dead(database) == 0
    assert "15000 of 20000 rows are dead" in done["reason"] and "a rewrite would" not in done["reason"]
    assert result["changed"] and "VACUUM (FULL" not in result["diff"]["after"]
    (undone,) = result["left_undone"]
    assert undone["action"] == "full" and undone["reason"].endswith(f"; done instead: {done['action']}")


def test_a_rewrite_that_fails_is_an_error_and_the_table_gets_its_vacuum(database: Database) -> None:
    fill(database, rows=120_000)
    database.sql(f"ALTER DATABASE {database.name} SET maintenance_work_mem = '1MB'")
    database.sql(f"ALTER DATABASE {database.name} SET temp_file_limit = '64kB'")  # so that no index can be built
    with pytest.raises(QueryFailed, match=r"temporary file size exceeds.*; done instead: vacuum"):
        run_vacuum(options(database), **FULL)
    assert dead(database) == 0 and invalid_indexes(database) == []


def test_a_rebuild_is_not_begun_beside_a_transaction_that_looks_as_if_it_would_stay(database: Database) -> None:
    """REINDEX CONCURRENTLY would wait for it for up to an hour."""
    fill(database)
    with database.connect(application_name="the old one") as old, database.connect(application_name="idle") as idle:
        idle.execute("BEGIN")
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        wait_until(lambda: old.execute("SELECT clock_timestamp() - now() > interval '0.2 s'").fetchone() == (True,))
        result = run_vacuum(options(database), method="reindex", tables=["bloated"], lock_deadline_s=0.2)
        assert not result["changed"]
        assert all("older transaction" in undone["reason"] for undone in result["left_undone"])
        assert "the old one" in result["left_undone"][0]["reason"]
        old.execute("COMMIT")
        # One without a snapshot is not waited for.
        assert run_vacuum(options(database), method="reindex", tables=["bloated"], lock_deadline_s=0.2)["changed"]


def test_where_the_disk_cannot_be_seen_it_is_said(database: Database) -> None:
    """A plain role may not see where the data directory is."""
    fill(database)
    database.sql("CREATE ROLE plain LOGIN")
    database.sql("ALTER TABLE bloated OWNER TO plain")
    plain = options(database, user="plain")
    reason = run_vacuum(plain, **FULL)["left_undone"][0]["reason"]
    assert "may not see where the data directory is" in reason and "scannerdb_vacuum_free_gb" in reason
    by_name = run_vacuum(plain, method="full", tables=["bloated"], allow_exclusive=True)
    assert "free disk was not checked" in row(by_name, "public.bloated")["note"]
    fill(database, "second")
    database.sql("ALTER TABLE second OWNER TO plain")
    assert run_vacuum(plain, free_gb=1, **FULL)["changed"]


@BEFORE_REPACK
def test_an_estimate_is_confirmed_where_the_extension_is(database: Database) -> None:
    fill(database, rows=120_000)
    database.sql("VACUUM ANALYZE bloated")
    (guess,) = findings(database)["table.bloat"]
    assert "(an estimate)" in guess["message"] and guess["evidence"]["measured"] is False
    database.sql('CREATE SCHEMA "e\'xt"')
    database.sql('CREATE EXTENSION pgstattuple SCHEMA "e\'xt"')
    (sure,) = findings(database)["table.bloat"]
    assert "(measured by pgstattuple)" in sure["message"] and sure["evidence"]["measured"] is True
    assert 0 < sure["evidence"]["bloat_bytes"] <= guess["evidence"]["bloat_bytes"]
    # Statistics that say the rows are far narrower than they are mislead the estimate, and not the extension.
    database.sql("VACUUM FULL bloated")
    database.sql("ANALYZE bloated")
    database.sql("UPDATE pg_statistic SET stawidth = 1 WHERE starelid = 'bloated'::regclass")
    assert "table.bloat" not in findings(database) and "full" not in planned(database)
    database.sql("DROP EXTENSION pgstattuple")
    assert "table.bloat" in findings(database) and "full" in planned(database)


def planned(database: Database) -> list[str]:
    return [r["action"] for r in run_vacuum(options(database), check_mode=True, **FULL)["tables"]]


def test_a_role_that_may_not_use_the_extension_gets_the_estimate(database: Database) -> None:
    fill(database, rows=60_000)
    database.sql("VACUUM ANALYZE bloated")
    database.sql("CREATE EXTENSION pgstattuple")
    database.sql("CREATE ROLE plain LOGIN")
    database.sql("GRANT SELECT ON bloated TO plain")
    (finding,) = [f for f in findings_as(database, "plain") if f["id"] == "table.bloat"]
    assert finding["evidence"]["measured"] is False


def findings_as(database: Database, user: str) -> list[dict[str, Any]]:
    from scannerdb.jobs.check import check

    return list(check(options(database, user=user))["findings"])


def test_how_far_it_is_is_told_while_it_works(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rebuild that waits for an old transaction: long enough to be looked at."""
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    fill(database, rows=2000)
    folder = tmp_path / "progress"
    seen: dict[str, Any] = {}

    def look() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "phase" not in seen:
            for path in folder.glob("*.json"):
                seen.update(json.loads(path.read_text()))
            time.sleep(0.01)
        old.execute("COMMIT")

    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM bloated")
        helper = threading.Thread(target=look)
        helper.start()
        run_vacuum(options(database), method="reindex", tables=["bloated"], state_dir=str(tmp_path))
        helper.join()
    assert seen["phase"].startswith("index: ") and seen["step"].startswith("reindex public.bloated")
    assert {"blocks_done", "blocks_total", "done", "total"} <= set(seen)


@BEFORE_REPACK
def test_what_a_run_did_is_remembered(database: Database, tmp_path: Path) -> None:
    fill(database)
    first = run_vacuum(options(database), state_dir=str(tmp_path), **FULL)
    (entry,) = json.loads((tmp_path / "vacuum.json").read_text())["runs"]
    done = row(first, "public.bloated")
    assert entry["run_id"] == first["run_id"] and entry["max_lock_ms"] == done["max_lock_ms"] > 0
    assert (entry["bytes_before"], entry["bytes_after"]) == (done["bytes_before"], done["bytes_after"])
    assert [t["table"] for t in entry["tables"]] == ["public.bloated"]
    run_vacuum(options(database), state_dir=str(tmp_path), **FULL)
    assert len(json.loads((tmp_path / "vacuum.json").read_text())["runs"]) == 1, "nothing done is nothing to remember"
