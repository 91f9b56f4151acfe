"""Fixes on the field's database: right, complete, undoable, beside writers, and never half done."""

from __future__ import annotations

from typing import Any

import pytest
from scannerdb.errors import FixRefused, PrivilegeMissing
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, fix

from demo import field
from tests.integration.support import (
    INVARIANTS,
    content,
    findings,
    ids,
    options,
    run_fix,
)
from tests.servers import Database, Databases

MENDED = [
    "data.endpoints.verification_date_null",
    "data.endpoints.last_check_date_null",
    "data.verified.link_missing",
    "data.verified.link_stale",
    "data.verified.honeypot",
    "data.verified.inactive",
    "schema.view.trigger",
    "schema.column.default",
    "schema.foreign_key.on_delete",
    "schema.index.missing",
    "index.invalid",
]


def test_mends_what_it_may_and_says_what_is_left(field_db: Database) -> None:
    result = run_fix(field_db)
    assert result["changed"]
    assert not result["failures"]
    found = findings(field_db)
    assert [i for i in MENDED if i in found] == []
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]
    left = {(s["id"], s["why"]) for s in result["left_undone"]}
    assert ("index.duplicate", "it needs consent: scannerdb_fix_drop_indexes=true") in left
    assert ("table.dead_tuples", "vacuum.yml repairs it") in left
    assert result["probe"]["passed"]


def test_the_counts_are_those_of_the_generator(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    result = run_fix(field_db, policy=FixPolicy(inactive="report"))  # else inactive endpoints need no link any more
    rows = {f["id"]: f["rows"] for f in result["fixed"] if f["rows"]}
    for finding_id in ("data.verified.link_missing", "data.verified.link_stale", "data.verified.honeypot"):
        assert rows[finding_id] == damage.findings[finding_id]
    assert rows["data.endpoints.last_check_date_null"] == damage.findings["data.endpoints.last_check_date_null"]


def test_the_second_run_changes_nothing(field_db: Database) -> None:
    run_fix(field_db)
    before = content(field_db)
    again = run_fix(field_db)
    assert not again["changed"]
    assert again["fixed"] == []
    assert again["statements"] == []
    assert content(field_db) == before


def test_dates_come_from_the_best_evidence(field_db: Database) -> None:
    link = {
        i: field_db.value(f"SELECT verification_date FROM verified_endpoints WHERE endpoint_id = {i}")
        for i in ids(field_db, "date_in_link")
    }
    scan = {
        i: field_db.value(f"SELECT scan_date FROM endpoints WHERE id = {i}")
        for i in ids(field_db, "date_in_scan_unlinked")
    }
    started = field_db.value("SELECT now()")
    run_fix(field_db)
    for identity, date in {**link, **scan}.items():
        assert field_db.value(f"SELECT verification_date FROM endpoints WHERE id = {identity}") == date
    for identity in ids(field_db, "date_nowhere"):
        assert field_db.value(f"SELECT verification_date FROM endpoints WHERE id = {identity}") >= started
    for identity in ids(field_db, "date_in_scan_unlinked"):
        made = field_db.value(f"SELECT verification_date FROM verified_endpoints WHERE endpoint_id = {identity}")
        assert made == scan[identity]


def test_row_triggers_do_not_defeat_the_evidence(field_db: Database) -> None:
    """verified changes, which stamps verification_date with the clock; the date must stay what it was."""
    kinds = ("honeypot_linked", "linked_unverified", "honeypot_unlinked")
    query = (
        "SELECT id, verification_date FROM endpoints WHERE id = ANY(%s) AND verification_date IS NOT NULL ORDER BY id"
    )
    chosen = [i for kind in kinds for i in ids(field_db, kind)]
    before = field_db.sql(query, chosen)
    assert before
    run_fix(field_db)
    assert field_db.sql(query, [i for i, _ in before]) == before


@pytest.mark.parametrize(
    ("kind", "verified", "linked"),
    [
        ("linked_failed", 2, False),
        ("linked_unverified", 1, True),
        ("linked_null", 1, True),
        ("linked_unverified_honeypot", 0, False),
        ("linked_unverified_inactive", 0, False),
        ("honeypot_linked", 0, False),
        ("honeypot_unlinked", 0, False),
        ("unlinked", 1, True),
        ("unlinked_inactive", 0, False),
        ("inactive_linked", 0, False),
    ],
)
def test_links_agree_with_verified(field_db: Database, kind: str, verified: int, linked: bool) -> None:
    run_fix(field_db)
    query = (
        "SELECT DISTINCT verified, EXISTS (SELECT FROM verified_endpoints v WHERE v.endpoint_id = e.id)"
        " FROM endpoints e WHERE id = ANY(%s)"
    )
    assert field_db.sql(query, ids(field_db, kind)) == [(verified, linked)]


def test_odd_values_are_reported_and_stay(field_db: Database) -> None:
    odd = "SELECT id, verified FROM endpoints WHERE verified NOT IN (0, 1, 2) ORDER BY id"
    before = field_db.sql(odd)
    run_fix(field_db)
    assert field_db.sql(odd) == before
    assert "data.endpoints.verified_range" in findings(field_db)


def test_policies(field_db: Database) -> None:
    run_fix(field_db, policy=FixPolicy(honeypots="report", inactive="unverify", dates="report"))
    found = findings(field_db)
    assert "data.verified.honeypot" in found
    assert "data.verified.inactive" not in found
    assert "data.endpoints.last_check_date_null" in found
    before = field_db.value("SELECT now()")
    run_fix(field_db, policy=FixPolicy(dates="now"))
    found = findings(field_db)
    assert "data.endpoints.last_check_date_null" not in found
    assert field_db.value("SELECT count(*) FROM endpoints WHERE last_check_date >= %s", before) > 0


def test_only_and_skip(field_db: Database) -> None:
    only = run_fix(field_db, policy=FixPolicy(only=("data.verified.*",), skip=("*.honeypot",)))
    repaired = {"data.verified.inactive", "data.verified.link_missing", "data.verified.link_stale"}
    assert {f["id"] for f in only["fixed"]} == repaired


def test_orphans_move_to_the_journal(make_database: Databases) -> None:
    database = make_database()
    with database.connect() as conn:
        damage = field.generate(conn, 0.002, orphans=True)
    result = run_fix(database)
    assert not result["failures"], result["failures"]
    assert "data.orphan" not in findings(database)
    assert "schema.foreign_key.not_valid" not in findings(database)
    journalled = database.value("SELECT count(*) FROM scannerdb_maintenance.journal WHERE fix_id = 'data.orphan'")
    assert journalled >= sum(damage.orphans.values())


def test_check_mode_is_the_real_plan(field_db: Database) -> None:
    before = content(field_db)
    planned = run_fix(field_db, check_mode=True)
    assert content(field_db) == before
    assert field_db.value("SELECT to_regclass('scannerdb_maintenance.journal')") is None
    real = run_fix(field_db)
    assert planned["changed"]
    assert [(f["id"], f["object"]) for f in planned["fixed"]] == [(f["id"], f["object"]) for f in real["fixed"]]
    assert planned["diff"] == real["diff"]
    assert "ROW EXCLUSIVE" in planned["diff"]["after"]


def test_refuses_without_a_fresh_verified_backup(field_db: Database, tmp_path: Any) -> None:
    before = content(field_db)
    with pytest.raises(FixRefused, match="no backup"):
        fix(options(field_db), safety=Safety(backup_dir=str(tmp_path)))
    assert content(field_db) == before


def test_refuses_to_touch_too_much(field_db: Database) -> None:
    with pytest.raises(FixRefused, match="max_share"):
        run_fix(field_db, policy=FixPolicy(max_share=0.001, large_rows=1))


@pytest.mark.parametrize("field_db", field.HOSTILE_NAMES, indirect=True)
def test_hostile_database_names(field_db: Database) -> None:
    assert run_fix(field_db)["changed"]
    assert field_db.sql(INVARIANTS) == [(0, 0, 0, 0, 0)]


def test_a_journal_of_somebody_else_is_named_in_check_mode_already(field_db: Database) -> None:
    run_fix(field_db)
    field_db.sql("DROP ROLE IF EXISTS journal_stranger")
    field_db.sql("CREATE ROLE journal_stranger LOGIN")
    field_db.sql("GRANT pg_read_all_data TO journal_stranger")
    stranger = options(field_db, user="journal_stranger")
    for check_mode in (True, False):
        with pytest.raises(PrivilegeMissing, match=r"belongs to .* and 'journal_stranger' may not write to it.*GRANT"):
            fix(stranger, check_mode=check_mode)
