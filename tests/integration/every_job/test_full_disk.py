"""A full disk or a read-only one, a killed run's debris, a wrong clock: what must go on does, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.files import PARTIAL
from scannerdb.jobs.check import check
from scannerdb.jobs.folders import folders

from tests.integration.playbooks import Site, site
from tests.integration.support import options, run_backup, run_fix, run_vacuum, schema_damage, wait_until
from tests.needs import lack, needs
from tests.servers import Database, Databases

__all__ = ["site"]


@pytest.fixture(params=["full", "read-only"])
def bad_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own that takes nothing more."""
    folder = tmp_path / "bad"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        lack("mounting", done.stderr.decode().strip())
    try:
        if request.param == "full":
            with pytest.raises(OSError, match="No space"):
                (folder / "filler").write_bytes(b"x" * (1 << 17))
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


@needs("root")
def test_no_cure_stops_at_a_bad_disk(field_db: Database, bad_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Check, fix and vacuum with state, logs and report there do their work; the standard error has what is missing."""
    places = {"state_dir": str(bad_disk / "state"), "log_path": str(bad_disk / "logs" / "a.log")}
    found = check(options(field_db), CheckOptions(report_dir=str(bad_disk / "reports"), **places))
    assert found["findings"] and "There is no report" in found["warnings"][0]
    assert run_fix(field_db, **places)["fixed"]
    assert schema_damage(field_db) == []
    assert run_vacuum(options(field_db), **places)["tables"]
    said = capfd.readouterr().err
    assert "/bad/" in said and " vacuum: " in said and " fix: " in said
    assert "Traceback" not in said


@needs("root")
def test_the_folders_are_a_warning_there(bad_disk: Path) -> None:
    made = folders([str(bad_disk / "state"), str(bad_disk / "logs")], database="d", backup_dir=str(bad_disk))
    assert len(made["warnings"]) in (0, 2)  # a full tmpfs still makes folders


@pytest.mark.pg(17)
def test_the_next_job_of_any_kind_sweeps(field_db: Database, site: Site) -> None:
    """A set and a progress file that a killed run left are gone after a check, which makes no backups."""
    site.add("db1", field_db, scannerdb_check_fail_on="never")
    backups, progress = site.folder / "db1" / "backups", site.folder / "db1" / "state" / "progress"
    left = [backups / f".{field_db.name}_20250418_120000.backup{PARTIAL}", progress / f".x.json.abc{PARTIAL}"]
    left[0].mkdir(parents=True)
    (left[0] / "half").write_text("half")
    progress.mkdir(parents=True)
    left[1].write_text("half")
    os.utime(left[1], (time.time() - 60, time.time() - 60))
    planned = site.run("playbooks/check.yml", "--check").ok()
    assert planned.changed["db1"] == 1 and all(path.exists() for path in left)
    assert site.run("playbooks/check.yml").ok().changed["db1"] == 1
    assert not any(path.exists() for path in left)
    assert site.run("playbooks/check.yml").ok().changed["db1"] == 0


def test_the_half_written_file_of_a_living_run_stays(tmp_path: Path) -> None:
    """Held by its writer it is no debris, however old; it is once the writer was killed."""
    code = "import fcntl, pathlib, time, sys; s = open(sys.argv[1], 'w'); fcntl.flock(s, 2); time.sleep(60)"
    path = tmp_path / "progress" / f".x.json.abc{PARTIAL}"
    path.parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        wait_until(path.exists)
        time.sleep(0.5)
        os.utime(path, (1, 1))
        assert folders([], database="d", state_dir=str(tmp_path))["swept"] == []
        writer.send_signal(signal.SIGKILL)
    assert folders([], database="d", state_dir=str(tmp_path))["swept"] == [str(path)]


@pytest.mark.parametrize("shift", ["400 days", "-400 days"])
def test_where_the_clocks_differ_nothing_is_removed(
    field_db: Database, make_database: Databases, tmp_path: Path, shift: str
) -> None:
    """Two machines, of which one is wrong: sets that are old by this one's clock stay."""
    other = make_database("clock")
    with other.connect() as conn:
        conn.execute("SET allow_system_table_mods = on")
        conn.execute("ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp")
        conn.execute(
            "CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            f"$$SELECT pg_catalog.true_clock_timestamp() + interval '{shift}'$$".encode()
        )
    wrong = options(field_db, maintenance_db=other.name)
    keep_nothing = {"backup_dir": str(tmp_path), "retention_days": 0, "retention_min": 0}
    names = [run_backup(wrong, **keep_nothing)["backup"]["name"] for _ in range(2)]
    planned = run_backup(wrong, **keep_nothing, check_mode=True)
    late = run_backup(wrong, **keep_nothing)
    for result in (planned, late):
        assert result["removed"] == []
        assert "400 days" in " ".join(result["warnings"])
    assert all((tmp_path / name).is_dir() for name in names)
    assert set(run_backup(options(field_db), **keep_nothing)["removed"]) >= set(names)
