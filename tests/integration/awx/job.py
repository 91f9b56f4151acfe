"""A job as AWX gives it to ansible-runner: the private data directory, file by file, and what is left of a run.

Written from what AWX's task system writes: extra variables and credentials as files of `!unsafe` strings, the inventory
as a script that prints JSON, the command line, the environment with its own search paths, and a clone of the project.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.integration.playbooks import FOREIGN, ROOT

JOB_ID = "41"
PATIENCE_S = 300.0
# In a container, root has no power over a read-only folder; here this is taken from it.
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


class Unsafe(str):
    """A string that Ansible must not take for a template."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Unsafe, lambda dumper, value: dumper.represent_scalar("!unsafe", str(value)))


def unsafe(value: Any) -> Any:
    """All strings of a value marked, as AWX marks what users have given."""
    if isinstance(value, str):
        return Unsafe(value)
    if isinstance(value, dict):
        return {key: unsafe(one) for key, one in value.items()}
    return [unsafe(one) for one in value] if isinstance(value, list) else value


def bare_repository(folder: Path) -> Path:
    """This checkout, with what is not committed yet, as a bare repository to clone from."""
    work, bare = folder / "work", folder / "project.git"
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, capture_output=True, text=True, check=False)
    if listed.returncode:  # an archive of the sources
        shutil.copytree(ROOT, work, ignore=shutil.ignore_patterns(".venv", ".demo", "__pycache__"))
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another test's, and gone again
                shutil.copy2(ROOT / name, work / name)
    git = ["git", "-C", str(work), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The project"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    return bare


def clone(bare: Path, target: Path) -> Path:
    """The project as a synchronisation leaves it, and read-only."""
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{bare}", str(target)], check=True)
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return target


@dataclass
class Job:
    """One launch. `answers` are the survey's and other extra variables, `credential` what a credential injects."""

    folder: Path
    project: Path
    playbook: str
    hosts: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Any] = field(default_factory=dict)
    credential: Mapping[str, Any] = field(default_factory=dict)
    inventory_vars: Mapping[str, Any] = field(default_factory=dict)
    job_type: str = "run"
    limit: str = ""
    verbosity: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> Path:
        """Write the private data directory."""
        for name in ("env", "inventory", "cp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "project").symlink_to(self.project)  # AWX copies; the folder is read-only all the same
        meta = {"awx_job_id": int(JOB_ID), "awx_job_launch_type": "scheduled", "awx_job_template_name": self.playbook}
        self._private("env/extravars", yaml.dump({**meta, **unsafe(dict(self.answers))}, Dumper=_Dumper))
        self._private("env/tmp_credential", yaml.dump(unsafe(dict(self.credential)), Dumper=_Dumper))
        self._private("env/cmdline", " ".join(self._arguments()))
        self._private("env/envvars", json.dumps(self._environment()))
        self._private("env/settings", json.dumps({"idle_timeout": 0, "job_timeout": 0, "pexpect_timeout": 5}))
        self._private("env/passwords", json.dumps({r"BECOME password.*:\s*?$": "", r"SSH password:\s*?$": ""}))
        script = "#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint(%r)\n"
        self._private("inventory/hosts", script % json.dumps(self._inventory()), 0o700)
        return self.folder

    def _private(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def _arguments(self) -> list[str]:
        words = ["-u", "root"]
        words += ["--check"] if self.job_type == "check" else []
        words += ["-l", self.limit] if self.limit else []
        words += ["-" + "v" * self.verbosity] if self.verbosity else []
        return [*words, "-e", f"@{self.folder}/env/tmp_credential"]

    def _environment(self) -> dict[str, str]:
        return {
            "AWX_PRIVATE_DATA_DIR": str(self.folder),
            "JOB_ID": JOB_ID,
            "INVENTORY_ID": "2",
            "PROJECT_REVISION": "0" * 40,
            "MAX_EVENT_RES": "700000",
            "AWX_HOST": "https://awx.example.org",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            # Relative ones come from the project's ansible.cfg, and count from the working directory.
            "ANSIBLE_COLLECTIONS_PATH": f"{self.folder}/requirements_collections:~/.ansible/collections",
            "ANSIBLE_ROLES_PATH": f"{self.folder}/requirements_roles:roles:~/.ansible/roles:/etc/ansible/roles",
            **self.environment,
        }

    def _inventory(self) -> dict[str, Any]:
        names = list(self.hosts)
        extra = {"remote_tower_enabled": "true"}
        variables = {name: {**self.hosts[name], **extra, "remote_tower_id": 7 + n} for n, name in enumerate(names)}
        return {
            "all": {"vars": dict(self.inventory_vars), "children": ["scannerdb"]},
            "scannerdb": {"hosts": names},
            "_meta": {"hostvars": variables},
        }

    def start(self) -> subprocess.Popen[str]:
        """Start the runner; its standard output and error are one."""
        self.prepare()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        environment.update(HOME=str(self.folder / "home"), LC_ALL="C.UTF-8")
        environment["PATH"] = f"{self.folder}/home:{environment['PATH']}"
        (self.folder / "home").mkdir()
        # The scripts of a virtual environment name the folder that it was made in; modules are found wherever it is.
        program = f'#!/bin/sh\nexec "{sys.executable}" -m ansible playbook "$@"\n'
        self._private("home/ansible-playbook", program, 0o700)
        command = [
            sys.executable,
            "-m",
            "ansible_runner",
            "run",
            str(self.folder),
            "-p",
            self.playbook,
            "--ident",
            JOB_ID,
        ]
        tamed = os.geteuid() == 0 and shutil.which(POWERLESS[0])
        return subprocess.Popen(
            [*POWERLESS, *command] if tamed else command,
            env=environment,
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self) -> Outcome:
        """Run to the end."""
        process = self.start()
        output, _ = process.communicate(timeout=PATIENCE_S)
        return self.outcome(process.returncode, output)

    def outcome(self, code: int, output: str) -> Outcome:
        """What the run left in its artifacts."""
        artifacts = self.folder / "artifacts" / JOB_ID
        paths = sorted((artifacts / "job_events").glob("*.json"), key=lambda path: int(path.name.split("-")[0]))
        events = [json.loads(path.read_text(encoding="utf-8")) for path in paths if "partial" not in path.name]
        status = (artifacts / "status").read_text(encoding="utf-8")
        everything = "".join(
            path.read_text(encoding="utf-8", errors="replace") for path in artifacts.rglob("*") if path.is_file()
        )
        return Outcome(code, status, output, events, everything + output)

    def processes(self) -> list[int]:
        """Everything that still runs for this job, whoever its parent is: in AWX, what is in its container."""
        mark = f"AWX_PRIVATE_DATA_DIR={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def remove_container(self) -> None:
        """SIGKILL to everything, and wait until it is gone."""
        deadline = time.monotonic() + 60
        while found := self.processes():
            assert time.monotonic() < deadline, found
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the runner's exit code and status, what it printed, its events, and all text that it left."""

    code: int
    status: str
    output: str
    events: list[dict[str, Any]]
    everything: str

    @property
    def artifacts(self) -> dict[str, Any]:
        """What set_stats published; AWX hands it on along a workflow as extra variables."""
        last = [event for event in self.events if event["event"] == "playbook_on_stats"]
        return dict(last[-1]["event_data"].get("artifact_data", {})) if last else {}

    @property
    def changed(self) -> int:
        """How many tasks changed something on the databases' hosts."""
        last = [event for event in self.events if event["event"] == "playbook_on_stats"]
        return sum(last[-1]["event_data"].get("changed", {}).values())

    @property
    def prose(self) -> str:
        """The output without colours, with all white space folded."""
        return " ".join(re.sub(r"\x1b\[[\d;]*m", "", self.output).split())

    def ok(self) -> Outcome:
        assert (self.code, self.status) == (0, "successful"), self.output
        return self
