"""Every kind of finding: declared once, in the file that finds it. docs/checks.md is made of the declarations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .finding import Finding, Fix

BY_FIX = "fix.yml"
BY_VACUUM = "vacuum.yml"
BY_HAND = "by hand"


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding. `fixed_by` is a playbook or 'by hand'; `how` says what to do then, `lock` what it locks.

    `order` is the place of its fix in a run, low first.
    """

    id: str
    severity: str
    meaning: str
    fixed_by: str = BY_HAND
    how: str = ""
    lock: str = ""
    order: float = 50


KINDS: dict[str, FindingKind] = {}


def declare(*kinds: FindingKind) -> None:
    """Make kinds of findings known; each belongs to one file."""
    for kind in kinds:
        if kind.id in KINDS:
            raise ValueError(f"The finding {kind.id} is declared twice.")
        KINDS[kind.id] = kind


def finding(
    kind_id: str,
    place: str,
    message: str,
    evidence: Mapping[str, Any] | None = None,
    fix: Fix | None = None,
    why_no_fix: str | None = None,
) -> Finding:
    """A finding with its declared severity. One without a fix says why, or else the declared way to repair it."""
    kind = KINDS[kind_id]
    why = kind.how if why_no_fix is None else why_no_fix
    return Finding(kind_id, kind.severity, place, message, evidence or {}, fix, "" if fix else why)


def by_hand(kind_id: str, *statements: str, rows: int | None = None) -> Fix:
    """The exact statements for people: the bundle shows them and leaves the decision to you."""
    kind = KINDS[kind_id]
    job = kind.how or "a decision of yours: the SQL is in the report"
    return Fix(kind_id, statements, rows, kind.lock or "none", job=job)
