"""Rows that a site's rules let go: what is due, what stays, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import InvalidInput
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, Working
from scannerdb.jobs.undo import undo
from scannerdb.sets.signing import Trust

from tests.integration.support import findings, options, run_backup, run_fix
from tests.servers import Database

pytestmark = pytest.mark.pg(17)  # the version of the server does not matter
RULES = [
    {"table": "benchmark_results", "column": "test_date", "days": 30, "keep": 2},
    {"table": "chat_history", "column": "timestamp", "days": 90},
]
OVERLAY = {"retention_rules": RULES}
ALL = FixPolicy(only=("data.expired",), max_share=1.0)
RESULTS = """
INSERT INTO benchmark_results (endpoint_id, test_date)
SELECT e.id, now() - make_interval(days => 25 + d * 10)
  FROM (SELECT id FROM endpoints ORDER BY id LIMIT 3) e, generate_series(0, 299) d
"""
# The chat bot's dates are text; some are none.
LINES = """
INSERT INTO chat_history (user_id, timestamp)
SELECT 'x', CASE d % 4 WHEN 0 THEN 'yesterday' WHEN 1 THEN NULL
                       ELSE to_char(now() - make_interval(days => d), 'YYYY-MM-DD"T"HH24:MI:SS') END
  FROM generate_series(0, 199) d
"""
CHAT = """
DROP TABLE IF EXISTS chat_history CASCADE;
CREATE TABLE chat_history (id serial PRIMARY KEY, user_id text, timestamp text);
ALTER TABLE chat_history OWNER TO scanner_owner;
GRANT ALL ON chat_history TO ollama;
GRANT ALL ON SEQUENCE chat_history_id_seq TO ollama
"""


@pytest.fixture
def old(field_db: Database) -> Database:
    with field_db.connect() as conn:
        conn.execute("DELETE FROM benchmark_results")
        conn.execute(CHAT.encode())
        conn.execute(RESULTS.encode())
        conn.execute(LINES.encode())
    return field_db


def saved(db: Database, folder: Path) -> Safety:
    run_backup(options(db), backup_dir=str(folder), state_dir=str(folder / "s"), verify_level="read")
    return Safety(backup_dir=str(folder), trust=Trust(str(folder / "s")))


def left(db: Database) -> tuple[int, int]:
    return (
        db.value("SELECT count(*) FROM benchmark_results"),
        db.value("SELECT count(*) FROM chat_history"),
    )


def test_what_is_due_goes_in_batches_and_the_rest_stays(old: Database, tmp_path: Path) -> None:
    before = left(old)
    assert before == (900, 200)
    due = {one["object"]: one for one in findings(old, overlay=OVERLAY)["data.expired"]}
    assert due["benchmark_results"]["evidence"]["rows"] == 3 * 298
    lines = old.value("SELECT count(*) FROM chat_history WHERE timestamp ~ '^2' AND timestamp::date < now()::date - 91")
    assert due["chat_history"]["evidence"]["rows"] == lines > 40
    assert "data.expired" not in findings(old)
    words: dict[str, Any] = {"overlay": OVERLAY, "policy": ALL, "safety": saved(old, tmp_path)}
    words["working"] = Working(batch_rows=100)
    planned = run_fix(old, check_mode=True, **words)
    assert {one["object"]: one["rows"] for one in planned["fixed"]} == {"benchmark_results": 894, "chat_history": lines}
    assert left(old) == before
    done = run_fix(old, **words)
    assert {one["object"]: one["rows"] for one in done["fixed"]} == {"benchmark_results": 894, "chat_history": lines}
    assert left(old) == (6, 200 - lines)
    newest = old.sql(
        "SELECT endpoint_id, count(*), min(now() - test_date) < '36 days' FROM benchmark_results GROUP BY 1"
    )
    assert [(count, young) for _, count, young in newest] == [(2, True)] * 3
    journalled = "SELECT count(*), sum((after->>'removed')::int) FROM scannerdb_maintenance.journal WHERE run_id = %s"
    ((batches, rows),) = old.sql(journalled, done["run_id"])
    assert rows == 894 + lines and batches > 9
    assert not run_fix(old, **words)["changed"]
    back = undo(options(old), run_id=done["run_id"], unsealed=True)
    assert not back["changed"] and {"backup before that run only" in one["why"] for one in back["conflicts"]} == {True}
    assert left(old) == (6, 200 - lines)


def test_without_a_backup_nothing_goes(old: Database) -> None:
    """Whatever scannerdb_fix_require_backup says: no journal brings these rows back."""
    before = left(old)
    for check_mode in (True, False):
        done = run_fix(old, overlay=OVERLAY, policy=ALL, check_mode=check_mode)
        whys = {one["object"]: one["why"] for one in done["left_undone"] if one["id"] == "data.expired"}
        assert set(whys) == {"benchmark_results", "chat_history"} and not done["changed"]
        assert all("no fresh, verified backup" in why for why in whys.values())
    assert left(old) == before


def test_a_row_that_somebody_holds_stays_and_the_others_go(old: Database, tmp_path: Path) -> None:
    from scannerdb.lockbudget import Budget

    safety = saved(old, tmp_path)
    with old.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM benchmark_results ORDER BY test_date LIMIT 1 FOR UPDATE")
        done = run_fix(old, overlay=OVERLAY, policy=ALL, safety=safety, budget=Budget(timeout_ms=20, deadline_s=1))
    assert left(old)[0] == 7 and done["changed"]
    assert any("stayed locked by others" in why for why in done["failures"])


def test_rules_that_cannot_be_applied(field_db: Database) -> None:
    rules = [
        {"table": "endpoints", "column": "scan_date", "days": 1},
        {"table": "metadata", "column": "updated_at", "days": 1},
        {"table": "gone", "column": "a", "days": 1},
        {"table": "verified_endpoints", "column": "endpoint_id", "days": 1},
    ]
    told = {
        one["object"]: one["message"]
        for one in findings(field_db, overlay={"retention_rules": rules})["data.expired.rule"]
    }
    assert set(told) == {"endpoints", "metadata", "gone", "verified_endpoints"}
    assert "belong to those of endpoints" in told["endpoints"] and "no column id" in told["metadata"]
    assert "there is no table gone" in told["gone"] and "is no date" in told["verified_endpoints"]
    for bad in (
        "x",
        [{"table": "a", "column": "b"}],
        [{"table": "a", "column": "b", "days": 0}],
        [{"table": "a", "column": "b", "days": 1, "typo": 1}],
        [{"table": "a", "column": "b", "days": 1}] * 2,
    ):
        with pytest.raises(InvalidInput, match="scannerdb_retention_rules"):
            findings(field_db, overlay={"retention_rules": bad})
