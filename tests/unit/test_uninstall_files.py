"""Uninstalling from folders that may be anybody's: what the jobs have written goes, everything else stays."""

from __future__ import annotations

import fcntl
import gzip
from pathlib import Path

import pytest
from scannerdb.checks import history
from scannerdb.errors import JobLocked
from scannerdb.files import append_line, write_atomic
from scannerdb.jobs.check import FILES
from scannerdb.jobs.uninstall_files import Folders, uninstall_files
from scannerdb.runs import Run, new_run_id
from scannerdb.schedule.records import LOCK, Record, write_record
from scannerdb.sets.known_hashes import record_hash
from scannerdb.sets.verification_log import VERIFICATIONS
from scannerdb.vacuum import memory

OLD_LOG = "[2025-04-18 12:00:00] Starting backup\n"
STRANGE = (
    "etc/scannerdb/two/schedule.json",
    "etc/scannerdb/one/notes.txt",
    "state/runs/notes.json",
    "state/manifests/x.sha256",
    "state/other.json",
    "state/ansible/galaxy_token",
    "log/syslog",
    "log/verify.log",  # somebody else's, by how it begins
    "log/db_schema_check.log.bak",
    "backups/backup_20250418_120000.log",
    "backups/ollama_scanner_20250418_120000.backup",
    "backups/notes.backup/file",
    "opt/scannerdb/releases/mine/file",
    "opt/scannerdb/current",
)


def write(path: Path, text: str = OLD_LOG) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """What runs leave, written by what writes it."""
    for name in ("etc/scannerdb/one", "state/reports", "state/ansible/tmp/ansible-local-1", "log", "backups"):
        (tmp_path / name).mkdir(parents=True)
    state = str(tmp_path / "state")
    run = Run("check", "ollama_scanner", state_dir=state, log_path=str(tmp_path / "log" / "db_schema_check.log"))
    run.progress("done")
    run.log("looked")
    (tmp_path / "log" / "verify.log").write_text(OLD_LOG)
    Run("fix", "ollama_scanner", log_path=str(tmp_path / "log" / "db_maintenance_fix.log")).log("fixed")
    Run("backup", "ollama_scanner", log_path=str(tmp_path / "backups" / "cron_backup.log")).log("started")
    rotated = (tmp_path / "log" / "db_schema_check.log").read_bytes()
    (tmp_path / "log" / "db_schema_check.log.2.gz").write_bytes(gzip.compress(rotated))
    (tmp_path / "log" / "db_schema_check.log.1").write_bytes(rotated)
    (tmp_path / "log" / "view_update_fix.log").touch()  # as logrotate leaves it
    write_record(state, Record(new_run_id(), "daily", "2026-01-01T00:00:00Z"))
    record_hash(state, "ollama_scanner_20260101_000000.backup", "0" * 64)
    for name in (history.NAME, memory.NAME, VERIFICATIONS, LOCK):
        append_line(tmp_path / "state" / name, "{}")
    write(tmp_path / "state" / "ansible/tmp/ansible-local-1/x")
    write(tmp_path / "state" / f".{memory.NAME}.ab12_cd3.partial")
    for name in FILES.values():
        write_atomic(tmp_path / "state" / "reports" / name, "x")
    for name in ("schedule.json", "inventory.json"):
        write_atomic(tmp_path / "etc/scannerdb/one" / name, "{}")
    for name in ("releases/0123456789abcdef", "venvs/0123456789abcdef"):
        write(tmp_path / "opt/scannerdb" / name / "file")
    write(tmp_path / "opt/scannerdb/wheelhouse/pip-1-py3-none-any.whl")
    (tmp_path / "opt/scannerdb/current").symlink_to("releases/0123456789abcdef")
    write(tmp_path / "prom" / "scannerdb_one.prom")
    inner = ("etc/scannerdb/one", "state", "state/reports", "log", "backups", "opt/scannerdb")
    return Folders(*(str(tmp_path / name) for name in inner))


def test_all_that_the_jobs_wrote_goes_and_the_folders_with_it(folders: Folders, tmp_path: Path) -> None:
    before = files(tmp_path)
    words = {"database": "ollama_scanner", "job_logs": ["cron_backup.log"]}
    (tmp_path / "log" / "verify.log").unlink()
    metrics = str(tmp_path / "prom" / "scannerdb_one.prom")
    dry = uninstall_files(folders, **words, metrics_path=metrics, check_mode=True)
    assert files(tmp_path) == before - {"log/verify.log"}
    done = uninstall_files(folders, **words, metrics_path=metrics)
    assert done == dry and done["changed"] and done["left"] == []
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["etc", "opt", "prom"]
    assert not uninstall_files(folders, **words)["changed"]


def test_what_anybody_else_put_there_stays_and_is_said(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "opt/scannerdb/current").unlink()
    for name in STRANGE:
        write(tmp_path / name)
    write(tmp_path / "elsewhere" / f"{new_run_id()}.json")
    for path in (tmp_path / "state/progress").iterdir():
        path.unlink()
    (tmp_path / "state/progress").rmdir()
    (tmp_path / "state/progress").symlink_to(tmp_path / "elsewhere")  # a link is not followed
    done = uninstall_files(folders, database="ollama_scanner", job_logs=["cron_backup.log"])
    left = files(tmp_path)
    assert set(STRANGE) <= left and len([name for name in left if name.startswith("elsewhere/")]) == 1
    # The bundle is kept for the other database.
    assert "opt/scannerdb/releases/0123456789abcdef/file" in left
    ours = {name for name in left if name.startswith(("opt/", "elsewhere/", "prom/"))} | set(STRANGE)
    assert left - ours == {"state/progress"}
    assert {str(tmp_path / name) for name in ("log/syslog", "backups/notes.backup", "state/other.json")} <= set(
        done["left"]
    )
    assert "What is not known to be its own stays" in done["msg"]


def test_without_a_name_the_backups_and_their_logs_stay(folders: Folders, tmp_path: Path) -> None:
    done = uninstall_files(folders, job_logs=["cron_backup.log"])
    assert (tmp_path / "backups/cron_backup.log").is_file() and str(tmp_path / "backups/cron_backup.log") in done[
        "left"
    ]
    assert not (tmp_path / "opt/scannerdb").exists()


def test_while_a_job_is_at_work_nothing_goes(folders: Folders, tmp_path: Path) -> None:
    before = files(tmp_path)
    with (tmp_path / "state" / LOCK).open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for check_mode in (True, False):
            with pytest.raises(JobLocked, match=r"A scheduled job is at work\. Its schedule is gone; run this again"):
                uninstall_files(folders, check_mode=check_mode)
    assert files(tmp_path) == before
