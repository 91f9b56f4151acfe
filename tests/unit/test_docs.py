"""The documentation says what is: generated pages are current, and links and named files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scannerdb.checks.registry import KINDS

from docs import reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("roles/*/README.md")])


@pytest.mark.parametrize("name", reference.PAGES)
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == reference.PAGES[name](), "run: make generate"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_playbooks_and_findings_exist(page: Path) -> None:
    text = page.read_text()
    for playbook in re.findall(r"ansible-playbook (?:-i \S+ )?(\S+\.yml)", text):
        assert (ROOT / playbook).exists(), f"{page.name}: {playbook}"
    for finding in re.findall(r"`((?:schema|data|index|table|check)\.[a-z_]+\.[a-z_]+)`", text):
        assert finding in KINDS, f"{page.name}: {finding}"


FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
IN_REPOSITORY = re.compile(rf"(?<![\w./<>~$-])((?:{'|'.join(FOLDERS)}|\.ci|\.config|\.github)/[\w./*-]*[\w*])")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_paths_and_targets_exist(page: Path) -> None:
    """Paths from the top, tests, and what is given to make. `inventories/mine` is the reader's own."""
    text = "" if page.name == "CHANGELOG.md" else page.read_text()
    for named in IN_REPOSITORY.findall(text):
        assert named.startswith("inventories/mine") or [*ROOT.glob(named)], f"{page.name}: {named}"
    for file, test in re.findall(r"`([\w/]+/test_\w+\.py)(?:::(\w+))?`", text):
        (path,) = [
            one for one in (ROOT / file, ROOT / "tests" / file, ROOT / "tests/integration" / file) if one.exists()
        ]
        assert f"def {test or 'test_'}" in path.read_text(), f"{page.name}: {file} has no {test}"
    for command in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", text, re.MULTILINE):
        assert set(command.split()) <= TARGETS, f"{page.name}: make {command}"


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("inventories/**/*.yml")], ids=lambda p: str(p.relative_to(ROOT)))
def test_printed_commands_say_on_which_hosts(page: Path) -> None:
    """A command that is copied must not act on hosts that nobody named."""
    for command in re.findall(r"ansible-playbook +((?:[^\n]*\\\n)*[^\n`]*\.yml[^\n`]*)", page.read_text()):
        assert re.match(r"-i \S+ ", command), f"{page.name}: {command}"
        if re.search(r"playbooks/(restore|undo|remove|uninstall|migrate)\.yml", command):
            assert " -l " in command, f"{page.name}: {command}"


def test_errors_name_pages_that_exist() -> None:
    """Sentences of the code that send people to a page or playbook."""
    for source in [*(ROOT / "module_utils").rglob("*.py"), *(ROOT / "library").glob("*.py")]:
        for named in re.findall(r"\b((?:docs|playbooks)/[\w.-]+\.(?:md|yml))", source.read_text()):
            assert (ROOT / named).exists(), f"{source.name}: {named}"
