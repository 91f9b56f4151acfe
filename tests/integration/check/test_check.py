"""The check against real databases: the field's, damaged in every way, and the others met there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.checks.registry import KINDS
from scannerdb.connection import Options
from scannerdb.errors import AuthenticationFailed, ConnectionFailed, DatabaseMissing, InvalidInput
from scannerdb.finding import summary
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.check import check

from demo import field
from tests.integration.support import content, findings, options, rows_of, run_fix
from tests.servers import Database, Databases
from tests.system.needs import NEXT

DATA_RULES = [
    "data.endpoints.verification_date_null",
    "data.endpoints.last_check_date_null",
    "data.verified.link_missing",
    "data.verified.link_stale",
    "data.verified.honeypot",
    "data.verified.inactive",
]


def test_finds_exactly_the_damage_of_the_field(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    found = findings(field_db)
    for rule in DATA_RULES:
        assert rows_of(found, rule) == damage.findings[rule], rule
    for finding_id in set(damage.findings) - set(DATA_RULES):
        assert len(found.get(finding_id, [])) == damage.findings[finding_id], finding_id
    assert rows_of(found, "data.endpoints.verified_range") == damage.verified_odd


def test_leaves_the_database_as_it_was(field_db: Database) -> None:
    before = content(field_db)
    findings(field_db)
    assert content(field_db) == before
    assert field_db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'scannerdb_maintenance'") == 0


def test_every_finding_is_registered_with_its_severity(field_db: Database, make_database: Databases) -> None:
    empty = make_database()
    missing = make_database()
    with missing.connect() as conn:
        field.missing_tables(conn)
    for database in (field_db, empty, missing):
        for finding_id, group in findings(database).items():
            assert {f["severity"] for f in group} == {KINDS[finding_id].severity}, finding_id
            locks = {f["fix"]["lock"] for f in group if f["fix"]} - {"none"}
            assert all(lock in KINDS[finding_id].lock for lock in locks), (finding_id, locks)


DAMAGES = [
    ("DROP TABLE benchmark_results", "schema.table.missing", "benchmark_results"),
    ("CREATE TABLE extra (a int)", "schema.table.unexpected", "extra"),
    ("ALTER TABLE models DROP COLUMN size_mb", "schema.column.missing", "models.size_mb"),
    ("ALTER TABLE models ADD COLUMN family text", "schema.column.unexpected", "models.family"),
    ("ALTER TABLE models ALTER COLUMN size_mb TYPE real", "schema.column.type", "models.size_mb"),
    ("ALTER TABLE endpoints ALTER verified DROP DEFAULT", "schema.column.default", "endpoints.verified"),
    ("ALTER TABLE endpoints ALTER ip DROP NOT NULL", "schema.column.nullable", "endpoints.ip"),
    ("ALTER TABLE metadata DROP CONSTRAINT metadata_pkey", "schema.primary_key.missing", "metadata(key)"),
    (
        "ALTER TABLE models DROP CONSTRAINT models_endpoint_id_fkey",
        "schema.foreign_key.missing",
        "models(endpoint_id)",
    ),
    (
        "ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key",
        "schema.unique.missing",
        "endpoints(ip, port)",
    ),
    ("DROP INDEX models_name_idx", "schema.index.missing", "models(name)"),
    ("DROP VIEW servers CASCADE", "schema.view.missing", "servers"),
    (
        "DROP VIEW servers CASCADE; CREATE TABLE servers (id int, ip text)",
        "schema.view.not_a_view",
        "servers",
    ),
    (
        "CREATE OR REPLACE VIEW servers AS SELECT e.id, e.ip, e.port, e.scan_date FROM endpoints e"
        " LEFT JOIN verified_endpoints v ON v.endpoint_id = e.id",
        "schema.view.definition",
        "servers",
    ),
    (
        "DROP TRIGGER endpoint_scan_date ON endpoints",
        "schema.trigger.missing",
        "endpoints.scan_date",
    ),
    (
        "ALTER TABLE endpoints DISABLE TRIGGER endpoint_scan_date",
        "schema.trigger.disabled",
        "endpoints.endpoint_scan_date",
    ),
    ("REVOKE INSERT ON endpoints FROM ollama", "schema.privilege.missing", "endpoints"),
    ("REVOKE ALL ON SEQUENCE models_id_seq FROM ollama", "schema.privilege.missing", "models_id_seq"),
    ("CREATE INDEX twin ON models (name)", "index.duplicate", "models.twin"),
    ("CREATE INDEX longer ON models (name, size_mb); CREATE INDEX n ON models (size_mb)", "index.unused", "models.n"),
]


@pytest.mark.pg(18, NEXT, always=True)
def test_a_not_null_that_was_never_proven_is_none(field_db: Database) -> None:
    """Since PostgreSQL 18 it may be NOT VALID: new rows keep to it, older ones need not."""
    field_db.sql("ALTER TABLE models ALTER name DROP NOT NULL")
    field_db.sql("ALTER TABLE models ADD CONSTRAINT named NOT NULL name NOT VALID")
    (found,) = findings(field_db)["schema.column.nullable"]
    assert found["object"] == "models.name" and "NOT VALID" in found["message"]
    assert found["fix"]["sql"] == ['ALTER TABLE "public"."models" VALIDATE CONSTRAINT "named"']
    run_fix(field_db, policy=FixPolicy(only=("schema.column.nullable",)))
    assert "schema.column.nullable" not in findings(field_db)


@pytest.mark.pg(NEXT, always=True)
def test_what_the_newest_version_has_beside_the_contract_is_an_extra_at_most(field_db: Database) -> None:
    """Virtual columns and temporal keys."""
    before = {(f["id"], f["object"]) for group in findings(field_db).values() for f in group}
    field_db.sql("ALTER TABLE endpoints ADD COLUMN twice int GENERATED ALWAYS AS (port * 2)")
    field_db.sql("CREATE EXTENSION btree_gist")
    field_db.sql("CREATE TABLE spans (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS))")
    after = {(f["id"], f["object"]) for group in findings(field_db).values() for f in group}
    new = {place for kind, place in after - before if kind.endswith(".unexpected")}
    assert {"endpoints.twice", "spans"} <= new
    assert all(kind.endswith((".unexpected", ".unused")) for kind, _ in after - before), after - before


@pytest.mark.parametrize(("statement", "finding_id", "place"), DAMAGES, ids=[f"{d[1]}-{d[2]}" for d in DAMAGES])
def test_sees_each_damage(field_db: Database, statement: str, finding_id: str, place: str) -> None:
    young = {"thresholds": {"min_statistics_days": 0}}  # as the tests' servers are
    assert place not in [f["object"] for f in findings(field_db, **young).get(finding_id, [])]
    field_db.sql(statement)
    assert place in [f["object"] for f in findings(field_db, **young).get(finding_id, [])]
    assert "index.unused" not in findings(field_db)


def test_not_valid_foreign_keys_and_orphans(make_database: Databases) -> None:
    database = make_database()
    with database.connect() as conn:
        damage = field.generate(conn, 0.002, orphans=True)
    found = findings(database)
    assert {f["object"] for f in found["data.orphan"]} == {f"{t}.{c}" for t, c in damage.orphans}
    assert rows_of(found, "data.orphan") == sum(damage.orphans.values())
    assert len(found["schema.foreign_key.not_valid"]) + len(found.get("schema.foreign_key.missing", [])) >= 3


def test_names_do_not_matter(field_db: Database) -> None:
    """Objects are compared by meaning: renaming every index, key and trigger changes nothing."""
    before = {(i, f["object"]) for i, group in findings(field_db).items() if i.startswith("schema.") for f in group}
    field_db.sql("ALTER INDEX endpoints_verified_idx RENAME TO anything")
    field_db.sql('ALTER TABLE endpoints RENAME CONSTRAINT endpoints_ip_port_key TO "odd name"')
    field_db.sql("ALTER TRIGGER endpoint_scan_date ON endpoints RENAME TO zzz")
    after = {(i, f["object"]) for i, group in findings(field_db).items() if i.startswith("schema.") for f in group}
    assert after == before


def test_a_role_inherits_its_privileges(field_db: Database) -> None:
    field_db.sql("CREATE ROLE team_readers")
    field_db.sql("REVOKE SELECT ON metadata FROM ollama")
    assert findings(field_db)["schema.privilege.missing"]
    field_db.sql("GRANT SELECT ON metadata TO team_readers; GRANT team_readers TO ollama")
    assert "schema.privilege.missing" not in findings(field_db)


def test_the_empty_database(database: Database) -> None:
    found = findings(database)
    assert len(found["schema.table.missing"]) == 6
    assert "schema.view.missing" in found


def test_the_older_layout_is_reported(database: Database) -> None:
    with database.connect() as conn:
        field.older_layout(conn)
    before = content(database)
    found = findings(database)
    assert found["schema.view.not_a_view"][0]["fix"] is None
    assert content(database) == before


@pytest.mark.parametrize("field_db", field.HOSTILE_NAMES, indirect=True)
def test_hostile_database_names(field_db: Database) -> None:
    assert findings(field_db)["schema.view.trigger"]


def test_a_role_with_only_connect_gets_sentences(field_db: Database) -> None:
    field_db.sql("CREATE ROLE nobody_special LOGIN")
    result = check(options(field_db, user="nobody_special"))
    why = [f for f in result["findings"] if f["id"] == "check.run.failed"]
    assert any("permission denied" in f["message"] for f in why)
    assert result["summary"]["critical"] > 0  # the contract is in the catalog, which everybody may read


def test_suppressions_have_a_reason_and_an_end(field_db: Database) -> None:
    ignore = [{"id": "data.*", "reason": "known", "until": "2999-01-01"}]
    result = check(options(field_db), CheckOptions(ignore=ignore))
    assert not [f for f in result["findings"] if f["id"].startswith("data.")]
    assert {s["reason"] for s in result["suppressed"]} == {"known"}
    expired = check(options(field_db), CheckOptions(ignore=[{**ignore[0], "until": "2001-01-01"}]))
    assert [f for f in expired["findings"] if f["id"].startswith("data.")]
    with pytest.raises(InvalidInput, match="reason"):
        check(options(field_db), CheckOptions(ignore=[{"id": "data.*"}]))
    unknown = [{"id": "data.orphans", "reason": "known"}]
    with pytest.raises(InvalidInput, match=r"data\.orphan is the nearest"):
        check(options(field_db), CheckOptions(ignore=unknown))
    assert (
        "data.orphan is the nearest"
        in check(options(field_db), CheckOptions(ignore=unknown, strict=False))["warnings"][0]
    )


def test_the_report_and_the_log(field_db: Database, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "db_schema_check.log"
    result = check(options(field_db), CheckOptions(report_dir=str(tmp_path), log_path=str(log), fail_on="critical"))
    assert result["failed"]
    text = Path(result["report"]["markdown"]).read_text()
    for heading in ("# Database Schema Issues Report", "## Critical (", "## Warnings (", "## Informational ("):
        assert heading in text
    assert Path(result["report"]["markdown"]).name == "db_schema_issues_report.md"
    document: dict[str, Any] = json.loads(Path(result["report"]["json"]).read_text())
    assert {"findings", "summary", "server"} <= set(document)
    assert document["findings"] == result["findings"]
    assert "data.verified.link_missing" in log.read_text()
    assert {oct(p.stat().st_mode)[-3:] for p in (log, Path(result["report"]["json"]))} == {"600"}


def test_check_mode_writes_nothing(field_db: Database, tmp_path: Path) -> None:
    result = check(
        options(field_db), CheckOptions(report_dir=str(tmp_path / "r"), log_path=str(tmp_path / "l")), check_mode=True
    )
    assert result["findings"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fail_on", "failed"), [("critical", False), ("warning", True), ("info", True), ("never", False)]
)
def test_fail_on_counts_graver_ones(field_db: Database, fail_on: str, failed: bool) -> None:
    ignore = [{"id": i, "reason": "for this test"} for i, e in KINDS.items() if e.severity == "critical"]
    assert check(options(field_db), CheckOptions(ignore=ignore, fail_on=fail_on))["failed"] is failed


def test_errors_are_sentences(field_db: Database) -> None:
    good = options(field_db)
    with pytest.raises(DatabaseMissing, match="has no database 'nowhere'"):
        check(Options(**{**vars(good), "db": "nowhere"}))
    tcp = field_db.server.tcp_args(field_db.name)
    words = {"host": tcp["host"], "port": int(tcp["port"]), "user": tcp["user"], "db": field_db.name}
    with pytest.raises(AuthenticationFailed, match="refused the login"):
        check(Options(**words, password="wrong"))
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        check(Options(**{**words, "port": 1}))
    with pytest.raises(ConnectionFailed, match="no host named"):
        check(Options(**{**words, "host": "no-such-host.invalid"}))


def test_the_summary_counts(field_db: Database) -> None:
    result = check(options(field_db))
    assert result["summary"] == {s: len([f for f in result["findings"] if f["severity"] == s]) for s in summary([])}
