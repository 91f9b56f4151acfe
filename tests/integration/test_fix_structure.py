"""Structural fixes on real servers: online, in steps, and only where the database is the scanner's."""

from __future__ import annotations

from typing import Any

from scannerdb.fixes.policy import Policy

from demo import field
from tests.integration.support import findings, run_fix, schema_damage
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
