"""schedule.yml as a person runs it, on this machine, with folders of the test's own in place of /etc."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scannerdb import runs

from tests.integration.playbooks import ROOT, Run, Site, site
from tests.integration.support import run_fix
from tests.needs import needs
from tests.servers import Database

__all__ = ["site"]
PLAYBOOK = "playbooks/schedule.yml"
PASSWORD = "p{{ss}} %w\"o'r\\d"


@pytest.fixture
def scheduled(site: Site) -> Site:
    """A site whose schedules lie in folders of its own."""
    for name in ("cron", "units", "rotate"):
        (site.folder / name).mkdir()
    site.group.update(
        scannerdb_become_root=False,
        scannerdb_bundle_install=False,
        scannerdb_schedule_self_test=False,
        scannerdb_config_dir=f"{site.folder}/{{{{ inventory_hostname }}}}/etc",
        __scannerdb_schedule_unit_dir=f"{site.folder}/units",
        __scannerdb_schedule_logrotate_dir=f"{site.folder}/rotate",
        __scannerdb_schedule_cron_dir=f"{site.folder}/cron",
    )
    return site


def plan(site: Site, *arguments: str, **extra: Any) -> Run:
    """Run schedule.yml; role variables of these names give way to extra variables only."""
    inner = {name: value for name, value in site.group.items() if name.startswith("__")}
    return site.run(PLAYBOOK, *arguments, **{**inner, **extra})


def lines(site: Site, name: str) -> dict[str, str]:
    """The jobs in a file of cron: their five fields by their names."""
    text = (site.folder / "cron" / name).read_text()
    found = [line.split() for line in text.splitlines() if re.match(r"[0-9]", line)]
    return {parts[-1]: " ".join(parts[:5]) for parts in found}


def everything(site: Site) -> list[str]:
    folders = ("cron", "units", "rotate", "one/etc", "two.x/etc")
    return sorted(str(p.relative_to(site.folder)) for f in folders for p in (site.folder / f).rglob("*") if p.is_file())


def test_a_schedule_comes_changes_stays_and_goes(scheduled: Site) -> None:
    site = scheduled
    site.hosts = {"one": {"scannerdb_login_password": PASSWORD.replace("{{", "{{ '{{' }}")}, "two.x": {}}
    site.group.update(scannerdb_restore_keep_hours=0, scannerdb_awx_token="a token of AWX")
    site.group.update(scannerdb_maintenance_role_password="a role's password")
    site.group.update(scannerdb_schedule_hook_failure='["/usr/bin/tell", "--level", 5]')
    (site.folder / "cron" / "somebody-elses").write_text("17 * * * * root true\n")
    dry = plan(site, "--check").ok()
    assert dry.changed["one"] > 0 and everything(site) == ["cron/somebody-elses"]

    plan(site).ok()
    two = next(p.name for p in (site.folder / "cron").glob("scannerdb-two_x-*"))
    assert re.fullmatch(r"scannerdb-two_x-[0-9a-f]{8}", two)
    assert lines(site, "scannerdb-one") == {"daily": "0 3 * * *", "weekly": "0 4 * * 0", "monthly": "0 5 1 * *"}
    assert plan(site).ok().changed == {"localhost": 0, "one": 0, "two.x": 0}

    inventory = site.folder / "one" / "etc" / "inventory.json"
    assert inventory.stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-m", "ansible", "adhoc", "one", "-i", str(inventory), "-m", "debug", "-a"]
    said = subprocess.run([*command, "var=scannerdb_login_password"], capture_output=True, text=True, check=True).stdout
    assert PASSWORD in said
    hook = json.loads(inventory.with_name("schedule.json").read_text())["hook_failure"]
    assert hook == ["/usr/bin/tell", "--level", "5"]
    known = json.loads(inventory.read_text())
    assert '"scannerdb_restore_keep_hours"' in json.dumps(known), "maintain.yml sweeps by it"
    assert "a token of AWX" not in json.dumps(known) and "a role's password" not in json.dumps(known)

    moved = {"weekly": {"weekday": "saturday", "hour": 2}, "monthly": {"enabled": False}}
    changed = plan(
        site, "--diff", scannerdb_schedule_overrides=json.dumps(moved), scannerdb_schedule_spread_minutes="30"
    ).ok()
    assert PASSWORD not in changed.output
    one, other = lines(site, "scannerdb-one"), lines(site, two)
    assert set(one) == {"daily", "weekly"} and one["weekly"].endswith("2 * * 6")
    assert one["daily"].split()[0] != other["daily"].split()[0] and all(
        0 <= int(o["daily"].split()[0]) < 30 for o in (one, other)
    )

    left = ["cron/somebody-elses"]
    assert (
        plan(site, "--check", scannerdb_schedule_state="absent").ok().changed["one"] > 0 and len(everything(site)) > 1
    )
    plan(site, scannerdb_schedule_state="absent").ok()
    assert everything(site) == left
    assert plan(site, scannerdb_schedule_state="absent").ok().changed == {"localhost": 0, "one": 0, "two.x": 0}


def test_the_scheduled_job_backs_up_as_a_person_would(scheduled: Site, field_once: Database) -> None:
    """The line of cron itself, run by a shell with cron's bare environment; also where the site is not strict."""
    site = scheduled
    site.add("one", field_once, scannerdb_fetched_from="a variable of the site's own")
    site.group.update(scannerdb_strict=False, scannerdb_pgbackrest_repositories=[{"s3-key-secret": "key of a bucket"}])
    assert "Nothing knows scannerdb_fetched_from" in plan(site).ok().prose
    written = (site.folder / "one" / "etc" / "inventory.json").read_text()
    assert "key of a bucket" not in written and "scannerdb_fetched_from" not in written
    (line,) = [x for x in (site.folder / "cron" / "scannerdb-one").read_text().splitlines() if x.endswith(" daily")]
    command = line.split(" ", 6)[6].replace("\\%", "%")
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    log = (site.folder / "one" / "backups" / "cron_backup.log").read_text()
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), log
    assert len(site.backups("one")) == 1 and "Not done" not in log and "daily: ok, code 0" in log


def test_a_schedule_ends_with_a_trial_and_a_table(scheduled: Site, field_once: Database) -> None:
    site = scheduled
    site.add("one", field_once)
    said = plan(site, scannerdb_schedule_self_test=True).ok()
    assert "interpreter, playbooks, inventory, folders, connection." in said.prose
    assert re.search(r"job +when +next run, UTC +log", said.output), said.output
    assert re.search(r"daily +\*-\*-\* 03:00:00 +20\S+Z +/.*/cron_backup.log", said.output), said.output
    command = shlex.split(said.output.partition("Run one now:")[2].splitlines()[0])
    assert subprocess.run(command, check=False).returncode == 0 and len(site.backups("one")) == 1

    site.hosts["one"]["scannerdb_login_port"] = 1
    plan(site, scannerdb_schedule_self_test=True).failed("they cannot start. A job cannot connect: ", "port 1")


@needs("root")
@pytest.mark.parametrize("what", ["runner", "libraries"])
def test_a_schedule_whose_jobs_cannot_start_fails(scheduled: Site, field_once: Database, what: str) -> None:
    """The interpreter lies below root's own home, which the jobs' user may not enter."""
    site = scheduled
    site.add("one", field_once)
    hidden = site.folder / "root"
    hidden.mkdir(mode=0o700)
    (hidden / "python3").symlink_to(sys.executable)
    inner = {"__scannerdb_bundle_interpreter": str(hidden / "python3")}
    if what == "runner":
        inner = {
            "__scannerdb_schedule_runner": ["/usr/bin/env", str(hidden / "python3"), "run_job.py", "schedule.json"]
        }
    said = plan(site, scannerdb_schedule_self_test=True, scannerdb_schedule_user="nobody", **inner)
    said.failed("as nobody they cannot start", "Permission denied", "scannerdb_bundle_python=/usr/bin/python3")


def test_uninstalling_leaves_the_database_the_backups_and_the_neighbours(scheduled: Site, field_once: Database) -> None:
    site = scheduled
    site.add("one", field_once)
    site.hosts["two.x"] = {}
    site.group["scannerdb_metrics_dir"] = f"{site.folder}/prom"
    spool = site.folder / "spool"
    spool.mkdir()
    (spool / "me").write_text("0 3 * * * cd /opt/scanner && ./backup_database.sh\n5 5 * * * true\n")
    inner = {"__scannerdb_schedule_crontabs": [str(spool)]}
    said = plan(site, "-l", "one", **inner).ok()
    assert "1 lines of crontabs that start the old scripts still run" in said.prose
    plan(site, scannerdb_adopt_legacy="remove", **inner).ok()
    assert (spool / "me").read_text() == "5 5 * * * true\n"
    run_fix(field_once)
    assert field_once.value("SELECT count(*) FROM scannerdb_maintenance.journal") > 0
    kept = site.folder / "one" / "backups" / "old.backup"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("x")
    runs.Run(job="daily", database="x", log_path=str(kept.with_name("cron_backup.log"))).log("started")
    (site.folder / "prom").mkdir()
    (site.folder / "prom" / "scannerdb_one.prom").write_text("x 1\n")

    inner.update({name: value for name, value in site.group.items() if name.startswith("__")})
    site.run("playbooks/uninstall.yml", "-l", "one", **inner, scannerdb_uninstall_backups="other").failed("spell out")
    gone = site.run("playbooks/uninstall.yml", "-l", "one", **inner, scannerdb_uninstall_schema="true").ok()
    assert gone.changed["one"] > 0 and site.files("one") == ["backups/cron_backup.log", "backups/old.backup"]
    assert "What is not known to be its own stays" in gone.prose
    assert field_once.value("SELECT to_regnamespace('scannerdb_maintenance') IS NULL")
    assert not (site.folder / "prom" / "scannerdb_one.prom").exists() and len(everything(site)) == 4  # two.x's
    again = site.run("playbooks/uninstall.yml", "-l", "one", **inner, scannerdb_uninstall_schema=True).ok()
    assert set(again.changed.values()) == {0}
    site.run("playbooks/uninstall.yml", "-l", "one", **inner, scannerdb_uninstall_backups=field_once.name).ok()
    assert site.files("one") == ["backups/old.backup"]  # no set of the bundle


def test_what_cannot_be_is_said_before_anything_is_written(scheduled: Site) -> None:
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "hour": (
            {"scannerdb_schedule_overrides": {"weekly": {"hour": 25}}},
            "hour of job 'weekly' in the schedule is 25",
        ),
        "key": ({"scannerdb_schedule_overrides": {"weekly": {"hours": 5}}}, "Job 'weekly' of the schedule has 'hours'"),
        "job": ({"scannerdb_schedule_overrides": {"wekly": {"hour": 5}}}, "there is no job 'wekly'"),
        "hook": (
            {"scannerdb_schedule_hook_failure": "/usr/bin/tell -x"},
            "scannerdb_schedule_hook_failure is '/usr/bin/tell -x'. No shell reads it, so write it as a list",
        ),
        "zone": ({"scannerdb_schedule_timezone": "Europe/Atlantis"}, "no time zone 'Europe/Atlantis'"),
    }
    scheduled.hosts = {name: variables for name, (variables, _) in refused.items()}
    plan(scheduled).failed(*(words for _, words in refused.values()))
    scheduled.hosts = {"one": {}}
    plan(scheduled, __scannerdb_schedule_cron_dir="/no/cron").failed("cron is not installed there")
    assert [f for f in everything(scheduled) if f.startswith("cron")] == []


@needs("logrotate")
def test_logrotate_reads_its_file_and_rotates(scheduled: Site) -> None:
    site = scheduled
    site.hosts = {"one": {}}
    plan(site).ok()
    log = site.folder / "one" / "backups" / "cron_backup.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.write_text("something\n")
    command = [
        "logrotate",
        "--force",
        "--state",
        str(site.folder / "state"),
        str(site.folder / "rotate" / "scannerdb-one"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(f"{log}.1").read_text() == "something\n" and log.stat().st_mode & 0o777 == 0o600


MACHINES = """
- hosts: scannerdb
  gather_facts: false
  roles: [{role: scannerdb_bundle, when: false}]
  tasks:
    - ansible.builtin.debug: {msg: "{{ inventory_hostname }}: {{ __scannerdb_bundle_neighbours | join('+') }};"}
"""


def test_databases_of_one_machine_are_those_behind_one_address_and_port(scheduled: Site) -> None:
    """Of them the first one installs the bundle; nothing connects here."""
    site = scheduled
    ssh = {"ansible_connection": "ssh", "ansible_host": "198.51.100.7"}
    site.hosts = {"a": ssh, "b": {**ssh, "ansible_port": "22"}, "c": {**ssh, "ansible_port": 2222}, "d": {}, "e": {}}
    site.hosts["f"] = {"ansible_connection": "ssh"}  # known by its name alone
    site.hosts["g"] = {"ansible_connection": "ssh"}
    (site.folder / "machines.yml").write_text(MACHINES)
    said = site.run(str(site.folder / "machines.yml")).ok().output
    told = dict(re.findall(r"^  \w: (\w): (.*);$", said, re.MULTILINE))
    assert told == {"a": "a+b", "b": "a+b", "c": "c", "d": "d+e", "e": "d+e", "f": "f", "g": "g"}


INSTALL = """
- hosts: scannerdb
  gather_facts: false
  roles: [scannerdb_bundle]
"""


ABOUT = "import os, sys; print(sys.version_info >= (3, 11), sys.version, os.path.realpath(sys._base_executable))"


def named(checkout: Path, python: str) -> str:
    """The folder of the libraries that a Python makes which says this of itself."""
    requirements = hashlib.sha256((checkout / "requirements.txt").read_bytes()).hexdigest()[:16]
    return hashlib.sha256((requirements + python).encode()).hexdigest()[:16]


def environment_of(checkout: Path, python: str) -> str:
    """The same of one that is here."""
    done = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True, check=True)
    return named(checkout, done.stdout.strip())


@needs("root")
def test_an_upgrade_of_the_bundle_is_a_rerun(scheduled: Site, tmp_path: Path) -> None:
    """The new release becomes the current one in one step, two older ones stay, and a rerun changes nothing.

    The libraries stand there already; that they are installed is for the containers.
    """
    site, checkout, home = scheduled, tmp_path / "checkout", tmp_path / "opt"
    site.hosts = {"one": {}}
    (site.folder / "install.yml").write_text(INSTALL)
    checkout.mkdir()
    for name in ("LICENSE", "requirements.txt"):  # a small bundle is enough for it
        shutil.copy(ROOT / name, checkout / name)
    libraries = environment_of(checkout, "python3")
    (home / "venvs" / libraries).mkdir(parents=True)
    (home / "venvs" / libraries / ".complete").touch()
    extra = {
        "scannerdb_bundle_install": True,
        "scannerdb_bundle_dir": str(home),
        "__scannerdb_bundle_checkout": str(checkout),
    }
    for old in ("older", "oldest"):
        (home / "releases" / old).mkdir(parents=True)
        os.utime(home / "releases" / old, (1, 1 + (old == "older")))
    releases = []
    for version in ("one", "two"):
        (checkout / "LICENSE").write_text(version)
        assert site.run(str(site.folder / "install.yml"), **extra).ok().changed["one"] > 0
        current = (home / "current").resolve()
        assert (current / "LICENSE").read_text() == version
        assert (current / ".venv").resolve() == home / "venvs" / libraries
        releases.append(current.name)
    assert {path.name for path in (home / "releases").iterdir()} == {*releases, "older"}
    assert site.run(str(site.folder / "install.yml"), **extra).ok().changed["one"] == 0

    made = site.folder / "python-of-another-kind"
    made.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo True another; else exec {sys.executable} "$@"; fi\n')
    made.chmod(0o755)
    third = named(checkout, "True another")
    (home / "venvs" / third).mkdir()
    (home / "venvs" / third / ".complete").touch()
    extra["scannerdb_bundle_python"] = str(made)
    assert site.run(str(site.folder / "install.yml"), **extra).ok().changed["one"] > 0
    assert (home / "current" / ".venv").resolve() == home / "venvs" / third
    extra["scannerdb_bundle_python"] = "/bin/false"
    site.run(str(site.folder / "install.yml"), **extra).failed("/bin/false is no Python of version 3.11 or newer")


UNITS = """
- hosts: one
  gather_facts: false
  vars: {{role_path: {root}/roles/scannerdb_schedule}}
  roles: [{{role: scannerdb_schedule, when: false}}]
  tasks:
    - scannerdb_schedule_info: {{schedule: "{{{{ __scannerdb_schedule }}}}", timezone: Europe/Berlin}}
      register: __scannerdb_schedule_info
    - ansible.builtin.template:
        src: "{{{{ role_path }}}}/templates/job.{{{{ item.kind }}}}.j2"
        dest: "{folder}/units/{{{{ __scannerdb_schedule_unit }}}}{{{{ item.name }}}}.{{{{ item.kind }}}}"
      loop: "{{{{ __scannerdb_schedule_on | product([{{'kind': 'service'}}, {{'kind': 'timer'}}]) | map('combine') }}}}"
"""


@needs("systemd-analyze")
def test_systemd_takes_the_units(scheduled: Site) -> None:
    """systemd does not run here; that its timers fire is for the containers. Its parser reads them, with odd paths."""
    site = scheduled
    site.hosts = {"one": {"scannerdb_config_dir": f"{site.folder}/a %c$d/etc"}}
    text = UNITS.format(root=ROOT, folder=site.folder)
    (site.folder / "units.yml").write_text(text)
    extra = {
        "scannerdb_schedule_kind": "timer",
        "scannerdb_schedule_timezone": "Europe/Berlin",
        "scannerdb_schedule_user": "root",
    }
    site.run(str(site.folder / "units.yml"), **extra).ok()
    units = sorted((site.folder / "units").iterdir())
    assert [unit.name for unit in units][:2] == ["scannerdb-one.daily.service", "scannerdb-one.daily.timer"]
    done = subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    service, timer = (unit.read_text() for unit in units[:2])
    assert f'"{site.folder}/a %%c$$d/etc/schedule.json" "daily"' in service and "User=root" in service
    assert "OnCalendar=*-*-* 03:00:00 Europe/Berlin" in timer and "Persistent=true" in timer
