"""Bad inputs and bad moments: a report or a sentence, never a traceback; and never a lock that blocks a writer."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator
from scannerdb.checks.history import KEPT, NAME
from scannerdb.checks.options import CheckOptions
from scannerdb.errors import ConnectionFailed, InvalidInput
from scannerdb.jobs.check import check

from demo import field
from tests.integration.check.check_support import Looking, waiting
from tests.integration.support import findings, options, rows_of, run_offered
from tests.servers import Database, Databases

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = 'we"ird; drop'


def unseen(result: dict[str, Any]) -> list[str]:
    return [f["message"] for f in result["findings"] if f["id"].startswith("check.")]


def test_a_connection_that_dies_midway_is_a_sentence(field_db: Database) -> None:
    with field_db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE metadata IN ACCESS EXCLUSIVE MODE")
        looking = Looking(field_db)
        looking.start()
        for pid in waiting(field_db):
            field_db.sql("SELECT pg_terminate_backend(%s)", pid)
        looking.join(30)
    assert isinstance(looking.error, ConnectionFailed)
    assert "failed" in str(looking.error) and "\n" not in str(looking.error)


def test_a_locked_table_costs_only_the_checks_that_read_it(field_db: Database) -> None:
    field_db.sql("ALTER TABLE metadata ALTER updated_at DROP DEFAULT")  # reading a default waits for the table
    before = check(options(field_db))
    with field_db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE metadata IN ACCESS EXCLUSIVE MODE")
        result = check(options(field_db), CheckOptions(statement_timeout_s=1))
    assert [name for text in unseen(result) for name in re.findall("The check '(.*?)'", text)] == [
        "counters in metadata",
        "dates of metadata",
        "interrupted scans",
    ]
    assert "timeout" in unseen(result)[0]
    ids = {f["id"] for f in before["findings"]} - {"data.metadata.counter"}
    assert ids <= {f["id"] for f in result["findings"]}


def test_a_contract_that_cannot_be_read_is_a_finding(field_db: Database) -> None:
    with field_db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE metadata IN ACCESS EXCLUSIVE MODE")
        result = check(options(field_db), CheckOptions(statement_timeout_s=1))
    assert len(unseen(result)) == 1 and "the contract" in unseen(result)[0]
    assert "table.dead_tuples" in {f["id"] for f in result["findings"]}


def test_it_takes_no_lock_that_blocks_a_writer(field_db: Database) -> None:
    field_db.sql("ALTER TABLE metadata ALTER updated_at DROP DEFAULT")
    with field_db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE metadata IN ACCESS EXCLUSIVE MODE")
        looking = Looking(field_db, cross_table=True)
        looking.start()
        pid = waiting(field_db)[0]
        modes = field_db.sql("SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND locktype = 'relation'", pid)
        assert {mode for (mode,) in modes} == {"AccessShareLock"}
        field_db.sql("UPDATE endpoints SET is_active = true WHERE id = 5")  # would hang
        holder.rollback()
    looking.join(60)
    assert looking.error is None and not unseen(looking.result)


def test_hostile_names_and_the_sql_against_them(field_db: Database, tmp_path: Path) -> None:
    """Every statement that the report offers for such an object runs as it stands there."""
    field_db.sql('CREATE SCHEMA "%s{0}"')
    with field_db.connect() as conn:
        conn.execute(
            b"""
            CREATE SEQUENCE "%s{0}"."lo""ose";
            CREATE TABLE "%s{0}"."we""ird; drop" (
                "i d" int PRIMARY KEY DEFAULT nextval('"%s{0}"."lo""ose"'), "e%" int REFERENCES public.endpoints)
                WITH (autovacuum_enabled = off);
            INSERT INTO "%s{0}"."we""ird; drop" SELECT g, 1 FROM generate_series(1, 100) g;
            ALTER TABLE "%s{0}"."we""ird; drop" ADD CONSTRAINT "ch''eck" CHECK ("i d" > 0) NOT VALID;
            CREATE FUNCTION "%s{0}"."f""n"("a b" int, c text[]) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
            ANALYZE "%s{0}"."we""ird; drop";
            GRANT CREATE ON SCHEMA "%s{0}" TO PUBLIC
            """
        )
    result = check(
        options(field_db), CheckOptions(thresholds={"unindexed_rows": 10}, report_dir=str(tmp_path), formats=["html"])
    )
    assert not unseen(result)
    mine = [f for f in result["findings"] if "%s{0}" in f["object"]]
    ids = {f["id"] for f in mine}
    assert ids >= {
        *("schema.sequence.not_owned", "schema.constraint.not_valid", "security.function.definer"),
        *("security.schema.public_create", "index.foreign_key.unindexed", "table.autovacuum.off"),
    }
    for finding in mine:
        asked = (
            finding["id"] == "schema.foreign_key.blocks_delete"
        )  # what is to become of the rows is for people to say
        assert bool(finding["fix"]) != asked, finding
        for statement in (finding["fix"] or {"sql": []})["sql"]:
            field_db.sql(statement)
    left = check(options(field_db), CheckOptions(thresholds={"unindexed_rows": 10}))
    kept = ("index.unused", "schema.foreign_key.blocks_delete")
    assert [f["id"] for f in left["findings"] if "%s{0}" in f["object"] and f["id"] not in kept] == []


def test_mixed_case_tables_beside_the_contract(field_db: Database) -> None:
    field_db.sql('CREATE TABLE "Endpoints" (id serial PRIMARY KEY, port text, verified text)')
    assert not unseen(check(options(field_db), CheckOptions(cross_table=True)))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE endpoints ALTER port DROP DEFAULT, ALTER port TYPE text",
        "ALTER TABLE endpoints ALTER scan_date DROP DEFAULT, ALTER scan_date TYPE text",
        "ALTER TABLE endpoints ALTER ip TYPE inet USING ip::inet",
        "ALTER TABLE endpoints ALTER last_check_date TYPE timestamp",
        "ALTER TABLE metadata ALTER value TYPE jsonb USING to_jsonb(value)",
        "ALTER TABLE metadata DROP COLUMN updated_at",
        "UPDATE metadata SET value = NULL",
        "UPDATE metadata SET value = '٣'",  # a digit, but none that int() and PostgreSQL agree on
    ],
)
def test_columns_of_other_types(field_db: Database, statement: str) -> None:
    with field_db.connect() as conn:
        conn.execute("DROP VIEW servers CASCADE; DROP TRIGGER endpoint_scan_date ON endpoints")
        conn.execute(statement.encode())
    result = check(options(field_db), CheckOptions(cross_table=True))
    assert not unseen(result)
    assert "data.verified.honeypot" in {f["id"] for f in result["findings"]}, "the other rules are looked at"


def test_partitioned_tables(field_db: Database) -> None:
    with field_db.connect() as conn:
        conn.execute(
            """
            CREATE TABLE logs (id bigint GENERATED ALWAYS AS IDENTITY, e int REFERENCES endpoints, day date)
                PARTITION BY RANGE (day);
            CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
            INSERT INTO logs (e, day) SELECT 1, '2026-05-05' FROM generate_series(1, 500);
            CREATE INDEX ON logs (day);
            ALTER TABLE benchmark_results RENAME TO results_1;
            CREATE TABLE benchmark_results (LIKE results_1) PARTITION BY HASH (id);
            CREATE TABLE results_2 PARTITION OF benchmark_results FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            INSERT INTO benchmark_results SELECT * FROM results_1;
            ANALYZE
            """
        )
    result = check(options(field_db), CheckOptions(cross_table=True, thresholds={"unindexed_rows": 10}))
    assert not unseen(result)
    unindexed = [f["object"] for f in result["findings"] if f["id"] == "index.foreign_key.unindexed"]
    assert "logs_1(e)" in unindexed
    assert "logs_1" in [table["name"] for table in result["tables"]]


def published() -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "docs" / "report.schema.json").read_text()))


def test_every_database_gets_a_report_as_published(make_database: Databases, tmp_path: Path) -> None:
    empty, old, missing = make_database(), make_database(), make_database()
    with old.connect() as conn:
        field.older_layout(conn)
    with missing.connect() as conn:
        field.missing_tables(conn)
    databases = [empty, old, missing, make_database(filled=True), make_database(HOSTILE, filled=True)]
    for number, database in enumerate(databases):
        folder = tmp_path / str(number)
        formats = ["markdown", "html", "json", "junit", "sarif"]
        result = check(options(database), CheckOptions(report_dir=str(folder), formats=formats, state_dir=str(folder)))
        assert not unseen(result), database.name
        assert sorted(result["report"]) == sorted(formats)
        document = json.loads((folder / "db_schema_issues_report.json").read_text())
        published().validate(document)
        assert document["findings"] == result["findings"]
        assert [run["summary"] for run in document["trend"]] == [result["summary"]]
        assert {oct(path.stat().st_mode)[-3:] for path in folder.glob("db_*")} == {"600"}


def test_only_the_formats_asked_for(field_db: Database, tmp_path: Path) -> None:
    result = check(options(field_db), CheckOptions(report_dir=str(tmp_path), formats=["junit"], fail_on="info"))
    assert [path.name for path in tmp_path.iterdir()] == ["db_schema_issues_report.xml"]
    assert str(tmp_path / "db_schema_issues_report.xml") in result["msg"]
    with pytest.raises(InvalidInput, match="one of markdown, html, json, junit, sarif"):
        check(options(field_db), CheckOptions(formats=["pdf"]))


def earlier(database: Database, state: Path, days: float, **more: Any) -> None:
    """Put a run into the history."""
    at = datetime.datetime.now(tz=datetime.timezone.utc) - datetime.timedelta(days=days)
    run = {"at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "database": database.name, "bytes": 1, "tables": {}, "sequences": {}}
    counts = {"critical": 0, "warning": 0, "info": 0}
    with (state / NAME).open("a") as file:
        file.write(json.dumps({**run, "summary": counts, **more}) + "\n")


def test_the_history_gives_trend_growth_and_forecast(field_db: Database, tmp_path: Path) -> None:
    size = field_db.value("SELECT pg_database_size(current_database())")
    field_db.sql("SELECT setval('benchmark_results_id_seq', 1000000000)")
    assert "capacity.sequence.filling" not in findings(field_db, state_dir=str(tmp_path / "other"))
    earlier(field_db, tmp_path, 5, bytes=size // 2, sequences={"benchmark_results_id_seq": 950_000_000})
    found = findings(field_db, state_dir=str(tmp_path), report_dir=str(tmp_path))
    filling = found["capacity.sequence.filling"][0]
    assert filling["object"] == "benchmark_results_id_seq"
    assert filling["evidence"]["per_day"] == pytest.approx(10_000_000, rel=0.01)
    last_day = datetime.date.fromisoformat(filling["evidence"]["full_on"])
    assert 110 <= (last_day - datetime.date.today()).days <= 120
    assert "capacity.database.growth" not in found, "a few megabytes are no growth to speak of"
    assert len(json.loads((tmp_path / "db_schema_issues_report.json").read_text())["trend"]) == 2
    assert len((tmp_path / NAME).read_text().splitlines()) == 2
    assert "run by run" in (tmp_path / "db_schema_issues_report.html").read_text()


def test_growth_since_an_earlier_run(field_db: Database, tmp_path: Path) -> None:
    earlier(field_db, tmp_path, 5, bytes=field_db.value("SELECT pg_database_size(current_database())"))
    with field_db.connect() as conn:
        conn.execute("CREATE TABLE grown (a text) WITH (fillfactor = 10)")
        conn.execute("INSERT INTO grown SELECT repeat('x', 1000) FROM generate_series(1, 9000)")
    found = findings(field_db, state_dir=str(tmp_path))
    assert found["capacity.database.growth"][0]["evidence"]["bytes"] > 64 << 20
    assert "capacity.database.growth" not in findings(
        field_db, state_dir=str(tmp_path), thresholds={"growth_percent": 10000}
    )


def test_the_history_survives_damage_and_stays_small(field_db: Database, tmp_path: Path) -> None:
    for line in ("not json", "[]", '{"at": 5}', '{"at": "2026-01-01T00:00:00Z"}', "\x00", '{"at": "yesterday"}'):
        with (tmp_path / NAME).open("a") as file:
            file.write(line + "\n")
    for number in range(2 * KEPT):
        earlier(field_db, tmp_path, number + 1)
    earlier(Database(field_db.server, "another"), tmp_path, 1)
    result = check(options(field_db), CheckOptions(state_dir=str(tmp_path), report_dir=str(tmp_path)))
    assert not unseen(result)
    assert len((tmp_path / NAME).read_text().splitlines()) == KEPT
    assert len(json.loads((tmp_path / "db_schema_issues_report.json").read_text())["trend"]) == KEPT + 1
    check(options(field_db), CheckOptions(state_dir=str(tmp_path)), check_mode=True)
    assert len((tmp_path / NAME).read_text().splitlines()) == KEPT, "check mode remembers nothing"


def test_thresholds_decide(field_db: Database) -> None:
    assert "data.metadata.counter" in findings(field_db)
    assert "data.metadata.counter" not in findings(field_db, thresholds={"metadata_drift_rows": 1000})
    assert "capacity.disk.low" in findings(field_db, thresholds={"disk_free_percent": 100})
    assert "capacity.xid.age" in findings(field_db, thresholds={"xid_warning_percent": 0})
    with pytest.raises(InvalidInput, match="no entry 'disk_fre_percent'"):
        check(options(field_db), CheckOptions(thresholds={"disk_fre_percent": 5}))


def test_the_offered_sql_mends_the_counters_and_the_sequence(field_db: Database) -> None:
    field_db.sql("SELECT setval('models_id_seq', 3)")
    found = findings(field_db)
    for finding_id in ("data.metadata.counter", "data.sequence.behind"):
        run_offered(field_db, found[finding_id][0])
    after = findings(field_db)
    assert "data.metadata.counter" not in after and "data.sequence.behind" not in after
    with pytest.raises(psycopg.errors.NotNullViolation):  # and no duplicate key
        field_db.sql("INSERT INTO models (name) VALUES ('x')")


def test_a_scan_that_never_ended_is_told_until_the_next_one_ends(field_db: Database) -> None:
    field_db.sql(
        "INSERT INTO metadata (key, value) VALUES ('last_scan_start', (now() - interval '2 days')::text)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    (told,) = findings(field_db)["data.metadata.interrupted"]
    assert told["object"] == "metadata.last_scan_start" and told["fix"] is None
    field_db.sql(
        "INSERT INTO metadata (key, value) VALUES ('last_scan_end', now()::text)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    assert "data.metadata.interrupted" not in findings(field_db)


def test_a_link_made_twice_counts_its_endpoint_once(field_db: Database) -> None:
    field_db.sql("ALTER TABLE verified_endpoints DROP CONSTRAINT verified_endpoints_endpoint_id_key")
    before = findings(field_db)
    field_db.sql("INSERT INTO verified_endpoints (endpoint_id) SELECT endpoint_id FROM verified_endpoints")
    after = findings(field_db)
    rules = ("data.verified.link_stale", "data.verified.honeypot", "data.endpoints.verified_range")
    for rule in rules:
        assert rows_of(after, rule) == rows_of(before, rule) > 0, rule
    assert rows_of(after, "data.duplicate") == field_db.value("SELECT count(*) / 2 FROM verified_endpoints")
