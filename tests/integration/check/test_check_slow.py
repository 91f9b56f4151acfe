"""The statements that cost most: in every report, compared with the last check, and without a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.checks.slow import collect, verdict, without_values
from scannerdb.connection import connect
from scannerdb.jobs.check import check

from tests.integration.support import options
from tests.servers import Database, Databases, lone_server

SECRET = "s3cret-in-a-statement"


def test_values_are_gone() -> None:
    cases = {
        "SELECT * FROM t WHERE a = $1 AND b2 = 3": "SELECT * FROM t WHERE a = $1 AND b2 = ?",
        f"ALTER ROLE x PASSWORD '{SECRET}'": "ALTER ROLE x PASSWORD ?",
        f"DO $x$ BEGIN PERFORM '{SECRET}'; END $x$": "DO ?",
        f"SELECT E'a\\'{SECRET}' /* {SECRET} */ , 1.5e3 -- {SECRET}\n FROM \"1 t\"": 'SELECT ? , ? FROM "1 t"',
        f"COPY t FROM '{SECRET}": "COPY t FROM ?",
        "<insufficient privilege>": "(of another role: pg_read_all_stats shows it)",
    }
    assert {text: without_values(text) for text in cases} == cases
    assert len(without_values("SELECT " + "a, " * 999)) == 300


@pytest.mark.parametrize(
    ("calls", "total", "before", "said"),
    [
        (10, 5000.0, None, ""),
        (10, 5000.0, {}, "new"),
        (20, 5000.0, {"1": [10, 1000.0]}, "worse"),
        (20, 2000.0, {"1": [10, 1000.0]}, ""),
        (20, 1100.0, {"1": [10, 10.0]}, "worse"),
        (20, 900.0, {"1": [10, 10.0]}, ""),
        (5, 9000.0, {"1": [10, 1000.0]}, ""),
        (5, 9000.0, {"1": "spoilt"}, "new"),
    ],
)
def test_what_is_new_or_worse(calls: int, total: float, before: Any, said: str) -> None:
    assert verdict("1", calls, total, before) == said


@pytest.mark.pg(17)
def test_without_the_extension_it_says_so(field_db: Database) -> None:
    found = check(options(field_db))["slow_statements"]
    assert found == {
        "seen": False,
        "why": "the extension pg_stat_statements is not installed in this database",
        "statements": [],
    }
    field_db.sql("CREATE EXTENSION pg_stat_statements")
    with connect(options(field_db)) as conn:
        found, costs = collect(conn, [])
    assert not found["seen"] and "shared_preload_libraries" in found["why"] and costs == {}


def test_the_report_has_them(make_database: Databases, tmp_path: Path) -> None:
    with lone_server(make_database.server.bin_dir, {"shared_preload_libraries": "pg_stat_statements"}) as made:
        made.sql('CREATE SCHEMA "odd ""schema"')
        made.sql('CREATE EXTENSION pg_stat_statements SCHEMA "odd ""schema"')
        made.sql("SELECT pg_sleep(1.2)")
        words: dict[str, Any] = {"report_dir": str(tmp_path), "state_dir": str(tmp_path / "s")}
        first = check(options(made), CheckOptions(**words))["slow_statements"]["statements"]
        assert len(first) == 10 and "pg_sleep($1)" in first[0]["query"] and first[0]["since_last_check"] == ""
        made.sql(f"DO $$ BEGIN PERFORM pg_sleep(1.3), '{SECRET}'; END $$")
        made.sql("SELECT pg_sleep(2.2)")
        second = check(options(made), CheckOptions(**words))["slow_statements"]["statements"]
        told = {row["query"]: row["since_last_check"] for row in second}
        assert told["SELECT pg_sleep($1)"] == "worse" and told["DO ?"] == "new"
        texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
        assert len(texts) >= 4 and not any(SECRET in text for text in texts)
        page = (tmp_path / "db_schema_issues_report.html").read_text()
        assert "<h2>Slow statements</h2>" in page and "<td>worse</td>" in page
        assert "## Slow statements" in (tmp_path / "db_schema_issues_report.md").read_text()
        document = json.loads((tmp_path / "db_schema_issues_report.json").read_text())
        assert document["slow_statements"]["statements"] == second
