"""What a playbook needs on the controller and on the host is said before anything is done, with the command to type."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.integration.playbooks import ROOT, Site, run, site
from tests.needs import needs
from tests.servers import Database

__all__ = ["site"]
INSTALL = "ansible-galaxy collection install -r collections/requirements.yml"


@pytest.fixture
def bare(site: Site) -> dict[str, str]:
    """The environment of a controller with ansible-core alone."""
    return {"ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false", "ANSIBLE_COLLECTIONS_PATH": str(site.folder)}


def test_a_missing_collection_is_named_with_its_command(site: Site, field_once: Database, bare: dict[str, str]) -> None:
    site.add("one", field_once)
    site.run("playbooks/deploy.yml", environment=bare).failed("community.postgresql, which is not installed", INSTALL)
    site.run("playbooks/awx.yml", environment=bare).failed("awx.awx, which is not installed", INSTALL)
    assert field_once.value("SELECT to_regrole('scannerdb_maint') IS NULL")

    done = site.run("playbooks/deploy.yml", environment=bare, scannerdb_deploy_roles=False).ok()
    assert "a database that is missing and the extensions" in done.prose and done.changed["one"] > 0


def test_a_local_host_is_told_that_nothing_is_installed(site: Site) -> None:
    site.hosts = {"one": {}}
    said = site.run("playbooks/client.yml").ok()
    assert "Nothing is installed on one: its connection is local" in said.prose
    assert "scannerdb_client_install=true" in said.prose


def test_metrics_that_cannot_be_written_are_a_problem_and_not_the_end(site: Site, field_once: Database) -> None:
    (site.folder / "taken").write_text("no folder")
    site.add("one", field_once, scannerdb_metrics_dir=f"{site.folder}/taken/prom")
    for arguments in (("--check",), ()):
        said = site.run("playbooks/status.yml", *arguments, scannerdb_status_fail_on="never").ok()
        assert "warning The metrics were not written: " in said.prose and "UNREACHABLE" not in said.output
        assert "primary" in said.prose


@needs("root")
def test_a_first_run_on_the_host_says_what_it_lacks(site: Site, field_once: Database) -> None:
    """Each stop of a first run, made for real, with what to type; nothing is done before."""
    hidden = site.folder / "root"
    hidden.mkdir(mode=0o700)
    (hidden / "python3").symlink_to(sys.executable)
    site.add("one", field_once)
    other = {"scannerdb_become": True, "scannerdb_become_user": "nobody", "ansible_become_method": "su"}
    shell = {"ansible_become_flags": "-s /bin/sh"}
    seen = site.run("playbooks/check.yml", **other, **shell, ansible_python_interpreter=str(hidden / "python3"))
    seen.failed("does not run as nobody", "Permission denied", "not /root")
    bare = site.folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    lacking = site.run("playbooks/check.yml", ansible_python_interpreter=str(bare / "bin" / "python"))
    lacking.failed("has no psycopg", "scannerdb_client_install=true")
    none = {**other, "ansible_become_method": "sudo", "ansible_become_exe": "/nowhere/sudo"}
    site.run("playbooks/check.yml", **none).failed("nobody could become nobody by sudo", "ansible_become_method: su")
    # A host reached by ssh is not tried before; the first module that cannot begin there is what asks.
    far = {**none, "__scannerdb_preflight": False}
    for name in ("check", "backups", "runs", "status"):
        site.run(f"playbooks/{name}.yml", **far).failed("nobody could become nobody by sudo")
    site.run("playbooks/remove.yml", scannerdb_remove_set="any", **far).failed("nobody could become nobody by sudo")
    gone = {"__scannerdb_preflight": False, "ansible_python_interpreter": "/nowhere/python3"}
    site.run("playbooks/doctor.yml", **gone).failed("/nowhere/python3 does not run as this user")
    # Tests run as root, who becomes root without asking anybody.
    asked = {"ANSIBLE_BECOME_ALLOW_SAME_USER": "1"}
    no_root = {**far, "scannerdb_become": False, "scannerdb_become_root": True, "scannerdb_client_install": True}
    for name in ("client", "deploy", "uninstall"):
        stopped = site.run(f"playbooks/{name}.yml", environment=asked, **no_root)
        stopped.failed("nobody could become root by sudo", "--ask-become-pass")
    assert site.files("one") == []

    # What the hint says to type would bring psycopg to that very Python.
    cured = site.run(
        "playbooks/client.yml",
        "--check",
        ansible_python_interpreter=str(bare / "bin" / "python"),
        scannerdb_client_install=True,
    )
    assert re.search(r"psycopg\[binary\]==\S+ would be installed", cured.ok().prose), cured.output


def test_the_local_inventory_is_ready_to_use(site: Site, field_once: Database) -> None:
    """With the socket and the name of this test's server, and nothing else."""
    changes = {"scannerdb_become": False, "scannerdb_check_fail_on": "never"}
    for kind in ("backup", "state", "log"):
        changes[f"scannerdb_{kind}_dir"] = f"{site.folder}/{kind}"
    changes.update({f"scannerdb_{name}": value for name, value in field_once.login.items() if name.startswith("login")})
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(ROOT / "inventories" / "local")]
    run([*command, "-e", json.dumps(changes), "playbooks/check.yml"], site.folder, ROOT, {}).ok()
    assert (site.folder / "state" / "reports" / "db_schema_issues_report.json").exists()


def test_a_variable_that_nothing_knows_stops_a_playbook_before_anything_is_done(site: Site) -> None:
    """A host that is not strict hears of it as a warning; one outside the limit keeps no other from its work."""
    site.hosts = {"one": {"scannerdb_retention_day": 3}, "two": {"scannerdb_strict": "{{ false }}", "scannerdb_own": 1}}
    stopped = site.run("playbooks/backup.yml")
    stopped.failed("Nothing knows scannerdb_retention_day; scannerdb_retention_days")
    assert "scannerdb_own" not in stopped.output and not (site.folder / "backups").exists()
    said = site.run("playbooks/client.yml", scannerdb_strict="false").ok()
    assert "Nothing knows scannerdb_retention_day" in said.prose and "Nothing knows scannerdb_own" in said.prose
    other = site.run("playbooks/client.yml", "--limit", "two").ok()
    assert "Nothing knows scannerdb_own" in other.prose and "scannerdb_retention_day" not in other.prose
