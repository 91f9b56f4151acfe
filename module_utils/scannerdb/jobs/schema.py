"""The schema job: bring a database up to its contract, and prove that writing to `servers` reaches the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checks.sequences import behind
from ..connection import Connection, Options, connect, job_entry
from ..contract.difference import difference
from ..contract.introspect import read_catalog
from ..contract.model import Contract
from ..contract.needs import breaks_the_view, left_alone
from ..contract.overlay import contract_with
from ..contract.probe import ProbeResult, write_probe
from ..finding import Finding, matches, ordered
from ..fixes.apply import Applier
from ..fixes.policy import FixPlan, FixPolicy, make_plan, plan_diff
from ..fixes.ranges import AIM_S
from ..frame import Frames
from ..joblock import job_lock
from ..lockbudget import Budget, LockRecord
from ..partial import telling
from ..restorepoint import set_restore_point
from ..runs import Run
from .inspect import reader_of


@job_entry("Applying the schema")
def schema(
    options: Options,
    *,
    overlay: Mapping[str, Any] | None = None,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    replace_foreign: bool = False,
    probe: bool = True,
    budget: Budget | None = None,
    lock_wait_s: int = 0,
    log_path: str = "",
    state_dir: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Create what the contract demands and the database lacks; never drops a table, a column, a row or the view.

    Returns changed, fixed, left_undone, statements, findings (what is left), probe, failures, what the locks cost. A
    write probe that fails afterwards is one of the failures.
    """
    contract = contract_with(overlay)
    consents = frozenset({"scannerdb_fix_replace_foreign"} if replace_foreign else ())
    policy = FixPolicy(only=only, skip=skip, consents=consents)
    run = Run("schema", options.db, state_dir="" if check_mode else state_dir, log_path="" if check_mode else log_path)
    with job_lock(options, "schema", run.run_id, lock_wait_s), connect(options, purpose=f"schema {run.run_id}") as conn:
        before = look(conn, contract)
        plan = make_plan(before, policy)
        if check_mode:
            return _planned(run, plan, before)
        if plan.steps:
            set_restore_point(conn, run)
        applier = applier_for(conn, contract, budget or Budget(), run)
        with telling(lambda: _applied(run, plan, applier, before)):
            applier.apply(plan.steps)
            left = look(conn, contract)
            result = _applied(run, plan, applier, left)
            if probe:
                prove(result, write_probe_of(conn, contract, left), run)
        run.log(result["msg"])
        run.progress("done", len(applier.fixed), len(applier.fixed))
        return result


def applier_for(conn: Connection, contract: Contract, budget: Budget, run: Run) -> Applier:
    """What applies the contract's own steps, which no journal takes back."""
    return Applier(
        Frames(conn),
        run.run_id,
        contract.schema,
        contract.application_role,
        budget,
        0,
        {},
        run.log,
        run.progress,
        journal=False,
    )


def look(conn: Connection, contract: Contract) -> list[Finding]:
    """What the contract misses; sequences count as well, for behind their tables every insert fails."""
    catalog = read_catalog(conn, contract)
    read = reader_of(conn, contract, catalog)
    found = [*difference(contract, catalog), *behind(conn, read, contract.schema, contract.tables)]
    return ordered(left_alone(found))


def _planned(run: Run, plan: FixPlan, before: list[Finding]) -> dict[str, Any]:
    return {
        "changed": bool(plan.steps),
        "run_id": run.run_id,
        "msg": _said(len(plan.steps), before, check_mode=True),
        "diff": plan_diff(plan),
        "fixed": [
            {"id": s.finding.id, "object": s.finding.object, "message": s.finding.message, "lock": s.fix.lock}
            for s in plan.steps
        ],
        "left_undone": plan.skipped,
        "statements": [sql for step in plan.steps for sql in step.fix.sql],
        "findings": [finding.public() for finding in before],
        "failures": [],
        **LockRecord().public(0, ""),
        "locks": "",
    }


def _applied(run: Run, plan: FixPlan, applier: Applier, left: list[Finding]) -> dict[str, Any]:
    return {
        **_planned(run, plan, left),
        "changed": applier.changed,
        "msg": _said(len(applier.fixed), left, check_mode=False) + applier.unknown,
        "fixed": applier.fixed,
        "left_undone": plan.skipped + applier.left,
        "statements": applier.statements,
        "failures": applier.failures,
        **applier.record.public(applier.budget.timeout_ms, f"batches aim at {AIM_S * 1000:.0f} ms"),
    }


def _said(count: int, left: list[Finding], check_mode: bool) -> str:
    verb = "would be applied" if check_mode else "applied"
    severe = [f for f in left if f.severity == "critical"]
    remaining = "" if check_mode else f", {len(severe)} critical findings left"
    return f"{count} changes {verb}{remaining}."


def write_probe_of(conn: Any, contract: Contract, findings: list[Finding]) -> ProbeResult:
    """The write probe, where there is a view with this bundle's triggers to probe."""
    ids = ["schema.view.*", "schema.table.missing", "schema.column.missing"]
    unfit = [f for f in findings if matches(f.id, ids) or breaks_the_view(f)]
    if unfit:
        return ProbeResult(skipped=f"not probed: {unfit[0].message}")
    return write_probe(conn, contract)


def prove(result: dict[str, Any], probe: ProbeResult, run: Run) -> None:
    """Add what the probe proved to a job's result; a probe that failed is a failure beside what was done."""
    run.log(f"write probe as {probe.role or 'nobody'}: {probe.skipped or probe.failures or 'passed'}")
    for note in probe.notes:
        run.log(f"write probe: {note}")
    result["probe"] = {"passed": probe.passed, "skipped": probe.skipped, "role": probe.role, "notes": probe.notes}
    if probe.failures:
        sentence = (
            f"The write probe on servers failed: {'; '.join(probe.failures)}. The probe was rolled back; look at the "
            "triggers and constraints of endpoints and verified_endpoints."
        )
        result["failures"] = [*result["failures"], sentence]
        result["msg"] = f"{sentence} {result['msg']}"
