"""What is made from a declared option: its spec, its documentation, the typed request, and the variable by a rule."""

from __future__ import annotations

import ast
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scannerdb.backup.options import BackupOptions
from scannerdb.option import REQUIRED, PathText, argument_spec, documentation, option, options_of, own_options, taken

from docs import declared

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shared:
    PREFIX = "scannerdb_"
    folder: PathText = option(REQUIRED, "A folder.", default_in_playbooks="/srv/{{ inventory_hostname }}")
    key: str = option("", "A key.", secret=True, environment=("KEY",))


@dataclass(frozen=True)
class Job(Shared):
    PREFIX = "scannerdb_job_"
    kind: str = option("a", "One kind,", "or another.", choices=("a", "b"), formerly="scannerdb_kind")
    many: list[str] = option([], "Many words.", since="1.4.0")
    host: str = option("", "A name.", given="{{ inventory_hostname }}")
    state: str = option("", "Nothing gives it.", variable="")


def test_the_spec_and_the_documentation() -> None:
    assert argument_spec(Job) == {
        "folder": {"type": "path", "required": True},
        "key": {"type": "str", "default": "", "no_log": True},
        "kind": {"type": "str", "default": "a", "choices": ["a", "b"]},
        "many": {"type": "list", "elements": "str", "default": []},
        "host": {"type": "str", "default": ""},
        "state": {"type": "str", "default": ""},
    }
    said = json.loads(documentation(Job))["options"]
    assert said["kind"]["description"] == ["One kind,", "or another."] and said["many"]["version_added"] == "1.4.0"


def test_the_typed_request_has_its_own_lists_and_shows_no_secret() -> None:
    request = taken(Job, {"folder": "/a", "key": "s3cret", "kind": "b", "many": ["x"], "host": "", "state": ""})
    assert request.kind == "b" and "s3cret" not in repr(request)
    assert Job().many is not Job().many
    with pytest.raises(TypeError, match="unheard"):
        BackupOptions(unheard=1)


def test_variables_follow_from_the_option_and_its_class() -> None:
    names = {name: one.variable for name, one in options_of(Job).items()}
    assert names == {
        "folder": "scannerdb_folder",
        "key": "scannerdb_key",
        "kind": "scannerdb_job_kind",
        "many": "scannerdb_job_many",
        "host": "",
        "state": "",
    }
    assert list(own_options(Job)) == ["kind", "many", "host", "state"]


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("folder", "/srv/{{ inventory_hostname }}"),
        ("key", "{{ __scannerdb_env.KEY }}"),
        ("kind", "{{ scannerdb_kind | default('a') }}"),
        ("many", []),
    ],
)
def test_defaults_in_playbooks(name: str, default: Any) -> None:
    assert declared.default_of(options_of(Job)[name]) == default
    assert declared.shown_default("/srv/{{ inventory_hostname }}") == "/srv/<inventory_hostname>"


CODE = {path: ast.parse(path.read_text()) for path in (ROOT / "module_utils/scannerdb").rglob("*.py")}


def declared_options() -> list[tuple[str, ast.Call]]:
    """The name of each option with its call of option()."""
    fields = [node for tree in CODE.values() for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    calls = [(node.target, node.value) for node in fields if isinstance(node.value, ast.Call)]
    return [(ast.unparse(name), call) for name, call in calls if ast.unparse(call.func) == "option" and call.args]


def defaults_of_names(tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Fields of classes and parameters of functions that have a default."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and node.value:
            found.append((ast.unparse(node.target), node.value))
        elif isinstance(node, ast.FunctionDef):
            said = node.args
            found += [(one.arg, value) for one, value in zip(said.kwonlyargs, said.kw_defaults, strict=True) if value]
            found += [(one.arg, value) for one, value in zip(said.args[::-1], said.defaults[::-1], strict=False)]
    return found


def test_no_default_of_an_option_is_written_again() -> None:
    """What an option has by default is taken from its class, unless it is nothing, yes or no."""
    taken_for_granted = {"''", "0", "True", "False"}
    options = {(name, ast.unparse(call.args[0])) for name, call in declared_options()}
    for path, tree in CODE.items():
        again = {
            (name, ast.unparse(value)) for name, value in defaults_of_names(tree) if isinstance(value, ast.Constant)
        }
        assert {one for one in again & options if one[1] not in taken_for_granted} == set(), path


def test_no_choices_are_written_twice() -> None:
    """Where two options have the same choices, or the code compares with them, they have a name."""
    given = [word.value for _, call in declared_options() for word in call.keywords if word.arg == "choices"]
    choices = {ast.unparse(value) for value in given if isinstance(value, ast.Tuple)}
    tuples = Counter(ast.unparse(n) for tree in CODE.values() for n in ast.walk(tree) if isinstance(n, ast.Tuple))
    assert {one for one in choices if tuples[one] > 1} == set()
