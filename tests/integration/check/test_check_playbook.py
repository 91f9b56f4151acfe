"""check.yml with its variables as `-e` and surveys hand them over: as strings."""

from __future__ import annotations

import json
import stat

import pytest

from tests.integration.playbooks import Site, site
from tests.servers import Database, Databases

__all__ = ["site"]
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


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


def test_reports_of_all_hosts_are_brought_to_one_private_page(site: Site, make_database: Databases) -> None:
    """Also of a check that fails; a host that was not asked this time stays on the page, whatever its report says."""
    folder = site.folder / "reports of all"
    for name in ("calm", "hurt"):
        site.add(name, make_database(filled=True), scannerdb_report_fetch_dir=str(folder))
    site.run("playbooks/check.yml").failed("on which this check fails")
    assert "reports of 2 hosts" in (folder / "index.html").read_text()
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    brought, there = folder / "hurt", site.folder / "hurt" / "state" / "reports"
    assert {p.name: p.read_bytes() for p in brought.iterdir()} == {p.name: p.read_bytes() for p in there.iterdir()}

    forged = json.loads((folder / "calm" / "db_schema_issues_report.json").read_text())
    forged["server"]["database"] = "<script>alert(1)</script>"
    forged["summary"] = {"critical": 0, "warning": 0, "info": 1}
    (folder / "calm" / "db_schema_issues_report.json").write_text(json.dumps(forged))
    again = site.run("maintain.yml", "-l", "hurt", "--tags", "check", scannerdb_check_fail_on="never").ok()
    assert not any(again.changed.values())
    page = (folder / "index.html").read_text()
    assert page.index('"hurt/db_schema_issues_report.html"') < page.index('"calm/db_schema_issues_report.html"')
    assert "<td>critical</td>" in page and "<td>ok</td>" in page
    assert "<script" not in page and "&lt;script" in page
