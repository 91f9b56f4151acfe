"""After the schedule scenario: cron and systemd have started a job by themselves, and it left what it should."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Callable

import pytest

Container = Callable[[str], Any]
HOSTS = ("cron-db", "timer-db")


def test_cron_has_the_entries(container: Container) -> None:
    host = container("cron-db")
    entries = host.file("/etc/cron.d/scannerdb-cron-db").content_string
    assert len(re.findall(r"^\d+ \d+ \* \* \* scannerdb_maint .*run_job.py", entries, re.MULTILINE)) == 3
    assert host.service("cron").is_running
    assert host.run("ls /etc/systemd/system/scannerdb-*").rc != 0


def test_systemd_has_the_timers(container: Container) -> None:
    host = container("timer-db")
    for job in ("soon", "later", "latest"):
        timer = host.service(f"scannerdb-timer-db.{job}.timer")
        assert timer.is_enabled and timer.is_running
    assert "Persistent=true" in host.file("/etc/systemd/system/scannerdb-timer-db.latest.timer").content_string
    host.run_test("systemd-analyze verify /etc/systemd/system/scannerdb-timer-db.*")
    assert not host.file("/etc/cron.d/scannerdb-timer-db").exists


@pytest.mark.parametrize("name", HOSTS)
def test_the_job_ran_by_itself_and_left_log_record_and_backup(container: Container, name: str) -> None:
    host = container(name)
    runs = host.check_output(f"ls /var/lib/scannerdb/{name}/runs/*.json").split()
    records = [json.loads(host.file(path).content_string) for path in runs]
    done = [record for record in records if record.get("finished")]
    assert done and {(record["outcome"], record["exit_code"]) for record in done} == {("ok", 0)}
    log = host.file(f"/var/backups/scannerdb/{name}/cron_soon.log")
    assert (log.user, log.mode) == ("scannerdb_maint", 0o600)
    assert "PLAY RECAP" in log.content_string
    assert any(record["run_id"] in log.content_string for record in done)
    proof = host.file(f"/var/backups/scannerdb/{name}/latest.backup/verification.jsonl").content_string
    assert json.loads(proof.splitlines()[-1])["level"] == "read"


def test_cron_and_systemd_say_so_themselves(container: Container) -> None:
    assert "run_job.py" in container("cron-db").check_output("journalctl --no-pager -t CRON -t cron")
    service = "journalctl --no-pager -u 'scannerdb-timer-db.*.service'"
    assert "Scanner database timer-db" in container("timer-db").check_output(service)


def test_the_status_knows_of_it() -> None:
    path = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "/tmp")) / "status.json"
    hosts = json.loads(path.read_text(encoding="utf-8"))
    assert set(hosts) == set(HOSTS)
    for host in hosts.values():
        assert "ok" in {job["last"].get("outcome") for job in host["schedule"]["jobs"]}
        assert not [problem for problem in host["problems"] if problem["severity"] == "critical"]
