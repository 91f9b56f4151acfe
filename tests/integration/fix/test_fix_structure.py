"""Structural fixes on real servers: online, in steps, and only where the database is the scanner's."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.undo import undo

from demo import field
from tests.integration.support import findings, options, run_fix, schema_damage
from tests.servers import Database


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
    run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.*",)))
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
    result = run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.*",)))
    assert not result["failures"], result["failures"]
    assert foreign_keys(field_db) == [("benchmark_results_model_id_fkey", "c", True)]


def test_an_undone_swap_that_was_interrupted_leaves_one_key(field_db: Database) -> None:
    run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.*",)))
    field_db.sql(
        "ALTER TABLE benchmark_results ADD CONSTRAINT scannerdb_benchmark_results_model_id_fkey"
        " FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE SET NULL NOT VALID"
    )
    result = run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.*",)))
    assert not result["failures"], result["failures"]
    assert foreign_keys(field_db) == [("benchmark_results_model_id_fkey", "c", True)]


KEYS = FixPolicy(only=("schema.foreign_key.*",))
REPLACED = FixPolicy(only=("schema.foreign_key.*",), consents=frozenset({"scannerdb_fix_replace_foreign"}))
DEFERRED = "DEFERRABLE INITIALLY DEFERRED"


def set_key(database: Database, rules: str) -> str:
    """Give benchmark_results.model_id a key with such rules; returns it as PostgreSQL tells it."""
    database.sql(
        "ALTER TABLE benchmark_results DROP CONSTRAINT benchmark_results_model_id_fkey,"
        f" ADD CONSTRAINT odd FOREIGN KEY (model_id) REFERENCES models (id) {rules}"
    )
    return told_key(database)


def told_key(database: Database) -> str:
    query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'odd'"
    return str(database.value(query))


@pytest.mark.parametrize(
    ("rules", "right"),
    [
        (f"ON DELETE SET NULL {DEFERRED}", f"ON DELETE CASCADE {DEFERRED}"),
        ("MATCH FULL ON UPDATE CASCADE ON DELETE SET NULL", "MATCH FULL ON UPDATE CASCADE ON DELETE CASCADE"),
        ("ON DELETE RESTRICT DEFERRABLE NOT VALID", "ON DELETE CASCADE DEFERRABLE"),
    ],
)
def test_a_wrong_on_delete_goes_alone_and_the_key_comes_back_whole(field_db: Database, rules: str, right: str) -> None:
    before = set_key(field_db, rules)
    result = run_fix(field_db, policy=KEYS)
    assert not result["failures"], result["failures"]
    assert [f["id"] for f in result["fixed"]] == ["schema.foreign_key.on_delete"]
    assert told_key(field_db) == f"FOREIGN KEY (model_id) REFERENCES models(id) {right}"
    back = undo(options(field_db), unsealed=True, run_id=result["run_id"])
    assert not back["conflicts"]
    assert told_key(field_db) == before


@pytest.mark.parametrize(
    "rules", ["ON DELETE CASCADE DEFERRABLE", "ON UPDATE CASCADE ON DELETE CASCADE", f"ON DELETE SET NULL {DEFERRED}"]
)
def test_other_rules_go_with_consent_only_and_come_back(field_db: Database, rules: str) -> None:
    before = set_key(field_db, rules)
    run_fix(field_db, policy=KEYS)
    (left,) = findings(field_db)["schema.foreign_key.rules"]
    assert left["object"] == "benchmark_results(model_id)"
    undo_all(field_db)
    result = run_fix(field_db, policy=REPLACED)
    assert not result["failures"], result["failures"]
    assert told_key(field_db) == "FOREIGN KEY (model_id) REFERENCES models(id) ON DELETE CASCADE"
    assert not [i for i in schema_damage(field_db) if i.startswith("schema.foreign_key")]
    undo_all(field_db)
    assert told_key(field_db) == before


def undo_all(database: Database) -> None:
    if database.value("SELECT to_regclass('scannerdb_maintenance.journal')"):
        query = "SELECT DISTINCT run_id FROM scannerdb_maintenance.journal WHERE undone_at IS NULL"
        for (run_id,) in database.sql(query):
            assert not undo(options(database), unsealed=True, run_id=run_id)["conflicts"]


def test_a_key_that_is_not_enforced(field_db: Database) -> None:
    """Only PostgreSQL 18 has such keys; an older server says so by refusing the statement."""
    rules = "ON DELETE CASCADE NOT ENFORCED"
    if int(field_db.value("SELECT current_setting('server_version_num')")) < 180000:
        with pytest.raises(psycopg.Error):
            set_key(field_db, rules)
        return
    before = set_key(field_db, rules)
    assert [f["object"] for f in findings(field_db)["schema.foreign_key.not_enforced"]] == [
        "benchmark_results(model_id)"
    ]
    result = run_fix(field_db, policy=KEYS)
    assert not result["failures"], result["failures"]
    assert told_key(field_db) == "FOREIGN KEY (model_id) REFERENCES models(id) ON DELETE CASCADE"
    undo_all(field_db)
    assert told_key(field_db) == before


def test_a_unique_constraint_that_is_deferrable_is_replaced_by_the_offered_sql(field_db: Database) -> None:
    """INSERT … ON CONFLICT, which the triggers of servers say, cannot use it, not even beside another one."""
    run_fix(field_db, policy=FixPolicy(only=("schema.*",)))
    field_db.sql(
        "ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key,"
        " ADD CONSTRAINT later UNIQUE (ip, port) DEFERRABLE INITIALLY DEFERRED"
    )
    with pytest.raises(psycopg.Error, match="ON CONFLICT"):
        field_db.sql("INSERT INTO servers (ip) VALUES ('203.0.113.9')")
    (found,) = findings(field_db)["schema.unique.deferrable"]
    for statement in found["fix"]["sql"]:
        field_db.sql(statement)
    assert schema_damage(field_db) == []
    field_db.sql("INSERT INTO servers (ip) VALUES ('203.0.113.9')")


def foreign_keys(database: Database) -> list[Any]:
    return database.sql(
        "SELECT conname::text, confdeltype::text, convalidated FROM pg_constraint"
        " WHERE conrelid = 'benchmark_results'::regclass AND confrelid = 'models'::regclass"
    )


def test_duplicates_are_reported_never_deleted(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key CASCADE")
    field_db.sql("INSERT INTO endpoints (ip, port) SELECT ip, port FROM endpoints ORDER BY id LIMIT 1")
    rows = field_db.value("SELECT count(*) FROM endpoints")
    result = run_fix(field_db, policy=FixPolicy(only=("schema.unique.missing",)))
    assert not result["failures"]
    why = [s["why"] for s in result["left_undone"] if s["id"] == "schema.unique.missing"]
    assert "the data stands in the way" in why[0]
    assert "is duplicated" in why[0]
    assert field_db.value("SELECT count(*) FROM endpoints") == rows
    assert (
        field_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'endpoints'::regclass") <= 1
    )
    assert field_db.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'endpoints_ip_port_key%'") == 0


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
