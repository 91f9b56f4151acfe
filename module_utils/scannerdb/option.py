"""What an option is. Each area declares its own once, as the fields of a class; everything else is made from them:

    @dataclass(frozen=True)
    class VacuumOptions(RunOptions):
        PREFIX = "scannerdb_vacuum_"
        method: str = option("auto", "What to do with the tables.", choices=METHODS)

The class is the typed request itself (`taken`). Made from it are the module's argument spec (`argument_spec`), its
documentation (`documentation`) and, by `make generate`, the role's defaults, argument specs and arguments. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import InvalidInput
from .jsontext import DEEPEST

# What Ansible knows as types of their own, and Python as texts and numbers.
PathText = Annotated[str, "path"]
SizeInBytes = Annotated[int, "bytes"]
Raw = Annotated[Any, "raw"]

REQUIRED: Any = object()  # in place of a default
BY_RULE = "by rule"
Class = TypeVar("Class")


@dataclass(frozen=True)
class Option:
    """One option of a module, and the playbooks' variable for it."""

    name: str
    type: str
    elements: str
    default: Any  # REQUIRED for none
    text: tuple[str, ...]  # its paragraphs, in Ansible's markup
    choices: tuple[str, ...]
    secret: bool
    since: str  # the release that first had it, where the module is older
    variable: str  # empty where no playbook sets it by a variable of its own
    given: str  # what playbooks give in place of a variable, as a template; empty for nothing
    default_in_playbooks: Any  # where it differs
    note: str  # what else the variable's readers are told
    environment: tuple[str, ...]  # the controller's variables that come before the default
    as_yaml: bool  # whether a string that is given for the variable is YAML or JSON
    formerly: str  # the variable's name before it was named by the rule


def option(
    default: Any,
    *text: str,
    choices: Sequence[str] = (),
    secret: bool = False,
    since: str = "",
    variable: str = BY_RULE,
    given: str = "",
    default_in_playbooks: Any = None,
    note: str = "",
    environment: Sequence[str] = (),
    as_yaml: bool = False,
    formerly: str = "",
) -> Any:
    """A field of a class of options. By rule its variable is the class's PREFIX and the field's name."""
    known = {
        "default": default,
        "text": text,
        "choices": tuple(choices),
        "secret": secret,
        "since": since,
        "variable": "" if given else variable,
        "given": given,
        "default_in_playbooks": default if default_in_playbooks is None else default_in_playbooks,
        "note": note,
        "environment": tuple(environment),
        "as_yaml": as_yaml,
        "formerly": formerly,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=known)
    return field(default="" if default is REQUIRED else default, metadata=known, repr=not secret)


def options_of(cls: type) -> dict[str, Option]:
    """The options of a class, by name: its parents' first, then its own."""
    hints = get_type_hints(cls, include_extras=True)
    return {one.name: _option(cls, one.name, hints[one.name], one.metadata) for one in fields(cls)}


def own_options(cls: type) -> dict[str, Option]:
    """The options that a class declares itself."""
    return {name: one for name, one in options_of(cls).items() if _owner(cls, name) is cls}


def _owner(cls: type, name: str) -> type:
    """The class, among this one and its parents, that declares an option."""
    return next(one for one in reversed(cls.__mro__) if name in getattr(one, "__dataclass_fields__", {}))


def _option(cls: type, name: str, hint: Any, known: Mapping[str, Any]) -> Option:
    kind, elements = _types(hint)
    variable = known["variable"]
    if variable == BY_RULE:
        prefix = getattr(_owner(cls, name), "PREFIX", "")
        variable = prefix + name if prefix else ""
    return Option(name, kind, elements, **{**known, "variable": variable})


def _types(hint: Any) -> tuple[str, str]:
    """The type of an option and that of its elements, as Ansible calls them."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[1], ""
    if get_origin(hint) is list:
        return "list", _types(get_args(hint)[0])[0]
    return (get_origin(hint) or hint).__name__, ""


def argument_spec(*classes: type) -> dict[str, dict[str, Any]]:
    """The argument spec of a module that takes the options of these classes."""
    return {name: _spec(one) for cls in classes for name, one in options_of(cls).items()}


def _spec(one: Option) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": one.type}
    if one.default is REQUIRED:
        spec["required"] = True
    else:
        spec["default"] = one.default
    if one.elements:
        spec["elements"] = one.elements
    if one.choices:
        spec["choices"] = list(one.choices)
    if one.secret:
        spec["no_log"] = True
    return spec


def documentation(*classes: type) -> str:
    """The same options as a documentation fragment. JSON is YAML.

    A class may say of an option that it has from others what it means there, by `SAYS`, and what playbooks give for
    it, by `GIVEN`.
    """
    says = {name: text for cls in reversed(classes) for name, text in getattr(cls, "SAYS", {}).items()}
    found = {}
    for cls in classes:
        for name, one in options_of(cls).items():
            spec = {key: value for key, value in _spec(one).items() if key != "no_log"}
            found[name] = {"description": list(says.get(name, one.text)), **spec}
            if one.since:
                found[name]["version_added"] = one.since
    return json.dumps({"options": found})


def taken(cls: type[Class], params: Mapping[str, Any]) -> Class:
    """The typed request out of a module's parameters."""
    return cls(**{one.name: params[one.name] for one in fields(cls)})  # type: ignore[arg-type]


def values_of(cls: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class out of a module's parameters, by name."""
    return {one.name: params[one.name] for one in fields(cls)}


# The largest value of a number, by the last word of the option's name. A larger one is a slip, and more than the
# server's own settings, or a clock, can hold.
LIMITS = {
    "port": 65535,
    "ms": 2_147_483_647,
    "s": 2_147_483,
    "h": 876_000,
    "hours": 876_000,
    "days": 36_500,
    "jobs": 1024,
    "nice": 19,
    "mb": 1 << 40,
    "rows": 1_000_000_000,
}
LARGEST = (1 << 63) - 1  # of any other: PostgreSQL's bigint


def ensure_within_bounds(params: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for an option whose number is out of its bounds, or whose text no program could be given."""
    for name, value in params.items():
        limit = LIMITS.get(name.rpartition("_")[2], LARGEST)
        least = 1 if name == "login_port" else 0 if limit != LARGEST else -LARGEST
        if isinstance(value, (int, float)) and not least <= value <= limit:  # NaN is in no bounds either
            raise InvalidInput(f"Option {name} is {str(value)[:40]}; it goes from {least} to {limit}.")
        _ensure_sane(name, value)


def _ensure_sane(name: str, value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise InvalidInput(f"Option {name} is nested deeper than {DEEPEST} levels.")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput(f"Option {name} holds a NUL byte, which no name, path or password can have.")
        with_surrogates = any("\ud800" <= letter <= "\udfff" for letter in value)
        if with_surrogates:
            raise InvalidInput(f"Option {name} holds bytes that are no UTF-8.")
    elif isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
        raise InvalidInput(f"A number in option {name} is too large: {str(value)[:40]}.")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _ensure_sane(name, key, depth + 1)
            _ensure_sane(name, inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _ensure_sane(name, inner, depth + 1)
