"""The role sets pgBackRest up on a real server, and the playbooks then back up and look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import user
from tests.integration.playbooks import Site, site
from tests.needs import needs
from tests.servers import FAST, Database, find_bin_dir, lone_server, make_home

__all__ = ["site"]
pytestmark = needs("pgbackrest", "postgresql-15")
PLAY = [
    {
        "name": "The role alone",
        "hosts": "scannerdb",
        "gather_facts": False,
        "tasks": [{"name": "Set up", "ansible.builtin.import_role": {"name": "scannerdb_pgbackrest"}}],
    }
]


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


def test_set_up_back_up_and_look(site: Site, archiving: Database, home: Path) -> None:
    for name in ("lock", "spool"):
        (home / name).mkdir()
        user.give_away(home / name)
    more: dict[str, Any] = {
        "lock-path": f"{home}/lock",
        "spool-path": f"{home}/spool",
        "log-level-file": "off",
        "archive-timeout": 20,
        "resume": True,
    }
    site.add(
        "db",
        archiving,
        scannerdb_backup_method=["pgbackrest"],
        scannerdb_pgbackrest_config=str(home / "pgback rest.conf"),
        scannerdb_pgbackrest_repositories=[{"path": str(home / "repository")}],
        scannerdb_pgbackrest_cipher_password="not a secret: %s 'quoted'",
        scannerdb_pgbackrest_options=more,
        scannerdb_pgbackrest_user=user.UNPRIVILEGED if user.is_root() else "",
    )
    play = site.folder / "role.yml"
    play.write_text(json.dumps(PLAY))
    as_server: dict[str, Any] = {"scannerdb_become_root": False, "ansible_python_interpreter": "/usr/bin/python3"}
    as_server["__scannerdb_pgbackrest_heartbeat_file"] = str(home / "heartbeat")  # not this machine's own
    as_server.update({f"scannerdb_{kind}_dir": str(home / kind) for kind in ("state", "backup", "log")})
    if user.is_root():
        as_server.update(
            scannerdb_become=True,
            scannerdb_become_user=user.UNPRIVILEGED,
            ansible_become_method="su",
            ansible_become_flags="-s /bin/sh",
        )
    (home / "pgback rest.conf").write_text("[main]\npg1-path=/somebody/elses\n")
    site.run(str(play), **as_server).failed("was not written by deploy.yml", "scannerdb_pgbackrest_replace_config=true")
    assert (home / "pgback rest.conf").read_text().endswith("/somebody/elses\n")
    archiving.sql("ALTER SYSTEM SET archive_command = 'pgbackrest --stanza=other archive-push %p'")
    archiving.sql("SELECT pg_reload_conf()")
    site.run(str(play), **as_server).failed("archived in another way: archive_command is pgbackrest --stanza=other")
    replace = {"scannerdb_pgbackrest_replace_config": True, "scannerdb_pgbackrest_replace_archive_command": True}
    first = site.run(str(play), **as_server, **replace).ok()
    assert first.changed["db"] >= 4 and "quoted" not in first.output
    assert "Replaced: archive_command is pgbackrest --stanza=other" in first.prose
    (kept,) = home.glob("pgback rest.conf.*~")
    assert "/somebody/elses" in kept.read_text() and kept.name in first.output
    assert "* * * * *" in (home / "heartbeat").read_text()
    assert site.run(str(play), **as_server).ok().changed["db"] == 0
    lost = site.run(str(play), **as_server, scannerdb_pgbackrest_cipher_password="another")
    lost.failed("pgBackRest cannot read repository 1: [", "The configuration of before was put back.")
    done = site.run("playbooks/backup.yml").ok()
    assert "no gaps" in done.prose and done.changed["db"] == 1
    listed = site.run("playbooks/backups.yml").ok()
    assert "cluster, full" in listed.prose and "Physical backups:" in listed.prose
    proven = site.run("playbooks/verify.yml", scannerdb_verify_cluster_dir=str(home)).ok()
    assert "was restored and is whole: RTO" in proven.prose
    shown = site.run("playbooks/status.yml", scannerdb_status_fail_on="never", scannerdb_metrics_dir=str(site.folder))
    assert "restorable" in shown.ok().prose and "ago, RTO" in shown.prose and "There is no backup in" not in shown.prose
    metrics = (site.folder / "scannerdb_db.prom").read_text()
    assert 'pgbackrest_backup_error_status{host="db"' in metrics and "scannerdb_physical_window_gaps" in metrics
    play.write_text(
        json.dumps(PLAY).replace(
            '"name": "scannerdb_pgbackrest"', '"name": "scannerdb_pgbackrest", "tasks_from": "remove"'
        )
    )
    gone = site.run(str(play), **as_server).ok()
    assert gone.changed["db"] == 2 and f"The physical backups stay in {home}/repository" in gone.prose
    assert not (home / "heartbeat").exists() and (home / "repository" / "backup").exists()
    assert (home / "pgback rest.conf").exists() and archiving.value("SHOW archive_command") == "/bin/true"
    assert site.run(str(play), **as_server).ok().changed["db"] == 0
