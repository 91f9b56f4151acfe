"""The live line of progress, and runs over several hosts."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.playbooks import ROOT, Site, site
from tests.servers import Database

__all__ = ["site"]


def plugin() -> Any:
    spec = importlib.util.spec_from_file_location("progress", ROOT / "callback_plugins" / "scannerdb_progress.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"job": "fix", "step": "rows", "done": 5000, "total": 20000, "unit": "rows"},
            "db1: fix, rows 5000 of 20000 rows (25 %)",
        ),
        ({"job": "backup", "step": "dump", "done": 3 << 20, "total": 0, "unit": "bytes"}, "db1: backup, dump 3 MiB"),
        ({"job": "check", "step": "looking", "done": 0, "total": 0}, "db1: check, looking"),
        ({"job": "x" * 200, "step": "a\nb"}, "db1: " + "x" * 73),
    ],
)
def test_a_line_says_the_step_and_how_much(status: dict[str, Any], said: str) -> None:
    assert plugin().line("db1", status) == said


def test_only_what_is_new_and_whole_is_shown(tmp_path: Path) -> None:
    newest = plugin().newest
    assert newest(tmp_path / "none", 0) is None
    (tmp_path / "a.json").write_text(json.dumps({"job": "old"}))
    os.utime(tmp_path / "a.json", (1, 1))
    assert newest(tmp_path, time.time() - 60) is None
    (tmp_path / "b.json").write_text(json.dumps({"job": "new"}))
    assert newest(tmp_path, time.time() - 60) == {"job": "new"}
    (tmp_path / "b.json").write_text("{torn")
    assert newest(tmp_path, time.time() - 60) is None


def test_a_local_run_shows_its_progress_where_it_is_asked_to(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    silent = site.run("playbooks/backup.yml").ok()
    assert "\x1b[K" not in silent.output  # no terminal
    shown = site.run("playbooks/backup.yml", environment={"SCANNERDB_PROGRESS": "always"}).ok()
    assert "\x1b[Kone: backup, " in shown.output and "WARNING" not in shown.output


def test_a_host_that_cannot_be_reached_is_named_and_stops_nobody(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    site.hosts["far"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    done = site.run("maintain.yml", scannerdb_profile="daily").failed("Not maintained, see above: far")
    assert len(site.backups("one")) == 1 and "unreachable=1" in done.output
    status = site.run("playbooks/status.yml", scannerdb_status_json=str(site.folder / "status.json"))
    status.failed("UNREACHABLE", "Not well: far.")
    found = json.loads((site.folder / "status.json").read_text())
    assert found["one"]["backups"]["count"] == 1 and "could not be looked at" in status.prose
    alone = site.run("playbooks/status.yml", "-l", "one", scannerdb_status_fail_on="never").ok()
    assert "never checked" in alone.output and "UNREACHABLE" not in alone.output
    assert "not scheduled here; backup " in alone.prose and re.search(r"run   \S+Z  backup \S+: done", alone.output)


def test_a_canary_that_fails_saves_the_others(site: Site, field_once: Database) -> None:
    site.add("a_canary", field_once, scannerdb_login_db="not_there").add("b", field_once)
    extra: dict[str, Any] = {
        "scannerdb_serial": [1, "100%"],
        "scannerdb_max_fail_percentage": 0,
        "scannerdb_profile": "daily",
    }
    for playbook in ("maintain.yml", "playbooks/backup.yml"):
        site.run(playbook, **extra).failed("not_there")
        assert site.backups("b") == []
    site.run("maintain.yml", scannerdb_profile="daily").failed("not_there", "Not maintained, see above: a_canary")
    assert len(site.backups("b")) == 1
