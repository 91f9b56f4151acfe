"""The drill as people run it: the module through Ansible, and the playbook with its role."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scannerdb.sets.manifest import read_manifest

from tests.integration.backup.backup_support import ROWS
from tests.integration.drill.drill_support import make, more_rows, rewrite
from tests.integration.restore.restore_support import ROOT, ansible_module
from tests.servers import Database

pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


def play(database: Database, tmp_path: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run verify.yml on one database, as a scheduler would."""
    login = {f"scannerdb_{name.replace('ssl_mode', 'login_ssl_mode')}": v for name, v in database.login.items()}
    host = {
        **login,
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "scannerdb_become": False,
        "scannerdb_backup_dir": str(tmp_path / "b"),
        "scannerdb_state_dir": str(tmp_path / "s"),
        "scannerdb_log_dir": str(tmp_path / "logs"),
        **variables,
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"scannerdb": {"hosts": {"db1": host}}}), encoding="utf-8")
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    told = [*command, str(ROOT / "playbooks" / "verify.yml")]
    return subprocess.run(told, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_playbook(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    planned = play(database, tmp_path, "--check", "--diff")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "restore 1 tables into a scratch database" in planned.stdout
    done = play(database, tmp_path, "-e", "scannerdb_verify_jobs=2", "-e", "scannerdb_verify_amcheck=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Backup {path.name} is proven restorable" in " ".join(done.stdout.split())
    assert not re.search(r"db1 .*changed=0", done.stdout)
    assert "restore: passed" in (tmp_path / "logs" / "verify.log").read_text(encoding="utf-8")
    read = play(database, tmp_path, "-e", "scannerdb_verify_level=read")
    assert read.returncode == 0
    assert re.search(r"db1 .*changed=0", read.stdout)
    rewrite(path, **more_rows(read_manifest(path)[0]))
    broken = play(database, tmp_path)
    assert broken.returncode != 0
    assert "the snapshot had 1001" in " ".join(broken.stdout.split())


def test_the_module_answers_as_documented(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    values = {**database.login, "backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "nice": 5}
    answer = ansible_module("scannerdb_verify", values)
    assert not answer["failed"], answer
    assert (answer["verification"]["set"], answer["verification"]["passed"]) == (path.name, True)
    assert answer["proven"]["name"] == path.name
    assert "skipped" not in answer
    refused = ansible_module("scannerdb_verify", {**values, "source": "absent"})
    assert (refused["failed"], "no backup 'absent'" in refused["msg"]) == (True, True)
