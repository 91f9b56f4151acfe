"""Where no container can be had, the container scenarios say so in time, and are no silent success."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers import engine

ROOT = Path(__file__).resolve().parents[2]


def program(folder: Path, name: str, text: str) -> None:
    """Put a shell script where a program is expected."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make molecule` on a machine whose only programs are those in `path`."""
    own = {"SCANNERDB_CONTAINERS": f"none-{os.getpid()}", "SCANNERDB_NOT_TESTED": str(path / "notes"), "CI": ""}
    settings = {**os.environ, "PATH": str(path), **own, **environment}
    command = [sys.executable, "-m", "tests.containers", "run"]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=60)


def test_without_podman_the_reason_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, SCANNERDB_REQUIRE_ALL="0")
    assert done.returncode == 0
    assert "THE CONTAINER SCENARIOS WERE NOT RUN" in done.stdout
    assert "podman and mmdebstrap are not installed." in done.stdout


def test_where_they_are_required_that_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, SCANNERDB_REQUIRE_ALL="1")
    assert done.returncode == 1
    assert "They are required here." in done.stdout


def test_a_podman_that_cannot_start_a_container_is_said(tmp_path: Path) -> None:
    program(tmp_path, "podman", "echo 'Error: runc: operation not permitted' >&2; exit 126")
    program(tmp_path, "mmdebstrap", "exit 1")
    done = run(tmp_path, SCANNERDB_REQUIRE_ALL="0")
    assert done.returncode == 0
    assert "podman cannot start a container here: Error: runc: operation not permitted" in done.stdout


def test_a_podman_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "podman", "exec /bin/sleep 600")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engine, "PROBE_S", 0.2)
    with pytest.raises(engine.Unavailable, match=r"'podman run --rm …' did not end within"):
        engine.usable_environment()
