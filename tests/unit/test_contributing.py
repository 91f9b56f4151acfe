"""What a newcomer is given works: hooks before a commit, the forge's workflow, fragments and releases."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from scannerdb.sets.manifest import BUNDLE_VERSION

from demo import wheelhouse

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VERSIONED = "module_utils/scannerdb/sets/manifest.py"
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def made_by(text: str) -> set[str]:
    """The targets that a command gives to make."""
    words = re.findall(r"\bmake ((?:[a-z-]+ ?)+)", text)
    return {word for group in words for word in group.split()}


def hooks() -> list[dict[str, Any]]:
    return [
        h for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for h in repo["hooks"]
    ]


def test_the_hooks_are_the_tools_of_lint() -> None:
    wanted = re.search(r"^lint: (.*?) ##", MAKEFILE, re.MULTILINE)
    assert wanted is not None
    assert [hook["entry"] for hook in hooks()] == [f"make {target}" for target in wanted[1].split()]


def test_the_hooks_are_understood() -> None:
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config"], cwd=ROOT, check=True)


def test_the_workflow_runs_what_there_is() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    wanted = set().union(*(made_by(command) for command in commands if command.startswith("make ")))
    assert {"demo", "unit", "integration"} <= wanted <= TARGETS


def test_a_release_puts_fragments_into_the_changelog(tmp_path: Path) -> None:
    """In a repository of its own, as `make release` is typed."""
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, tmp_path)
    for name in ("Makefile", "pyproject.toml", "CHANGELOG.md", VERSIONED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "changelog.d", tmp_path / "changelog.d")
    (tmp_path / "changelog.d" / "+drill-times.added.md").write_text("`verify.yml` says how long each step took.\n")
    git = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "before"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    release = ["make", "release", "VERSION=99.1.0", f"PY={sys.executable}", "DEV_STAMP=changelog.d"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)} | {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org"))
    }
    done = subprocess.run(release, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    changes = (tmp_path / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+) .*?\n(.*?)^## ", changes, re.MULTILINE | re.DOTALL)
    assert newest is not None and newest[1] == "99.1.0" and "how long each step took" in newest[2]
    assert not list((tmp_path / "changelog.d").glob("+*"))
    tags = subprocess.run(["git", "tag"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert tags == ["v99.1.0"] and 'version = "99.1.0"' in (tmp_path / "pyproject.toml").read_text()
    assert 'BUNDLE_VERSION = "99.1.0"' in (tmp_path / VERSIONED).read_text()


def test_sets_name_the_bundles_version() -> None:
    assert f'version = "{BUNDLE_VERSION}"' in PYPROJECT


@pytest.mark.parametrize("folder", ["library", "doc_fragments", "callback_plugins"])
def test_what_was_added_when_is_a_release(folder: str) -> None:
    """A release of the changelog, or the next one."""
    known = set(re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    known |= set(re.findall(r'^version = "(.*)"', PYPROJECT, re.MULTILINE))
    for path in (ROOT / folder).glob("*.py"):
        assert set(re.findall(r'version_added: "(.*)"', path.read_text())) <= known, path.name


@pytest.mark.parametrize(("version", "core"), [("3.11", "2.19"), ("3.12", "2.21"), ("3.13", "2.21")])
def test_a_wheelhouse_is_for_the_python_of_the_host(version: str, core: str) -> None:
    """Whatever Python pip itself runs on: it judges conditions by its own."""
    found = wheelhouse.wanted(wheelhouse.FILE.read_text(), version)
    (ansible,) = [line for line in found if line.startswith("ansible-core")]
    assert ansible.startswith(f"ansible-core=={core}.") and ";" not in ansible
    assert any(line.startswith("psycopg[binary]==") for line in found)
