"""What the report of a check says beside its findings, on a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scannerdb.checks import holders
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import connect
from scannerdb.jobs.check import check

from tests.integration.support import options, run_backup
from tests.servers import Database

pytestmark = pytest.mark.pg(17)


def test_a_report_has_gauges_backups_and_what_is_new_and_gone(field_db: Database, tmp_path: Path) -> None:
    folders = {"state_dir": str(tmp_path / "state"), "backup_dir": str(tmp_path / "backups")}
    Path(folders["backup_dir"]).mkdir(mode=0o700)
    where = {**folders, "report_dir": str(tmp_path / "reports"), "formats": ("json", "html", "markdown")}
    first = check(options(field_db), CheckOptions(**where))
    assert first["since"] == {} and first["backups"]["count"] == 0
    assert "There is none in" in (tmp_path / "reports" / "db_schema_issues_report.html").read_text()
    gauges = {one["name"]: one for one in first["gauges"]}
    assert 0 < gauges["connections"]["percent"] <= 100 and gauges["connections"]["limit"] == 80
    assert gauges["transaction ids to wraparound"]["value"] > 0

    made = run_backup(options(field_db), **folders, verify_level="read")["backup"]
    field_db.sql("CREATE INDEX twin ON models (name)")
    field_db.sql("UPDATE endpoints SET verified = 0 WHERE is_honeypot")
    again = check(options(field_db), CheckOptions(**where))
    assert "models.twin" in {f["object"] for f in again["since"]["new"]}
    assert "data.verified.honeypot" in {f["id"] for f in again["since"]["gone"]}
    assert again["backups"]["sets"][0]["name"] == made["name"]
    assert again["backups"]["sets"][0]["verified"] == "read", "by what this host itself has seen"
    report = json.loads((tmp_path / "reports" / "db_schema_issues_report.json").read_text())
    assert report["since"]["at"] == first["checked_at"] and report["backups"] == again["backups"]
    unchanged = check(options(field_db), CheckOptions(**where), check_mode=True)
    assert (unchanged["since"]["new"], unchanged["since"]["gone"]) == ([], [])


def test_offered_sql_ends_a_session_only_while_it_is_the_one_that_was_meant(field_db: Database) -> None:
    """The number of a session that has gone is another's sooner or later."""
    from psycopg import sql

    with connect(options(field_db), purpose="another") as other, field_db.connect() as conn:
        pid = other.info.backend_pid
        wrong = sql.SQL(holders.END).format(pid=sql.Literal(pid), began=sql.Literal("2026-01-01 00:00:00+00"))
        assert conn.execute(wrong).fetchall() == []
        began = field_db.value(f"SELECT backend_start::text FROM pg_stat_activity WHERE pid = {pid}")
        right = sql.SQL(holders.END).format(pid=sql.Literal(pid), began=sql.Literal(began))
        assert conn.execute(right).fetchall() == [(True,)]
