"""What a check says: findings, and the changes that would repair them. Values only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .connection import Query

SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True)
class Change:
    """One step that alters the database's structure.

    `how`: `strong` (blocks writers: one transaction under the lock budget), `online` (stops no writer: outside a
    transaction, long lock timeout) or `plain` (locks nothing that exists). `lock` is the mode's name as people know it.
    `relations` are the existing tables (schema, name) that a strong step locks. `index` is the (schema, name) that an
    online index build leaves behind invalid when it fails, and `cleanup` the step to run when this one fails, so that
    nothing half made stays behind.
    """

    statements: tuple[Query, ...]
    lock: str
    how: str = "strong"
    relations: tuple[tuple[str, str], ...] = ()
    index: tuple[str, str] | None = None
    cleanup: Change | None = None


@dataclass(frozen=True)
class Reversal:
    """How one change of structure is taken back, in words: what the journal keeps, and no SQL."""

    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Fix:
    """How a finding would be repaired.

    `id` is what `scannerdb_fix_only` and `_skip` select; it equals the finding's id. A structural fix carries its
    `changes`, a data fix none: its name stands in the fixes' registry. `sql` is for people. `consent` names the
    variable that has to be set before it is applied; `order` sorts fixes into one run (low first). `job` says which
    other job repairs it, where the fix job does not. `undo` says how a structural fix is taken back; without any, it
    stays. `needs` are the findings (id, object) that must have been repaired before it: it builds on what they miss.
    """

    id: str
    sql: tuple[str, ...] = ()
    rows: int | None = None
    lock: str = ""
    changes: tuple[Change, ...] = ()
    consent: str = ""
    order: float = 50
    job: str = ""
    undo: tuple[Reversal, ...] = ()
    needs: tuple[tuple[str, str], ...] = ()

    def public(self) -> dict[str, Any]:
        """The fix as the report and the module's result show it."""
        shown = {"id": self.id, "sql": list(self.sql), "rows": self.rows, "lock": self.lock}
        return {**shown, "consent": self.consent} if self.consent else shown


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, with its evidence."""

    id: str
    severity: str
    object: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: Fix | None = None
    why_no_fix: str = ""

    def public(self) -> dict[str, Any]:
        """The finding as the report and the module's result show it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "object": self.object,
            "message": self.message,
            "evidence": dict(self.evidence),
            "fix": self.fix.public() if self.fix else None,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings, the most severe first, then by id and object. Pure."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.id, f.object))


def summary(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each severity. Pure."""
    counts = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        counts[finding.severity] += 1
    return counts


def matches(name: str, patterns: Sequence[str]) -> bool:
    """True where an id equals one of the patterns or fits one of the globs. Pure."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
