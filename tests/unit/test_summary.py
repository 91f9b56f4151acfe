"""What a play says at its end: the texts of recorded runs, letter by letter, and what no run showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.text.formatters import bytes_to_human
from scannerdb.status.summary import MOST, summary

ROOT = Path(__file__).resolve().parents[2]
# Plays on real databases: what the role hands over, less what no summary reads, and the text that was printed.
RECORDED = json.loads((ROOT / "tests" / "fixtures" / "summaries.json").read_text(encoding="utf-8"))


def said(**more: Any) -> list[str]:
    """The summary of a play that got nowhere, but for what is given."""
    results: dict[str, Any] = {key: {} for key in ("check", "backup", "physical", "restore", "fix", "vacuum", "judged")}
    words = {
        "database": "db",
        "host": "db1",
        "command": "ansible-playbook -i hosts.yml",
        "log_dir": "/log",
        "missing": [],
    }
    return summary(
        {**results, **words, "found": None, "dry": False, "dry_fix": False, **more}, bytes_to_human
    ).splitlines()


@pytest.mark.parametrize("run", RECORDED, ids=lambda run: run["name"])
def test_a_recorded_run_reads_as_it_did(run: dict[str, Any]) -> None:
    assert summary({"physical": {}, **run["facts"]}, bytes_to_human).splitlines() == run["text"]


def test_a_play_that_did_nothing_names_its_logs() -> None:
    assert said() == ["db", "", "Logs       /log"]


def test_a_long_list_is_cut_and_counted() -> None:
    findings = [{"severity": "warning", "message": f"{n}."} for n in range(MOST + 2)]
    check = {"findings": findings, "summary": {"critical": 0, "warning": MOST + 2, "info": 0}}
    lines = said(check=check)
    assert "             and 2 more, in the report" in lines
    assert f"             warning   {MOST - 1}." in lines and f"             warning   {MOST}." not in lines


def test_what_failed_and_what_was_never_reached_is_named() -> None:
    lines = said(backup={"failed": True}, missing=["fix", "vacuum"])
    assert "Failed     Backup: the error is above" in lines and "Not done   fix, vacuum" in lines


def test_a_physical_backup_says_what_it_added_and_how_far_back_one_can_go() -> None:
    backup = {"kind": "incr", "label": "L", "delta_bytes": 1 << 20, "sound": False}
    result = {"backup": backup, "removed": ["OLD"], "physical": {"window": {"sentence": "since Monday"}}}
    assert said(physical=result)[1:5] == [
        "",
        "Cluster    L, 1.00 MB more, NOT SOUND",
        "             restorable: since Monday",
        "             OLD was removed",
    ]
    assert said(physical=result, dry=True)[2] == "Cluster    a incr physical backup, expected"


def test_a_standby_says_so() -> None:
    lines = said(check={"server": {"version": "17.2", "in_recovery": True}})
    assert lines[0] == "db on PostgreSQL 17.2" and lines[1].startswith("A standby")


def test_the_way_back_quotes_the_host() -> None:
    fix = {"fixed": [{"id": "x", "object": "o", "rows": 1}], "locks": "none", "run_id": "R", "left_undone": []}
    lines = said(fix=fix, host="we ird")
    assert "             x on o [x], 1 row" in lines
    assert (
        lines[-3]
        == "             Undo: ansible-playbook -i hosts.yml playbooks/undo.yml -l 'we ird' -e scannerdb_run_id=R"
    )


def test_what_waits_for_consent_names_it() -> None:
    """A fix without consent does not even look at counters: only the check knows of them."""
    findings = [
        {"id": id_, "object": "metadata", "severity": "warning", "message": "Wrong.", "fix": fix}
        for id_, fix in (("a", {"consent": "scannerdb_fix_counters"}), ("b", {"rows": 1}), ("c", None))
    ]
    fix = {"fixed": [], "locks": "none", "run_id": "R", "left_undone": []}
    judged = {"findings": findings, "summary": {"critical": 0, "warning": 3, "info": 0}}
    lines = said(fix=fix, check=judged, found=judged, vacuum={"tables": []})
    whys = [line.strip() for line in lines if line.startswith(" " * 25)]
    assert whys == ["it needs consent: scannerdb_fix_counters=true", *2 * ["repair it by hand; the report says how"]]
