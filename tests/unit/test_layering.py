"""Dependencies point one way: playbooks → roles → library → jobs → areas → load → sets, contract → base → errors."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "module_utils" / "scannerdb"
# From the top down. What stands in one row does not import each other, and each imports only what is below.
LAYERS: tuple[set[str], ...] = (
    {"jobs"},
    {"backup", "restore", "drill", "checks", "fixes", "vacuum", "cluster", "status", "doctor", "schedule", "legacy"},
    {"load", "physical"},
    {"sets", "contract"},
)
# What each file of the base may import of the base itself.
BASE = {
    "errors": set(),
    "files": {"errors"},
    "clock": {"connection", "errors"},
    "trusted": {"files", "errors"},
    "session": set(),
    "jsontext": set(),
    "nearest": set(),
    "watch": set(),
    "login": {"session"},
    "pooler": {"errors"},
    "anybytes": set(),
    "knock": {"refusals"},
    "together": {"errors"},
    "addresses": set(),
    "patroni": {"jsontext", "together", "errors"},
    "memberstate": {"addresses", "patroni", "login"},
    "fence": {"addresses", "memberstate", "patroni", "together", "login", "errors"},
    "primary": {"addresses", "fence", "memberstate", "patroni", "together", "login", "errors"},
    "watched": {"watch"},
    "connection": {
        "anybytes",
        "memberstate",
        "knock",
        "watched",
        "primary",
        "login",
        "session",
        "pooler",
        "refusals",
        "errors",
    },
    "process": {"connection", "login", "session", "files", "errors"},
    "tools": {"process", "errors"},
    "disposable": {"tools", "files", "errors"},
    "lockbudget": {"connection", "errors"},
    "counters": {"connection", "lockbudget"},
    "expiry": {"connection", "errors", "lockbudget"},
    "frame": {"connection", "errors"},
    "foreigncode": {"connection", "errors"},
    "refusals": {"errors"},
    "joblock": {"connection", "errors"},
    "runs": {"jsontext", "files", "errors"},
    "window": {"errors"},
    "serverdisk": {"connection", "errors"},
    "standbylag": {"connection"},
    "finding": {"connection", "errors"},
    "finding_kinds": {"finding"},
    "restorepoint": {"connection", "errors", "runs"},
    "partial": {"connection", "errors", "runs"},
    "option": {"jsontext", "errors"},
    "argspec": {"login", "lockbudget", "option", "window", "errors"},
    "answer": {"option", "errors"},
}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def package(path: Path) -> str:
    """The folder of a file, or its own name in the base."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_packages(path: Path) -> set[str]:
    """The packages of ours a file imports, relative imports resolved."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level == depth:  # the package's root
                found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            else:
                found.add(package(path))
    return found


def absolute_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    mine, theirs = package(path), imported_packages(path) - {package(path)}
    if mine in BASE:
        allowed = BASE[mine]
    else:
        row = next(number for number, names in enumerate(LAYERS) if mine in names)
        allowed = set(BASE).union(*LAYERS[row + 1 :])
    assert theirs <= allowed, f"{path.name} of {mine} imports {sorted(theirs - allowed)}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_package_knows_neither_ansible_nor_other_doors(path: Path) -> None:
    outside = absolute_imports(path)
    assert "ansible" not in outside
    if path.name not in ("connection.py", "anybytes.py", "knock.py", "watched.py"):
        assert "psycopg" not in outside
    if path.name != "process.py":
        assert "subprocess" not in outside


def test_every_folder_is_a_package() -> None:
    folders = {p.parent for p in modules()}
    assert not [f for f in folders if not (f / "__init__.py").exists()], "the packer ships only packages"


def test_modules_are_thin() -> None:
    """A module imports Ansible's, our argument specs, errors and jobs, and nothing below."""
    for path in (ROOT / "library").glob("scannerdb_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and "scannerdb" in node.module:
                below = node.module.split("ansible.module_utils.scannerdb.")[1]
                assert below.split(".")[0] in {"answer", "argspec", "jobs", "option"} or below.endswith(
                    (".options", ".request")
                ), f"{path.name}: {node.module}"


def test_json_of_files_has_one_reader() -> None:
    """What others may have written is read within bounds; what the server or a child of ours says is not in a file."""
    own = {"jsontext.py", "anybytes.py", "cutover.py", "trusted.py", "batches.py", "putback.py"}
    readers = {path.name for path in modules() if "json.loads(" in path.read_text(encoding="utf-8")}
    assert readers <= own
    beside = [path for room in ("runner", "callback_plugins") for path in (ROOT / room).glob("*.py")]
    assert not [path.name for path in beside if re.search(r"json\.loads?\(", path.read_text(encoding="utf-8"))]


def test_every_module_ends_in_one_place() -> None:
    """Bounds, warnings, errors and what was changed before them are answered alike."""
    for path in (ROOT / "library").glob("scannerdb_*.py"):
        text = path.read_text(encoding="utf-8")
        assert "run_module(" in text and not re.search(r"exit_json|fail_json|^ *except .*:$", text, re.M), path.name


def test_no_test_module_imports_another() -> None:
    """What several need stands in a support module or a fixture, so that each file can be moved and read alone."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if any(_names_a_test(n) for n in _imports(path))]
    assert [str(path.relative_to(ROOT)) for path in files] == []


def _imports(path: Path) -> list[str]:
    """The full names of what a file imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _names_a_test(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "tests" and any(part.startswith("test_") for part in parts)


CODE = sorted(
    path
    for folder in ("module_utils", "library", "runner", "callback_plugins", "roles")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_function_fits_on_a_screen(path: Path) -> None:
    """40 lines of statements; the signature and the docstring are for whoever calls it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and node.end_lineno:
                assert node.end_lineno - body[0].lineno < 40, node.name


# What reads the package's names: code, and what templates and tasks ask filters for.
READERS = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("module_utils", "library", "doc_fragments", "runner", "callback_plugins", "roles", "docs", "bench")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yml", ".j2")
)
CALLED_BY_NAME = {"redirect_request"}  # by urllib


def _defined(tree: ast.AST) -> set[str]:
    """The functions, properties and constants of a file, without functions that a decorator registers."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = {one.name for one in functions if {ast.unparse(d) for d in one.decorator_list} <= {"property"}}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found - CALLED_BY_NAME if not name.startswith("__")}


def test_nothing_is_defined_that_nobody_reads() -> None:
    times = Counter(re.findall(r"\w+", READERS))
    unread = {path.stem: [n for n in _defined(ast.parse(path.read_text())) if times[n] < 2] for path in modules()}
    assert {name: names for name, names in unread.items() if names} == {}
