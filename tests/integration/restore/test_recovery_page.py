"""docs/recovery.md is true: its commands are run, those of the bundle by ansible-playbook, those by hand by bash."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.integration.playbooks import ROOT, Site, site
from tests.integration.restore.restore_support import damage, databases, maintenance, options, state
from tests.integration.support import run_backup
from tests.servers import Database, Databases

__all__ = ["site"]

PAGE = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
BY_HAND = re.findall(r"<!-- by hand -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
PLAYBOOKS = [
    shlex.split(command.replace("\\\n", " "), comments=True)
    for block in re.findall(r"(?<!-->\n)```bash\n(.*?)```", PAGE, re.DOTALL)
    for command in re.findall(r"^ansible-playbook (?:.*\\\n)*.*$", block, re.MULTILINE)
]


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[Databases]:
    """A factory of databases on one server."""
    factory = Databases(pool, pool.server(servers.asked_version(request.config, 17)))
    yield factory
    factory.clean()


def without_properties(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k != "database"}


def test_by_hand(one: Databases, tmp_path: Path) -> None:
    db = one("ollama_scanner", filled=True)
    made = run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))["backup"]["path"]
    whole = state(db)
    damage(db)
    damaged = state(db)
    words = {key: str(value) for key, value in db.kwargs.items()}
    environment = {
        "PATH": f"{db.server.bin_dir}:{os.environ['PATH']}",
        "PGHOST": words["host"],
        "PGPORT": words["port"],
        "PGUSER": words["user"],
        "DB": db.name,
        "SET": made,
    }
    assert len(BY_HAND) == 6
    said = []
    for block in BY_HAND:
        script = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (block, done.stderr)
        said.append(done.stdout)
    assert said[0].strip() == "", "the set is whole"
    assert said[4].strip() == "", "every row is there"
    assert without_properties(state(db)) == without_properties(whole)
    old = Database(db.server, f"{db.name}_old")
    assert without_properties(state(old)) == without_properties(damaged)


def test_with_the_bundle(site: Site, one: Databases) -> None:
    """Every ansible-playbook command of the page, in its order, on a damaged database."""
    db = one("ollama_scanner", filled=True)
    site.add("db1", db)
    folder = site.folder / "db1" / "backups"
    folder.mkdir(parents=True)
    run_backup(options(db), backup_dir=str(folder), state_dir=str(site.folder / "db1" / "state"))
    whole = state(db)
    damage(db)
    damaged, names = state(db), databases(db)
    assert len(PLAYBOOKS) == 7
    done = set()
    for command in PLAYBOOKS:
        assert command[1:3] == ["-i", "inventories/mine"]
        playbook, arguments = command[3], command[4:]
        run = site.run(playbook, *arguments)
        if playbook.endswith("restore.yml"):
            run.ok()
        else:  # they judge: this database has findings
            assert "Traceback" not in run.output
            assert "unreachable=0" in run.output
        text = " ".join(arguments)
        if "--check" in arguments:
            assert (state(db), databases(db)) == (damaged, names)
        elif "undo" in text:
            assert state(db) == damaged
        elif "tables" in text:
            assert db.value("SELECT count(*) FROM rescued.benchmark_results") > 0
        elif playbook.endswith("restore.yml"):
            assert state(db) == whole
        done.add(playbook)
    assert {Path(name).stem for name in done} == {"doctor", "status", "restore", "check"}
    with maintenance(db) as conn:
        assert conn.execute("SELECT count(*) FROM pg_database WHERE datname ~ '__restore_'").fetchone() == (0,)
