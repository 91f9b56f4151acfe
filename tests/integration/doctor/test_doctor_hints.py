"""Every hint of the doctor is followed here, to the letter, and what it was for is gone afterwards."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scannerdb.doctor import host
from scannerdb.doctor.binaries import judged
from scannerdb.joblock import job_lock
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.schedule.records import Record, write_record

from demo.server import Server
from tests import servers
from tests.integration.doctor.doctor_support import wrongs
from tests.integration.own_server import VERSION, wait_for
from tests.integration.playbooks import Site, site
from tests.integration.support import options, run_backup, run_verify
from tests.needs import needs
from tests.servers import Database, Databases, Pool

__all__ = ["site"]
COMMAND = re.compile(r"playbooks/\w+\.yml(?: -e \S+=[\w.]+)*")
LOOSE = {"scannerdb_check_fail_on": "never", "scannerdb_fix_max_share": 1, "scannerdb_doctor_fail": False}


def places_of(site: Site, host: str) -> Places:
    base = site.folder / host
    return Places(*(str(base / n) for n in ("backups", "state", "logs")), str(base / "state" / "reports"), str(base))


def follow(site: Site, hint: str) -> None:
    """Type everything that a hint says."""
    commands = COMMAND.findall(hint)
    assert commands, hint
    for command in commands:
        playbook, *arguments = shlex.split(command)
        site.run(playbook, *arguments, **LOOSE).ok()


def test_what_the_check_finds_is_gone_after_its_hint(site: Site, field_once: Database) -> None:
    site.add("one", field_once).run("playbooks/backup.yml").ok()
    for _ in range(3):  # one fix may uncover another
        found = wrongs(doctor(options(field_once), places_of(site, "one")))
        hints = [found[cause] for cause in ("consistency", "performance") if COMMAND.search(found.get(cause, ""))]
        to_type = [hint for hint in hints if set(COMMAND.findall(hint)) - {"playbooks/check.yml"}]
        for hint in to_type:
            follow(site, hint)
        if not to_type:
            break
    left = wrongs(doctor(options(field_once), places_of(site, "one")))
    for cause in ("consistency", "performance"):
        assert "playbooks/fix.yml" not in left.get(cause, "") and "vacuum.yml" not in left.get(cause, ""), left
        assert "is the same as" not in left.get(cause, "") and "inactive endpoints" not in left.get(cause, "")


def test_a_damaged_set_is_put_aside_and_then_gone(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    where: dict[str, Any] = {"backup_dir": f"{site.folder}/one/backups", "state_dir": f"{site.folder}/one/state"}
    bad = Path(run_backup(options(field_once), **where, verify_level="none")["backup"]["path"])
    run_backup(options(field_once), **where, verify_level="checksum")
    victim = max((path for path in (bad / "dump").iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert run_verify(options(field_once), source=bad.name, level="checksum", **where)["failed"]
    hint = wrongs(doctor(options(field_once), places_of(site, "one")))["backups"]
    assert f"Damaged: {bad.name}" in hint and bad.name in site.run("playbooks/backups.yml").ok().output
    assert site.run("playbooks/remove.yml", "--check", scannerdb_remove_set=bad.name).ok().changed["one"] == 1
    assert bad.exists()
    follow(site, hint)
    assert not bad.exists() and (bad.parent / ".aside" / bad.name / "manifest.json").exists()
    assert "backups" not in wrongs(doctor(options(field_once), places_of(site, "one")))
    assert "Damaged" not in site.run("playbooks/status.yml", scannerdb_status_fail_on="never").ok().output

    last = site.backups("one")[0].name
    site.run("playbooks/remove.yml", scannerdb_remove_set=last).failed("the last backup that is not damaged")
    site.run("playbooks/remove.yml", scannerdb_remove_set="../x").failed("not the name of a backup set")
    again = site.run("playbooks/remove.yml", scannerdb_remove_set=bad.name).ok()
    assert again.changed["one"] == 0
    site.run("playbooks/remove.yml", scannerdb_remove_set=bad.name, scannerdb_remove_final=True).ok()
    assert not (bad.parent / ".aside" / bad.name).exists()


def test_folders_get_what_the_hint_says_and_a_run_makes_private_ones(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    found = wrongs(doctor(options(field_once), places_of(site, "one")))
    assert not [cause for cause in found if "folder" in cause], "nobody has needed them yet"
    site.run("playbooks/check.yml", scannerdb_check_fail_on="never").ok()
    site.run("playbooks/backup.yml").ok()
    assert not [cause for cause in wrongs(doctor(options(field_once), places_of(site, "one"))) if "folder" in cause]
    (site.folder / "one" / "logs").chmod(0o755)
    hint = wrongs(doctor(options(field_once), places_of(site, "one")))["folder: logs"]
    subprocess.run(shlex.split(hint[hint.index("chmod") :]), check=True)
    assert "folder: logs" not in wrongs(doctor(options(field_once), places_of(site, "one")))


@needs("root")
def test_what_this_user_may_not_see_is_not_called_missing(site: Site, field_once: Database) -> None:
    """Asked by a child without root's rights: its answer is that it could not look."""
    hidden = site.folder / "hidden"
    (hidden / "backups").mkdir(parents=True)
    hidden.chmod(0o700)
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        places = Places(*(str(hidden / name) for name in ("backups", "state", "logs", "reports", "etc")))
        from scannerdb.jobs.doctor import _on_host

        found = {d.cause: d.state for d in _on_host(options(field_once), places, 0, None)}
        wanted = ("folder: backups", "folder: state", "backups", "unfinished backups")
        os._exit(0 if all(found[cause] == "unknown" for cause in wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def extensions_are_found_again(database: Database, places: Places, installed: Path) -> None:
    """An extension whose files were taken from the server, until they are installed again."""
    database.sql("CREATE EXTENSION cube")
    (control,) = installed.rglob("cube.control")
    control.rename(control.with_suffix(".gone"))
    said = wrongs(doctor(options(database), places))["extensions"]
    assert "lacks the files of cube" in said and "Install them on the server" in said
    control.with_suffix(".gone").rename(control)
    assert "extensions" not in wrongs(doctor(options(database), places))


def test_a_server_that_is_older_than_its_programs_is_named(pool: Pool, tmp_path: Path) -> None:
    """Its programs are replaced under it, as a package upgrade does."""
    source = servers.find_bin_dir(VERSION)
    assert source is not None
    copy = pool.base / "upgraded"
    shutil.copytree(source.parent, copy, symlinks=True)
    server = Server(pool.base / "running", copy / "bin", servers.FAST)
    try:
        server.start()
        factory = Databases(pool, server)
        database = factory()
        places = Places(*[str(tmp_path)] * 5)
        assert "server programs" not in wrongs(doctor(options(database), places))
        extensions_are_found_again(database, places, copy)
        program = copy / "bin" / "postgres"
        newer = copy / "bin" / "postgres.new"
        newer.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {VERSION}.99'\n")
        newer.chmod(0o755)
        newer.replace(program)
        said = wrongs(doctor(options(database), places))["server programs"]
        assert f"{VERSION}.99 by now: it was not restarted" in said and "Restart the server" in said
    finally:
        server.remove()


def nowhere(tmp_path: Path) -> Places:
    return Places(*[str(tmp_path)] * 5)


def sql_of(hint: str) -> list[str]:
    """The statements that a hint has for a superuser."""
    found = re.search(r"As a superuser, in this database: (.*;) \(", hint, re.DOTALL)
    assert found is not None, hint
    return found[1].split(";")[:-1]


def test_a_role_that_may_do_little_may_do_all_once_the_statements_were_run(
    field_once: Database, tmp_path: Path
) -> None:
    """Tables of a superuser and of another role: the first are given away, for nobody is to become a superuser."""
    field_once.sql('CREATE ROLE "weak one" LOGIN')
    field_once.sql("CREATE ROLE hint_owner")
    field_once.sql("ALTER TABLE models OWNER TO hint_owner")
    field_once.sql("ALTER TABLE metadata OWNER TO postgres")
    weak = options(field_once, user="weak one")
    causes = {"backup", "fix", "journal", "restore", "sessions"}
    found = {cause: hint for cause, hint in wrongs(doctor(weak, nowhere(tmp_path))).items() if "privileges" in cause}
    assert set(found) == {f"privileges: {cause}" for cause in causes}
    assert 'GRANT "hint_owner", ' in found["privileges: fix"] and "deploy.yml" in found["privileges: fix"]
    assert 'ALTER TABLE "public"."metadata" OWNER TO "weak one"' in found["privileges: fix"]
    for hint in found.values():
        for statement in sql_of(hint):
            field_once.sql(statement)
    after = doctor(weak, nowhere(tmp_path))
    assert not [cause for cause in wrongs(after) if "privileges" in cause]
    assert not field_once.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'weak one'")


def test_a_role_that_is_missing_is_made_by_the_playbook_and_a_password_set_right(
    site: Site, database_once: Database, tmp_path: Path
) -> None:
    site.add("one", database_once, scannerdb_maintenance_role="hint_maint", scannerdb_maintenance_role_password="right")
    over = {"host": "127.0.0.1", "unix_socket": "", "user": "hint_maint"}
    assert "login" in wrongs(doctor(options(database_once, user="hint_maint"), nowhere(tmp_path)))
    follow(site, wrongs(doctor(options(database_once, user="hint_maint"), nowhere(tmp_path)))["login"])
    assert "login" not in wrongs(doctor(options(database_once, user="hint_maint"), nowhere(tmp_path)))
    said = wrongs(doctor(options(database_once, password="wrong", **over), nowhere(tmp_path)))["login"]
    assert "Check scannerdb_login_user and scannerdb_login_password" in said
    assert "login" not in wrongs(doctor(options(database_once, password="right", **over), nowhere(tmp_path)))


def test_a_lock_that_is_held_too_long_is_free_after_the_statement(database_once: Database, tmp_path: Path) -> None:
    held = job_lock(options(database_once), "vacuum", "20260101T000000Z-00000000")
    with contextlib.suppress(Exception), held:
        hint = wrongs(doctor(options(database_once), nowhere(tmp_path), stale_s=1e-6))["job lock"]
        statement = re.search(r"SELECT pg_terminate_backend\(\d+\)", hint)
        assert statement is not None
        with database_once.connect(dbname="postgres") as conn:
            conn.execute(statement[0])
        wait_for(lambda: "job lock" not in wrongs(doctor(options(database_once), nowhere(tmp_path), stale_s=1e-6)))
        return
    raise AssertionError("the doctor did not name the lock")


def test_what_was_made_in_the_future_is_gone_after_the_hint(site: Site, database_once: Database) -> None:
    """A right clock alone would leave it there: it is put aside, or its record removed."""
    site.add("one", database_once)
    places = places_of(site, "one")
    Path(places.backup_dir).mkdir(parents=True, mode=0o700)
    where = {"backup_dir": places.backup_dir, "state_dir": places.state_dir, "verify_level": "none"}
    old = Path(run_backup(options(database_once), **where)["backup"]["path"])
    run_backup(options(database_once), **where)
    moment = (datetime.datetime.now(tz=datetime.timezone.utc) + datetime.timedelta(days=900)).replace(microsecond=0)
    manifest = json.loads((old / "manifest.json").read_text())
    name = f"{old.name[: -len('20260101_000000.backup')]}{moment:%Y%m%d_%H%M%S}.backup"
    manifest.update(created=f"{moment:%Y-%m-%dT%H:%M:%SZ}", name=name)
    (old / "manifest.json").write_text(json.dumps(manifest))
    old.rename(old.with_name(name))
    hint = wrongs(doctor(options(database_once), places))["clock"]
    assert "chrony" in hint and name in hint
    follow(site, hint)
    assert "clock" not in wrongs(doctor(options(database_once), places))

    at = manifest["created"]
    write_record(places.state_dir, Record("29990101T000000Z-00000000", "daily", at, "/log", "ok", at, 0, ""))
    hint = wrongs(doctor(options(database_once), places))["clock"]
    subprocess.run(shlex.split(hint[hint.index("rm ") :]), check=True)
    assert "clock" not in wrongs(doctor(options(database_once), places))


def test_a_scheduler_that_does_not_run_is_found_once_it_does(
    database_once: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon of this test's own stands for cron, so that no job of this machine is started."""
    entry = tmp_path / "cron"
    entry.write_text("0 3 * * * root run schedule.json daily\n")
    job = {"name": "daily", "profile": "daily", "hour": 3, "minute": 0, "log": "cron_backup.log"}
    values = {"kind": "cron", "timezone": "", "offset": 0, "random_delay_s": 0, "time_limit_s": 0, "jobs": [job]}
    (tmp_path / "schedule.json").write_text(json.dumps({**values, "entries": {"daily": str(entry)}}))
    monkeypatch.setattr(host, "CRONS", ("hintcron",))
    assert "systemctl enable --now cron" in wrongs(doctor(options(database_once), nowhere(tmp_path)))["scheduler"]
    daemon = tmp_path / "hintcron"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", daemon)
    running = subprocess.Popen([daemon, "600"])
    try:
        wait_for(lambda: "scheduler" not in wrongs(doctor(options(database_once), nowhere(tmp_path))))
    finally:
        running.kill()
        running.wait()


def test_versions_are_compared_as_numbers() -> None:
    assert judged("15.18 (Debian 15.18-1)", "15.18", "/x").state == "fine"
    assert judged("15.9", "15.18", "/x").state == "wrong"
    assert judged("15.9", "", "/x").state == "wrong"


def test_a_folder_that_a_backup_refuses_is_not_called_fine(site: Site, field_once: Database) -> None:
    """What goes with its container is said before the first backup is refused; the hint's variable settles it."""
    site.add("one", field_once, scannerdb_backup_storage="ephemeral")
    site.run("playbooks/backup.yml").failed("would not last")
    said = site.run("playbooks/doctor.yml", scannerdb_doctor_fail=False).ok()
    assert "WRONG backup storage: A backup in" in said.prose and "scannerdb_backup_storage: persistent" in said.prose
    cured = site.run("playbooks/doctor.yml", scannerdb_doctor_fail=False, scannerdb_backup_storage="persistent").ok()
    assert "ok backup storage" in cured.prose
