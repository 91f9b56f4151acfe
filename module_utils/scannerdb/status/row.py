"""The cells of a database in the table over all hosts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .verdict import SEVERITIES

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
BAD = ("failed", "ended early")
PROOFS = {"passed": "proven", "incomplete": "restored, pages not seen,"}
SIZES = ("B", "KB", "MB", "GB", "TB")


def span(seconds: float | None) -> str:
    """A length of time in one unit, rounded down; a dash where there is none."""
    if seconds is None:
        return "-"
    for length, unit in UNITS:
        if abs(seconds) >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in SIZES[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} {SIZES[-1]}"


def cells(facts: Mapping[str, Any]) -> dict[str, str]:
    """One row, by column."""
    database, schedule, backups = facts["database"], facts["schedule"], facts["backups"]
    place = "standby" if database.get("standby") else "primary"
    return {
        "state": facts["state"],
        "database": f"{place}, {size(database['size_bytes'])}" if database["reachable"] else "DOWN",
        "last runs": ", ".join(_run(job) for job in schedule["jobs"]) or _unscheduled(facts["runs"]),
        "next": _next(schedule),
        "backups": _backups(backups),
        **_physical(facts.get("physical") or {}),
        "proven": span(_days(backups["proven_age_d"])) if backups["proven"] else "never",
        "findings": _findings(facts["findings"]),
        "kept": str(len(database["kept_databases"])) if database["reachable"] else "?",
    }


def _backups(backups: Mapping[str, Any]) -> str:
    sets = "none"
    if backups["count"]:
        newest = span(_hours(backups["age_h"]))
        sets = f"{backups['count']}, newest {newest}, {size(backups['size_bytes'])}"
    old = backups.get("old_files", 0)
    return f"{sets}; {old} old file{'' if old == 1 else 's'}" if old else sets


def _physical(physical: Mapping[str, Any]) -> dict[str, str]:
    """What can be restored to the moment; no column where there are no physical backups."""
    if not physical:
        return {}
    if physical["why"]:
        return {"restorable": "?"}
    drill = physical.get("drill") or {}
    proof = ", never proven"
    if drill:
        word = PROOFS.get(drill["outcome"], "REFUTED")
        lost = f", RPO {span(drill['rpo_s'])}" if drill["rpo_s"] is not None else ""
        proof = f", {word} {span(drill['age_s'])} ago, RTO {span(drill['rto_s'])}{lost}"
    return {"restorable": str(physical["window"].get("sentence", "nothing")) + proof}


def _hours(age: float | None) -> float | None:
    return None if age is None else age * 3600


def _days(age: float | None) -> float | None:
    return None if age is None else age * 86400


def _run(job: Mapping[str, Any]) -> str:
    if job["state"] in ("off", "waiting", "missing") or not job["last"]:
        return f"{job['name']} {job['state']}"
    last = job["last"]
    took = f" ({span(last['duration_s'])})" if last["duration_s"] is not None else ""
    word = job["state"] if job["state"] != "failed" else last["outcome"]
    return f"{job['name']} {word} {span(last['age_s'])}{took}"


def _unscheduled(runs: Sequence[Mapping[str, Any]]) -> str:
    """What ran here all the same, started by AWX or a person; of its end it may have told that it failed."""
    said = [f"{run['job']}{' failed' if run['step'].startswith(BAD) else ''} {span(run['age_s'])}" for run in runs]
    return f"not scheduled here; {', '.join(said)}" if said else "not scheduled here"


def _next(schedule: Mapping[str, Any]) -> str:
    coming = sorted((job["next_due"], job["name"]) for job in schedule["jobs"] if job["next_due"])
    return f"{coming[0][1]} {coming[0][0][:16].replace('T', ' ')}" if coming else "-"


def _findings(findings: Mapping[str, Any]) -> str:
    """Counts by severity, each with what changed since the run before: 0c 3w(+1) 5i(-2)."""
    if not findings["at"]:
        return "never checked"
    parts = []
    for severity in SEVERITIES:
        change = findings["change"].get(severity, 0)
        parts.append(f"{findings['summary'][severity]}{severity[0]}{f'({change:+})' if change else ''}")
    return " ".join(parts) + (f" before {findings['before']['job']}" if findings.get("before") else "")
