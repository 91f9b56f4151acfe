"""Every hint of the doctor is followed here, to the letter, and what it was for is gone afterwards."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.doctor.binaries import judged
from scannerdb.jobs.backup import backup
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.verify import verify

from demo.server import Server
from tests import servers
from tests.integration.own_server import VERSION
from tests.integration.playbooks import Site, site
from tests.integration.support import options
from tests.integration.test_doctor import wrongs
from tests.needs import needs
from tests.servers import Database, Databases, Pool

__all__ = ["site"]
COMMAND = re.compile(r"playbooks/\w+\.yml(?: -e \S+=[\w.]+)*")
LOOSE = {"scannerdb_check_fail_on": "never", "scannerdb_fix_max_share": 1, "scannerdb_doctor_fail": False}


@pytest.fixture
def field_17(pool: Pool) -> Iterator[Database]:
    """The field's database on one version: nothing here depends on it."""
    factory = Databases(pool, pool.server(17))
    yield factory(filled=True)
    factory.clean()


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


def test_what_the_check_finds_is_gone_after_its_hint(site: Site, field_17: Database) -> None:
    site.add("one", field_17).run("playbooks/backup.yml").ok()
    for _ in range(3):  # one fix may uncover another
        found = wrongs(doctor(options(field_17), places_of(site, "one")))
        hints = [found[cause] for cause in ("consistency", "performance") if COMMAND.search(found.get(cause, ""))]
        to_type = [hint for hint in hints if set(COMMAND.findall(hint)) - {"playbooks/check.yml"}]
        for hint in to_type:
            follow(site, hint)
        if not to_type:
            break
    left = wrongs(doctor(options(field_17), places_of(site, "one")))
    for cause in ("consistency", "performance"):
        assert "playbooks/fix.yml" not in left.get(cause, "") and "vacuum.yml" not in left.get(cause, ""), left
        assert "is the same as" not in left.get(cause, "") and "inactive endpoints" not in left.get(cause, "")


def test_a_damaged_set_is_put_aside_and_then_gone(site: Site, field_17: Database) -> None:
    site.add("one", field_17)
    where: dict[str, Any] = {"backup_dir": f"{site.folder}/one/backups", "state_dir": f"{site.folder}/one/state"}
    bad = Path(backup(options(field_17), **where, verify_level="none")["backup"]["path"])
    backup(options(field_17), **where, verify_level="checksum")
    victim = max((path for path in (bad / "dump").iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert verify(options(field_17), source=bad.name, level="checksum", **where)["failed"]
    hint = wrongs(doctor(options(field_17), places_of(site, "one")))["backups"]
    assert f"Damaged: {bad.name}" in hint and bad.name in site.run("playbooks/backups.yml").ok().output
    assert site.run("playbooks/remove.yml", "--check", scannerdb_remove_set=bad.name).ok().changed["one"] == 1
    assert bad.exists()
    follow(site, hint)
    assert not bad.exists() and (bad.parent / ".aside" / bad.name / "manifest.json").exists()
    assert "backups" not in wrongs(doctor(options(field_17), places_of(site, "one")))
    assert "Damaged" not in site.run("playbooks/status.yml", scannerdb_status_fail_on="never").ok().output

    last = site.backups("one")[0].name
    site.run("playbooks/remove.yml", scannerdb_remove_set=last).failed("the last backup that is not damaged")
    site.run("playbooks/remove.yml", scannerdb_remove_set="../x").failed("not the name of a backup set")
    again = site.run("playbooks/remove.yml", scannerdb_remove_set=bad.name).ok()
    assert again.changed["one"] == 0
    site.run("playbooks/remove.yml", scannerdb_remove_set=bad.name, scannerdb_remove_final=True).ok()
    assert not (bad.parent / ".aside" / bad.name).exists()


def test_folders_get_what_the_hint_says_and_a_run_makes_private_ones(site: Site, field_17: Database) -> None:
    site.add("one", field_17)
    found = wrongs(doctor(options(field_17), places_of(site, "one")))
    assert not [cause for cause in found if "folder" in cause], "nobody has needed them yet"
    site.run("playbooks/check.yml", scannerdb_check_fail_on="never").ok()
    site.run("playbooks/backup.yml").ok()
    assert not [cause for cause in wrongs(doctor(options(field_17), places_of(site, "one"))) if "folder" in cause]
    (site.folder / "one" / "logs").chmod(0o755)
    hint = wrongs(doctor(options(field_17), places_of(site, "one")))["folder: logs"]
    subprocess.run(shlex.split(hint[hint.index("chmod") :]), check=True)
    assert "folder: logs" not in wrongs(doctor(options(field_17), places_of(site, "one")))


@needs("root")
def test_what_this_user_may_not_see_is_not_called_missing(site: Site, field_17: Database) -> None:
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

        found = {d.cause: d.state for d in _on_host(options(field_17), places, 0, None)}
        wanted = ("folder: backups", "folder: state", "backups", "unfinished backups")
        os._exit(0 if all(found[cause] == "unknown" for cause in wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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
        program = copy / "bin" / "postgres"
        newer = copy / "bin" / "postgres.new"
        newer.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {VERSION}.99'\n")
        newer.chmod(0o755)
        newer.replace(program)
        said = wrongs(doctor(options(database), places))["server programs"]
        assert f"{VERSION}.99 by now: it was not restarted" in said and "Restart the server" in said
    finally:
        server.remove()


def test_versions_are_compared_as_numbers() -> None:
    assert judged("15.18 (Debian 15.18-1)", "15.18", "/x").state == "fine"
    assert judged("15.9", "15.18", "/x").state == "wrong"
    assert judged("15.9", "", "/x").state == "wrong"


def test_a_folder_that_a_backup_refuses_is_not_called_fine(site: Site, field_17: Database) -> None:
    """What goes with its container is said before the first backup is refused; the hint's variable settles it."""
    site.add("one", field_17, scannerdb_backup_storage="ephemeral")
    site.run("playbooks/backup.yml").failed("would not last")
    said = site.run("playbooks/doctor.yml", scannerdb_doctor_fail=False).ok()
    assert "WRONG backup storage: A backup in" in said.prose and "scannerdb_backup_storage: persistent" in said.prose
    cured = site.run("playbooks/doctor.yml", scannerdb_doctor_fail=False, scannerdb_backup_storage="persistent").ok()
    assert "ok backup storage" in cured.prose
