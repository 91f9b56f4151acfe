"""What the report of a check says of the backups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ScannerDbError
from ..finding import Finding
from ..finding_kinds import KINDS, finding
from ..sets.catalogue import list_sets, newest_proven
from ..sets.signing import Trust

SHOWN = 10


def backups_of(backup_dir: str, database: str, state_dir: str, trusted_signers: Sequence[str]) -> dict[str, Any]:
    """The newest sets with what proves them; nothing where no folder is named. What cannot be looked at is said."""
    if not backup_dir:
        return {}
    found: dict[str, Any] = {"dir": backup_dir, "why": "", "count": 0, "sets": [], "proven": {}}
    try:
        trust = Trust(state_dir, tuple(trusted_signers)).checked()
        sets = list_sets(backup_dir, database, trust).sets if Path(backup_dir).is_dir() else ()
        proven = newest_proven(sets)
    except (ScannerDbError, OSError) as error:
        return {**found, "why": str(error)}
    return {
        **found,
        "count": len(sets),
        "proven": {"name": proven.name, "at": proven.standing.at} if proven else {},
        "sets": [
            {
                "name": item.name,
                "created": item.manifest.created,
                "size_bytes": item.manifest.size_bytes,
                "purpose": item.purpose,
                "verified": item.verified,
                "verified_at": item.standing.at,
                "damaged": item.damaged,
            }
            for item in sets[:SHOWN]
        ],
    }


def physical_findings(physical: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with the physical backups, as a look at them found it."""
    if physical.get("why"):
        words = f"The check 'physical backups' could not look, because: {physical['why']}"
        yield finding("check.run.failed", "physical backups", words, {"why": physical["why"]})
    for problem in physical.get("problems", ()):
        if problem["id"] in KINDS:
            yield finding(problem["id"], problem["object"], problem["message"], problem["evidence"])


def physical_words(physical: Mapping[str, Any]) -> str:
    """What can be restored, for the report; nothing where no physical backups are made."""
    if not physical:
        return ""
    if physical["why"]:
        return f"Physical backups could not be looked at: {physical['why']}"
    count, window = len(physical["backups"]), physical["window"]
    return f"{count} physical, restorable to any moment of: {window['sentence'] if window else 'nothing'}."
