"""The health check beyond the contract, on real servers: each check sees its damage, and nothing where all is well."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import findings
from tests.servers import Database


def objects(found: dict[str, list[dict[str, Any]]], finding_id: str) -> list[str]:
    return [f["object"] for f in found.get(finding_id, [])]


# (what is done to the field's database, the finding, its object)
DAMAGES = [
    ("UPDATE endpoints SET port = 70000 WHERE id = 5", "data.endpoints.port_range", "endpoints.port"),
    ("UPDATE endpoints SET ip = '10.0.0.256' WHERE id = 5", "data.endpoints.ip_unparsable", "endpoints.ip"),
    ("UPDATE endpoints SET ip = 'scanner.example' WHERE id = 5", "data.endpoints.ip_unparsable", "endpoints.ip"),
    ("UPDATE endpoints SET ip = '10.0.0.0/8' WHERE id = 5", "data.endpoints.ip_unparsable", "endpoints.ip"),
    (
        "UPDATE endpoints SET last_check_date = now() + interval '2 days' WHERE id = 5",
        "data.endpoints.date_future",
        "endpoints",
    ),
    (
        "UPDATE benchmark_results SET test_date = now() + interval '2 days' WHERE id = 5",
        "data.benchmark_results.date_future",
        "benchmark_results.test_date",
    ),
    (
        "UPDATE benchmark_results SET endpoint_id = 1 + (SELECT endpoint_id FROM models m WHERE m.id = model_id)"
        " WHERE id = 3",
        "data.benchmark_results.foreign_model",
        "benchmark_results.model_id",
    ),
    (
        "ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key ;;"
        " INSERT INTO endpoints (ip, port) SELECT ip, port FROM endpoints WHERE id = 7",
        "data.duplicate",
        "endpoints(ip, port)",
    ),
    ("SELECT setval('models_id_seq', 3)", "data.sequence.behind", "models.id"),
    (
        "SELECT setval('benchmark_results_id_seq', 2000000000)",
        "capacity.sequence.exhausted",
        "benchmark_results_id_seq",
    ),
    ("SELECT setval('benchmark_results_id_seq', 1500000000)", "capacity.sequence.filling", "benchmark_results_id_seq"),
    (
        "CREATE TABLE big (id int PRIMARY KEY, e int REFERENCES endpoints) ;;"
        " INSERT INTO big SELECT g, 1 FROM generate_series(1, 10001) g ;; ANALYZE big",
        "index.foreign_key.unindexed",
        "big(e)",
    ),
    (
        "CREATE TABLE lone AS SELECT g FROM generate_series(1, 100) g",
        "table.statistics.missing",
        "lone",
    ),
    (
        "CREATE TABLE old AS SELECT g FROM generate_series(1, 1000) g ;; ANALYZE old ;;"
        " INSERT INTO old SELECT g FROM generate_series(1, 900) g",
        "table.statistics.stale",
        "old",
    ),
    ("ALTER TABLE endpoints SET (autovacuum_enabled = off)", "table.autovacuum.off", "endpoints"),
    (
        "CREATE TABLE fat (a int); INSERT INTO fat SELECT g FROM generate_series(1, 200000) g ;;"
        " CREATE INDEX fat_a ON fat (a) ;; DELETE FROM fat WHERE a % 20 <> 0 ;; VACUUM ANALYZE fat",
        "index.bloat",
        "fat.fat_a",
    ),
    (
        "ALTER TABLE chat_history ADD CONSTRAINT long CHECK (length(prompt) < 9) NOT VALID",
        "schema.constraint.not_valid",
        "chat_history.long",
    ),
    (
        "CREATE SEQUENCE loose ;; ALTER TABLE chat_history ADD n int DEFAULT nextval('loose')",
        "schema.sequence.not_owned",
        "chat_history.n",
    ),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM models; RETURN NEW; END' ;;"
        " CREATE TRIGGER odd AFTER INSERT ON models FOR EACH ROW EXECUTE FUNCTION f()",
        "schema.trigger.unexpected",
        "models.odd",
    ),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END' ;;"
        " CREATE TRIGGER odd AFTER INSERT ON models FOR EACH ROW EXECUTE FUNCTION f()",
        "schema.function.search_path",
        "f",
    ),
    (
        "CREATE FUNCTION d(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "security.function.definer",
        "d(a integer)",
    ),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "security.schema.public_create", "public"),
]


@pytest.mark.parametrize(
    ("statement", "finding_id", "place"), DAMAGES, ids=[f"{d[1]}-{n}" for n, d in enumerate(DAMAGES)]
)
def test_sees_each_damage(field_db: Database, statement: str, finding_id: str, place: str) -> None:
    before = findings(field_db, cross_table=True)
    assert place not in objects(before, finding_id)
    for part in statement.split(" ;; "):
        field_db.sql(part)
    if int(field_db.value("SELECT current_setting('server_version_num')")) >= 150000:
        field_db.sql("SELECT pg_stat_force_next_flush()")
    after = findings(field_db, cross_table=True)
    assert place in objects(after, finding_id)
    assert "check.run.failed" not in after


def test_a_healthy_database_is_calm(field_db: Database) -> None:
    """On the server of the tests only its own settings deserve a warning; nothing is failed or refused."""
    found = findings(field_db, cross_table=True)
    calm = {"server", "security", "capacity", "vacuum", "check"}
    loud = {
        f["object"]
        for group in found.values()
        for f in group
        if f["severity"] != "info" and f["id"].split(".")[0] in calm
    }
    assert loud <= {"fsync", "full_page_writes", "autovacuum"}, "set by the tests' servers"
    assert not [i for i in found if i.startswith(("data.sequence", "data.duplicate", "check.", "schema.constraint"))]
