"""The role sets pgBackRest up on a real server, and the playbooks then back up and look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo import user
from tests.integration.playbooks import Run, Site, site
from tests.needs import needs
from tests.servers import FAST, Database, find_bin_dir, lone_server, make_home

__all__ = ["site"]
pytestmark = needs("pgbackrest", "postgresql-15")


@pytest.fixture
def archiving() -> Iterator[Database]:
    """A server that could archive, and is not told where."""
    bin_dir = find_bin_dir(15)
    assert bin_dir is not None
    with lone_server(bin_dir, {**FAST, "archive_mode": "on", "wal_level": "replica", "max_wal_senders": "3"}) as made:
        yield made


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the server's user can reach."""
    made = make_home("scannerdb-physical-")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class RoleRun:
    """The site, and the play that runs the role as the server's user."""

    site: Site
    server: Database
    home: Path
    words: dict[str, Any]

    @property
    def config(self) -> Path:
        return self.home / "pgback rest.conf"

    def run(self, tasks: str = "main", **more: Any) -> Run:
        """The role's tasks of that name."""
        play = self.site.folder / "role.yml"
        role = {"name": "scannerdb_pgbackrest", "tasks_from": tasks}
        tasks_of = [{"name": "The role", "ansible.builtin.import_role": role}]
        play.write_text(
            json.dumps([{"name": "The role", "hosts": "scannerdb", "gather_facts": False, "tasks": tasks_of}])
        )
        return self.site.run(str(play), **self.words, **more)


@pytest.fixture
def role(site: Site, archiving: Database, home: Path) -> RoleRun:
    """Everything below folders of the server's user; nothing of this machine's own is touched."""
    for name in ("lock", "spool"):
        (home / name).mkdir()
        user.give_away(home / name)
    words: dict[str, Any] = {"scannerdb_become_root": False, "ansible_python_interpreter": "/usr/bin/python3"}
    words["__scannerdb_pgbackrest_heartbeat_file"] = str(home / "heartbeat")
    words.update({f"scannerdb_{kind}_dir": str(home / kind) for kind in ("state", "backup", "log")})
    if user.is_root():
        words.update(
            scannerdb_become=True,
            scannerdb_become_user=user.UNPRIVILEGED,
            ansible_become_method="su",
            ansible_become_flags="-s /bin/sh",
        )
    made = RoleRun(site, archiving, home, words)
    more = {"log-level-file": "off", "archive-timeout": 20, "resume": True}
    site.add(
        "db",
        archiving,
        scannerdb_backup_method=["pgbackrest"],
        scannerdb_pgbackrest_config=str(made.config),
        scannerdb_pgbackrest_repositories=[{"path": str(home / "repository")}],
        scannerdb_pgbackrest_cipher_password="not a secret: %s 'quoted'",
        scannerdb_pgbackrest_options={"lock-path": f"{home}/lock", "spool-path": f"{home}/spool", **more},
        scannerdb_pgbackrest_user=user.UNPRIVILEGED if user.is_root() else "",
    )
    return made


def test_set_up_back_up_and_look(role: RoleRun) -> None:
    what_others_have_set_up_is_left_alone(role)
    what_is_set_up_stays_as_it_is(role)
    backups_are_made_proven_and_shown(role)
    what_was_set_up_is_taken_back(role)


def what_others_have_set_up_is_left_alone(role: RoleRun) -> None:
    """Until somebody says that it may be replaced; a copy is kept."""
    role.config.write_text("[main]\npg1-path=/somebody/elses\n")
    role.run().failed("was not written by deploy.yml", "scannerdb_pgbackrest_replace_config=true")
    assert role.config.read_text().endswith("/somebody/elses\n")
    role.server.sql("ALTER SYSTEM SET archive_command = 'pgbackrest --stanza=other archive-push %p'")
    role.server.sql("SELECT pg_reload_conf()")
    role.run().failed("archived in another way: archive_command is pgbackrest --stanza=other")
    replace = {"scannerdb_pgbackrest_replace_config": True, "scannerdb_pgbackrest_replace_archive_command": True}
    first = role.run(**replace).ok()
    assert first.changed["db"] >= 4 and "quoted" not in first.output
    assert "Replaced: archive_command is pgbackrest --stanza=other" in first.prose
    (kept,) = role.home.glob("pgback rest.conf.*~")
    assert "/somebody/elses" in kept.read_text() and kept.name in first.output


def what_is_set_up_stays_as_it_is(role: RoleRun) -> None:
    """By a second run, and by one with a passphrase that opens nothing."""
    assert "* * * * *" in (role.home / "heartbeat").read_text()
    assert role.run().ok().changed["db"] == 0
    lost = role.run(scannerdb_pgbackrest_cipher_password="another")
    lost.failed("pgBackRest cannot read repository 1: [", "The configuration of before was put back.")


def backups_are_made_proven_and_shown(role: RoleRun) -> None:
    site = role.site
    done = site.run("playbooks/backup.yml").ok()
    assert "no gaps" in done.prose and done.changed["db"] == 1
    listed = site.run("playbooks/backups.yml").ok()
    assert "cluster, full" in listed.prose and "Physical backups:" in listed.prose
    proven = site.run("playbooks/verify.yml", scannerdb_verify_cluster_dir=str(role.home)).ok()
    assert "was restored and is whole: RTO" in proven.prose
    shown = site.run("playbooks/status.yml", scannerdb_status_fail_on="never", scannerdb_metrics_dir=str(site.folder))
    assert "restorable" in shown.ok().prose and "ago, RTO" in shown.prose and "There is no backup in" not in shown.prose
    metrics = (site.folder / "scannerdb_db.prom").read_text()
    assert 'pgbackrest_backup_error_status{host="db"' in metrics and "scannerdb_physical_window_gaps" in metrics


def what_was_set_up_is_taken_back(role: RoleRun) -> None:
    gone = role.run("remove").ok()
    assert gone.changed["db"] == 2 and f"The physical backups stay in {role.home}/repository" in gone.prose
    assert not (role.home / "heartbeat").exists() and (role.home / "repository" / "backup").exists()
    assert role.config.exists() and role.server.value("SHOW archive_command") == "/bin/true"
    assert role.run("remove").ok().changed["db"] == 0
