"""Every variable of the roles is declared once, described, has its default in one place, and works as a string."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2.meta import find_undeclared_variables
from jinja2.nativetypes import NativeEnvironment

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
NAME = re.compile(r"\b(?:__)?scannerdb_\w+")
MODULES = {path.stem for path in (ROOT / "library").glob("*.py")}
AWX_FILTERS = sorted((ROOT / "roles/scannerdb_awx/filter_plugins").glob("*.py"))
SECRET = re.compile(r"password|_token$|identity_key$")
PUBLISHED = "_artifacts"  # by set_stats, for later jobs of a workflow
REAL = {
    "int": "7",
    "float": "0.5",
    "bool": "false",
    "list": "a,b",
    "dict": '{"tables": {}}',
    "raw": "[]",
    "bytes": "20M",
}


def load(role: str, part: str) -> Any:
    path = ROOT / "roles" / role / part
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}


def variables(role: str) -> dict[str, Any]:
    """The role's internal variables, from one file or from several."""
    folder = ROOT / "roles" / role / "vars" / "main"
    files = [f"vars/main/{path.name}" for path in sorted(folder.glob("*.yml"))] or ["vars/main.yml"]
    return {name: value for file in files for name, value in load(role, file).items()}


def specs(role: str) -> dict[str, dict[str, Any]]:
    """The options of each entry point."""
    entries = load(role, "meta/argument_specs.yml")["argument_specs"]
    return {entry: spec["options"] for entry, spec in entries.items()}


def dependencies(role: str) -> set[str]:
    """The role and all that it depends on."""
    found = {role}
    for dependency in load(role, "meta/main.yml").get("dependencies") or []:
        found |= dependencies(dependency["role"])
    return found


def texts(role: str) -> dict[Path, str]:
    """Everything in a role that may read a variable."""
    folder = ROOT / "roles" / role
    places = ("tasks", "templates", "vars", "defaults", "files", "handlers")
    return {
        path: path.read_text(encoding="utf-8")
        for place in places
        for path in (folder / place).rglob("*")
        if path.is_file()
    }


def made(text: str) -> set[str]:
    """The variables that tasks register, and the internal ones that they set for themselves."""
    return {name for names in re.findall(r"^\s*register: (\w+)$|^\s+(__\w+):", text, re.MULTILINE) for name in names}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_name_the_same_variables(role: str) -> None:
    defaults = set(load(role, "defaults/main.yml"))
    for entry, options in specs(role).items():
        assert set(options) == defaults, entry
    assert all(name.startswith("scannerdb_") for name in defaults)
    assert all(name.startswith("__scannerdb_") for name in variables(role))


def test_no_default_is_written_twice() -> None:
    count = Counter(name for role in ROLES for name in load(role, "defaults/main.yml"))
    assert [name for name, times in count.items() if times > 1] == []
    for role in ROLES:
        for options in specs(role).values():
            assert [name for name, spec in options.items() if spec.get("required")] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_default_that_is_shown_is_the_one_that_counts(role: str) -> None:
    """A spec shows the role's default; the last one, where the environment or a former name comes before; or none."""
    defaults, former = load(role, "defaults/main.yml"), variables("scannerdb_common")["__scannerdb_renamed"]
    templates = NativeEnvironment()
    templates.filters["bool"] = bool  # Ansible's
    for name, spec in [pair for options in specs(role).values() for pair in options.items()]:
        default = defaults[name]
        if "{" not in str(default) or not isinstance(default, str):
            assert (type(spec["default"]), spec["default"]) == (type(default), default), name
        elif find_undeclared_variables(templates.parse(default)) <= {"__scannerdb_env", *former}:
            said = templates.from_string(default).render(__scannerdb_env=defaultdict(str))
            assert spec["default"] == ("" if said is None else said), name
        elif "default" in spec:
            assert spec["default"] == re.sub(r"{{ (\w+) }}", r"<\1>", default) and "{" not in spec["default"], name
        else:
            assert "y default" in str(spec["description"]), f"{name}: nothing says what it is by default"


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_that_a_role_reads_is_declared(role: str) -> None:
    declared = (
        MODULES
        | set(ROLES)
        | {"scannerdb_maint", "scannerdb_maintenance"}
        | {"scannerdb_hosts", "scannerdb_collection"}
    )  # the server's role and schema, what a person says, and a test
    for one in dependencies(role):
        declared |= set(load(one, "defaults/main.yml")) | set(variables(one))
    renamed = variables("scannerdb_common")["__scannerdb_renamed"]
    declared |= {*renamed, *renamed.values()}
    for text in texts(role).values():
        declared |= made(text)
    if role == "scannerdb_summary":  # it speaks of what other roles and the playbook left
        declared |= {name for other in ROLES for text in texts(other).values() for name in made(text)}
        declared |= {"scannerdb_found", "scannerdb_fix_dry_run", "__scannerdb_command"}
        declared |= set(load("scannerdb_common", "defaults/main.yml"))
    if role == "scannerdb_awx":  # its surveys ask for other roles' variables
        declared |= {name for other in ROLES for name in load(other, "defaults/main.yml")} | {"scannerdb_hosts"}
        declared |= {"scannerdb_slices", "scannerdb_slice_names"}  # what a sliced job of AWX is told
        for path in AWX_FILTERS:
            declared |= set(re.findall(r'"(scannerdb_awx_\w+)": ', path.read_text(encoding="utf-8")))
    if role == "scannerdb_common":  # its preflight prints a command of client.yml
        declared |= set(load("scannerdb_client", "defaults/main.yml"))
    if role in ("scannerdb_sets", "scannerdb_fix", "scannerdb_migrate"):  # they print commands of restore.yml
        declared |= set(load("scannerdb_restore", "defaults/main.yml"))
    for path, text in texts(role).items():
        names = {name for name in NAME.findall(re.sub(r"#.*", "", text)) if not name.endswith(PUBLISHED)}
        assert names <= declared, path


def test_every_variable_that_a_playbook_reads_is_declared() -> None:
    declared = (
        MODULES
        | set(ROLES)
        | {"scannerdb_hosts", "scannerdb_found", "scannerdb_serial", "scannerdb_max_fail_percentage"}
        | {"scannerdb_slices", "scannerdb_slice_names"}  # what a sliced job of AWX is told
    )
    for role in ROLES:
        declared |= set(load(role, "defaults/main.yml")) | {n for t in texts(role).values() for n in made(t)}
    for path in (ROOT / "playbooks").rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        names = {name for name in NAME.findall(text) if name.startswith("scannerdb_")}
        assert names <= declared | {"scannerdb"}, path


def test_every_variable_is_read() -> None:
    """A variable that nobody reads is a knob that does nothing."""
    everything = "".join(text for role in ROLES for text in texts(role).values())
    everything += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").rglob("*.yml"))
    uses = Counter(NAME.findall(everything))
    names = {name for role in ROLES for name in load(role, "defaults/main.yml")}
    assert {name for name in names if uses[name] < 2} == set()  # once is its own default


def test_every_variable_of_a_role_s_own_is_read() -> None:
    """Somewhere beside where it is set: by a role, a playbook, a scenario or a plugin."""
    places = [ROOT / name for name in ("roles", "playbooks", "molecule", "callback_plugins")]
    files = [path for place in places for path in place.rglob("*") if path.suffix in (".yml", ".j2", ".py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    times, settings = Counter(re.findall(r"\w+", text)), re.findall(r"^ *(?:register: (__\w+)$|(__\w+):)", text, re.M)
    times_set = Counter(name for names in settings for name in names if name.startswith("__scannerdb_"))
    assert [name for name in times_set if times[name] <= times_set[name]] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_described_and_takes_a_string(role: str) -> None:
    for options in specs(role).values():
        for name, spec in options.items():
            description = spec["description"]
            assert (description if isinstance(description, str) else description[-1]).rstrip().endswith("."), name
            assert bool(spec.get("no_log")) == bool(SECRET.search(name)), name
            value = spec["choices"][0] if spec.get("choices") else REAL.get(spec["type"], "text")
            validator = ArgumentSpecValidator({name: {k: v for k, v in spec.items() if k != "description"}})
            assert validator.validate({name: value}).error_messages == []
            if spec.get("choices"):
                wrong = validator.validate({name: "nonsense"}).error_messages
                assert len(wrong) == 1 and name in wrong[0] and "must be one" in wrong[0]


@pytest.mark.parametrize("role", ROLES)
def test_strings_are_converted_where_jinja_reads_them(role: str) -> None:
    """Argument specs validate without converting: in Jinja the string "false" is true, and "a,b" is three letters."""
    types = {name: spec["type"] for other in ROLES for o in specs(other).values() for name, spec in o.items()}
    for path, text in texts(role).items():
        for name in set(NAME.findall(text)) & set(types):
            if types[name] == "bool":  # "{{ x }}" hands it on to a module, which converts; in quotes it is a name
                converted = rf"\b{name}\b(?!:|'|\n|=(?:true|false)|(?: \| default\(false\))? \| bool| }}}})"
                assert re.findall(converted, text) == [], (path, name)
            if types[name] == "list" and path.parent.name in ("tasks", "templates"):
                raise AssertionError(f"{path} reads {name}, which may be a string; vars/main.yml splits it")
