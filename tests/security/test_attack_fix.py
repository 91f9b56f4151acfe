"""fix.yml and undo.yml over every attack: the code runs, and has no more rights than its owner's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, Working, fix
from scannerdb.jobs.undo import undo

from tests.security.attack_support import USERS, options
from tests.security.attacks import ATTACKS, Canary

EVERYTHING = FixPolicy(inactive="unverify")


def run(canary: Canary, user: str, state_dir: Path, **more: Any) -> dict[str, Any]:
    """A fix run; a refusal is fine, too."""
    words: dict[str, Any] = {"policy": EVERYTHING, "safety": Safety(require_backup=False), "state_dir": str(state_dir)}
    try:
        return fix(options(canary, user), **{**words, **more})
    except ScannerDbError as error:
        return {"refused": str(error), "fixed": [], "run_id": ""}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_fix_and_its_undo_give_no_rights_away(canary: Canary, tmp_path: Path, name: str, user: str) -> None:
    canary.plant(ATTACKS[name])
    result = run(canary, user, tmp_path)
    assert canary.escaped() == [], result
    if result["run_id"]:
        try:
            undo(options(canary, user), run_id=result["run_id"], state_dir=str(tmp_path))
        except ScannerDbError as error:
            assert "journal" in str(error)  # nothing was done, so there is none
    assert canary.escaped() == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["row trigger", "CHECK", "index predicate", "cast", "deferred trigger"])
def test_an_undo_alone_gives_no_rights_away(canary: Canary, tmp_path: Path, name: str, user: str) -> None:
    """The code comes after the fix."""
    result = run(canary, user, tmp_path)
    assert result["fixed"]
    canary.plant(ATTACKS[name])
    try:
        undo(options(canary, user), run_id=result["run_id"], state_dir=str(tmp_path))
    except ScannerDbError:
        assert name == "deferred trigger"
    assert canary.escaped() == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", ["row trigger", "rule", "statement trigger", "CHECK"])
def test_without_a_journal_neither(canary: Canary, tmp_path: Path, name: str, user: str) -> None:
    canary.plant(ATTACKS[name])
    run(canary, user, tmp_path, working=Working(journal=False))
    assert canary.escaped() == []
