"""What a status says of jobs, backups and findings: pure judgement, and the texts it is shown in."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import Options
from scannerdb.jobs.status import status
from scannerdb.runs import Run, last_runs, utc_now
from scannerdb.schedule.judge import JobStatus, judge
from scannerdb.schedule.model import Job, read_job
from scannerdb.schedule.records import Record, process_began, read_records, write_record
from scannerdb.status.metrics import metrics
from scannerdb.status.options import StatusOptions
from scannerdb.status.row import cells, size, span
from scannerdb.status.verdict import Limits, changed_since, state_of, verdict

from tests.backup_sets import make_set
from tests.needs import needs

ROOT = Path(__file__).resolve().parents[2]
UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 5, 20, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR = datetime.timedelta(hours=1)
LONG_AGO = NOW - datetime.timedelta(days=90)
ENTRY = {"name": "daily", "profile": "daily", "hour": 3, "log": "cron_backup.log"}
DAILY = read_job(ENTRY)


def record(started: str, outcome: str = "ok", job: str = "daily", code: int = 0) -> Record:
    """A run of half a minute."""
    at = f"2026-05-{started}:00Z"
    finished = "" if outcome == "running" else at.replace("00Z", "30Z")
    return Record("20260520T030000Z-00000000", job, at, "/b/cron_backup.log", outcome, finished, code, "It fell.")


def stand(*records: Record, job: Job = DAILY, now: datetime.datetime = NOW, **more: Any) -> JobStatus:
    words = {"zone": UTC, "since": LONG_AGO, "grace": HOUR, **more}
    return judge(job, records, now=now, **words)


def test_a_job_that_ran_when_due_is_fine() -> None:
    found = stand(record("19T03:00"), record("20T03:00"))
    assert (found.state, found.problem) == ("ok", "") and found.next_due == NOW.replace(day=21, hour=3)


def test_a_job_that_did_not_run_when_due_is_late_though_nothing_failed() -> None:
    found = stand(record("19T03:00"))
    assert found.state == "late"
    assert found.problem == (
        "Job 'daily' was due at 2026-05-20T03:00:00Z and did not run; it last ran at 2026-05-19T03:00:00Z."
    )
    assert stand().problem.endswith("it has never run.")


def test_a_job_is_given_time_to_begin() -> None:
    assert stand(record("19T03:00"), now=NOW.replace(hour=3, minute=59)).state == "due"
    assert stand(record("19T03:00"), now=NOW.replace(hour=4)).state == "late"


def test_what_was_due_before_the_schedule_was_made_is_no_fault() -> None:
    assert stand(since=NOW - HOUR).state == "waiting"


@pytest.mark.parametrize("outcome", ["failed", "timeout", "stopped", "locked", "killed"])
def test_a_run_that_went_wrong_is_red_and_names_its_log(outcome: str) -> None:
    found = stand(record("20T03:00", outcome, code=2))
    assert found.state == "failed"
    assert outcome in found.problem and "It fell." in found.problem and "/b/cron_backup.log" in found.problem


def test_running_is_fine_until_its_time_is_up() -> None:
    at_work = record("20T03:00", "running")
    assert stand(at_work, time_limit_s=12 * 3600).state == "running"
    found = stand(at_work, time_limit_s=3600)
    assert found.state == "failed" and "beyond its time limit" in found.problem


def test_an_entry_that_is_gone_is_red_and_a_job_that_is_off_is_not() -> None:
    assert stand(record("20T03:00"), entry=False).state == "missing"
    off = read_job({**ENTRY, "enabled": False})
    assert (stand(job=off, entry=False).state, stand(job=off).next_due) == ("off", None)


def test_other_jobs_runs_do_not_count() -> None:
    assert stand(record("20T04:00", job="weekly"), record("19T03:00")).state == "late"


def test_a_record_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    mine = os.getpid()
    here = Record("20260520T030000Z-00000001", "a", "2026-05-20T03:00:00Z", pid=mine, began=process_began(mine))
    gone = Record(
        "20260520T030000Z-00000002", "b", "2026-05-20T03:00:00Z", pid=mine, began="1"
    )  # the number was reused
    for one in (here, gone):
        write_record(str(tmp_path), one)
    (tmp_path / "runs" / "20260520T030000Z-00000003.json").write_text("{torn")
    (tmp_path / "runs" / "20260520T030000Z-00000004.json").write_text('{"run_id": "x", "job": "c", "started": "soon"}')
    assert [(r.job, r.outcome) for r in read_records(str(tmp_path))] == [("a", "running"), ("b", "killed")]


def facts(**more: Any) -> dict[str, Any]:
    """Facts of a database that is well."""
    job = {
        "name": "daily",
        "state": "ok",
        "problem": "",
        "next_due": "2026-05-21T03:00:00Z",
        "ok": 1,
        "next_due_s": 9.0,
    }
    job["last"] = {"outcome": "ok", "age_s": 32400.0, "duration_s": 30}
    job.update(last_start_s=1.0, last_ok_s=1.0, last_duration_s=30, last_exit_code=0)
    base: dict[str, Any] = {
        "state": "ok",
        "database": {"reachable": True, "name": "db", "standby": False, "size_bytes": 5 << 20, "kept_databases": []},
        "schedule": {"kind": "cron", "why": "", "jobs": [job]},
        "backups": {
            "dir": "/b",
            "why": "",
            "count": 3,
            "damaged": [],
            "newest": "n.backup",
            "ahead": "",
            "newest_s": 5.0,
            "age_h": 9.0,
            "size_bytes": 2048,
            "free_bytes": 1 << 30,
            "proven": "2026-05-18T00:00:00Z",
            "proven_s": 4.0,
            "proven_age_d": 2.5,
        },
        "findings": {
            "at": "2026-05-17T04:00:00Z",
            "at_s": 3.0,
            "age_d": 3.0,
            "summary": {"critical": 0, "warning": 0, "info": 2},
            "change": {"critical": 0, "warning": 0, "info": -1},
        },
        "runs": [],
    }
    for key, value in more.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return base


def test_all_is_well() -> None:
    assert verdict(facts(), Limits()) == [] and state_of([]) == "ok"


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"database": {"reachable": False, "why": "It is down."}}, "critical", "It is down."),
        ({"schedule": {"why": "It is damaged."}}, "critical", "It is damaged."),
        ({"backups": {"count": 0}}, "critical", "There is no backup in /b."),
        (
            {"backups": {"count": 0, "old_files": 3, "old_newest": "x_20250418_120000.backup"}},
            "critical",
            "There is no backup in /b. 3 files of the old script are, the newest x_20250418_120000.backup.",
        ),
        ({"backups": {"why": "No."}}, "critical", "No."),
        ({"backups": {"age_h": 27.0}}, "critical", "n.backup, is 27 hours old"),
        ({"backups": {"ahead": "f.backup"}}, "warning", "newest backup, f.backup, is in the future"),
        ({"backups": {"ahead": "n.backup", "age_h": -7200.0}}, "critical", "All backups in /b are from the future"),
        ({"backups": {"damaged": ["x", "y"]}}, "critical", "Damaged backups: x, y."),
        ({"backups": {"proven": ""}}, "warning", "No backup has been proven"),
        ({"backups": {"proven_age_d": 36.0}}, "warning", "36 days old"),
        ({"backups": {"free_bytes": 4000}}, "warning", "room for less than two more"),
        ({"findings": {"at": ""}}, "warning", "never been checked"),
        ({"findings": {"age_d": 9.0}}, "warning", "9 days old"),
        ({"findings": {"summary": {"critical": 1, "warning": 0, "info": 0}}}, "critical", "found 1 critical"),
        ({"findings": {"summary": {"critical": 0, "warning": 4, "info": 0}}}, "warning", "found 4 warning"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], state: str, words: str) -> None:
    problems = verdict(facts(**change), Limits())
    assert state_of(problems) == state and words in problems[0].message


def test_a_row_says_it_at_a_glance() -> None:
    row = cells(facts())
    assert row["last runs"] == "daily ok 9 h (30 s)" and row["next"] == "daily 2026-05-21 03:00"
    assert row["backups"] == "3, newest 9 h, 2 KB" and row["proven"] == "2 d" and row["findings"] == "0c 0w 2i(-1)"
    assert cells(facts(database={"reachable": False, "why": ""}))["database"] == "DOWN"


def test_runs_that_no_schedule_started_are_shown(tmp_path: Path) -> None:
    """Written by the runs themselves; those of another database in the same folder, and damaged files, do not count."""
    lost, folder = Options(unix_socket=str(tmp_path), db="mine"), tmp_path / "state_dir" / "progress"
    folders = {name: str(tmp_path / name) for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    for number, (job, database, steps) in enumerate(
        [
            ("backup", "mine", ["dump", "failed"]),
            ("backup", "mine", ["dump", "done"]),
            ("check", "mine", ["looking"]),
            ("vacuum", "other", ["done"]),
            ("restore", "mine", ["load", "failed"]),
        ]
    ):
        run = Run(job, database, f"20260520T03000{number}Z-00000000", state_dir=folders["state_dir"])
        for step in steps:
            run.progress(step, 3, 10)
    (folder / "20260520T030009Z-00000000.json").write_text("{torn")
    (folder / "20260520T030008Z-00000000.json").write_text('{"job": "fix", "database": "mine", "at": "soon"}')
    (folder / "20260520T030007Z-00000000.json").symlink_to("forgotten by a newer run")
    found = status(lost, StatusOptions(host="x", **folders))
    assert [(run["job"], run["run_id"][:16], run["step"]) for run in found["runs"]] == [
        ("restore", "20260520T030004Z", "failed"),
        ("check", "20260520T030002Z", "looking"),
        ("backup", "20260520T030001Z", "done"),
    ]
    ages = {run["job"]: span(run["age_s"]) for run in found["runs"]}
    said = f"restore failed {ages['restore']}, check {ages['check']}, backup {ages['backup']}"
    assert found["row"]["last runs"] == f"not scheduled here; {said}"


def test_spans_and_sizes() -> None:
    assert [span(s) for s in (None, 0, 59, 60, 3599, 7200, 200000)] == [
        "-",
        "0 s",
        "59 s",
        "1 min",
        "59 min",
        "2 h",
        "2 d",
    ]
    assert [size(n) for n in (0, 1023, 1024, 5 << 40)] == ["0 B", "1023 B", "1 KB", "5.0 TB"]


@needs("promtool")
def test_promtool_takes_the_metrics_whatever_the_names() -> None:
    text = metrics(facts(database={"name": 'we"ird\\\n'}), "db 1", 1779278400.25)
    assert 'scannerdb_state{host="db 1",database="we\\"ird\\\\\\n"} 0\n' in text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_counts_of_a_database_that_a_restore_replaced_are_no_metric() -> None:
    def said(before: dict[str, str]) -> str:
        return metrics(facts(findings={**facts()["findings"], "before": before}), "h", 1.0)

    for job, counts, current in (("", True, 1), ("fix", True, 0), ("restore", False, 0)):
        text = said({"job": job, "run_id": "r"} if job else {})
        assert ("scannerdb_findings{" in text) is counts, job
        assert f'scannerdb_check_current{{host="h",database="db"}} {current}\n' in text
        assert "scannerdb_check_timestamp_seconds{" in text


@needs("promtool")
@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_takes_the_rules_and_they_fire_as_they_should(arguments: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT / "monitoring", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


WINDOW = {
    "begins_s": 1.0,
    "ends_s": 9.5,
    "gaps": [{}],
    "sentence": "23 Nov 02:11 to now -40 s, 1 gap",
}
PHYSICAL_BACKUP = {
    "label": "20260520-020000F",
    "kind": "full",
    "repository": 1,
    "size_bytes": 30,
    "delta_bytes": 20,
    "repository_bytes": 20,
    "duration_s": 8.0,
    "page_errors": False,
    "stopped_s": 5.0,
    "age_s": 60,
}
PHYSICAL_DRILL = {
    "outcome": "passed",
    "label": "L",
    "at": "A",
    "age_s": 7300.0,
    "rto_s": 9.2,
    "rpo_s": 60.0,
    "at_s": 1.0,
}
PHYSICAL = {
    "stanza": "main",
    "why": "",
    "backups": [PHYSICAL_BACKUP],
    "window": WINDOW,
    "problems": [
        {"severity": "critical", "message": "WAL is missing."},
        {"severity": "info", "message": "An old gap."},
    ],
}


def test_rules_and_dashboard_name_metrics_that_are_made() -> None:
    known = {**PHYSICAL, "drill": PHYSICAL_DRILL}
    made = set(re.findall(r"^# TYPE (\w+)", metrics(facts(physical=known), "h", 1.0), re.MULTILINE))
    for name in ("alerts.yml", "dashboard.json"):
        used = set(
            re.findall(
                r"\bscannerdb_[a-z_]+", re.sub(r"scannerdb_retention\w+", "", (ROOT / "monitoring" / name).read_text())
            )
        )
        assert used and used <= made, name


def test_the_dashboard_is_what_its_script_makes() -> None:
    from monitoring.make_dashboard import dashboard

    assert json.loads((ROOT / "monitoring" / "dashboard.json").read_text()) == dashboard()


def test_a_status_of_nothing_at_all_is_red_and_writes_its_metrics_whole(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    path = tmp_path / "prom" / "x.prom"
    lost = Options(unix_socket=str(tmp_path), db="none")
    dry = status(lost, StatusOptions(host="x", **folders, metrics_path=str(path)), check_mode=True)
    assert dry["state"] == "critical" and not path.exists() and not list(tmp_path.iterdir())
    found = status(lost, StatusOptions(host="x", **folders, metrics_path=str(path)))
    assert [p["severity"] for p in found["problems"]] == ["critical", "critical", "warning"]
    assert "cannot be reached" in found["problems"][0]["message"] and not found["changed"]
    assert 'scannerdb_up{host="x",database="none"} 0\n' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644 and [p.name for p in path.parent.iterdir()] == ["x.prom"]


def backups_of(folder: Path, *ages_h: float) -> list[tuple[str, str]]:
    """What a status says of backups of these ages."""
    for age in ages_h:
        make_set(folder, utc_now() - age * HOUR, "x")
    folders = {name: str(folder) for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    found = status(Options(unix_socket=str(folder), db="x"), StatusOptions(host="x", **folders), ask_server=False)
    problems = [(p["severity"], p["message"]) for p in found["problems"]]
    return [p for p in problems if "backup" in p[1] and "proven" not in p[1]]


def test_a_backup_from_the_future_is_not_a_fresh_one(tmp_path: Path) -> None:
    """A clock was ahead; the real backups stopped 20 days ago."""
    (old, future) = backups_of(tmp_path, 480, -7200)
    assert old[0] == "critical" and "is 480 hours old" in old[1]
    assert future[0] == "warning" and "in the future: look at the clock" in future[1]
    only = backups_of(tmp_path / "only", -7200)
    assert [p[0] for p in only] == ["critical", "warning"]


def test_clocks_that_differ_a_little_are_no_problem(tmp_path: Path) -> None:
    assert backups_of(tmp_path, -0.1) == []


def test_a_damaged_schedule_is_red(tmp_path: Path) -> None:
    (tmp_path / "schedule.json").write_text('{"kind": "cron"}')
    folders = {name: str(tmp_path) for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    found = status(Options(unix_socket=str(tmp_path)), StatusOptions(host="x", **folders), ask_server=False)
    assert any("schedule.json is damaged" in p["message"] for p in found["problems"])


def test_findings_are_those_of_the_database_that_was_checked() -> None:
    """After a restore they are of another one; after a fix they are older than what there is."""
    runs = [
        {"job": "restore", "run_id": "r", "at_s": 20.0, "done": 0, "replaced": True},
        {"job": "fix", "run_id": "f", "at_s": 30.0, "done": 2},
    ]
    assert changed_since(10.0, runs) == {"job": "restore", "run_id": "r"}
    assert changed_since(25.0, runs) == {"job": "fix", "run_id": "f"}
    for harmless in ({**runs[0], "replaced": False}, {**runs[1], "done": 0}, {**runs[1], "job": "backup"}):
        assert changed_since(10.0, [harmless]) == {}
    assert changed_since(40.0, runs) == changed_since(None, runs) == {}

    counts = {"critical": 2, "warning": 1, "info": 0}
    found = {"at": "2026-05-20T12:00:00Z", "age_d": 0, "summary": counts, "change": {}}
    restored = facts(findings={**found, "before": {"job": "restore", "run_id": "r"}})
    said = [problem.message for problem in verdict(restored, Limits())]
    assert any("is older than restore r" in line for line in said) and not any("2 critical" in line for line in said)
    assert cells(restored)["findings"].endswith("before restore")
    fixed = facts(findings={**found, "before": {"job": "fix", "run_id": "f"}})
    assert any("found 2 critical" in problem.message for problem in verdict(fixed, Limits()))


def test_a_run_whose_process_is_gone_has_ended_early(tmp_path: Path) -> None:
    """A process that was killed cannot say so itself."""
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    run = Run("check", "scanner", state_dir=str(tmp_path))
    run.progress("looking", pid=int(child.stdout))
    assert last_runs(str(tmp_path), "scanner")[0]["step"] == "ended early (looking)"
    run.progress("looking")
    assert last_runs(str(tmp_path), "scanner")[0]["step"] == "looking"
    run.progress("done", pid=int(child.stdout))
    assert last_runs(str(tmp_path), "scanner")[0]["step"] == "done"


def test_files_of_the_old_script_are_counted(tmp_path: Path) -> None:
    for name in ("ollama_scanner_20250418_120000.backup", "ollama_scanner_20250417_120000.backup", "other.backup"):
        (tmp_path / name).write_text("x")
    (tmp_path / "latest.backup").symlink_to("backups/ollama_scanner_20250418_120000.backup")
    options = Options(unix_socket=str(tmp_path), db="ollama_scanner")
    folders = {name: str(tmp_path) for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    found = status(options, StatusOptions(host="x", **folders), ask_server=False)
    assert found["backups"]["old_files"] == 2
    assert found["backups"]["old_newest"] == "ollama_scanner_20250418_120000.backup"
    assert cells({**facts(), "backups": found["backups"]})["backups"] == "none; 2 old files"


def test_physical_backups_are_judged_beside_sets_or_instead_of_them() -> None:
    found = facts(physical=PHYSICAL, methods=["pgbackrest"])
    found["backups"]["count"] = 0
    said = [problem.message for problem in verdict(found, Limits())]
    assert said[0] == "WAL is missing." and "No physical backup has been proven" in said[1] and len(said) == 2
    assert cells(found)["restorable"] == "23 Nov 02:11 to now -40 s, 1 gap, never proven"
    found["physical"] = {**PHYSICAL, "problems": [], "drill": PHYSICAL_DRILL}
    assert verdict(found, Limits()) == []
    assert cells(found)["restorable"].endswith(", proven 2 h ago, RTO 9 s, RPO 1 min")
    assert verdict(found, Limits(proof_max_age_d=0.01))[0].severity == "warning"
    found["physical"]["drill"] = {**PHYSICAL_DRILL, "outcome": "failed", "problems": ["pg_amcheck: t is damaged"]}
    assert verdict(found, Limits())[0].severity == "critical" and "REFUTED" in cells(found)["restorable"]
    half = {**facts(), "physical": {**PHYSICAL, "problems": [], "drill": {**PHYSICAL_DRILL, "outcome": "incomplete"}}}
    half["physical"]["drill"]["unseen"] = "there is no pg_amcheck"
    (doubt,) = verdict(half, Limits())
    assert doubt.severity == "warning" and "there is no pg_amcheck" in doubt.message
    assert "pages not seen" in cells(half)["restorable"] and "proven" not in cells(half)["restorable"]
    assert "scannerdb_physical_drill_passed" not in metrics({**half, "state": "ok"}, "h", 0)
    text = metrics({**found, "state": "ok"}, "h", 0)
    assert "scannerdb_physical_drill_passed" in text and "scannerdb_backups{" not in text
    assert "restorable" not in cells(facts())
    unseen = facts(
        physical={**PHYSICAL, "why": "There is no pgbackrest.", "window": {}}, methods=["dump", "pgbackrest"]
    )
    assert "cannot be looked at: There is no pgbackrest." in verdict(unseen, Limits())[0].message
    assert cells(unseen)["restorable"] == "?" and "pgbackrest_" not in metrics(unseen, "h", 0)


@needs("promtool")
def test_metrics_of_physical_backups_have_the_exporters_names() -> None:
    text = metrics({**facts(physical=PHYSICAL), "state": "ok"}, "h", 0)
    own = 'host="h",database="db",stanza="main"'
    name = 'backup_name="20260520-020000F",backup_type="full",repo_key="1"'
    assert f"pgbackrest_backup_size_bytes{{{own},{name}}} 30\n" in text
    assert f"pgbackrest_backup_repo_delta_bytes{{{own},{name}}} 20\n" in text
    assert f'pgbackrest_backup_since_last_completion_seconds{{{own},backup_type="full"}} 60\n' in text
    assert 'scannerdb_physical_window_gaps{host="h",database="db"} 1\n' in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
