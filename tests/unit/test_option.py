"""What is made from a declared option: its spec, its documentation, the typed request, and the variable by a rule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from scannerdb.backup.options import BackupOptions
from scannerdb.option import REQUIRED, PathText, argument_spec, documentation, option, options_of, own_options, taken

from docs import declared


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
