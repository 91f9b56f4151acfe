"""What the report of a check says of the backups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ScannerDbError
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
