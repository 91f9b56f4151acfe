"""Short words for the tests of fixes that are stopped."""

from __future__ import annotations

from typing import Any

from tests.servers import Database, Databases


def damaged(make_database: Databases) -> Database:
    """The field's database, with evidence for every date: else 'now' would differ from run to run."""
    database = make_database(filled=True)
    database.sql("UPDATE endpoints SET scan_date = '2025-01-01 00:00:00+00' WHERE scan_date IS NULL")
    return database


def outcome(database: Database) -> list[Any]:
    """What a run leads to: endpoints, links without their own ids, indexes, constraints, triggers, privileges."""
    return [
        database.sql("SELECT to_jsonb(e)::text FROM endpoints e ORDER BY id"),
        database.sql("SELECT endpoint_id, verification_date FROM verified_endpoints ORDER BY endpoint_id"),
        database.sql(
            "SELECT indexname::text, indisvalid FROM pg_indexes JOIN pg_index"
            " ON indexrelid = format('%I.%I', schemaname, indexname)::regclass"
            " WHERE schemaname IN ('public', 'scannerdb_maintenance') ORDER BY 1"
        ),
        database.sql(
            "SELECT conname::text, convalidated, confdeltype::text FROM pg_constraint WHERE conrelid > 0 ORDER BY 1"
        ),
        database.sql("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"),
        database.sql(
            "SELECT relname::text, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ),
    ]
