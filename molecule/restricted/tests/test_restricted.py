"""After the restricted scenario: everything was done by an unprivileged user, on a host without a way out."""

from __future__ import annotations

import json
from typing import Any, Callable

Container = Callable[[str], Any]
Query = Callable[..., list[str]]


def test_the_host_has_no_internet_and_the_user_no_power(container: Container) -> None:
    host = container("restricted-db")
    assert host.run("timeout 5 bash -c 'echo > /dev/tcp/deb.debian.org/80'").rc != 0
    assert host.run("runuser -u maintainer -- sudo -n true").rc != 0
    assert host.check_output("id -nG maintainer") == "maintainer"


def test_his_role_is_no_superuser(query: Query) -> None:
    assert query("restricted-db", "SELECT rolsuper FROM pg_roles WHERE rolname = 'maintainer'") == ["f"]


def test_what_the_jobs_left_is_his(container: Container) -> None:
    host = container("restricted-db")
    for folder in ("lib", "log", "backups"):
        assert host.check_output(f"find /var/{folder}/scannerdb/restricted-db ! -user maintainer") == ""
    assert host.file("/var/log/scannerdb/restricted-db/db_schema_check.log").size > 0


def test_his_backup_was_proven_by_a_restore(container: Container) -> None:
    proof = container("restricted-db").file("/var/backups/scannerdb/restricted-db/latest.backup/verification.jsonl")
    assert "restore" in [json.loads(line)["level"] for line in proof.content_string.splitlines()]
