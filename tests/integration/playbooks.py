"""Runs of ansible-playbook as a person or a scheduler starts them: another process, with an inventory of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Database

ROOT = Path(__file__).resolve().parent.parent.parent
FOREIGN = ("PG", "DB_", "POSTGRES_", "ANSIBLE_", "SCANNERDB_")
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What a run left: its exit code and everything it printed."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {host: int(changed) for host, _, changed, _, _ in RECAP.findall(self.output)}

    @property
    def prose(self) -> str:
        """The output with all white space folded, so that a sentence is found wherever its lines were broken."""
        return " ".join(self.output.split())

    def ok(self) -> Run:
        """The run itself, which must have succeeded."""
        assert self.code == 0, self.output
        return self

    def failed(self, *sentences: str) -> Run:
        """The run itself, which must have failed with these words and without a traceback."""
        assert self.code != 0, self.output
        for sentence in sentences:
            assert sentence in self.prose, self.output
        assert "Traceback" not in self.output, self.output
        return self


@dataclass
class Site:
    """A folder with an inventory; every host is one database, whose files lie in a folder of its name."""

    folder: Path
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, database: Database, **variables: Any) -> Site:
        """Add a database under a name."""
        self.hosts[name] = {**login(database), **variables}
        return self

    def files(self, host: str, kind: str = "") -> list[str]:
        """The files (no folders) that runs have left for that host, below `kind`."""
        base = self.folder / host / kind
        return sorted(str(path.relative_to(base)) for path in base.rglob("*") if not path.is_dir())

    def report(self, host: str) -> dict[str, Any]:
        """The JSON report of the last check."""
        path = self.folder / host / "state" / "reports" / "db_schema_issues_report.json"
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report

    def backups(self, host: str) -> list[Path]:
        """The backup sets, oldest first."""
        found = (self.folder / host / "backups").glob("*.backup")
        return sorted(path for path in found if not path.is_symlink())

    def write_inventory(self) -> Path:
        """Write the inventory; JSON is YAML too."""
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "scannerdb_become": False,
            "scannerdb_backup_storage": "persistent",  # the tests may well run in a container
            "scannerdb_backup_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/backups",
            "scannerdb_state_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/state",
            "scannerdb_log_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/logs",
        }
        inventory = {"scannerdb": {"hosts": self.hosts, "vars": {**common, **self.group}}}
        path = self.folder / "hosts.yml"
        path.write_text(json.dumps(inventory), encoding="utf-8")
        return path

    def run(
        self,
        playbook: str,
        *arguments: str,
        cwd: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> Run:
        """Run a playbook; keywords become extra variables, in a way that keeps their types."""
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.write_inventory()), *arguments]
        if extra:
            command += ["-e", json.dumps(extra)]
        return run([*command, str(ROOT / playbook)], self.folder, cwd, environment or {})


def login(database: Database) -> dict[str, Any]:
    """The bundle's variables that lead to a test's database over the socket, as the superuser."""
    return {f"scannerdb_{name.replace('ssl_mode', 'login_ssl_mode')}": value for name, value in database.login.items()}


def over_tcp(role: str, password: str) -> dict[str, Any]:
    """The same over the network, as a role with a password."""
    return {
        "scannerdb_login_host": "127.0.0.1",
        "scannerdb_login_unix_socket": "",
        "scannerdb_login_user": role,
        "scannerdb_login_password": password,
    }


def run(command: list[str], home: Path, cwd: Path, more: Mapping[str, str]) -> Run:
    """Run an Ansible command in a clean environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment.update(
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_HOME=str(home / "ansible"), LC_ALL="C.UTF-8", **more
    )
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    return Run(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty site in a folder of the test's own."""
    yield Site(tmp_path)
