"""What a site wants fixed, and the plan that follows from it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..finding import Finding, Fix, matches
from .options import FixOptions

OVERWRITES_NOTHING = ("data.endpoints.*_null", "schema.column.type")
SECONDS_A_STEP = 0.05
SECONDS_A_ROW = 50e-6
SECONDS_A_SCANNED_ROW = 1e-6
SECONDS_AN_INDEXED_ROW = 2e-6


@dataclass(frozen=True)
class FixPolicy:
    """The site's choices. `only` and `skip` are ids or globs; an empty `only` means all. `consents` are the variables
    that were set, e.g. `scannerdb_fix_replace_foreign`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    dates: str = FixOptions.dates
    honeypots: str = FixOptions.honeypots
    inactive: str = FixOptions.inactive
    types: str = FixOptions.types
    types_zone: str = ""
    consents: frozenset[str] = frozenset()
    max_share: float = FixOptions.max_share
    large_rows: int = 1000

    def choice(self, finding_id: str) -> tuple[str, str]:
        """The variable that decides on a data fix, and what it says."""
        choices = {
            "data.endpoints.verification_date_null": ("scannerdb_fix_dates", self.dates),
            "data.endpoints.last_check_date_null": ("scannerdb_fix_dates", self.dates),
            "data.verified.honeypot": ("scannerdb_fix_honeypots", self.honeypots),
            "data.verified.inactive": ("scannerdb_fix_inactive", self.inactive),
        }
        return choices.get(finding_id, ("", ""))


@dataclass(frozen=True)
class FixStep:
    """One fix that is going to be applied for one finding; `expected_s` is a rough guess at its seconds."""

    finding: Finding
    fix: Fix
    expected_s: float = 0.0


@dataclass
class FixPlan:
    """What a run does, in order, and what it leaves alone with the reason."""

    steps: list[FixStep] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)


def reason_to_skip(finding: Finding, policy: FixPolicy) -> str:
    """Why a finding is not fixed by this run; empty where it is."""
    fix = finding.fix
    variable, choice = policy.choice(finding.id)
    reasons = (
        (policy.only and not matches(finding.id, policy.only), "not selected by scannerdb_fix_only"),
        (matches(finding.id, policy.skip), "left out by scannerdb_fix_skip"),
        (choice == "report", f"{variable} is report"),
        (fix is None, finding.why_no_fix or "it cannot be fixed without a decision of yours"),
        (fix and fix.job, fix.job if fix else ""),
        (
            fix and fix.consent and fix.consent not in policy.consents,
            f"it needs consent: {fix.consent if fix else ''}=true",
        ),
    )
    return next((why for applies, why in reasons if applies), "")


def make_plan(findings: Iterable[Finding], policy: FixPolicy, table_rows: Mapping[str, int] | None = None) -> FixPlan:
    """Sort findings into what is fixed now, in the order that fixes depend on each other, and what is not and why.

    `table_rows` are the planner's row counts, from which the duration of each step is guessed.
    """
    plan = FixPlan()
    for finding in findings:
        why = reason_to_skip(finding, policy)
        if why or finding.fix is None:
            # A site's additions are normal: not worth a line among what is left.
            if not finding.id.endswith(".unexpected"):
                plan.skipped.append(skipped(finding, why))
        else:
            plan.steps.append(FixStep(finding, finding.fix, expected_s(finding, finding.fix, table_rows or {})))
    _leave_dependents(plan)
    plan.steps.sort(key=lambda step: step.fix.order)
    plan.steps = _without_repeats(plan.steps)
    return plan


def _leave_dependents(plan: FixPlan) -> None:
    """A fix that builds on one which is not in the plan is left, and what builds on it in turn."""
    while True:
        planned = {(step.finding.id, step.finding.object) for step in plan.steps}
        left = [step for step in plan.steps if not planned.issuperset(step.fix.needs)]
        if not left:
            return
        plan.steps = [step for step in plan.steps if step not in left]
        plan.skipped += [skipped(step.finding, unmet(step.fix.needs, planned)) for step in left]


def unmet(needs: Sequence[tuple[str, str]], repaired: Collection[tuple[str, str]]) -> str:
    """Why a fix cannot be applied now, or nothing."""
    missing = [f"{finding_id} on {place}" for finding_id, place in needs if (finding_id, place) not in repaired]
    return f"it builds on what is not as it should be, and is not repaired: {', '.join(missing)}" if missing else ""


def table_of(finding: Finding) -> str:
    """The table a finding is about, out of `table`, `table.column` or `table(columns)`."""
    return finding.object.split(".")[0].split("(")[0]


def expected_s(finding: Finding, fix: Fix, table_rows: Mapping[str, int]) -> float:
    """A rough guess at a step's seconds, from rates measured by `make bench`; locks that are waited for come on top."""
    rows = max(table_rows.get(table_of(finding), 0), 0)
    if fix.rows is not None:
        return round(SECONDS_A_STEP + fix.rows * SECONDS_A_ROW + rows * SECONDS_A_SCANNED_ROW, 1)
    online = any(change.how == "online" for change in fix.changes)
    return round(SECONDS_A_STEP + (rows * SECONDS_AN_INDEXED_ROW if online else 0), 1)


def _without_repeats(steps: Sequence[FixStep]) -> list[FixStep]:
    """Two findings may have one cause and one fix (an invalid index is a missing one too): it is applied once."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for step in steps:
        if step.fix.sql not in seen:
            kept.append(step)
        seen.add(step.fix.sql)
    return kept


def skipped(finding: Finding, why: str) -> dict[str, Any]:
    """An entry of the result's `left_undone`."""
    told = {"id": finding.id, "object": finding.object, "message": finding.message}
    return {**told, "severity": finding.severity, "why": why}


def plan_diff(plan: FixPlan) -> dict[str, str]:
    """The plan as Ansible's diff shows it: every statement with its rows and lock."""
    lines: list[str] = []
    for step in plan.steps:
        rows = "" if step.fix.rows is None else f", {step.fix.rows} rows"
        guess = f", about {step.expected_s:g} s"
        lines.append(f"-- {step.finding.id} on {step.finding.object}: lock {step.fix.lock or 'none'}{rows}{guess}")
        lines += [statement.rstrip().rstrip(";") + ";" for statement in step.fix.sql]
    return {"before": "", "after": "\n".join(lines) + ("\n" if lines else "")}


def too_large(steps: Sequence[FixStep], table_rows: Mapping[str, int], policy: FixPolicy) -> list[str]:
    """The fixes that would touch more than the allowed share of a table, as sentences.

    Filling empty dates overwrites nothing, nor does a conversion of types, and both are nearly everything: neither
    counts.
    """
    sentences = []
    for step in steps:
        rows, total = step.fix.rows or 0, table_rows.get(table_of(step.finding), 0)
        harmless = matches(step.finding.id, OVERWRITES_NOTHING) or rows < policy.large_rows
        if not harmless and total > 0 and rows > policy.max_share * total:
            share = round(100 * rows / total)
            sentences.append(f"{step.finding.id} would touch {rows} rows, {share} % of the table")
    return sentences
