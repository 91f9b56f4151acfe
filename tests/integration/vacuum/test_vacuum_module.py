"""scannerdb_vacuum and scannerdb_info as Ansible runs them: packed, and judged by what a playbook sees."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]


def play(tmp_path: Path, tasks: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Run tasks on localhost."""
    book = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    path = tmp_path / "play.yml"
    path.write_text(json.dumps(book))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-D", "-i", "localhost,", str(path)]
    return subprocess.run(command, check=False, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("database", ['we"ird; drop'], indirect=True)
def test_both_modules_in_a_play(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE kept AS SELECT i FROM generate_series(1, 1000) i")
    database.sql("CREATE TABLE bloated AS SELECT i FROM generate_series(1, 1000) i")
    database.sql("DELETE FROM bloated WHERE i > 100")
    vacuum = {"scannerdb_vacuum": database.login}
    tables = "map(attribute='table') | list"
    later = datetime.datetime.now(tz=datetime.timezone.utc) + datetime.timedelta(hours=2)
    with database.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE kept IN SHARE UPDATE EXCLUSIVE MODE")
        done = play(
            tmp_path,
            [
                {"scannerdb_vacuum": {**database.login, "window": f"{later:%H:%M}/1h/UTC"}, "register": "closed"},
                {**vacuum, "check_mode": True, "register": "plan"},
                {**vacuum, "register": "first"},
                {**vacuum, "register": "second"},
                {"scannerdb_info": database.login, "register": "facts"},
                {
                    "assert": {
                        "that": [
                            "closed is not changed and closed is not skipped and 'opens next at' in closed.msg",
                            "plan is changed and first is changed and second is not changed",
                            # A result that leaves something undone must not look like a task that was skipped.
                            "plan is not skipped and first is not skipped and second is not skipped",
                            f"plan.tables | {tables} == ['public.kept', 'public.bloated']",
                            f"first.tables | {tables} == ['public.bloated']",
                            f"second.left_undone | {tables} == ['public.kept']",
                            "facts is not changed and facts.tables | length == 2",
                        ]
                    }
                },
                {"scannerdb_vacuum": {**database.login, "method": "full"}},
            ],
        )
    assert done.returncode == 2, done.stdout + done.stderr
    # What the last task says is only reached where the assertions before it hold.
    assert "scannerdb_vacuum_allow_exclusive" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "public.bloated: it was never analyzed" in done.stdout, "--diff shows the reasons"
