"""The roles' defaults, argument specs and arguments, made from the options that the package declares.

What only tasks read is declared in the role itself, in `meta/variables.yml`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "module_utils"))

from scannerdb import argspec  # noqa: E402
from scannerdb.backup.options import BackupOptions  # noqa: E402
from scannerdb.checks.options import CheckOptions  # noqa: E402
from scannerdb.doctor.options import DoctorOptions  # noqa: E402
from scannerdb.drill.options import DrillOptions  # noqa: E402
from scannerdb.fixes.options import FixOptions  # noqa: E402
from scannerdb.jobs.options import MigrateOptions  # noqa: E402
from scannerdb.option import REQUIRED, Option, options_of, own_options  # noqa: E402
from scannerdb.physical.options import MethodOptions, PhysicalBackupOptions, PhysicalInfoOptions  # noqa: E402
from scannerdb.restore.options import RestoreOptions  # noqa: E402
from scannerdb.status.options import StatusOptions  # noqa: E402
from scannerdb.vacuum.options import VacuumOptions  # noqa: E402

MADE = "# Made by docs/declared.py out of {source}: change it there, and run `make generate`.\n---\n"
# Options that several modules share, by the role that has their variables; their values are put together there.
SHARED: dict[str, tuple[type, ...]] = {
    "scannerdb_common": (
        argspec.ConnectionOptions,
        argspec.FolderOptions,
        argspec.RunOptions,
        argspec.BudgetOptions,
        argspec.WindowOptions,
        argspec.StorageOptions,
        argspec.EncryptionOptions,
        argspec.IdentityOptions,
        argspec.OffsiteOptions,
        argspec.TrustOptions,
        MethodOptions,
        PhysicalInfoOptions,
        PhysicalBackupOptions,
    ),
    "scannerdb_backup": (argspec.RetentionOptions,),
}
# The options of the module that a role runs.
MODULES: dict[str, type] = {
    "scannerdb_backup": BackupOptions,
    "scannerdb_check": CheckOptions,
    "scannerdb_doctor": DoctorOptions,
    "scannerdb_fix": FixOptions,
    "scannerdb_migrate": MigrateOptions,
    "scannerdb_restore": RestoreOptions,
    "scannerdb_status": StatusOptions,
    "scannerdb_vacuum": VacuumOptions,
    "scannerdb_verify": DrillOptions,
}
ALL_SHARED = [cls for classes in SHARED.values() for cls in classes]


class Dumper(yaml.SafeDumper):
    """YAML as yamllint wants it; a template is a text in double quotes, or over several lines."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: Dumper, value: str) -> yaml.ScalarNode:
    style = None if "{{" not in value and "{%" not in value and value else ">" if len(value) > 100 else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _few(dumper: Dumper, value: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=all(len(str(v)) < 20 for v in value))


def _one_line(dumper: Dumper, value: dict[str, Any]) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=not value)


Dumper.add_representer(str, _text)
Dumper.add_representer(list, _few)
Dumper.add_representer(dict, _one_line)


def dumped(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)
    return text


def declaration(role: str) -> dict[str, Any]:
    """What the role declares itself: its entry points, and the variables that only its tasks read."""
    path = ROOT / "roles" / role / "meta" / "variables.yml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def declared(role: str) -> dict[str, Option]:
    """The role's variables that a module takes."""
    classes = [*SHARED.get(role, ()), *([MODULES[role]] if role in MODULES else [])]
    return {one.variable: one for cls in classes for one in own_options(cls).values() if one.variable}


def variables_of(options: Mapping[str, Option]) -> dict[str, str]:
    """The variable of each option, by what a text calls O(option); of some it is one that the playbooks give."""
    named = {name: re.fullmatch(r"{{ (scannerdb_\w+) }}", one.given) for name, one in options.items()}
    given = {name: match[1] for name, match in named.items() if match}
    return {**given, **{name: one.variable for name, one in options.items() if one.variable}}


def renamed() -> dict[str, str]:
    """The names of variables that were others before, by those."""
    options = [one for cls in [*ALL_SHARED, *MODULES.values()] for one in own_options(cls).values()]
    return {one.formerly: one.variable for one in options if one.formerly}


def default_of(one: Option) -> Any:
    """What stands in a role's defaults."""
    own, words = one.default_in_playbooks, [f"__scannerdb_env.{name}" for name in one.environment]
    if own is REQUIRED:
        own = ""
    if one.formerly:
        return f"{{{{ {one.formerly} | default({own!r}) }}}}"
    if not words:
        return own
    template = re.fullmatch(r"{{ (.*) }}", str(own))
    last = [template[1]] if template else [repr(own)] if own != "" else []
    return f"{{{{ {' or '.join([*words, *last])} }}}}"


def shown_default(value: Any) -> Any:
    """A default for people: names in the place of what is looked up; None where it is worked out in another way."""
    if not isinstance(value, str) or "{" not in value:
        return value
    shown = re.sub(r"{{ (\w+) }}", r"<\1>", value)
    return None if "{" in shown else shown


def spec_of(one: Option, variables: dict[str, str]) -> dict[str, Any]:
    """The argument spec of a variable. As a string it is YAML or JSON where it has no simpler form."""
    raw = one.type == "raw" or (one.as_yaml and "dict" in (one.type, one.elements))
    spec: dict[str, Any] = {"type": "raw" if raw else "str" if one.type == "path" else one.type}
    if one.elements and not raw:
        spec["elements"] = one.elements
    if one.choices and one.type != "list":  # "a, b" from a survey is split and trimmed later
        spec["choices"] = list(one.choices)
    if one.secret:
        spec["no_log"] = True
    default = one.default_in_playbooks
    shown = shown_default("" if default is REQUIRED else default)
    if shown is not None:  # else the note says it: the module's own default is not what counts
        spec["default"] = shown
    text = [*one.text, *_more(one)]
    spec["description"] = [_in_playbooks(part, variables) for part in text]
    return spec


def _in_playbooks(text: str, variables: dict[str, str]) -> str:
    """A text about options as one about variables, with one kind of markup, which surveys understand."""
    named = re.sub(r"O\((\w+)", lambda m: f"C({variables.get(m[1], m[1])}", text)
    return named.replace("V(", "C(").replace("F(", "C(")


def _more(one: Option) -> list[str]:
    found = []
    if one.environment:
        names = [f"C({name})" for name in one.environment]
        found.append(f"Of the environment {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} comes first.")
    if one.as_yaml:
        found.append("As a string, the same in YAML or JSON.")
    if one.formerly:
        found.append(f"C({one.formerly}) is its name of before, which goes on working until the next major release.")
    return [*found, *([one.note] if one.note else [])]


def defaults(role: str) -> str:
    """defaults/main.yml of a role."""
    own = {name: spec["default"] for name, spec in declaration(role)["variables"].items()}
    found = {**{name: default_of(one) for name, one in declared(role).items()}, **own}
    return MADE.format(source="the declared options and meta/variables.yml") + dumped(found)


def argument_specs(role: str) -> str:
    """meta/argument_specs.yml of a role: all variables at each of its entry points."""
    says, names = declaration(role), variables_of(options_of(MODULES[role])) if role in MODULES else {}
    shared = {name: variable for cls in ALL_SHARED for name, variable in variables_of(own_options(cls)).items()}
    options = {name: spec_of(one, {**shared, **names}) for name, one in declared(role).items()}
    for name, spec in says["variables"].items():
        shown = shown_default(spec["default"])
        options[name] = {key: value for key, value in spec.items() if key != "default"}
        options[name] |= {} if shown is None else {"default": shown}
    entries = {entry: {**said, "options": options} for entry, said in says["entries"].items()}
    Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
    return MADE.format(source="the declared options and meta/variables.yml") + dumped({"argument_specs": entries})


def _value(one: Option) -> str:
    """What a task gives for an option. A list may come as a string, "a,b", from the command line or a survey."""
    if one.given:
        return one.given
    if one.type == "dict" and not one.as_yaml:
        return f"{{{{ {one.variable} or {{}} }}}}"
    return f"{{{{ __{one.variable} }}}}" if one.as_yaml or one.type == "list" else f"{{{{ {one.variable} }}}}"


def _converted(one: Option) -> str:
    name = one.variable
    if one.as_yaml:
        nothing = "{}" if one.type == "dict" else "[]"
        return (
            f"{{{{ ({name} | ansible.builtin.from_yaml if {name} is string else {name}) | default({nothing}, true) }}}}"
        )
    return f"{{{{ ({name}.split(',') if {name} is string else {name}) | map('trim') | select | list }}}}"


def _group(cls: type) -> str:
    return "__scannerdb" + re.sub("([A-Z])", r"_\1", cls.__name__.removesuffix("Options")).lower()


def arguments(role: str) -> str:
    """vars/main/arguments.yml of a role: what its task gives to the module, and what several tasks give."""
    found: dict[str, Any] = {}
    for one in declared(role).values():
        if one.as_yaml or one.type == "list":
            found["__" + one.variable] = _converted(one)
    for cls in SHARED.get(role, ()):
        found[_group(cls)] = {name: _value(one) for name, one in own_options(cls).items() if one.variable}
    if role in MODULES:
        cls = MODULES[role]
        groups = [argspec.ConnectionOptions, *(one for one in ALL_SHARED if one in cls.__mro__)]
        ours = {name for one in groups for name in own_options(one)}
        own = {
            name: _value(one)
            for name, one in options_of(cls).items()
            if name not in ours and (one.variable or one.given)
        }
        found[f"__{role}_own"] = {**own, **getattr(cls, "GIVEN", {})}
        rest = [*map(_group, groups[1:]), f"__{role}_own"]
        found[f"__{role}_arguments"] = f"{{{{ {_group(groups[0])} | combine({', '.join(rest)}) }}}}"
    if role == "scannerdb_common":
        found["__scannerdb_renamed"] = renamed()
        found["__scannerdb_env_of"] = {
            name: list(one.environment) for name, one in declared(role).items() if one.environment
        }
    return MADE.format(source="the declared options") + dumped(found)


def files() -> dict[str, Any]:
    """Every file that is made, with what makes it."""
    found: dict[str, Any] = {}
    for role in sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/variables.yml")):
        found[f"roles/{role}/defaults/main.yml"] = partial(defaults, role)
        found[f"roles/{role}/meta/argument_specs.yml"] = partial(argument_specs, role)
        if role in {*SHARED, *MODULES}:
            found[f"roles/{role}/vars/main/arguments.yml"] = partial(arguments, role)
    return found
