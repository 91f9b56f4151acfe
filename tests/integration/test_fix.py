"""Fixes on the field's database: right, complete, undoable, beside writers, and never half done."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.errors import FixRefused, JobLocked
from scannerdb.fixes.policy import Policy
from scannerdb.jobs.fix import Safety, Working, fix
from scannerdb.jobs.undo import undo
from scannerdb.lockbudget import Budget

from demo import field
from tests.integration.support import content, findings, options, rows_of, run_fix, schema_damage, wait_until
from tests.servers import Database, Databases, standby_of

MENDED = [
    "data.endpoints.verification_date_null",
    "data.endpoints.last_check_date_null",
    "data.verified.link_missing",
    "data.verified.link_stale",
    "data.verified.honeypot",
    "schema.view.trigger",
    "schema.column.default",
    "schema.foreign_key.on_delete",
    "schema.index.missing",
    "index.invalid",
]
INVARIANTS = """
SELECT count(*) FILTER (WHERE verified = 1 AND NOT linked AND is_honeypot IS NOT TRUE),
       count(*) FILTER (WHERE linked AND coalesce(verified, 0) IN (0, 2)),
       count(*) FILTER (WHERE verified = 1 AND is_honeypot IS TRUE),
       count(*) FILTER (WHERE verified = 1 AND verification_date IS NULL),
       count(*) FILTER (WHERE last_check_date IS NULL)
  FROM (SELECT e.*, EXISTS (SELECT FROM verified_endpoints v WHERE v.endpoint_id = e.id) AS linked FROM endpoints e) e
"""


def ids(database: Database, kind: str) -> list[int]:
    assert database.damage is not None
    return list(database.damage.ids(kind))


def test_mends_what_it_may_and_says_what_is_left(field_db: Database) -> None:
    result = run_fix(field_db)
    assert result["changed"]
    assert not result["failures"]
    found = findings(field_db)
    assert [i for i in MENDED if i in found] == []
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]
    left = {(s["id"], s["why"]) for s in result["left_undone"]}
    assert ("data.verified.inactive", "scannerdb_fix_inactive is report") in left
    assert ("index.duplicate", "it needs consent: scannerdb_fix_drop_indexes=true") in left
    assert ("table.dead_tuples", "vacuum.yml mends it") in left
    assert result["probe"]["passed"]


def test_the_counts_are_those_of_the_generator(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    rows = {f["id"]: f["rows"] for f in run_fix(field_db)["fixed"] if f["rows"]}
    for finding_id in ("data.verified.link_missing", "data.verified.link_stale", "data.verified.honeypot"):
        assert rows[finding_id] == damage.findings[finding_id]
    assert rows["data.endpoints.last_check_date_null"] == damage.findings["data.endpoints.last_check_date_null"]


def test_the_second_run_changes_nothing(field_db: Database) -> None:
    run_fix(field_db)
    before = content(field_db)
    again = run_fix(field_db)
    assert not again["changed"]
    assert again["fixed"] == []
    assert again["statements"] == []
    assert content(field_db) == before


def test_dates_come_from_the_best_evidence(field_db: Database) -> None:
    link = {
        i: field_db.value(f"SELECT verification_date FROM verified_endpoints WHERE endpoint_id = {i}")
        for i in ids(field_db, "date_in_link")
    }
    scan = {
        i: field_db.value(f"SELECT scan_date FROM endpoints WHERE id = {i}")
        for i in ids(field_db, "date_in_scan_unlinked")
    }
    started = field_db.value("SELECT now()")
    run_fix(field_db)
    for identity, date in {**link, **scan}.items():
        assert field_db.value(f"SELECT verification_date FROM endpoints WHERE id = {identity}") == date
    for identity in ids(field_db, "date_nowhere"):
        assert field_db.value(f"SELECT verification_date FROM endpoints WHERE id = {identity}") >= started
    for identity in ids(field_db, "date_in_scan_unlinked"):
        made = field_db.value(f"SELECT verification_date FROM verified_endpoints WHERE endpoint_id = {identity}")
        assert made == scan[identity]


def test_row_triggers_do_not_defeat_the_evidence(field_db: Database) -> None:
    """verified changes, which stamps verification_date with the clock; the date must stay what it was."""
    kinds = ("honeypot_linked", "linked_unverified", "honeypot_unlinked")
    query = (
        "SELECT id, verification_date FROM endpoints WHERE id = ANY(%s) AND verification_date IS NOT NULL ORDER BY id"
    )
    chosen = [i for kind in kinds for i in ids(field_db, kind)]
    before = field_db.sql(query, chosen)
    assert before
    run_fix(field_db)
    assert field_db.sql(query, [i for i, _ in before]) == before


@pytest.mark.parametrize(
    ("kind", "verified", "linked"),
    [
        ("linked_failed", 2, False),
        ("linked_unverified", 1, True),
        ("linked_null", 1, True),
        ("linked_unverified_honeypot", 0, False),
        ("linked_unverified_inactive", 0, False),
        ("honeypot_linked", 0, False),
        ("honeypot_unlinked", 0, False),
        ("unlinked", 1, True),
        ("unlinked_inactive", 1, True),
        ("inactive_linked", 1, True),
    ],
)
def test_links_agree_with_verified(field_db: Database, kind: str, verified: int, linked: bool) -> None:
    run_fix(field_db)
    query = (
        "SELECT DISTINCT verified, EXISTS (SELECT FROM verified_endpoints v WHERE v.endpoint_id = e.id)"
        " FROM endpoints e WHERE id = ANY(%s)"
    )
    assert field_db.sql(query, ids(field_db, kind)) == [(verified, linked)]


def test_odd_values_are_reported_and_stay(field_db: Database) -> None:
    odd = "SELECT id, verified FROM endpoints WHERE verified NOT IN (0, 1, 2) ORDER BY id"
    before = field_db.sql(odd)
    run_fix(field_db)
    assert field_db.sql(odd) == before
    assert "data.endpoints.verified_range" in findings(field_db)


def test_policies(field_db: Database) -> None:
    run_fix(field_db, policy=Policy(honeypots="report", inactive="unverify", dates="report"))
    found = findings(field_db)
    assert "data.verified.honeypot" in found
    assert "data.verified.inactive" not in found
    assert "data.endpoints.last_check_date_null" in found
    before = field_db.value("SELECT now()")
    run_fix(field_db, policy=Policy(dates="now"))
    found = findings(field_db)
    assert "data.endpoints.last_check_date_null" not in found
    assert field_db.value("SELECT count(*) FROM endpoints WHERE last_check_date >= %s", before) > 0


def test_only_and_skip(field_db: Database) -> None:
    only = run_fix(field_db, policy=Policy(only=("data.verified.*",), skip=("*.honeypot",)))
    assert {f["id"] for f in only["fixed"]} == {"data.verified.link_missing", "data.verified.link_stale"}


def test_orphans_move_to_the_journal(make_database: Databases) -> None:
    database = make_database()
    with database.connect() as conn:
        damage = field.generate(conn, 0.002, orphans=True)
    result = run_fix(database)
    assert not result["failures"], result["failures"]
    assert "data.orphan" not in findings(database)
    assert "schema.foreign_key.not_valid" not in findings(database)
    journalled = database.value("SELECT count(*) FROM scannerdb_maintenance.journal WHERE fix_id = 'data.orphan'")
    assert journalled >= sum(damage.orphans.values())


def test_duplicates_are_reported_never_deleted(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key CASCADE")
    field_db.sql("INSERT INTO endpoints (ip, port) SELECT ip, port FROM endpoints ORDER BY id LIMIT 1")
    rows = field_db.value("SELECT count(*) FROM endpoints")
    result = run_fix(field_db, policy=Policy(only=("schema.unique.missing",)))
    assert not result["failures"]
    why = [s["why"] for s in result["left_undone"] if s["id"] == "schema.unique.missing"]
    assert "the data stands in the way" in why[0]
    assert "is duplicated" in why[0]
    assert field_db.value("SELECT count(*) FROM endpoints") == rows
    assert (
        field_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'endpoints'::regclass") <= 1
    )
    assert field_db.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'endpoints_ip_port_key%'") == 0


def test_not_null_and_keys_come_back_online(field_db: Database) -> None:
    field_db.sql("ALTER TABLE models ALTER name DROP NOT NULL")
    field_db.sql("ALTER TABLE metadata DROP CONSTRAINT metadata_pkey")
    field_db.sql("ALTER TABLE metadata ALTER key DROP NOT NULL")
    field_db.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_name_key")
    assert not run_fix(field_db)["failures"]
    assert schema_damage(field_db) == []
    assert field_db.value("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'scannerdb%'") == 0


def test_a_missing_column_is_made_and_filled_in_one_run(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints DROP COLUMN last_check_date")
    run_fix(field_db)
    assert field_db.value("SELECT count(*) FROM endpoints WHERE last_check_date IS NULL") == 0


def test_the_foreign_key_keeps_its_name(field_db: Database) -> None:
    run_fix(field_db, policy=Policy(only=("schema.foreign_key.*",)))
    rule = "SELECT confdeltype::text, convalidated FROM pg_constraint WHERE conname = 'benchmark_results_model_id_fkey'"
    assert field_db.sql(rule) == [("c", True)]
    assert (
        field_db.value(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 'benchmark_results'::regclass AND contype = 'f'"
        )
        == 2
    )


def test_a_swap_that_was_interrupted_is_done_again(field_db: Database) -> None:
    """Killed between the successor's birth and its validation: it goes, and the next swap makes its own."""
    successor = (
        "ALTER TABLE benchmark_results ADD CONSTRAINT scannerdb_benchmark_results_model_id_fkey"
        " FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE NOT VALID"
    )
    field_db.sql(successor)
    assert "schema.foreign_key.not_valid" not in findings(field_db)
    result = run_fix(field_db, policy=Policy(only=("schema.foreign_key.*",)))
    assert not result["failures"], result["failures"]
    assert foreign_keys(field_db) == [("benchmark_results_model_id_fkey", "c", True)]


def test_an_undone_swap_that_was_interrupted_leaves_one_key(field_db: Database) -> None:
    run_fix(field_db, policy=Policy(only=("schema.foreign_key.*",)))
    field_db.sql(
        "ALTER TABLE benchmark_results ADD CONSTRAINT scannerdb_benchmark_results_model_id_fkey"
        " FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE SET NULL NOT VALID"
    )
    result = run_fix(field_db, policy=Policy(only=("schema.foreign_key.*",)))
    assert not result["failures"], result["failures"]
    assert foreign_keys(field_db) == [("benchmark_results_model_id_fkey", "c", True)]


def foreign_keys(database: Database) -> list[Any]:
    return database.sql(
        "SELECT conname::text, confdeltype::text, convalidated FROM pg_constraint"
        " WHERE conrelid = 'benchmark_results'::regclass AND confrelid = 'models'::regclass"
    )


def test_check_mode_is_the_real_plan(field_db: Database) -> None:
    before = content(field_db)
    planned = run_fix(field_db, check_mode=True)
    assert content(field_db) == before
    assert field_db.value("SELECT to_regclass('scannerdb_maintenance.journal')") is None
    real = run_fix(field_db)
    assert planned["changed"]
    assert [(f["id"], f["object"]) for f in planned["fixed"]] == [(f["id"], f["object"]) for f in real["fixed"]]
    assert planned["diff"] == real["diff"]
    assert "ROW EXCLUSIVE" in planned["diff"]["after"]


def test_refuses_without_a_fresh_verified_backup(field_db: Database, tmp_path: Any) -> None:
    before = content(field_db)
    with pytest.raises(FixRefused, match="no backup"):
        fix(options(field_db), safety=Safety(backup_dir=str(tmp_path)))
    assert content(field_db) == before


def test_refuses_to_touch_too_much(field_db: Database) -> None:
    with pytest.raises(FixRefused, match="max_share"):
        run_fix(field_db, policy=Policy(max_share=0.001, large_rows=1))


def test_undo_puts_every_row_back(field_db: Database) -> None:
    before = content(field_db)
    result = run_fix(field_db, policy=Policy(only=("data.*",), inactive="unverify"))
    assert content(field_db) != before
    planned = undo(options(field_db), run_id=result["run_id"], check_mode=True)
    assert planned["changed"]
    back = undo(options(field_db), run_id=result["run_id"])
    assert back["conflicts"] == []
    assert content(field_db) == before
    assert not undo(options(field_db), run_id=result["run_id"])["changed"]


def test_undo_brings_orphans_back_where_it_can(make_database: Databases) -> None:
    database = make_database()
    with database.connect() as conn:
        field.generate(conn, 0.002, orphans=True)
    before = content(database)
    result = run_fix(database, policy=Policy(only=("data.orphan",)))
    undo(options(database), run_id=result["run_id"])
    assert sum(len(v) for v in content(database).values()) == sum(len(v) for v in before.values())


def test_undo_takes_structures_back_where_that_loses_nothing(field_db: Database) -> None:
    def schema_findings() -> set[tuple[str, str]]:
        return {(i, f["object"]) for i, group in findings(field_db).items() if i.startswith("schema.") for f in group}

    field_db.sql("REVOKE INSERT ON metadata FROM ollama")
    field_db.sql("ALTER TABLE models ALTER name DROP NOT NULL")
    field_db.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_name_key")
    field_db.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_fkey")
    before = schema_findings()
    result = run_fix(field_db, policy=Policy(only=("schema.*",)))
    assert not result["failures"]
    back = undo(options(field_db), run_id=result["run_id"])
    assert back["conflicts"] == []
    rebuilt = {("schema.index.missing", "endpoints(verified, is_active)")}  # a valid index is not made invalid again
    assert schema_findings() == before - rebuilt
    assert run_fix(field_db, policy=Policy(only=("schema.*",)))["changed"]


def test_without_the_journal_the_same_rows_are_fixed(field_db: Database) -> None:
    result = run_fix(field_db, working=Working(journal=False, batch_rows=50))
    assert not result["failures"]
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]
    assert field_db.value("SELECT to_regclass('scannerdb_maintenance.journal')") is None


def test_old_journal_entries_go(field_db: Database) -> None:
    run_fix(field_db)
    field_db.sql("UPDATE scannerdb_maintenance.journal SET written_at = now() - interval '91 days' WHERE seq % 2 = 0")
    old = field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal WHERE seq % 2 = 0")
    kept = run_fix(field_db, working=Working(journal_days=0))
    assert kept["journal"]["purged"] == 0
    result = run_fix(field_db)
    assert result["journal"]["purged"] == old
    assert result["journal"]["bytes"] > 0
    assert not run_fix(field_db)["changed"]


def test_a_long_reader_holds_up_the_strong_lock_only(field_db: Database) -> None:
    """A running pg_dump or an old snapshot: the run waits with retries, then goes through; indexes are valid."""
    with field_db.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in ("endpoints", "models", "benchmark_results"):
            reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE".encode())
        timer = threading.Timer(1.5, reader.rollback)
        timer.start()
        result = run_fix(field_db, budget=Budget(50, 20))
        timer.join()
    assert not result["failures"], result["failures"]
    assert field_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_autovacuum_yields(field_db: Database) -> None:
    """Autovacuum gives way only after deadlock_timeout, which a 50 ms attempt never reaches; the soft lock does."""
    working = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%benchmark%'"
    )
    with field_db.connect() as conn:
        conn.execute("ALTER SYSTEM SET autovacuum = on")
        conn.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        conn.execute(
            "ALTER TABLE benchmark_results SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
            " autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)"
        )
        conn.execute("DELETE FROM benchmark_results WHERE id % 2 = 0")
        conn.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: field_db.value(working))  # autovacuum has come
            result = run_fix(field_db, policy=Policy(only=("schema.foreign_key.*",)), budget=Budget(50, 30))
        finally:
            conn.execute("ALTER SYSTEM RESET autovacuum")
            conn.execute("ALTER SYSTEM SET autovacuum_naptime = 60")
            conn.execute("SELECT pg_reload_conf()")
    assert not result["failures"], result["failures"]
    assert [f["id"] for f in result["fixed"]] == ["schema.foreign_key.on_delete"]


def test_undo_leaves_what_somebody_changed_since(field_db: Database) -> None:
    touched, gone = ids(field_db, "check_null")[:2]
    result = run_fix(field_db, policy=Policy(only=("data.endpoints.last_check_date_null",)))
    field_db.sql(f"UPDATE endpoints SET inactive_reason = 'mine' WHERE id = {touched}")
    field_db.sql(f"DELETE FROM endpoints WHERE id = {gone}")
    back = undo(options(field_db), run_id=result["run_id"])
    assert {c["object"]: c["why"] for c in back["conflicts"]} == {
        f"endpoints id {touched}": "the row has been changed since",
        f"endpoints id {gone}": "the row is gone",
    }
    assert field_db.value(f"SELECT inactive_reason FROM endpoints WHERE id = {touched}") == "mine"


@pytest.mark.parametrize("journal", [True, False])
def test_rows_that_others_hold_come_last(field_db: Database, journal: bool) -> None:
    held = ids(field_db, "check_null")[0]
    with field_db.connect(autocommit=False) as other:
        other.execute("SELECT 1 FROM endpoints WHERE id = %s FOR UPDATE", [held])
        timer = threading.Timer(1.0, other.rollback)
        timer.start()
        result = run_fix(field_db, policy=Policy(only=("data.*",)), working=Working(journal=journal))
        timer.join()
    assert not result["failures"]
    assert field_db.value(f"SELECT last_check_date IS NOT NULL FROM endpoints WHERE id = {held}")


def test_a_lock_that_never_comes_is_a_failure_that_says_who(field_db: Database) -> None:
    with field_db.connect(autocommit=False, application_name="the scanner") as other:
        other.execute("SELECT 1 FROM benchmark_results LIMIT 1")
        only = Policy(only=("schema.foreign_key.on_delete",))
        result = run_fix(field_db, policy=only, budget=Budget(50, 1))
        assert "the scanner" in result["failures"][0]
        other.rollback()
    assert run_fix(field_db, policy=only)["changed"]


def test_writers_see_no_error_and_no_long_wait(field_db: Database) -> None:
    """A writer load during every fix: no error, no lost update, and afterwards all invariants hold."""
    stop, errors, written = threading.Event(), [], []

    def write(number: int) -> None:
        with field_db.connect(login=field.APP_ROLE) as conn:
            counter = 0
            while not stop.is_set():
                counter += 1
                try:
                    ip = f"203.0.113.{number}"
                    row = conn.execute(
                        "INSERT INTO endpoints (ip, port, verified, verification_date, last_check_date)"
                        " VALUES (%s, %s, 0, NULL, now()) RETURNING id",
                        [ip, 10000 + counter],
                    ).fetchone()
                    assert row is not None
                    conn.execute("UPDATE endpoints SET honeypot_reason = %s WHERE id = %s", [str(counter), row[0]])
                    conn.execute("UPDATE endpoints SET last_check_date = now() WHERE id = %s", [1 + counter % 150])
                    written.append((row[0], str(counter)))
                except psycopg.Error as error:
                    errors.append(repr(error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.2)
        result = run_fix(field_db)
    finally:  # a writer that outlives its test would go on for ever
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert not result["failures"], result["failures"]
    stored = dict(field_db.sql("SELECT id, honeypot_reason FROM endpoints WHERE ip LIKE '203.0.113.%'"))
    assert written
    assert stored == dict(written)
    run_fix(field_db)
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_writers_through_the_view_see_no_error(field_db: Database) -> None:
    """The application inserts, moves and deletes servers through the view while rows are being fixed."""
    run_fix(field_db, policy=Policy(only=("schema.*", "index.*")))
    stop, errors, kept = threading.Event(), [], []

    def write() -> None:
        with field_db.connect(login=field.APP_ROLE) as conn:
            counter = 0
            while not stop.is_set():
                counter += 1
                try:
                    insert = "INSERT INTO servers (ip, port) VALUES ('198.51.100.7', %s) RETURNING id"
                    row = conn.execute(insert, [counter]).fetchone()
                    assert row is not None
                    conn.execute("UPDATE servers SET port = port + 50000 WHERE id = %s", [row[0]])
                    if counter % 2:
                        conn.execute("DELETE FROM servers WHERE id = %s", [row[0]])
                    else:
                        kept.append((row[0], counter + 50000))
                except psycopg.Error as error:
                    errors.append(repr(error))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        time.sleep(0.1)
        result = run_fix(field_db, policy=Policy(only=("data.*",)), working=Working(batch_rows=50))
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert not result["failures"], result["failures"]
    assert kept
    assert dict(field_db.sql("SELECT id, port FROM servers WHERE ip = '198.51.100.7'")) == dict(kept)
    run_fix(field_db)
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_the_run_waits_for_a_standby_that_is_behind(field_db: Database) -> None:
    waiting = Working(batch_rows=50, max_lag_bytes=1)
    behind = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) FROM pg_stat_replication"
    only = Policy(only=("data.endpoints.last_check_date_null",))
    with standby_of(field_db) as standby:
        replaying = "SELECT count(replay_lsn) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(lambda: field_db.value(replaying))
        standby.sql("SELECT pg_wal_replay_pause()")
        field_db.sql("CREATE TABLE noise AS SELECT i FROM generate_series(1, 1000) i")
        wait_until(lambda: field_db.value(behind) > 1)
        result: dict[str, Any] = {}
        thread = threading.Thread(target=lambda: result.update(run_fix(field_db, policy=only, working=waiting)))
        thread.start()
        time.sleep(2)
        untouched = rows_of(findings(field_db), "data.endpoints.last_check_date_null")
        standby.sql("SELECT pg_wal_replay_resume()")
        thread.join()
    assert field_db.damage is not None
    assert untouched == field_db.damage.findings["data.endpoints.last_check_date_null"]
    assert not result["failures"], result["failures"]
    assert "data.endpoints.last_check_date_null" not in findings(field_db)


def test_two_runs_at_once(field_db: Database) -> None:
    with field_db.connect(autocommit=False) as other:
        other.execute("SELECT 1 FROM endpoints WHERE id = 1 FOR UPDATE")  # holds nothing up but keeps a session open
        from scannerdb.joblock import job_lock

        with job_lock(options(field_db), "fix", "20250418T031500Z-0a1b2c3d"), pytest.raises(JobLocked) as caught:
            run_fix(field_db)
    assert "scannerdb fix 20250418T031500Z-0a1b2c3d" in str(caught.value)


def test_a_database_that_is_not_the_scanners_is_left_alone(database: Database) -> None:
    """A mistyped name must not make tables in somebody else's database."""
    database.sql("CREATE TABLE invoices (id int)")
    result = run_fix(database)
    assert not result["changed"]
    assert any("deploy.yml makes them" in s["why"] for s in result["left_undone"])
    assert database.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("invoices",)]


def test_an_older_layout_gets_no_new_tables(database: Database) -> None:
    with database.connect() as conn:
        field.older_layout(conn)
    tables = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    before = database.sql(tables)
    result = run_fix(database)
    assert database.sql(tables) == before
    assert any("older layout" in s["why"] for s in result["left_undone"])


KILLED_RUN = """
import sys, json
sys.path.insert(0, sys.argv[1])
from scannerdb.connection import Options
from scannerdb.jobs.fix import Safety, Working, fix
fix(Options(**json.loads(sys.argv[2])), safety=Safety(require_backup=False), working=Working(batch_rows=50))
"""


@pytest.mark.parametrize("after_s", [0.3, 0.45, 0.6, 0.8, 1.0])
def test_killed_anywhere_the_next_run_finishes(make_database: Databases, after_s: float) -> None:
    database = make_database()
    with database.connect() as conn:
        field.generate(conn, 0.05)
    module_utils = str(Path(__file__).resolve().parents[2] / "module_utils")
    words = json.dumps(vars(options(database)))
    process = subprocess.Popen([sys.executable, "-c", KILLED_RUN, module_utils, words])
    time.sleep(after_s)
    process.kill()
    process.wait()
    working = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scannerdb fix%'"
    wait_until(lambda: not database.value(working))
    result = run_fix(database)
    assert not result["failures"], result["failures"]
    found = findings(database)
    assert [i for i in MENDED if i in found] == []
    assert database.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]
    # Every journalled update that nothing came after is what the row is: no half of a batch was kept.
    assert (
        database.value(
            "SELECT count(*) FROM scannerdb_maintenance.journal j JOIN endpoints e ON e.id = j.row_id"
            " WHERE j.table_name = 'endpoints' AND j.before || j.after IS DISTINCT FROM to_jsonb(e)"
            " AND j.seq = (SELECT max(k.seq) FROM scannerdb_maintenance.journal k"
            "               WHERE k.table_name = 'endpoints' AND k.row_id = j.row_id)"
        )
        == 0
    )
    assert database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    assert database.value("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'scannerdb%'") == 0


@pytest.mark.parametrize("field_db", field.HOSTILE_NAMES, indirect=True)
def test_hostile_database_names(field_db: Database) -> None:
    assert run_fix(field_db)["changed"]
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_what_a_trigger_of_the_site_changes_besides_is_journalled_too(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints ADD COLUMN updated_at timestamptz, ADD COLUMN notes json DEFAULT '{}'")
    field_db.sql(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END'"
    )
    field_db.sql("CREATE TRIGGER touch BEFORE UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION touch()")
    result = run_fix(field_db, policy=Policy(only=("data.endpoints.last_check_date_null",)))
    assert not result["failures"], result["failures"]
    assert field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal WHERE after ? 'updated_at'") > 0
    field_db.sql("DROP TRIGGER touch ON endpoints")
    back = undo(options(field_db), run_id=result["run_id"])
    assert back["conflicts"] == []
    assert field_db.value("SELECT count(*) FROM endpoints WHERE updated_at IS NOT NULL") == 0


def test_a_trigger_that_changes_rows_back_is_noticed(field_db: Database) -> None:
    field_db.sql(
        "CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.last_check_date := OLD.last_check_date; RETURN NEW; END'"
    )
    field_db.sql("CREATE TRIGGER stubborn BEFORE UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION stubborn()")
    result = run_fix(field_db, policy=Policy(only=("data.endpoints.last_check_date_null",)))
    assert "did not keep what was written" in result["failures"][0]
    assert field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal") == 0
    assert rows_of(findings(field_db), "data.endpoints.last_check_date_null") > 0
