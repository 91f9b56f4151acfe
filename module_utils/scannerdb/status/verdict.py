"""What is wrong with a database, out of the facts that were gathered about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .options import StatusOptions

CRITICAL, WARNING, OK = "critical", "warning", "ok"
SEVERITIES = ("critical", "warning", "info")


NOT_TRIED = "not_tried"  # the outcome of a drill that proves nothing either way
COUNTED = ("fix", "schema")
REPLACES = "restore"  # what a check found before it was found in another database


@dataclass(frozen=True)
class Limits:
    """From when on something is stale: hours for the newest backup, days for its proof and for the last check."""

    backup_max_age_h: float = StatusOptions.backup_max_age_h
    proof_max_age_d: float = StatusOptions.proof_max_age_d
    check_max_age_d: float = StatusOptions.check_max_age_d


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be, as a sentence."""

    severity: str
    message: str


def verdict(facts: Mapping[str, Any], limits: Limits) -> list[Problem]:
    """Everything that is wrong, the most severe first."""
    problems = [
        *_database(facts["database"]),
        *_jobs(facts["schedule"]),
        *(_backups(facts["backups"], limits) if "dump" in facts.get("methods", ["dump"]) else []),
        *_physical(facts.get("physical") or {}, limits),
        *_findings(facts["findings"], limits),
    ]
    return sorted(problems, key=lambda problem: problem.severity != CRITICAL)


def changed_since(checked_s: float | None, runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The newest run that changed the database after the last check, a restore before all others; empty for none."""
    later = [run for run in runs if _changed(run) and checked_s is not None and run["at_s"] > checked_s]
    later.sort(key=lambda run: (run["job"] == REPLACES, run["at_s"]))
    return {"job": str(later[-1]["job"]), "run_id": str(later[-1]["run_id"])} if later else {}


def _changed(run: Mapping[str, Any]) -> bool:
    """Whether a run, as its progress file tells it, has changed what a check looks at."""
    if run["job"] == REPLACES:
        return bool(run.get("replaced"))
    return run["job"] == "undo" or (run["job"] in COUNTED and run["done"] > 0)


def state_of(problems: Sequence[Problem]) -> str:
    """critical, warning or ok."""
    kinds = {problem.severity for problem in problems}
    return CRITICAL if CRITICAL in kinds else WARNING if kinds else OK


def _database(database: Mapping[str, Any]) -> list[Problem]:
    return [Problem(CRITICAL, database["why"])] if database["reachable"] is False else []


def _jobs(schedule: Mapping[str, Any]) -> list[Problem]:
    if schedule["why"]:
        return [Problem(CRITICAL, schedule["why"])]
    return [Problem(CRITICAL, job["problem"]) for job in schedule["jobs"] if job["problem"]]


def _backups(backups: Mapping[str, Any], limits: Limits) -> list[Problem]:
    if backups["why"]:
        return [Problem(CRITICAL, backups["why"])]
    if not backups["count"]:
        old = backups.get("old_files", 0)
        beside = f" {old} files of the old script are, the newest {backups['old_newest']}." if old else ""
        return [Problem(CRITICAL, f"There is no backup in {backups['dir']}.{beside}")]
    problems = []
    if backups["ahead"]:
        words = f"The date of the newest backup, {backups['ahead']}, is in the future: look at the clock."
        problems.append(Problem(WARNING, words))
    if backups["ahead"] == backups["newest"]:
        problems.append(Problem(CRITICAL, f"All backups in {backups['dir']} are from the future; none is a fresh one."))
    elif backups["age_h"] > limits.backup_max_age_h:
        problems.append(
            Problem(CRITICAL, f"The newest backup, {backups['newest']}, is {backups['age_h']:.0f} hours old.")
        )
    if backups["damaged"]:
        problems.append(Problem(CRITICAL, f"Damaged backups: {', '.join(backups['damaged'])}."))
    if not backups["proven"]:
        problems.append(Problem(WARNING, "No backup has been proven by a restore; playbooks/verify.yml does."))
    elif backups["proven_age_d"] > limits.proof_max_age_d:
        age = f"{backups['proven_age_d']:.0f} days"
        problems.append(Problem(WARNING, f"The last proof that a backup can be restored is {age} old."))
    drill = backups.get("drill") or {}
    if drill.get("outcome") == NOT_TRIED:
        words = f"The last drill, of {drill['set']} ({drill['at']}), could not be tried: {drill['why']}"
        problems.append(Problem(WARNING, words))
    if backups["free_bytes"] < 2 * backups["size_bytes"]:
        problems.append(Problem(WARNING, f"{backups['dir']} has room for less than two more backups."))
    return problems


def _physical(physical: Mapping[str, Any], limits: Limits) -> list[Problem]:
    """What is wrong with the physical backups, where there should be some."""
    if physical.get("why"):
        return [Problem(CRITICAL, f"The physical backups cannot be looked at: {physical['why']}")]
    found = [
        Problem(problem["severity"], problem["message"])
        for problem in physical.get("problems", ())
        if problem["severity"] in (CRITICAL, WARNING)
    ]
    drill = physical.get("drill") or {}
    if not physical or not physical["backups"]:
        return found
    if not drill:
        words = "No physical backup has been proven by a restore; playbooks/verify.yml does."
        return [*found, Problem(WARNING, words)]
    if drill["outcome"] == "incomplete":
        words = f"The last drill of a physical backup restored it and could not look at its pages: {drill['unseen']}."
        found.append(Problem(WARNING, words))
    elif drill["outcome"] != "passed":
        words = f"The last drill of a physical backup failed ({drill['label']}, {drill['at']}): {drill['problems'][0]}"
        return [*found, Problem(CRITICAL, words)]
    if drill["age_s"] > limits.proof_max_age_d * 86400:
        words = f"The last proof that a physical backup can be restored is {drill['age_s'] / 86400:.0f} days old."
        return [*found, Problem(WARNING, words)]
    return found


def _findings(findings: Mapping[str, Any], limits: Limits) -> list[Problem]:
    if not findings["at"]:
        return [Problem(WARNING, "The database has never been checked; playbooks/check.yml does.")]
    problems = []
    since = findings.get("before")
    if since:
        words = f"The last check ({findings['at']}) is older than {since['job']} {since['run_id']}"
        problems.append(Problem(WARNING, f"{words}, which changed the database; playbooks/check.yml looks again."))
    replaced = since is not None and since.get("job") == REPLACES
    for severity in (CRITICAL, WARNING):
        count = findings["summary"][severity]
        if count and not replaced:
            problems.append(Problem(severity, f"The last check found {count} {severity} ({findings['at']})."))
    if findings["age_d"] > limits.check_max_age_d:
        problems.append(Problem(WARNING, f"The last check is {findings['age_d']:.0f} days old."))
    return problems
