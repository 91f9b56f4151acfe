"""The execution environment: ansible-builder makes its context. Building the image needs a registry: not done here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.playbooks import ROOT

FILE = ROOT / "execution-environment.yml"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ansible-builder hands to podman or docker."""
    folder = tmp_path_factory.mktemp("environment") / "context"
    command = [sys.executable, "-m", "ansible_builder", "create", "--file", str(FILE), "--context", str(folder)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_has_everything_that_the_jobs_need(context: Path) -> None:
    system = (context / "_build" / "bindep.txt").read_text(encoding="utf-8")
    assert {"postgresql18", "postgresql18-contrib", "age", "rclone", "zstd"} <= set(
        re.findall(r"^[\w-]+", system, re.M)
    )
    assert "psycopg[binary]" in (context / "_build" / "requirements.txt").read_text(encoding="utf-8")
    collections = (context / "_build" / "requirements.yml").read_text(encoding="utf-8")
    assert collections == (ROOT / "collections" / "requirements.yml").read_text(encoding="utf-8")
    (recipe_file,) = context.glob("*file")  # Containerfile where there is podman, else Dockerfile
    recipe = recipe_file.read_text(encoding="utf-8")
    assert recipe.index("pgdg-redhat-repo") < recipe.index("install-from-bindep") < recipe.index("pg_dump --version")


def test_its_versions_are_those_that_are_tested() -> None:
    """One of them, where it depends on the Python which."""
    pinned: set[str] = set()
    for name in ("requirements.txt", "requirements-dev.txt"):
        pinned.update(re.findall(r"^[\w\[\]-]+==[\d.]+", (ROOT / name).read_text(encoding="utf-8"), re.M))
    wanted = yaml.safe_load(FILE.read_text(encoding="utf-8"))["dependencies"]
    requested = [wanted["ansible_core"]["package_pip"], wanted["ansible_runner"]["package_pip"], *wanted["python"]]
    assert len(requested) == 3 and set(requested) <= pinned
