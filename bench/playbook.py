"""Runs of the playbooks, in a process as people start them, and where their time goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scannerdb.connection import Options

from bench.lab import ROOT
from bench.measure import Ran, clean_env, measured

METER = ROOT / "bench" / "measured-python"


@dataclass(frozen=True)
class Played:
    """A run: the whole, each task, and, where it was metered, each process of a module, in order."""

    ran: Ran
    tasks: list[dict[str, Any]]
    modules: list[dict[str, float]]

    @property
    def module_s(self) -> float:
        """Seconds in the modules' processes, their start included."""
        return sum(one["seconds"] for one in self.modules)

    @property
    def peak_mb(self) -> float:
        """Peak memory of the largest process of a module, or of what it started."""
        return max(one["peak_mb"] for one in self.modules)


class Site:
    """A folder with an inventory: each host is one database, reached from here."""

    def __init__(self, folder: Path, databases: Mapping[str, Options], **variables: Any) -> None:
        self.folder = folder
        hosts = {name: _variables(options) for name, options in databases.items()}
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "scannerdb_become": False,
            "scannerdb_backup_storage": "persistent",  # a container will do
            "scannerdb_backup_dir": f"{folder}/{{{{ inventory_hostname }}}}/backups",
            "scannerdb_state_dir": f"{folder}/{{{{ inventory_hostname }}}}/state",
            "scannerdb_log_dir": f"{folder}/{{{{ inventory_hostname }}}}/logs",
            **variables,
        }
        inventory = {"scannerdb": {"hosts": hosts, "vars": common}}
        (folder / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")

    def play(self, playbook: str, *arguments: str, metered: bool = False) -> Played:
        """Run a playbook of the bundle. Raises RuntimeError when it fails.

        Metered, each process of a module is noted, which costs it the start of another Python.
        """
        inventory = ["-i", str(self.folder / "hosts.json")]
        meter = ["-e", f"ansible_python_interpreter={METER}"] if metered else []
        ran, tasks, modules = self._run(["playbook", *inventory, *meter, str(ROOT / playbook), *arguments])
        return Played(ran, tasks, modules)

    def module(self, name: str, arguments: Mapping[str, Any], programs: str = "") -> Ran:
        """Run one module on localhost, as `ansible -m` does, with the folder `programs` first in its PATH."""
        path = f"{programs}{os.pathsep}{os.environ['PATH']}" if programs else os.environ["PATH"]
        given = ["-a", json.dumps(arguments)] if arguments else []
        return self._run(["adhoc", "localhost", "-m", name, *given], PATH=path)[0]

    def drop_backups(self) -> None:
        """Remove all backup sets."""
        for path in self.folder.glob("*/backups"):
            shutil.rmtree(path)

    def _run(self, words: Sequence[str], **more: str) -> tuple[Ran, list[dict[str, Any]], list[dict[str, float]]]:
        notes = {"BENCH_TASKS": self.folder / "tasks.jsonl", "BENCH_MODULES": self.folder / "modules.jsonl"}
        for path in notes.values():
            path.write_text("", encoding="ascii")
        env = clean_env(
            ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ANSIBLE_HOME=str(self.folder / "ansible"),
            ANSIBLE_CALLBACK_PLUGINS=f"{ROOT / 'callback_plugins'}:{ROOT / 'bench' / 'callbacks'}",
            ANSIBLE_CALLBACKS_ENABLED="bench_times",
            BENCH_PYTHON=sys.executable,
            **more,
            **{name: str(path) for name, path in notes.items()},
        )
        ran = measured([sys.executable, "-m", "ansible", *words], env=env, cwd=ROOT)
        tasks, modules = ([json.loads(line) for line in path.read_text().splitlines()] for path in notes.values())
        return ran, tasks, modules


def _variables(options: Options) -> dict[str, Any]:
    return {
        "scannerdb_login_unix_socket": options.unix_socket,
        "scannerdb_login_port": options.port,
        "scannerdb_login_user": options.user,
        "scannerdb_login_db": options.db,
        "scannerdb_pg_bin_dir": options.pg_bin_dir,
    }
