"""What replaces or removes a database is for one host; nothing leads a run to a database that nobody named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.playbooks import ROOT, Site, site
from tests.integration.support import content, options, run_backup
from tests.servers import Database, Databases

__all__ = ["site"]
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter

RUN_ID = "20250418T031500Z-0a1b2c3d"
REQUESTS = {
    "restore": {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": "ollama_scanner"},
    "restore-undo": {"scannerdb_restore_undo": True, "scannerdb_restore_confirm": "ollama_scanner"},
    "clone": {"scannerdb_restore_source": "latest", "scannerdb_restore_into_database": "copy"},
    "tables": {"scannerdb_restore_source": "latest", "scannerdb_restore_tables": "metadata"},
    "undo": {"scannerdb_run_id": RUN_ID},
    "remove": {"scannerdb_remove_set": "ollama_scanner_20250418_120000.backup"},
    "uninstall": {},
    "migrate": {"scannerdb_migrate_confirm": "ollama_scanner"},
}


def playbook(request_name: str) -> str:
    return {"restore-undo": "restore", "clone": "restore", "tables": "restore"}.get(request_name, request_name)


@pytest.fixture
def two(site: Site, make_database: Databases) -> tuple[Site, list[Database]]:
    """Two hosts, each with a database that was damaged after a backup."""
    databases = []
    for name in ("db1", "db2"):
        db = make_database(filled=True)
        site.add(name, db)
        folder = site.folder / name / "backups"
        folder.mkdir(parents=True)
        run_backup(options(db), backup_dir=str(folder), state_dir=str(site.folder / name / "state"))
        with db.connect() as conn:
            conn.execute("DELETE FROM benchmark_results")
        databases.append(db)
    return site, databases


def test_several_hosts_are_refused(two: tuple[Site, list[Database]]) -> None:
    """Every request, and not even a folder is taken away."""
    site, databases = two
    before = [content(db) for db in databases]
    for name, request in REQUESTS.items():
        run = site.run(f"playbooks/{playbook(name)}.yml", **request)
        option = name if name in ("undo", "remove", "uninstall", "migrate") else "restore"
        run.failed("2 hosts: db1, db2", "-l db1", f"scannerdb_{option}_hosts=all", "No database was touched")
        assert [content(db) for db in databases] == before
        assert all(site.backups(host) for host in site.hosts)


def test_one_of_two_is_restored_and_the_other_stays(two: tuple[Site, list[Database]]) -> None:
    site, (first, second) = two
    damaged = content(second)
    confirm = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": first.name}
    site.run("playbooks/restore.yml", "-l", "db1", **confirm).ok()
    assert first.value("SELECT count(*) FROM benchmark_results") > 0
    assert content(second) == damaged


def test_all_are_restored_when_the_request_says_so(two: tuple[Site, list[Database]]) -> None:
    site, databases = two
    confirm = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": "{{ scannerdb_login_db }}"}
    site.run("playbooks/restore.yml", scannerdb_restore_hosts="all", **confirm).ok()
    assert all(db.value("SELECT count(*) FROM benchmark_results") > 0 for db in databases)


def test_the_environment_leads_no_fleet_anywhere(site: Site, make_database: Databases) -> None:
    """PGDATABASE of a shell would have sent both hosts to one database."""
    other, one = make_database("elsewhere"), make_database(filled=True)
    shell = {"PGDATABASE": other.name, "PGPORT": "1"}
    for name in ("db1", "db2"):
        site.add(name, one)
        site.hosts[name].pop("scannerdb_login_db")
    site.group["scannerdb_check_fail_on"] = "never"
    run = site.run("playbooks/check.yml", environment=shell)
    assert "PGPORT, PGDATABASE of your environment do not count here" in run.prose
    assert other.name not in run.output


def test_for_one_host_the_environment_counts_and_the_run_says_so(site: Site, make_database: Databases) -> None:
    db = make_database(filled=True)
    site.add("db1", db, scannerdb_check_fail_on="never")
    site.hosts["db1"].pop("scannerdb_login_db")
    shell = {"PGDATABASE": db.name, "PGPORT": "1"}  # the port is the inventory's
    for name in ("check", "status", "doctor"):
        run = site.run(f"playbooks/{name}.yml", environment=shell)
        assert "From your environment: scannerdb_login_db from PGDATABASE." in run.prose
    assert site.report("db1")["server"]["database"] == db.name
    assert "environment" not in site.run("playbooks/check.yml", scannerdb_login_db=db.name).prose


@pytest.mark.parametrize("name", ["maintain.yml", "playbooks/status.yml", "playbooks/restore.yml"])
def test_without_an_inventory_there_is_a_sentence(tmp_path: Path, name: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(tmp_path),
        "ANSIBLE_HOME": str(tmp_path),
    }
    environment["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    command = [sys.executable, "-m", "ansible", "playbook", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "No inventory was given" in said
    assert "demo" not in said.split("No inventory was given")[0]
