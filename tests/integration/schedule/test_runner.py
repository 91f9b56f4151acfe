"""The scheduled runner as cron starts it: real processes, and real plays out of a small bundle of the test's own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.schedule.records import Record, read_records

from tests.integration.playbooks import ROOT
from tests.integration.support import processes

RUNNER = ROOT / "runner" / "run_job.py"
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Say what was asked for
      ansible.builtin.debug:
        msg: "profile={{ scannerdb_profile }} wait={{ scannerdb_lock_wait_s }}"
    - name: Work
      ansible.builtin.command: %s
"""


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition; returns what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it never came about")


class Host:
    """A host with a schedule, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bundle").mkdir()
        (folder / "bundle" / "ansible.cfg").write_text("[defaults]\nnocows = true\n")
        inventory = {"all": {"hosts": {"db1": {"ansible_connection": "local"}}}}
        (folder / "inventory.json").write_text(json.dumps(inventory))
        self.config: dict[str, Any] = {
            "host": "db1",
            "database": "ollama_scanner",
            "bundle": str(folder / "bundle"),
            "python": sys.executable,
            "inventory": str(folder / "inventory.json"),
            "backup_dir": str(folder / "backups"),
            "state_dir": str(folder / "state"),
            "lock_wait_s": 0,
            "time_limit_s": 0,
            "hook_failure": [],
            "metrics_path": "",
            "hook_timeout_s": 20,
            "jobs": [
                {"name": "daily", "profile": "daily", "log": "cron_backup.log"},
                {"name": "weekly", "profile": "weekly", "log": "cron_maintenance.log"},
            ],
        }
        self.work("true")
        self.started: list[subprocess.Popen[str]] = []

    def work(self, command: str) -> None:
        """What the play does."""
        (self.folder / "bundle" / "maintain.yml").write_text(PLAY % json.dumps(command))

    def long_work(self) -> None:
        """A play that does not end by itself."""
        self.work(f"/bin/sh -c 'cd {self.folder}; while true; do sleep 1; done'")

    def start(self, job: str = "daily") -> subprocess.Popen[str]:
        """Start a job, as cron does: with hardly any environment."""
        path = self.folder / "schedule.json"
        path.write_text(json.dumps(self.config))
        command = [sys.executable, str(RUNNER), str(path), job]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "ANSIBLE_CONFIG": "/nowhere"}
        self.started.append(subprocess.Popen(command, env=environment, cwd="/", stdout=-1, stderr=-1, text=True))
        return self.started[-1]

    def run(self, job: str = "daily") -> tuple[int, str]:
        """Run a job; its exit code and what cron would mail."""
        child = self.start(job)
        out, err = child.communicate(timeout=300)
        assert "Traceback" not in err, err
        return child.returncode, out + err

    def log(self, name: str = "cron_backup.log") -> str:
        path = self.folder / "backups" / name
        return path.read_text() if path.exists() else ""

    def records(self) -> list[Record]:
        return read_records(str(self.folder / "state"))

    def at_work(self, words: str) -> list[int]:
        """The processes with these words in their command line."""
        return [pid for pid, text in processes(words, str(self.folder)).items() if str(RUNNER) not in text]

    def locked(self) -> bool:
        with (self.folder / "state" / "schedule.lock").open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for child in made.started:
        child.terminate()
        child.communicate(timeout=300)


def test_a_job_that_goes_well_is_silent_logged_and_recorded(host: Host) -> None:
    assert host.run("weekly") == (0, "")
    text = host.log("cron_maintenance.log")
    assert "profile=weekly wait=0" in text and "weekly: started" in text and "weekly: ok, code 0" in text
    (record,) = host.records()
    assert (record.job, record.outcome, record.exit_code) == ("weekly", "ok", 0)
    assert record.finished >= record.started and record.log.endswith("/backups/cron_maintenance.log")
    assert (host.folder / "backups" / "cron_maintenance.log").stat().st_mode & 0o777 == 0o600
    assert not host.locked()


def test_a_failed_play_gives_its_code_a_sentence_and_calls_the_hook(host: Host) -> None:
    host.work("false")
    told = host.folder / "told"
    host.config["hook_failure"] = ["/bin/sh", "-c", f'env | grep ^SCANNERDB_ > "{told}"']
    code, mailed = host.run()
    assert code == 2
    assert mailed.startswith("db1: daily failed. The play ended with code 2. See ") and len(mailed.splitlines()) == 1
    said = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert said["SCANNERDB_EVENT"] == "on_job_failure" and said["SCANNERDB_JOB"] == "daily"
    assert said["SCANNERDB_OUTCOME"] == "failed" and said["SCANNERDB_EXIT_CODE"] == "2"
    assert said["SCANNERDB_LOG"].endswith("cron_backup.log") and said["SCANNERDB_HOST"] == "db1"
    assert host.records()[-1].outcome == "failed"


def test_a_hook_that_fails_is_a_line_in_the_log(host: Host) -> None:
    host.work("false")
    host.config["hook_failure"] = ["/no/such/program"]
    code, mailed = host.run()
    assert code == 2 and len(mailed.splitlines()) == 1
    assert "The failure hook failed: " in host.log()


def test_a_job_ends_when_its_time_is_up_with_all_its_processes(host: Host) -> None:
    host.long_work()
    host.config["time_limit_s"] = 8
    code, mailed = host.run()
    assert code == 124 and "ended after its time limit of 8 s" in mailed
    assert host.at_work("while true") == []
    assert host.records()[-1].outcome == "timeout" and not host.locked()


def test_a_job_that_is_told_to_stop_stops_its_play(host: Host) -> None:
    host.long_work()
    child = host.start()
    until(lambda: host.at_work("while true"))
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 143 and "stopped by SIGTERM" in err and "Traceback" not in err
    assert host.at_work("while true") == [] and not host.locked()
    assert host.records()[-1].outcome == "stopped"


def test_two_jobs_never_overlap_and_the_later_one_waits(host: Host) -> None:
    gate = host.folder / "gate"
    host.work(f"/bin/sh -c 'while ! test -e {gate}; do sleep 0.1; done'")
    first = host.start("daily")
    until(lambda: host.at_work(f"test -e {gate}"))
    code, mailed = host.run("weekly")
    assert code == 75 and "waited 0 s for another job, which is still at work" in mailed and '"job": "daily"' in mailed
    assert host.records()[-1].outcome == "locked" and host.records()[0].outcome == "running"
    host.config["lock_wait_s"] = 100
    second = host.start("weekly")
    until(lambda: len(host.records()) == 3)
    assert "weekly: started" not in host.log("cron_maintenance.log")
    gate.touch()
    assert first.wait(60) == 0 and second.wait(60) == 0
    assert sorted(record.outcome for record in host.records()) == ["locked", "ok", "ok"]
    assert "wait=100" in host.log("cron_maintenance.log")


def test_after_a_kill_the_play_ends_the_lock_is_free_and_the_record_says_so(host: Host) -> None:
    host.long_work()
    child = host.start()
    until(lambda: host.at_work("while true"))
    child.kill()
    child.communicate()
    until(lambda: not host.at_work("maintain.yml") and not host.locked())
    (record,) = host.records()
    assert record.outcome == "killed" and "killed" in record.message
    host.work("true")
    assert host.run()[0] == 0


def test_while_a_play_outlives_its_runner_nobody_else_starts(host: Host) -> None:
    """The lock is the play's too: its main process is frozen here, so that it cannot react to the runner's death."""
    host.long_work()
    child = host.start()
    until(lambda: host.at_work("while true"))
    plays = host.at_work("maintain.yml")
    for pid in plays:
        os.kill(pid, signal.SIGSTOP)
    try:
        child.kill()
        child.communicate()
        assert host.run("weekly")[0] == 75
    finally:
        for pid in plays:
            os.kill(pid, signal.SIGCONT)
    until(lambda: not host.at_work("maintain.yml") and not host.locked())


def test_a_log_that_cannot_be_written_does_not_stop_the_job(host: Host) -> None:
    (host.folder / "backups").write_text("in the way")
    code, mailed = host.run()
    assert code == 0 and "cron_backup.log cannot be written" in mailed and "profile=daily" in mailed
    assert host.records()[-1].outcome == "ok"


def test_a_record_that_cannot_be_written_does_not_stop_the_job(host: Host) -> None:
    (host.folder / "state").mkdir()
    (host.folder / "state" / "runs").write_text("in the way")
    assert host.run()[0] == 0
    assert "Making the folder" in host.log() and "daily: ok, code 0" in host.log()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "/no/python"}, "/no/python cannot be run: No such file or directory"),
        ({"jobs": []}, "has no job 'daily'"),
    ],
)
def test_what_is_missing_is_a_sentence_and_code_78(host: Host, change: dict[str, Any], words: str) -> None:
    host.config.update(change)
    code, mailed = host.run()
    assert code == 78 and words in mailed and len(mailed.splitlines()) == 1


def test_a_schedule_that_is_gone_is_a_sentence(host: Host) -> None:
    command = [sys.executable, str(RUNNER), str(host.folder / "none.json"), "daily"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and "Run playbooks/schedule.yml again" in done.stderr
