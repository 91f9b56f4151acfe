"""The status job: everything an operator asks about one database, gathered without changing anything.

It reads folders first and asks the server last, so it works when the database is down; what could not be looked at is
said, and is red.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks.history import read_history, when
from ..connection import Options, connect, explained, job_entry, scalar
from ..errors import FileProblem, ScannerDbError
from ..files import ensure_folder, file_errors, free_bytes, write_atomic
from ..jsontext import LONGEST_CONFIG, read_json_file
from ..restore.heal import find, kept_databases
from ..runs import STAMP, last_runs, utc_now
from ..schedule.due import zone_of
from ..schedule.installed import has_entry, read_installed
from ..schedule.judge import JobStatus, judge
from ..schedule.records import Record, read_records
from ..sets.catalogue import ahead, list_sets, newest, newest_proven
from ..sets.locate import stamped_files
from ..sets.names import parse_time
from ..sets.signing import Trust
from ..sets.verification_log import last_drill
from ..status.metrics import metrics
from ..status.options import StatusOptions
from ..status.row import cells
from ..status.verdict import SEVERITIES, WARNING, Limits, Problem, changed_since, state_of, verdict

DAY_S = 86400.0
PHYSICAL_DRILL = "physical_drill.json"
METRICS_MODE = 0o644  # the node exporter is another user


@job_entry("Asking for the state")
def status(
    options: Options, asked: StatusOptions, *, ask_server: bool = True, check_mode: bool = False
) -> dict[str, Any]:
    """Look at one database from all sides; returns the module's result.

    Keys: `state` (ok, warning, critical), `problems`, `row` (cells of a
    table), `database`, `schedule`, `backups`, `physical`, `methods`, `findings`, `runs`, `logs`, `metrics_why`. With
    `metrics_path` the metrics are written there; where they cannot be, `metrics_why` says so and it is a problem, too.
    """
    now = utc_now()
    facts = _facts(options, asked, now, ask_server)
    problems = verdict(facts, Limits(asked.backup_max_age_h, asked.proof_max_age_d, asked.check_max_age_d))
    facts["state"], why = state_of(problems), ""
    if asked.metrics_path:
        why = _write_metrics(asked.metrics_path, metrics(facts, asked.host, now.timestamp()), check_mode)
    if why:
        problems = [*problems, Problem(WARNING, why)]
        facts["state"] = state_of(problems)
    return {
        **facts,
        "metrics_why": why,
        "changed": False,
        "problems": [{"severity": problem.severity, "message": problem.message} for problem in problems],
        "row": cells(facts) if ask_server else {},
        "msg": problems[0].message if problems else f"{asked.host}: all is well.",
    }


def _facts(options: Options, asked: StatusOptions, now: datetime.datetime, ask_server: bool) -> dict[str, Any]:
    """What there is of the database, its schedule, backups, runs and logs."""
    state_dir, late = asked.state_dir, datetime.timedelta(seconds=asked.grace_s)
    trust = Trust(state_dir, tuple(asked.trusted_signers)).checked()
    runs = _runs(state_dir, options.db, now)
    findings = _findings(state_dir, options.db, now)
    findings["before"] = changed_since(findings.get("at_s"), runs)
    sets = {**_backups(asked.backup_dir, options.db, trust, now), "drill": _drill(state_dir, options.db)}
    physical = {**asked.physical, "drill": _physical_drill(state_dir, now)} if asked.physical else {}
    return {
        "database": _database(options) if ask_server else {"reachable": None, "name": options.db},
        "schedule": _schedule(asked.config_dir, state_dir, now, late),
        "backups": sets,
        "physical": physical,
        "methods": list(asked.backup_method),
        "findings": findings,
        "runs": runs,
        "logs": _logs(asked.backup_dir, asked.log_dir),
    }


def _write_metrics(path: str, text: str, check_mode: bool) -> str:
    """Write the metrics; returns why they cannot be written, which check mode foretells."""
    folder = Path(path).parent
    try:
        if check_mode:
            nearest = next(place for place in (folder, *folder.parents) if place.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
                raise FileProblem(f"{nearest} cannot be written by this user.", "")
            return ""
        ensure_folder(folder, 0o755)
        write_atomic(path, text, METRICS_MODE)
    except (ScannerDbError, OSError) as error:
        return f"The metrics were not written: {error} Let this user write to it (scannerdb_metrics_dir)."
    return ""


def _database(options: Options) -> dict[str, Any]:
    try:
        conn = connect(options, purpose="status", allow_standby=True, statement_timeout_s=20)
        with contextlib.closing(conn), explained("Looking at the server"):
            kept = kept_databases(find(conn, options.db), options.db)
            return {
                "reachable": True,
                "why": "",
                "name": options.db,
                "version": scalar(conn, "SELECT current_setting('server_version')"),
                "standby": scalar(conn, "SELECT pg_is_in_recovery()"),
                "size_bytes": scalar(conn, "SELECT pg_database_size(current_database())"),
                "kept_databases": [
                    {"name": k.name, "size_bytes": k.size_bytes, "kept_at": k.mark.at if k.mark else ""} for k in kept
                ],
            }
    except ScannerDbError as error:
        return {"reachable": False, "why": str(error), "name": options.db}


def _schedule(config_dir: str, state_dir: str, now: datetime.datetime, grace: datetime.timedelta) -> dict[str, Any]:
    try:
        installed = read_installed(config_dir)
        records = read_records(state_dir)
        if installed is None:
            return {"kind": "none", "jobs": [], "why": ""}
        zone = zone_of(installed.timezone)
        late = grace + datetime.timedelta(seconds=installed.random_delay_s)
        standings = [
            judge(
                job,
                records,
                now=now,
                zone=zone,
                since=installed.since,
                grace=late,
                time_limit_s=installed.time_limit_s,
                entry=has_entry(installed, job),
            )
            for job in installed.jobs
        ]
    except ScannerDbError as error:
        return {"kind": "unknown", "jobs": [], "why": str(error)}
    return {"kind": installed.kind, "jobs": [_job(standing, now) for standing in standings], "why": ""}


def _job(standing: JobStatus, now: datetime.datetime) -> dict[str, Any]:
    due, last, fine = standing.next_due, standing.last, standing.last_ok
    good = {"ok": 1, "running": 1, "waiting": 1, "due": 1, "late": 0, "failed": 0, "missing": 0}
    return {
        "name": standing.job.name,
        "state": standing.state,
        "problem": standing.problem,
        "next_due": f"{due:{STAMP}}" if due else "",
        "last": _record(last, now) if last else {},
        "ok": good.get(standing.state),
        "next_due_s": due.timestamp() if due else None,
        "last_start_s": last.started_at.timestamp() if last else None,
        "last_ok_s": fine.started_at.timestamp() if fine else None,
        "last_duration_s": last.duration_s if last else None,
        "last_exit_code": last.exit_code if last else None,
    }


def _record(record: Record, now: datetime.datetime) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "outcome": record.outcome,
        "started": record.started,
        "age_s": (now - record.started_at).total_seconds(),
        "duration_s": record.duration_s,
        "exit_code": record.exit_code,
        "message": record.message,
        "log": record.log,
    }


def _backups(backup_dir: str, database: str, trust: Trust, now: datetime.datetime) -> dict[str, Any]:
    facts: dict[str, Any] = {"dir": backup_dir, "why": "", "count": 0, "damaged": [], "proven": "", "age_h": None}
    facts.update(ahead="", old_files=0, old_newest="")
    try:
        sets = list_sets(backup_dir, database, trust).sets if Path(backup_dir).is_dir() else ()
        future = newest([item for item in sets if ahead(item, now)])
        last, best = newest([item for item in sets if not ahead(item, now)]) or future, newest_proven(sets)
        facts["ahead"] = future.name if future else ""
        old = sorted(stamped_files(Path(backup_dir)))
        facts.update(old_files=len(old), old_newest=old[-1][1].name if old else "")
        facts["damaged"] = [item.name for item in sets if item.damaged]
        if last:
            facts.update(
                count=len(sets),
                newest=last.name,
                newest_s=last.created.timestamp(),
                age_h=(now - last.created).total_seconds() / 3600,
                size_bytes=last.manifest.size_bytes,
                total_bytes=sum(item.manifest.size_bytes for item in sets),
                verified=last.verified,
                free_bytes=free_bytes(backup_dir),
            )
        if best:
            proven = parse_time(best.standing.at)
            facts.update(proven=best.standing.at, proven_name=best.name, proven_s=proven.timestamp())
            facts["proven_age_d"] = (now - proven).total_seconds() / DAY_S
    except (ScannerDbError, OSError) as error:
        facts["why"] = f"The backups in {backup_dir} cannot be read: {error}"
    return facts


def _drill(state_dir: str, database: str) -> dict[str, str]:
    try:
        return last_drill(state_dir, database)
    except (ScannerDbError, OSError):  # said by what else is read there
        return {}


def _physical_drill(state_dir: str, now: datetime.datetime) -> dict[str, Any]:
    """The last drill of a physical backup, as verify.yml left it; nothing where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found: dict[str, Any] = read_json_file(Path(state_dir, PHYSICAL_DRILL), LONGEST_CONFIG)
        when = datetime.datetime.strptime(found["at"], STAMP).replace(tzinfo=datetime.timezone.utc)
        return {**found, "at_s": when.timestamp(), "age_s": (now - when).total_seconds()}
    return {}


def _findings(state_dir: str, database: str, now: datetime.datetime) -> dict[str, Any]:
    past: Sequence[Mapping[str, Any]] = ()
    with contextlib.suppress(ScannerDbError, OSError):
        past = read_history(state_dir, database)
    if not past:
        return {"at": "", "summary": {}, "change": {}, "trend": []}
    last = past[-1]
    before = past[-2]["summary"] if len(past) > 1 else last["summary"]
    return {
        "at": last["at"],
        "at_s": when(last).timestamp(),
        "age_d": (now - when(last)).total_seconds() / DAY_S,
        "summary": {severity: last["summary"][severity] for severity in SEVERITIES},
        "change": {severity: last["summary"][severity] - before[severity] for severity in SEVERITIES},
        "trend": [{"at": run["at"], "summary": run["summary"]} for run in past[-10:]],
    }


def _runs(state_dir: str, database: str, now: datetime.datetime) -> list[dict[str, Any]]:
    """The last run of each job, whoever started it, with the last that it said of itself."""
    with contextlib.suppress(ScannerDbError):
        return [{**run, "age_s": now.timestamp() - run["at_s"]} for run in last_runs(state_dir, database)]
    return []


def _logs(backup_dir: str, log_dir: str) -> list[dict[str, Any]]:
    found = []
    for folder, pattern in ((backup_dir, "cron_*.log"), (log_dir, "*.log")):
        with contextlib.suppress(ScannerDbError), file_errors("Reading", folder):
            for path in sorted(Path(folder).glob(pattern)):
                facts = path.stat()
                changed = datetime.datetime.fromtimestamp(facts.st_mtime, tz=datetime.timezone.utc)
                found.append({"path": str(path), "size_bytes": facts.st_size, "changed": f"{changed:{STAMP}}"})
    return found
