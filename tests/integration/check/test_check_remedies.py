"""The SQL that a report offers for rows: the finding is gone, no other one comes, and nothing else is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import findings, run_fix, run_offered
from tests.servers import Database

NO_KEY = "ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key"
TWIN = "INSERT INTO endpoints (ip, port, verified) SELECT ip, port, 1 FROM endpoints WHERE id = 7"
COPY_MODELS = (
    "INSERT INTO models (endpoint_id, name) SELECT t.id, m.name FROM models m, endpoints t"
    " WHERE m.endpoint_id = 7 AND t.id = (SELECT max(id) FROM endpoints)"
)
RESULTS = (
    "INSERT INTO benchmark_results (endpoint_id, model_id) SELECT m.endpoint_id, m.id FROM models m"
    " WHERE m.endpoint_id = (SELECT max(id) FROM endpoints)"
)
# (what is done to the database, the finding)
WRONGS = [
    ("UPDATE endpoints SET port = 70000, verified = 1 WHERE id = 5", "data.endpoints.port_range"),
    ("UPDATE endpoints SET port = 0 WHERE id IN (5, 6)", "data.endpoints.port_range"),
    ("UPDATE endpoints SET ip = '10.0.0.256' WHERE id = 5", "data.endpoints.ip_unparsable"),
    ("UPDATE endpoints SET ip = 'it''s; \\' WHERE id = 5", "data.endpoints.ip_unparsable"),
    ("UPDATE endpoints SET verified = -7 WHERE id < 60", "data.endpoints.verified_range"),
    ("UPDATE endpoints SET last_check_date = now() + interval '2 days' WHERE id = 5", "data.endpoints.date_future"),
    ("UPDATE endpoints SET verification_date = 'infinity' WHERE id = 5", "data.endpoints.date_future"),
    (
        "UPDATE benchmark_results SET test_date = now() + interval '2 days' WHERE id IN (1, 2, 5)",
        "data.benchmark_results.date_future",
    ),
    (
        "UPDATE verified_endpoints SET verification_date = now() + interval '2 days' WHERE id IN (1, 2)"
        " ;; UPDATE metadata SET updated_at = 'infinity' ;; UPDATE schema_version SET applied_at = 'infinity'",
        "data.date_future",
    ),
    (
        "UPDATE benchmark_results SET endpoint_id = 1 + (SELECT endpoint_id FROM models m WHERE m.id = model_id)"
        " WHERE id IN (3, 4)",
        "data.benchmark_results.foreign_model",
    ),
    (f"{NO_KEY} ;; {TWIN}", "data.duplicate"),
    (f"{NO_KEY} ;; {TWIN} ;; {TWIN} ;; {COPY_MODELS} ;; {RESULTS}", "data.duplicate"),
    (
        f"{NO_KEY} ;; ALTER TABLE models DROP CONSTRAINT models_endpoint_id_name_key ;; {TWIN} ;; {COPY_MODELS}"
        f" ;; {COPY_MODELS} ;; {RESULTS}",
        "data.duplicate",
    ),
    (
        "ALTER TABLE verified_endpoints DROP CONSTRAINT verified_endpoints_endpoint_id_key ;;"
        " INSERT INTO verified_endpoints (endpoint_id) SELECT endpoint_id FROM verified_endpoints",
        "data.duplicate",
    ),
    (
        "ALTER TABLE metadata DROP CONSTRAINT metadata_pkey ;;"
        " INSERT INTO metadata (key, value, updated_at) SELECT key, 'old', '2001-01-01' FROM metadata",
        "data.duplicate",
    ),
    (
        "ALTER TABLE benchmark_results DROP CONSTRAINT benchmark_results_pkey ;;"
        " INSERT INTO benchmark_results SELECT * FROM benchmark_results WHERE id < 4 ;;"
        " INSERT INTO benchmark_results (id, endpoint_id) SELECT id, endpoint_id FROM benchmark_results WHERE id = 2",
        "data.duplicate",
    ),
]


def seen(database: Database) -> dict[str, list[dict[str, Any]]]:
    return findings(database, cross_table=True)


def places(found: dict[str, list[dict[str, Any]]]) -> set[tuple[str, str]]:
    """Everything that is wrong with contract and rows; how full or old the tables are is another matter."""
    return {(i, f["object"]) for i, g in found.items() for f in g if i.split(".")[0] in ("schema", "data", "check")}


@pytest.mark.parametrize(("wrong", "finding_id"), WRONGS, ids=[f"{w[1]}-{n}" for n, w in enumerate(WRONGS)])
def test_the_offered_sql_mends_the_rows_and_nothing_else(field_db: Database, wrong: str, finding_id: str) -> None:
    run_fix(field_db)
    for finding in seen(field_db).get("data.metadata.counter", []):
        run_offered(field_db, finding)
    sound = places(seen(field_db))
    for part in wrong.split(" ;; "):
        field_db.sql(part)
    found = seen(field_db)
    assert finding_id in found
    before = places(found)
    for finding in found[finding_id]:
        run_offered(field_db, finding)
    after = places(seen(field_db))
    assert finding_id not in {i for i, _ in after}
    assert after - before <= {("data.metadata.counter", "metadata")}, "what the scanner writes at its next sync"
    result = run_fix(field_db)
    assert not result["failures"], result["failures"]
    assert places(seen(field_db)) - sound <= {("data.metadata.counter", "metadata")}, "as it was before"


def test_all_that_points_at_a_duplicate_moves_to_the_row_that_stays(field_db: Database) -> None:
    """Also from another schema, under names that need quoting, and where the rows that move would be the same."""
    run_fix(field_db)
    field_db.sql('CREATE SCHEMA "o;dd"')
    field_db.sql(
        'CREATE TABLE "o;dd"."ta""gs" (id serial PRIMARY KEY, "m d" int REFERENCES models ON DELETE CASCADE,'
        ' tag text, UNIQUE ("m d", tag))'
    )
    for part in (NO_KEY, TWIN, COPY_MODELS, RESULTS):
        field_db.sql(part)
    twin = field_db.value("SELECT max(id) FROM endpoints")
    field_db.sql("INSERT INTO models (endpoint_id, name) VALUES (%s, 'only here')", twin)
    field_db.sql(
        "INSERT INTO chat_history (user_id, model_id) SELECT 'me', id FROM models WHERE endpoint_id = %s", twin
    )
    field_db.sql(
        'INSERT INTO "o;dd"."ta""gs" ("m d", tag) SELECT id, \'same\' FROM models WHERE endpoint_id IN (7, %s)', twin
    )
    models, results, mine = [
        field_db.value(f"SELECT count(*) FROM {table}")
        for table in ("models", "benchmark_results", "chat_history WHERE model_id IS NOT NULL")
    ]
    copies = field_db.value("SELECT count(*) FROM models WHERE endpoint_id = 7")
    assert copies > 0
    (found,) = seen(field_db)["data.duplicate"]
    run_offered(field_db, found)
    (stays,) = [row[0] for row in field_db.sql("SELECT id FROM endpoints WHERE id IN (7, %s)", twin)]
    assert field_db.value("SELECT count(*) FROM models") == models - copies
    assert field_db.value("SELECT count(*) FROM benchmark_results") == results
    assert field_db.value("SELECT count(*) FROM chat_history WHERE model_id IS NOT NULL") == mine
    names = field_db.sql("SELECT name FROM models WHERE endpoint_id = %s", stays)
    assert ("only here",) in names and len(names) == len(set(names)) == copies + 1
    tagged = field_db.sql('SELECT m.endpoint_id FROM "o;dd"."ta""gs" t JOIN models m ON m.id = t."m d"')
    assert tagged == [(stays,)] * (copies + 1)


def test_the_row_before_gives_a_result_its_date(field_db: Database) -> None:
    field_db.sql("UPDATE benchmark_results SET test_date = '2025-05-05 05:05+00' WHERE id = 4")
    field_db.sql("UPDATE benchmark_results SET test_date = now() + interval '9 days' WHERE id IN (1, 5, 6)")
    (found,) = seen(field_db)["data.benchmark_results.date_future"]
    run_offered(field_db, found)
    same = "SELECT count(*) FROM benchmark_results WHERE id IN (5, 6) AND test_date = '2025-05-05 05:05+00'"
    assert field_db.value(same) == 2
    assert field_db.value("SELECT test_date <= now() FROM benchmark_results WHERE id = 1")


def test_an_endpoint_that_cannot_be_is_made_inactive_with_the_reason(field_db: Database) -> None:
    run_fix(field_db)
    linked = field_db.value("SELECT min(endpoint_id) FROM verified_endpoints")
    field_db.sql("UPDATE endpoints SET port = -1 WHERE id = %s", linked)
    (found,) = seen(field_db)["data.endpoints.port_range"]
    run_offered(field_db, found)
    row = field_db.sql("SELECT port, is_active, verified, inactive_reason FROM endpoints WHERE id = %s", linked)
    assert row == [(-1, False, 0, "nothing can listen on this port")]
    assert field_db.sql("SELECT id FROM verified_endpoints WHERE endpoint_id = %s", linked) == []
