"""The facts as metrics in Prometheus' text format, for the textfile collector of its node exporter. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .verdict import CRITICAL, OK, REPLACES, SEVERITIES, WARNING

STATES = {OK: 0, WARNING: 1, CRITICAL: 2}
Sample = tuple[Mapping[str, str], float]
Family = tuple[str, str, Sequence[Sample]]


def metrics(facts: Mapping[str, Any], host: str, now: float) -> str:
    """All metrics of a database. Moments are seconds since 1970; what is not known has no sample."""
    own = {"host": host, "database": facts["database"]["name"]}
    families: list[Family] = [
        ("state", "Verdict: 0 ok, 1 warning, 2 critical.", [(own, STATES[facts["state"]])]),
        ("status_timestamp_seconds", "When these metrics were made.", [(own, now)]),
        *_server(facts["database"], own),
        *_jobs(facts["schedule"]["jobs"], own),
        *(_backups(facts["backups"], own) if "dump" in facts.get("methods", ["dump"]) else []),
        *_physical(facts.get("physical") or {}, own),
        *_findings(facts["findings"], own),
    ]
    engine = _pgbackrest(facts.get("physical") or {}, own)
    return "".join(_family(*family) for family in families) + "".join(_family(*f, prefix="") for f in engine)


def _server(database: Mapping[str, Any], own: Mapping[str, str]) -> list[Family]:
    if database["reachable"] is None:  # nobody asked
        return []
    found: list[Family] = [("up", "Whether the database can be reached.", [(own, float(database["reachable"]))])]
    if database["reachable"]:
        found.append(("size_bytes", "Size of the database.", [(own, database["size_bytes"])]))
        count = len(database["kept_databases"])
        found.append(("kept_databases", "Databases that restores replaced and kept.", [(own, count)]))
    return found


def _jobs(jobs: Sequence[Mapping[str, Any]], own: Mapping[str, str]) -> list[Family]:
    def each(key: str) -> list[Sample]:
        return [({**own, "job_name": job["name"]}, job[key]) for job in jobs if job[key] is not None]

    return [
        ("job_ok", "Whether a scheduled job ran when it was due, and well.", each("ok")),
        ("job_next_due_timestamp_seconds", "When a job is due next.", each("next_due_s")),
        ("job_last_start_timestamp_seconds", "When a job last started.", each("last_start_s")),
        ("job_last_success_timestamp_seconds", "When a job that went well last started.", each("last_ok_s")),
        ("job_last_duration_seconds", "How long a job's last run took.", each("last_duration_s")),
        ("job_last_exit_code", "Exit code of a job's last run.", each("last_exit_code")),
    ]


def _backups(backups: Mapping[str, Any], own: Mapping[str, str]) -> list[Family]:
    found: list[Family] = [
        ("backups", "Backup sets.", [(own, backups["count"])]),
        ("backups_damaged", "Backup sets whose last verification failed.", [(own, len(backups["damaged"]))]),
    ]
    if backups["count"]:
        found += [
            ("backup_newest_timestamp_seconds", "When the newest set was made.", [(own, backups["newest_s"])]),
            ("backup_newest_size_bytes", "Size of the newest set.", [(own, backups["size_bytes"])]),
            ("backup_free_bytes", "Free space where the sets are.", [(own, backups["free_bytes"])]),
        ]
    if backups["proven"]:
        text = "When a set was last proven by a restore."
        found.append(("backup_proven_timestamp_seconds", text, [(own, backups["proven_s"])]))
    return found


def _physical(physical: Mapping[str, Any], own: Mapping[str, str]) -> list[Family]:
    """What can be restored, by our own arithmetic."""
    if not physical or physical["why"]:
        return []
    window = physical["window"]
    counts = [({**own, "severity": s}, sum(p["severity"] == s for p in physical["problems"])) for s in SEVERITIES]
    found: list[Family] = [("physical_problems", "What is wrong with the physical backups and the archive.", counts)]
    drill = physical.get("drill") or {}
    if drill:
        proof = {"passed": 1.0, "failed": 0.0}.get(drill["outcome"])  # none where it could not look at the pages
        passed = [(own, proof)] if proof is not None else []
        found += [
            ("physical_drill_timestamp_seconds", "When a physical backup was last restored.", [(own, drill["at_s"])]),
            ("physical_drill_passed", "Whether that drill passed.", passed),
            ("physical_drill_rto_seconds", "Seconds until the copy stood.", [(own, drill["rto_s"])]),
        ]
    if window:
        found += [
            ("physical_window_begin_timestamp_seconds", "First moment to restore.", [(own, window["begins_s"])]),
            ("physical_window_end_timestamp_seconds", "Last moment to restore.", [(own, window["ends_s"])]),
            ("physical_window_gaps", "Gaps in the window.", [(own, len(window["gaps"]))]),
        ]
    return found


def _pgbackrest(physical: Mapping[str, Any], own: Mapping[str, str]) -> list[Family]:
    """Under the names of pgbackrest_exporter, where they mean the same."""
    if not physical or physical["why"]:
        return []
    texts = {
        "backup_size_bytes": ("size_bytes", "Full uncompressed size of the database."),
        "backup_repo_delta_bytes": ("delta_bytes", "Compressed files size in backup."),
        "backup_repo_size_bytes": ("repository_bytes", "Full compressed files size to restore the database."),
        "backup_duration_seconds": ("duration_s", "Backup duration."),
        "backup_error_status": ("page_errors", "Backup error status."),
    }
    backups = physical["backups"]

    def labels(backup: Mapping[str, Any]) -> Mapping[str, str]:
        named = {"backup_name": backup["label"], "backup_type": backup["kind"], "repo_key": str(backup["repository"])}
        return {**own, "stanza": physical["stanza"], **named}

    found: list[Family] = [
        (f"pgbackrest_{name}", text, [(labels(b), float(b[key])) for b in backups])
        for name, (key, text) in texts.items()
    ]
    newest = {backup["kind"]: backup["age_s"] for backup in sorted(backups, key=lambda b: float(b["stopped_s"]))}
    since = [({**own, "stanza": physical["stanza"], "backup_type": kind}, age) for kind, age in newest.items()]
    return [*found, ("pgbackrest_backup_since_last_completion_seconds", "Seconds since the last completed.", since)]


def _findings(findings: Mapping[str, Any], own: Mapping[str, str]) -> list[Family]:
    if not findings["at"]:
        return []
    since = findings.get("before") or {}
    current: Family = (
        "check_current",
        "Whether nothing that the last check looked at was changed since.",
        [(own, float(not since))],
    )
    when: Family = ("check_timestamp_seconds", "When the last check was.", [(own, findings["at_s"])])
    if since.get("job") == REPLACES:  # another database has that name by now
        return [current, when]
    counts = [({**own, "severity": severity}, findings["summary"][severity]) for severity in SEVERITIES]
    return [("findings", "Findings of the last check.", counts), current, when]


def _family(name: str, text: str, samples: Sequence[Sample], prefix: str = "scannerdb_") -> str:
    if not samples:
        return ""
    full = f"{prefix}{name}"
    lines = [f"# HELP {full} {text}", f"# TYPE {full} gauge"]
    lines += [f"{full}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
