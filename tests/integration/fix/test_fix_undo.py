"""The journal of a fix run, and what undo makes of it."""

from __future__ import annotations

from pathlib import Path

from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Working
from scannerdb.jobs.undo import undo

from demo import field
from tests.integration.support import (
    INVARIANTS,
    content,
    findings,
    ids,
    options,
    rows_of,
    run_fix,
)
from tests.servers import Database, Databases


def test_undo_puts_every_row_back(field_db: Database) -> None:
    before = content(field_db)
    result = run_fix(field_db, policy=FixPolicy(only=("data.*",), inactive="unverify"))
    assert content(field_db) != before
    planned = undo(options(field_db), unsealed=True, run_id=result["run_id"], check_mode=True)
    assert planned["changed"]
    back = undo(options(field_db), unsealed=True, run_id=result["run_id"])
    assert back["conflicts"] == []
    assert back["max_rows_ms"] > 0 and f"and {back['max_rows_ms']:.0f} ms for rows (at most 2000" in back["locks"]
    assert planned["max_rows_ms"] == 0
    assert content(field_db) == before
    assert not undo(options(field_db), unsealed=True, run_id=result["run_id"])["changed"]


def test_undo_brings_orphans_back_where_it_can(make_database: Databases) -> None:
    database = make_database()
    with database.connect() as conn:
        field.generate(conn, 0.002, orphans=True)
    before = content(database)
    result = run_fix(database, policy=FixPolicy(only=("data.orphan",)))
    undo(options(database), unsealed=True, run_id=result["run_id"])
    assert sum(len(v) for v in content(database).values()) == sum(len(v) for v in before.values())


def test_undo_takes_structures_back_where_that_loses_nothing(field_db: Database) -> None:
    def schema_findings() -> set[tuple[str, str]]:
        return {(i, f["object"]) for i, group in findings(field_db).items() if i.startswith("schema.") for f in group}

    field_db.sql("REVOKE INSERT ON metadata FROM ollama")
    field_db.sql("ALTER TABLE models ALTER name DROP NOT NULL")
    field_db.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_name_key")
    field_db.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_fkey")
    before = schema_findings()
    result = run_fix(field_db, policy=FixPolicy(only=("schema.*",)))
    assert not result["failures"]
    back = undo(options(field_db), unsealed=True, run_id=result["run_id"])
    assert back["conflicts"] == []
    rebuilt = {("schema.index.missing", "endpoints(verified, is_active)")}  # a valid index is not made invalid again
    assert schema_findings() == before - rebuilt
    assert run_fix(field_db, policy=FixPolicy(only=("schema.*",)))["changed"]


def test_undo_leaves_what_somebody_changed_since(field_db: Database) -> None:
    touched, gone = ids(field_db, "check_null")[:2]
    result = run_fix(field_db, policy=FixPolicy(only=("data.endpoints.last_check_date_null",)))
    field_db.sql(f"UPDATE endpoints SET inactive_reason = 'mine' WHERE id = {touched}")
    field_db.sql(f"DELETE FROM endpoints WHERE id = {gone}")
    back = undo(options(field_db), unsealed=True, run_id=result["run_id"])
    assert {c["object"]: c["why"] for c in back["conflicts"]} == {
        f"endpoints id {touched}": "the row has been changed since",
        f"endpoints id {gone}": "the row is gone",
    }
    assert field_db.value(f"SELECT inactive_reason FROM endpoints WHERE id = {touched}") == "mine"


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


def test_what_a_trigger_of_the_site_changes_besides_is_journalled_too(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints ADD COLUMN updated_at timestamptz, ADD COLUMN notes json DEFAULT '{}'")
    field_db.sql(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END'"
    )
    field_db.sql("CREATE TRIGGER touch BEFORE UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION touch()")
    result = run_fix(field_db, policy=FixPolicy(only=("data.endpoints.last_check_date_null",)))
    assert not result["failures"], result["failures"]
    assert field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal WHERE after ? 'updated_at'") > 0
    field_db.sql("DROP TRIGGER touch ON endpoints")
    back = undo(options(field_db), unsealed=True, run_id=result["run_id"])
    assert back["conflicts"] == []
    assert field_db.value("SELECT count(*) FROM endpoints WHERE updated_at IS NOT NULL") == 0


def test_a_trigger_that_changes_rows_back_is_noticed(field_db: Database) -> None:
    field_db.sql(
        "CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.last_check_date := OLD.last_check_date; RETURN NEW; END'"
    )
    field_db.sql("CREATE TRIGGER stubborn BEFORE UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION stubborn()")
    result = run_fix(field_db, policy=FixPolicy(only=("data.endpoints.last_check_date_null",)))
    assert "did not keep what was written" in result["failures"][0]
    assert field_db.value("SELECT count(*) FROM scannerdb_maintenance.journal") == 0
    assert rows_of(findings(field_db), "data.endpoints.last_check_date_null") > 0


def test_counters_are_counted_when_that_is_wanted(field_db: Database) -> None:
    """By a statement that counts, journalled, and taken back exactly; a counter that moved since is left."""
    wrong = [("server_count", "99999"), ("model_count", "-7")]
    for key, value in wrong:
        field_db.sql(
            "INSERT INTO metadata (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = %s",
            key,
            value,
            value,
        )
    run_fix(field_db)
    stored = "SELECT key, value, updated_at FROM metadata ORDER BY key"
    before = field_db.sql(stored)
    assert {key: value for key, value, _ in before}["server_count"] == "99999", "it is off by default"
    wanted = FixPolicy(consents=frozenset({"scannerdb_fix_counters"}))
    planned = run_fix(field_db, policy=wanted, check_mode=True)
    assert "SELECT count(*)" in planned["diff"]["after"] and field_db.sql(stored) == before
    done = run_fix(field_db, policy=wanted)
    assert [one["id"] for one in done["fixed"]] == ["data.metadata.counter"] and done["changed"]
    for key, query in (
        ("server_count", "SELECT count(*) FROM servers"),
        ("model_count", "SELECT count(*) FROM models"),
    ):
        assert field_db.value("SELECT value FROM metadata WHERE key = %s", key) == str(field_db.value(query))
    assert not run_fix(field_db, policy=wanted)["changed"]
    field_db.sql("UPDATE metadata SET value = '1' WHERE key = 'model_count'")
    undone = undo(options(field_db), run_id=done["run_id"], unsealed=True)
    assert [one["why"] for one in undone["conflicts"]] == ["the row has been changed since"]
    now = {key: (value, at) for key, value, at in field_db.sql(stored)}
    assert now["server_count"] == {key: (value, at) for key, value, at in before}["server_count"]
    assert now["model_count"][0] == "1"


def test_the_views_own_log_has_what_fix_does_to_the_view(field_db: Database, tmp_path: Path) -> None:
    log = tmp_path / "db_maintenance_fix.log"
    run_fix(field_db, log_path=str(log), policy=FixPolicy(only=("data.*",)))
    assert log.exists() and not (tmp_path / "view_update_fix.log").exists()
    done = run_fix(field_db, log_path=str(log))
    text = (tmp_path / "view_update_fix.log").read_text()
    assert "schema.view.trigger on servers" in text and done["run_id"] in text
