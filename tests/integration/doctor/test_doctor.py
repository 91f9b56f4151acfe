"""The doctor on real servers: each cause is made, and must be named with its hint; a healthy database has none."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal
from scannerdb.connection import Options
from scannerdb.doctor import host
from scannerdb.fixes.policy import FixPolicy
from scannerdb.joblock import job_lock
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.schema import schema
from scannerdb.restore.marks import KEPT, DatabaseMark
from scannerdb.schedule.records import Record, write_record

from tests.integration.doctor.doctor_support import places, wrongs
from tests.integration.support import options, run_backup, run_fix
from tests.servers import Database

__all__ = ["places"]


def only(result: dict[str, Any], cause: str) -> str:
    """The one thing that is wrong, backups and contents aside."""
    found = wrongs(result)
    for usual in ("backups", "consistency", "performance"):
        if usual != cause:
            found.pop(usual, None)
    assert list(found) == [cause], found
    return found[cause]


def test_a_healthy_database_has_nothing(database: Database, places: Places) -> None:
    database.sql("CREATE ROLE doctor_app")
    overlay = {"application_role": "doctor_app"}
    schema(options(database), overlay=overlay)
    run_backup(options(database), backup_dir=places.backup_dir, state_dir=places.state_dir, verify_level="none")
    result = doctor(options(database), places, overlay=overlay)
    assert wrongs(result) == {} and not result["changed"], result
    assert {"server", "login", "privileges", "pg_dump", "clock", "job lock"} <= {
        d["cause"] for d in result["diagnoses"]
    }


def test_damage_in_the_data_is_named_with_the_playbook_that_mends_it(field_db: Database, places: Places) -> None:
    found = wrongs(doctor(options(field_db), places))
    assert "playbooks/fix.yml" in found["consistency"]


@pytest.mark.pg(17)
@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM ollama, PUBLIC", "lacks CREATE on schema public"),
        ("REVOKE INSERT ON models FROM ollama", "lacks INSERT on table models"),
    ],
)
def test_a_right_that_the_application_lacks_is_a_cause(
    field_db: Database, places: Places, taken: str, words: str
) -> None:
    assert "application" not in wrongs(doctor(options(field_db), places))
    for statement in taken.split(";"):
        field_db.sql(statement)
    told = wrongs(doctor(options(field_db), places))["application"]
    assert words in told and "permission denied" in told and "Run playbooks/fix.yml" in told
    run_fix(field_db, policy=FixPolicy(only=("schema.privilege.missing",)))
    assert "application" not in wrongs(doctor(options(field_db), places))


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        ({"unix_socket": "/nowhere"}, "server", "cannot be reached"),
        ({"host": "no.such.host.invalid"}, "server", "no host named 'no.such.host.invalid'"),
        ({"user": "nobody_of_that_name"}, "login", "no role 'nobody_of_that_name'"),
        ({"maintenance_db": "not_there"}, "maintenance database", "no database 'not_there'"),
        ({"db": "not_there"}, "database", "playbooks/restore.yml"),
        ({"pg_bin_dir": "/nowhere"}, "pg_dump", "There is no pg_dump in /nowhere"),
    ],
)
def test_what_keeps_it_out_is_named(
    database: Database, places: Places, change: dict[str, Any], cause: str, words: str
) -> None:
    result = doctor(options(database, **change), places)
    assert words in wrongs(result)[cause]
    if cause in ("server", "login"):
        assert {d["cause"] for d in result["diagnoses"] if d["state"] == "unknown"} >= {"privileges", "job lock"}


def test_a_wrong_password(database: Database, places: Places) -> None:
    """The tests' servers take passwords over TCP, from this machine."""
    name = "doctor_role"
    with database.connect() as conn:
        conn.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'right'").format(Identifier(name)))
    over = {"host": "127.0.0.1", "unix_socket": "", "user": name}
    assert "refused the login" in wrongs(doctor(options(database, password="wrong", **over), places))["login"]


def test_a_role_that_may_do_little_is_told_what_it_lacks(field_db: Database, places: Places) -> None:
    with field_db.connect() as conn:
        conn.execute("CREATE ROLE doctor_weak LOGIN")
    found = wrongs(doctor(options(field_db, user="doctor_weak"), places))
    assert {c for c in found if c.startswith("privileges")} == {
        "privileges: backup",
        "privileges: fix",
        "privileges: journal",
        "privileges: restore",
        "privileges: sessions",
    }
    assert "pg_read_all_data" in found["privileges: backup"] and "deploy.yml" in found["privileges: fix"]


def test_a_closed_database_of_a_crashed_cutover_is_healed_but_not_in_check_mode(
    database: Database, places: Places
) -> None:
    kept = f"{database.name}_kept"
    mark = DatabaseMark(KEPT, database.name, "20260101T000000Z-00000000", "2026-01-01T00:00:00Z", switching=True)
    with database.connect("postgres", dbname="postgres") as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(kept)))
        conn.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(kept), Literal(mark.text())))
        conn.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(Identifier(database.name)))
    dry = doctor(options(database), places, check_mode=True)
    assert "left closed" in wrongs(dry)["interrupted restore"] and not dry["changed"]
    assert "accepts no connections" in wrongs(dry)["database"]
    with job_lock(options(database), "restore", "20260101T000000Z-00000000"):
        assert not doctor(options(database), places)["changed"]  # somebody is at work
    done = doctor(options(database), places)
    assert done["changed"] and "opened again" in done["healed"][0]
    assert "database" not in wrongs(done) and not doctor(options(database), places)["changed"]


def test_a_job_lock_is_reported_and_stale_after_a_while(database: Database, places: Places) -> None:
    with job_lock(options(database), "vacuum", "20260101T000000Z-00000000"):
        at_work = doctor(options(database), places)
        assert "job lock" not in wrongs(at_work)
        (said,) = [d["message"] for d in at_work["diagnoses"] if d["cause"] == "job lock"]
        assert "scannerdb vacuum 20260101T000000Z-00000000" in said
        stale = wrongs(doctor(options(database), places, stale_s=1e-6))["job lock"]
        assert "pg_terminate_backend(" in stale


def test_folders_that_are_missing_open_or_closed(database: Database, places: Places) -> None:
    Path(places.log_dir).rmdir()
    Path(places.report_dir).chmod(0o755)
    found = wrongs(doctor(options(database), places))
    assert "folder: logs" not in found, "a run makes it"
    assert f"chmod 0700 {places.report_dir}" in found["folder: reports"]


def test_a_folder_that_nobody_here_can_make_is_missing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "access", lambda path, _: Path(path) != Path(places.log_dir).parent)
    Path(places.log_dir).rmdir()
    (said,) = host.folders({"logs": places.log_dir}, {})
    assert said.state == "wrong" and f"install -d -m 0700 -o USER {places.log_dir}" in said.hint


def test_a_disk_without_room(places: Places) -> None:
    (said,) = host.folders({"backups": places.backup_dir}, {"backups": 1 << 60})
    assert (said.state, "MiB free; its next use needs" in said.message, "df -h" in said.hint) == ("wrong", True, True)


def test_a_backup_from_the_future_means_a_wrong_clock(database: Database, places: Places) -> None:
    run_backup(options(database), backup_dir=places.backup_dir, verify_level="none")
    (made,) = (p for p in Path(places.backup_dir).glob("*.backup") if not p.is_symlink())
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["created"] = manifest["created"].replace("20", "21", 1)
    name = made.name[: -len("20260101_000000.backup")] + "21" + made.name[-len("260101_000000.backup") :]
    (made / "manifest.json").write_text(json.dumps({**manifest, "name": name}))
    made.rename(made.with_name(name))
    found = wrongs(doctor(options(database), places))
    assert "from the future" in found["clock"] and "chrony" in found["clock"]
    assert "leads to" in found["latest.backup"]


def test_clocks_that_differ() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    assert host.clock(-90.0, None, now).state == "wrong" and host.clock(0.5, now, now).state == "fine"


@pytest.fixture
def scheduled(places: Places) -> Places:
    """A schedule of cron, with its entries."""
    entry = Path(places.config_dir, "cron")
    entry.write_text("# made\n0 3 * * * root run schedule.json daily\n")
    job = {"name": "daily", "profile": "daily", "hour": 3, "minute": 0, "log": "cron_backup.log"}
    values = {"kind": "cron", "timezone": "", "offset": 0, "random_delay_s": 0, "time_limit_s": 0, "jobs": [job]}
    values["entries"] = {"daily": str(entry)}
    Path(places.config_dir, "schedule.json").write_text(json.dumps(values))
    return places


def test_cron_that_does_not_run_entries_that_are_gone_and_failed_jobs(
    database: Database, scheduled: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether this machine runs cron does not matter: the test names a daemon that runs, and one that nobody has."""
    monkeypatch.setattr(host, "CRONS", (Path("/proc/self/comm").read_text().strip(),))
    assert "scheduler" not in wrongs(doctor(options(database), scheduled))
    monkeypatch.setattr(host, "CRONS", ("no-such-daemon",))
    found = wrongs(doctor(options(database), scheduled))
    assert "cron is not running" in found["scheduler"] and "schedule" not in found
    Path(scheduled.config_dir, "cron").write_text("# 0 3 * * * root run schedule.json daily\n")
    now = f"{datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    bad = Record("20260101T000000Z-00000000", "daily", now, "/b/cron_backup.log", "timeout", now, 124, "Too long.")
    write_record(scheduled.state_dir, bad)
    found = wrongs(doctor(options(database), scheduled))
    assert "Nothing starts daily" in found["schedule"] and "schedule.yml" in found["schedule"]
    assert "timeout. Too long. Read /b/cron_backup.log." in found["job daily"]


@pytest.fixture
def holder(places: Places) -> Iterator[int]:
    """A process that holds the lock of the scheduled jobs, as a play does that has outlived its runner."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
    code += "; input()"
    path = str(Path(places.state_dir, "schedule.lock"))
    child = subprocess.Popen([sys.executable, "-c", code, path], stdin=-1, stdout=-1, text=True)
    assert child.stdout and child.stdout.readline() == "held\n"
    yield child.pid
    child.communicate("\n")


def test_a_lock_of_the_jobs_whose_runner_is_gone(database: Database, places: Places, holder: int) -> None:
    found = wrongs(doctor(options(database), places))
    assert f"kill {holder}" in found["lock of the scheduled jobs"]
    started = f"{datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    began = host_began(os.getpid())
    write_record(places.state_dir, Record("20260101T000000Z-00000000", "daily", started, pid=os.getpid(), began=began))
    assert "lock of the scheduled jobs" not in wrongs(doctor(options(database), places))


def host_began(pid: int) -> str:
    from scannerdb.schedule.records import process_began

    return process_began(pid)


def test_what_a_killed_backup_left(database: Database, places: Places) -> None:
    Path(places.backup_dir, ".x_20260101_000000.backup.partial").mkdir()
    assert "backup.yml" in wrongs(doctor(options(database), places))["unfinished backups"]


def test_without_a_server_the_machine_is_looked_at_all_the_same(tmp_path: Path, places: Places) -> None:
    found = wrongs(doctor(Options(unix_socket=str(tmp_path)), places))
    assert {"server", "backups"} <= set(found)
