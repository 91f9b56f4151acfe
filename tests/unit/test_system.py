"""What tests need of the machine is installed where that may be, told where not, and never silently missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import needs
from tests.system import absences
from tests.system.needs import BY_NAME, NEEDS

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]


def script(folder: Path, name: str, text: str) -> None:
    """Put a shell script where a program is expected."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def system(word: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.system` on a machine whose only programs are those in `path`."""
    settings = {**os.environ, "PATH": str(path), "CI": "", "SCANNERDB_REQUIRE_ALL": "", **environment}
    command = [sys.executable, "-m", "tests.system", word]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=60)


def test_where_nothing_may_be_installed_that_is_said(tmp_path: Path) -> None:
    done = system("install", tmp_path)
    assert done.returncode == 0
    assert "age is absent (not installed, and this is no Debian or Ubuntu): encrypted backups cannot be" in done.stderr


@pytest.mark.parametrize("insists", ["CI=true", "SCANNERDB_REQUIRE_ALL=1"])
def test_where_everything_is_required_an_absence_is_a_failure(tmp_path: Path, insists: str) -> None:
    name, value = insists.split("=")
    assert system("install", tmp_path, **{name: value}).returncode == 1


@needs("root")
def test_apt_that_reaches_nothing_is_said(tmp_path: Path) -> None:
    script(tmp_path, "apt-get", "echo 'E: Unable to locate package age' >&2; exit 100")
    done = system("install", tmp_path)
    assert done.returncode == 0
    assert "age is absent (apt-get failed: E: Unable to locate package age)" in done.stderr


def test_every_need_says_how_to_have_it() -> None:
    for need in BY_NAME.values():
        for release in ("bookworm", "trixie", ""):
            assert need.remedy(release), need.name
    assert [need.name for need in NEEDS if need.lawful("bookworm")] == []
    assert [need.name for need in NEEDS if need.lawful("trixie")] == ["postgresql-15"]


def test_the_end_of_a_run_says_what_was_not_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(absences, "NOTES", tmp_path / "notes")
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("SCANNERDB_REQUIRE_ALL", "")
    assert absences.report("bookworm") == 0
    assert capsys.readouterr().out == "Everything was tested.\n"
    for _ in range(2):
        absences.note("age", "not installed", 3)
    absences.note("postgresql-15", "not installed", 7)
    assert absences.report("trixie") == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert re.split("  +", head) == list(absences.HEAD)
    assert re.split("  +", rows[0]) == ["encrypted backups (6 tests)", "not installed", "apt-get install age"]
    assert rows[1].startswith("PostgreSQL 15 (7 tests)")
    monkeypatch.setenv("CI", "true")
    assert absences.report("trixie") == 1
    assert capsys.readouterr().out.endswith("Required here, and absent: age.\n")
    absences.forget()
    absences.note("postgresql-15", "not installed", 7)
    assert absences.report("trixie") == 0, "Debian 13 has no package of it"
    assert absences.report("bookworm") == 1


ABSENT = """
import pytest
from tests.needs import lack, needs
from tests.system.needs import BY_NAME
from dataclasses import replace

BY_NAME["age"] = replace(BY_NAME["age"], found=lambda: False)

@needs("age")
def test_one():
    raise AssertionError("it must not be run")

@pytest.fixture
def small():
    lack("mounting", "mount: permission denied")

def test_two(small):
    raise AssertionError("it must not be run")
"""


@pytest.mark.parametrize("insist", [False, True])
def test_what_is_absent_leaves_tests_out_or_fails_them(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, insist: bool
) -> None:
    notes = pytester.path / "notes"
    for name, value in (("CI", ""), ("SCANNERDB_REQUIRE_ALL", "1" if insist else ""), ("SCANNERDB_NOT_TESTED", notes)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'module_utils'}")
    pytester.makepyfile(ABSENT)
    done = pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:cacheprovider")
    if insist:
        assert done.parseoutcomes() == {"errors": 2}
        done.stdout.fnmatch_lines(["NOT TESTED, for want of age: not installed; apt-get install age"])
        assert not notes.exists()
        return
    assert done.parseoutcomes() == {"skipped": 2}
    told = [json.loads(line) for line in notes.read_text().splitlines()]
    assert {(one["name"], one["why"], one["tests"]) for one in told} == {
        ("age", "not installed", 1),
        ("mounting", "mount: permission denied", 1),
    }


def test_tests_are_left_out_in_one_way_only() -> None:
    """A skip of another kind would be missing in the table at the end, and no failure where all is required."""
    odd = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")
    for folder in ("tests", "molecule"):
        for path in (ROOT / folder).rglob("*.py"):
            if path not in (ROOT / "tests" / "needs.py", Path(__file__)):
                assert not odd.search(path.read_text(encoding="utf-8")), f"{path}: use tests/needs.py"


def test_no_test_depends_on_how_fast_the_machine_is() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
