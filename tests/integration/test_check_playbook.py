"""check.yml with its variables as `-e` and surveys hand them over: as strings."""

from __future__ import annotations

from tests.integration.playbooks import Site, site
from tests.servers import Database

__all__ = ["site"]


def test_variables_may_be_strings(field_db: Database, site: Site) -> None:
    site.add("db", field_db)
    site.run(
        "playbooks/check.yml",
        *("-e", "scannerdb_check_fail_on=never"),
        *("-e", "scannerdb_check_formats=json,html"),
        *("-e", '{"scannerdb_check_thresholds": "{metadata_drift_rows: 1000, holding_minutes: \'5\'}"}'),
        *("-e", "scannerdb_check_cross_table=true"),
    ).ok()
    assert "data.metadata.counter" not in {f["id"] for f in site.report("db")["findings"]}
    written = [name for name in site.files("db", "state") if name.startswith("reports/") or "history" in name]
    assert written == [
        *("check_history.jsonl", "reports/db_schema_issues_report.html", "reports/db_schema_issues_report.json")
    ]
    site.run("playbooks/check.yml", scannerdb_check_thresholds={"nonsense": 1}).failed("has no entry 'nonsense'")
    site.run("playbooks/check.yml", scannerdb_check_formats=["pdf"]).failed("markdown, html, json, junit, sarif")
