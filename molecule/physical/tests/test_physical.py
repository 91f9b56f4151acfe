"""After the physical scenario, on Debian 13: what the role has set up, and what was brought back out of the archive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest

Container = Callable[[str], Any]
Query = Callable[..., list[str]]
HOST = "physical-db"


@pytest.fixture
def host(container: Container) -> Any:
    return container(HOST)


def test_the_host_is_a_debian_13(host: Any, query: Query) -> None:
    assert host.check_output("python3 --version").startswith("Python 3.13.")
    assert query(HOST, "SHOW server_version_num")[0].startswith("17")
    assert host.package("pgbackrest").is_installed


def test_the_server_archives_since_its_restart(query: Query) -> None:
    assert query(HOST, "SHOW archive_mode") == ["on"]
    assert "archive-push" in query(HOST, "SHOW archive_command")[0]
    assert query(HOST, "SELECT archived_count > 0, failed_count FROM pg_stat_archiver") == ["t|0"]


def test_the_configuration_is_the_servers_alone_and_the_repository_encrypted(host: Any) -> None:
    (path,) = host.check_output("find /etc/pgbackrest/conf.d -type f").splitlines()
    written = host.file(path)
    assert (written.user, written.mode) == ("postgres", 0o600)
    assert "cipher-type=aes-256-cbc" in written.content_string
    (stanza,) = {line.strip("[]").split(":")[0] for line in written.content_string.splitlines() if line.startswith("[")}
    asked = "runuser -u postgres -- pgbackrest --stanza=%s info --output=json"
    (told,) = json.loads(host.check_output(asked, stanza))
    assert (told["cipher"], told["status"]["code"]) == ("aes-256-cbc", 0)
    assert told["backup"][0]["type"] == "full" and not told["backup"][0]["error"]


def test_cron_gives_the_heartbeat(host: Any) -> None:
    assert "scannerdb-heartbeat" in host.check_output("ls /etc/cron.d")
    assert "SELECT pg_current_xact_id()" in host.check_output("journalctl --no-pager -t CRON")


def test_both_kinds_of_backups_are_proven() -> None:
    path = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "/tmp")) / "physical.json"
    (status,) = json.loads(path.read_text(encoding="utf-8")).values()
    assert status["state"] != "critical", status
    physical = status["physical"]
    assert physical["problems"] == [] and physical["window"]["gaps"] == [], physical
    drill = physical["drill"]
    assert (drill["outcome"], drill["label"]) == ("passed", physical["backups"][0]["label"]), drill


def test_the_rows_of_the_moment_are_back_and_the_others_kept(query: Query) -> None:
    assert query(HOST, "SELECT ip FROM endpoints ORDER BY 1") == ["192.0.2.1", "192.0.2.2"]
    (kept,) = query(HOST, "SELECT datname FROM pg_database WHERE datname LIKE 'ollama_scanner\\_\\_%'", "postgres")
    assert query(HOST, "SELECT count(*) FROM endpoints", kept) == ["0"]
