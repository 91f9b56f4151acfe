"""The health check beyond the contract, on real servers: each check sees its damage, and nothing where all is well."""

from __future__ import annotations

from typing import Any

import pytest
from scannerdb.checks.context import Context
from scannerdb.checks.registry import UNITS
from scannerdb.checks.run import run_checks
from scannerdb.checks.unit import Unit
from scannerdb.connection import connect

from demo import field
from tests.integration.support import findings, options, run_offered
from tests.servers import Database


def objects(found: dict[str, list[dict[str, Any]]], finding_id: str) -> list[str]:
    return [f["object"] for f in found.get(finding_id, [])]


DISABLED = ("schema.trigger.disabled", "endpoints.endpoint_scan_date")
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
        "UPDATE verified_endpoints SET verification_date = 'infinity'",
        "data.date_future",
        "verified_endpoints.verification_date",
    ),
    (
        "UPDATE metadata SET updated_at = 'infinity'",
        "data.date_future",
        "metadata.updated_at",
    ),
    (
        "UPDATE schema_version SET applied_at = 'infinity'",
        "data.date_future",
        "schema_version.applied_at",
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
    (
        "DROP TRIGGER endpoint_scan_date ON endpoints ;;"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.scan_date := now(); RETURN NEW; END' ;;"
        " CREATE TRIGGER always BEFORE UPDATE OF ip ON endpoints FOR EACH ROW EXECUTE FUNCTION f()",
        "schema.trigger.unexpected",
        "endpoints.always",
    ),
    ("CREATE VIEW totals AS SELECT count(*) FROM models", "schema.relation.unexpected", "totals"),
    ("ALTER TABLE endpoints ENABLE REPLICA TRIGGER endpoint_scan_date", *DISABLED),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END' ;;"
        " CREATE TRIGGER off AFTER INSERT ON chat_history FOR EACH ROW EXECUTE FUNCTION f() ;;"
        " ALTER TABLE chat_history DISABLE TRIGGER off",
        "schema.trigger.disabled_extra",
        "chat_history.off",
    ),
    (
        "CREATE SEQUENCE loose ;; ALTER TABLE models ALTER id SET DEFAULT nextval('loose')",
        "schema.privilege.missing",
        "loose",
    ),
    (
        "CREATE SEQUENCE loose ;; ALTER TABLE models ALTER id SET DEFAULT nextval('loose') ;;"
        " SELECT setval('loose', 2100000000)",
        "capacity.sequence.exhausted",
        "loose",
    ),
    ("UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'plpgsql'", "server.extension.outdated", "plpgsql"),
    (
        "ALTER TABLE verified_endpoints DROP CONSTRAINT verified_endpoints_endpoint_id_fkey,"
        " ADD CONSTRAINT other FOREIGN KEY (endpoint_id) REFERENCES endpoints ON DELETE RESTRICT",
        "schema.foreign_key.on_delete",
        "verified_endpoints(endpoint_id)",
    ),
    (
        "ALTER TABLE models ALTER CONSTRAINT models_endpoint_id_fkey DEFERRABLE",
        "schema.foreign_key.rules",
        "models(endpoint_id)",
    ),
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
    assert loud == {"fsync", "full_page_writes", "autovacuum"}, "set by the tests' servers"
    assert not [i for i in found if i.startswith(("data.sequence", "data.duplicate", "check.", "schema.constraint"))]


LINKED = "SELECT e.id, e.ip, e.port, e.scan_date FROM endpoints e"
JOIN = f"{LINKED} JOIN verified_endpoints v ON v.endpoint_id = e.id"
SAME = [
    f"{LINKED}, verified_endpoints v WHERE e.id = v.endpoint_id",
    f"{LINKED} WHERE e.id IN (SELECT endpoint_id FROM verified_endpoints)",
    f"{LINKED} WHERE EXISTS (SELECT 1 FROM verified_endpoints v WHERE v.endpoint_id = e.id)",
]
OTHERS = [
    f"{JOIN} WHERE e.port = 11434",
    f"{JOIN} WHERE e.scan_date IS NOT NULL",
    f"{JOIN} AND e.ip <> '127.0.0.1'",
    f"{JOIN} LIMIT 1000",
    f"{LINKED} JOIN verified_endpoints v ON v.endpoint_id <> e.id",
    f"{LINKED} WHERE NOT EXISTS (SELECT 1 FROM verified_endpoints v WHERE v.endpoint_id = e.id)",
    f"{JOIN} UNION {JOIN}",
]


def test_the_view_counts_by_what_it_shows(field_db: Database) -> None:
    for text in (JOIN, *SAME, *OTHERS):
        field_db.sql(f"CREATE OR REPLACE VIEW servers AS {text}")
        said = objects(findings(field_db), "schema.view.definition")
        assert said == ([] if text in (JOIN, *SAME) else ["servers"]), text


def test_doubles_of_an_index_and_what_only_looks_like_one(field_db: Database) -> None:
    with field_db.connect() as conn:
        conn.execute("CREATE TABLE t (a int NOT NULL, b text, c int, UNIQUE (b))")
        shapes = {
            "long": "(a, b)",
            "prefix": "(a)",
            "descending": "(a DESC)",
            "partial": "(a) WHERE c > 0",
            "other_class": "(b text_pattern_ops)",
            "included": "(a) INCLUDE (c)",
            "same_as_key": "(b)",
            "hashed": "USING hash (c)",
            "plain": "(c)",
        }
        for name, shape in shapes.items():
            conn.execute(f"CREATE INDEX {name} ON t {shape}")  # type: ignore[call-overload]
        conn.execute("CREATE UNIQUE INDEX guard ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX guard")
        conn.execute("CREATE UNIQUE INDEX second_guard ON t (a)")
    found = findings(field_db)
    mine = {i: {o for o in objects(found, i) if o.startswith("t.")} for i in ("index.duplicate", "index.redundant")}
    # Of the three over (a), the unique one that logical replication leans on stays.
    assert mine == {"index.duplicate": {"t.prefix", "t.second_guard", "t.same_as_key"}, "index.redundant": set()}
    field_db.sql("DROP INDEX second_guard")
    field_db.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    field_db.sql("DROP INDEX guard")
    found = findings(field_db)
    assert {o for o in objects(found, "index.redundant") if o.startswith("t.")} == {"t.prefix"}
    (prefix,) = [f for f in found["index.redundant"] if f["object"] == "t.prefix"]
    assert prefix["fix"]["sql"] == ['DROP INDEX CONCURRENTLY "public"."prefix"']


def test_the_index_of_a_partition_follows_its_parents(field_db: Database) -> None:
    with field_db.connect() as conn:
        conn.execute(
            "CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);"
            "CREATE INDEX twin ON p1 (a); CREATE INDEX own ON p1 (a);"
            "CREATE INDEX whole ON ONLY p (a); ALTER INDEX whole ATTACH PARTITION own"
        )
    found = findings(field_db)
    assert [o for o in objects(found, "index.duplicate") if o.startswith("p1.")] == ["p1.twin"]
    assert "p1.own" not in [*objects(found, "index.redundant"), *objects(found, "index.unused")]


def test_left_overs_of_a_rebuild(field_db: Database) -> None:
    field_db.sql("CREATE INDEX models_name_idx_ccnew ON models (name)")
    field_db.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'models_name_idx_ccnew'::regclass")
    (mine,) = [f for f in findings(field_db)["index.invalid"] if f["object"] == "models.models_name_idx_ccnew"]
    assert mine["evidence"]["left_over"] and mine["fix"]["sql"][0].startswith("DROP INDEX CONCURRENTLY")


def test_a_full_key_moves_to_bigint_by_the_offered_sql(field_db: Database) -> None:
    field_db.sql("SELECT setval('endpoints_id_seq', 2147483000)")
    (full,) = [f for f in findings(field_db)["capacity.sequence.exhausted"] if f["object"] == "endpoints_id_seq"]
    assert full["evidence"]["views_to_make_again"] == ["servers"]
    field_db.sql("DROP VIEW servers CASCADE")
    for statement in full["fix"]["sql"]:
        field_db.sql(statement)
    after = findings(field_db)
    assert "endpoints_id_seq" not in objects(after, "capacity.sequence.exhausted")
    assert "schema.column.type" not in after, "a key that was moved is as good"
    kinds = field_db.sql("SELECT DISTINCT data_type FROM information_schema.columns WHERE column_name = 'endpoint_id'")
    assert kinds == [("bigint",)]
    field_db.sql("SELECT setval('endpoints_id_seq', 3000000000)")
    field_db.sql("INSERT INTO endpoints (ip, port) VALUES ('203.0.113.9', 1)")


def test_results_get_their_own_endpoints_model_by_the_offered_sql(field_db: Database) -> None:
    result, model, other = field_db.sql(
        "SELECT b.id, b.model_id, e.id FROM benchmark_results b JOIN models m ON m.id = b.model_id, endpoints e"
        " WHERE NOT EXISTS (SELECT FROM models x WHERE x.endpoint_id = e.id AND x.name = m.name) LIMIT 1"
    )[0]
    field_db.sql("UPDATE benchmark_results SET endpoint_id = %s WHERE id = %s", other, result)
    (found,) = findings(field_db, cross_table=True)["data.benchmark_results.foreign_model"]
    field_db.sql("INSERT INTO models (endpoint_id, name) SELECT %s, name FROM models WHERE id = %s", other, model)
    run_offered(field_db, found)
    assert field_db.sql(
        "SELECT m.endpoint_id FROM benchmark_results b JOIN models m ON m.id = b.model_id WHERE b.id = %s", result
    ) == [(other,)]
    assert "data.benchmark_results.foreign_model" not in findings(field_db, cross_table=True)


def test_sequences_by_inheritance(field_db: Database) -> None:
    field_db.sql("REVOKE ALL ON SEQUENCE models_id_seq FROM ollama")
    assert "models_id_seq" in objects(findings(field_db), "schema.privilege.missing")
    field_db.sql("CREATE ROLE team_writers; GRANT USAGE ON SEQUENCE models_id_seq TO team_writers")
    field_db.sql("GRANT team_writers TO ollama")
    assert "models_id_seq" not in objects(findings(field_db), "schema.privilege.missing")


def test_a_reader_is_asked_for_what_it_reads_only(field_db: Database) -> None:
    field_db.sql("CREATE ROLE team_reader")
    overlay = {"read_only_roles": ["team_reader"]}
    lacking = findings(field_db, overlay=overlay)["schema.privilege.missing"]
    assert {p for f in lacking for p in f["evidence"]["privileges"]} <= {"SELECT", "USAGE"}
    assert {"endpoints", "servers"} <= {f["object"] for f in lacking}
    assert not [f for f in lacking if f["object"].endswith("_seq")], "a reader needs no sequence"
    field_db.sql(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO team_reader; GRANT USAGE ON SCHEMA public TO team_reader"
    )
    assert "schema.privilege.missing" not in findings(field_db, overlay=overlay)


def test_a_reader_that_may_write(field_db: Database) -> None:
    field_db.sql("CREATE ROLE team_reader; CREATE ROLE team_writers")
    overlay = {"read_only_roles": ["team_reader"]}
    field_db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO team_reader")
    assert "security.role.not_read_only" not in findings(field_db, overlay=overlay)
    field_db.sql("GRANT UPDATE ON models TO team_writers; GRANT team_writers TO team_reader")
    field_db.sql("GRANT INSERT, DELETE ON metadata TO team_reader; GRANT TRUNCATE ON servers TO PUBLIC")
    (found,) = findings(field_db, overlay=overlay)["security.role.not_read_only"]
    assert found["object"] == "team_reader"
    assert found["evidence"]["granted_to"] == ["PUBLIC", "team_reader", "team_writers"]
    for statement in found["fix"]["sql"]:
        field_db.sql(statement)
    assert "security.role.not_read_only" not in findings(field_db, overlay=overlay)
    assert "security.role.not_read_only" not in findings(field_db)


def test_collations_that_changed(field_db: Database) -> None:
    """The version that was recorded is altered in the catalog: two versions of a library cannot be had here."""
    icu = int(field_db.value("SELECT current_setting('server_version_num')")) < 170000
    words = "provider = icu, locale = 'de'" if icu else "provider = builtin, locale = 'C.UTF-8'"
    name = "LOCALE_PROVIDER icu ICU_LOCALE 'tr'" if icu else "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
    field_db.sql(f"CREATE DATABASE foreign_words TEMPLATE template0 ENCODING 'UTF8' {name} LOCALE 'C'")
    other = Database(field_db.server, "foreign_words")
    with other.connect() as conn:
        field.generate(conn, 0.002)
    other.sql(f"CREATE COLLATION sorted ({words})")
    other.sql("CREATE TABLE words (word text COLLATE sorted)")
    found = findings(other)
    assert "server.collation.mismatch" not in found
    assert not [i for i in found if i.startswith("check.")], "a foreign locale hinders no check"
    other.sql("UPDATE pg_collation SET collversion = '0' WHERE collname = 'sorted'")
    other.sql("UPDATE pg_database SET datcollversion = '0' WHERE datname = 'foreign_words'")
    found = findings(other)
    assert sorted(objects(found, "server.collation.mismatch")) == ["collation sorted", "database"]
    for finding in found["server.collation.mismatch"]:
        for statement in finding["fix"]["sql"]:
            other.sql(statement)
    assert "server.collation.mismatch" not in findings(other)


def test_a_stamp_may_be_written_in_many_ways(field_db: Database) -> None:
    body = "BEGIN NEW.scan_date := now(); RETURN NEW; END"
    field_db.sql(f"CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS '{body}'")
    for moment in (
        "UPDATE OF ip, port ON endpoints FOR EACH ROW",
        "UPDATE ON endpoints FOR EACH ROW WHEN (OLD.ip <> NEW.ip OR OLD.port IS DISTINCT FROM NEW.port)",
    ):
        field_db.sql("DROP TRIGGER IF EXISTS endpoint_scan_date ON endpoints")
        field_db.sql(f"CREATE TRIGGER endpoint_scan_date BEFORE {moment} EXECUTE FUNCTION stamp()")
        found = findings(field_db)
        assert "schema.trigger.unexpected" not in found and "schema.trigger.missing" not in found, moment


def test_whatever_goes_wrong_in_a_check_is_a_finding(field_db: Database) -> None:
    """Not only what the server refuses: a mistake of ours in one check costs that one only."""
    broken = Unit("broken", lambda context: iter(1 // len(context.past)))  # type: ignore[call-overload]
    with connect(options(field_db), allow_standby=True) as conn:
        context = Context(conn, "public", {}, role="ollama", version=conn.info.server_version)
        found = run_checks(context, [broken, *UNITS], deep=True)
    failed = [f for f in found if f.id == "check.run.failed"]
    assert [f.object for f in failed] == ["broken"]
    assert "could not look, because: ZeroDivisionError" in failed[0].message
    assert "server.setting.dangerous" in {f.id for f in found}
