"""What the bundle knows of one kind of finding."""

from __future__ import annotations

from dataclasses import dataclass

BY_FIX = "fix.yml"
BY_VACUUM = "vacuum.yml"
BY_HAND = "by hand"


@dataclass(frozen=True)
class CheckEntry:
    """One kind of finding. `fixed_by` is a playbook or 'by hand'; `how` says what to do then, `lock` what it locks."""

    id: str
    severity: str
    meaning: str
    fixed_by: str = BY_HAND
    how: str = ""
    lock: str = ""
