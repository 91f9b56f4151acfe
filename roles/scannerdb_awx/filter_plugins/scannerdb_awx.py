"""Filters that turn the bundle's own data into what AWX takes: role specs into surveys, recurrences into schedules."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

LONGEST = 1024  # characters of a free answer
LARGEST = 2_000_000_000
KINDS = {"int": "integer", "float": "float"}  # everything else is text
# A fixed Monday in the past: RRULEs count from it, and it must not change from run to run.
START = "20240101"
EVENTS = ("failure", "success")
HOME = "summary_fields.organization.name"
# The roles of an object by kind.
CAPABILITIES = {
    "job_templates": "templates",
    "workflow_job_templates": "workflows",
    "inventories": "inventory",
    "projects": "project",
}
IN_ORGANIZATIONS = (
    "credentials",
    "inventories",
    "job_templates",
    "notification_templates",
    "projects",
    "teams",
    "workflow_job_templates",
)
PARENTS = {  # what AWX deletes together with its parent: the field that names it, and the parent's kinds
    "hosts": ("inventory", ("inventories",)),
    "groups": ("inventory", ("inventories",)),
    "inventory_sources": ("inventory", ("inventories",)),
    "schedules": ("unified_job_template", ("job_templates", "workflow_job_templates")),
}


@functools.cache
def variables(roles: str) -> dict[str, dict[str, Any]]:
    """Every variable of the roles in that folder: its argument spec, and under `default` what its role sets it to."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(roles).glob("*/meta/argument_specs.yml")):
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values()
        defaults = yaml.safe_load((path.parent.parent / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}
        for name, spec in ((name, spec) for entry in entries for name, spec in entry.get("options", {}).items()):
            found[name] = {**spec, "default": defaults.get(name)}
    return found


def survey(questions: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The survey of a job template.

    `questions` say, by variable, what to `ask`; they may set `required`, `default`, `min` and `max`. Type, choices and
    explanation come from the roles' `known` variables. Without questions the result is empty, as AWX wants it.
    """
    if not questions:
        return {}
    return {"name": "", "description": "", "spec": [_question(name, one, known) for name, one in questions.items()]}


def _question(name: str, question: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if name not in known:
        raise AnsibleFilterError(f"No role of the bundle has the variable {name}, so a survey cannot ask for it.")
    spec = known[name]
    choices = ["true", "false"] if spec["type"] == "bool" else [str(one) for one in spec.get("choices") or []]
    kind = "multiplechoice" if choices else KINDS.get(spec["type"], "text")
    made: dict[str, Any] = {
        "question_name": question["ask"],
        "question_description": _plain(spec["description"]),
        "variable": name,
        "type": kind,
        "required": bool(question.get("required", False)),
    }
    if choices:
        made["choices"] = choices
    else:
        made["min"] = question.get("min", 0)
        made["max"] = question.get("max", LONGEST if kind == "text" else LARGEST)
    if choices or "default" in question:  # AWX's page cannot edit a choice without one
        made["default"] = question.get("default", "")
    if not made["required"]:
        made["question_description"] += f" Unanswered: what the inventory says, or else {_shown(spec['default'])}."
    return made


def _plain(description: Any) -> str:
    """A spec's description without Ansible's markup."""
    text = " ".join(description) if isinstance(description, list) else str(description)
    return re.sub(r"\b[A-Z]\(([^()]*)\)", r"\1", " ".join(text.split()))


def _shown(value: Any) -> str:
    """A role's default, to be read."""
    if value in ("", [], {}, None):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def rrule(rule: str, timezone: str) -> str:
    """A recurrence as AWX's own form writes it, so that it can be edited there: the time of day stands in DTSTART."""
    found = re.fullmatch(r"(.+);BYHOUR=(\d+);BYMINUTE=(\d+);BYSECOND=0", rule)
    if found is None:
        raise AnsibleFilterError(f"The recurrence {rule} has no time of day at its end.")
    return f"DTSTART;TZID={timezone or 'UTC'}:{START}T{found[2]:0>2}{found[3]:0>2}00 RRULE:{found[1]}"


def same(there: Sequence[Mapping[str, Any]], name: str, fields: Mapping[str, Any]) -> bool:
    """Whether something of that name is there with just these fields: then no module has to look at it.

    Dots in a field lead into mappings; variables are compared by their meaning.
    """
    home = fields.get(HOME)
    found = [item for item in there if item["name"] == name and (not home or _field(item, HOME) == home)]
    return len(found) == 1 and all(_field(found[0], field) == value for field, value in fields.items())


def _field(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, Mapping) else None
    return yaml.safe_load(item or "{}") if path in ("variables", "extra_vars") else item


def unique_name(parts: Sequence[Any]) -> str:
    """AWX's own name of an object: its name (and type), those of what it belongs to; a plus in one of them is `[+]`."""
    return "++".join("+".join(str(word).replace("+", "[+]") for word in _flat(part)) for part in parts)


def _flat(part: Any) -> list[Any]:
    return list(part) if isinstance(part, (list, tuple)) else [part]


def notifications(given: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The notifications with their `events`.

    The older key `on` is taken as well; unquoted, YAML 1.1 reads it as the boolean true. A failure is always told.
    """
    made = []
    for one in given:
        kept = {key: value for key, value in one.items() if key not in ("on", True)}
        events = one.get("events", one.get("on", one.get(True, [])))
        kept["events"] = [events] if isinstance(events, str) else list(events or [])
        unknown = [str(event) for event in kept["events"] if event not in EVENTS] + [
            str(key) for key in kept if key not in ("name", "type", "configuration", "events")
        ]
        if unknown or not {"name", "type", "configuration"} <= set(kept):
            told = f"has {unknown[0]!r}" if unknown else "lacks a name, a type or a configuration"
            raise AnsibleFilterError(
                f"An entry of scannerdb_awx_notifications {told}. It has a name, a type, a configuration, and may have "
                f"events, a list of {' and '.join(EVENTS)}."
            )
        made.append(kept)
    return made


def told(given: Sequence[Mapping[str, Any]], event: str, prefix: str, organization: str) -> list[str]:
    """The unique names of the notification templates that an event is told to; a failure is told to all."""
    names_of = [one["name"] for one in given if event == "failure" or event in one["events"]]
    return [unique_name([prefix + name, organization]) for name in names_of]


def roles(there: Mapping[str, Sequence[Any]], mark: str) -> list[dict[str, Any]]:
    """The roles of our objects, each once for teams and once for users: where to look who has them."""
    return [
        {"kind": kind, "id": item["id"], "object": item["name"], "role": role.removesuffix("_role"),
         "role_id": about["id"], "holders": holders}
        for kind in CAPABILITIES
        for item in there.get(kind, [])
        if item["description"].endswith(mark)
        for role, about in item["summary_fields"]["object_roles"].items()
        for holders in ("teams", "users")
    ]  # fmt: skip


def holders(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who has a role: number and name of a team or a user."""
    return [{"holder": one["id"], "holder_name": one.get("name") or one.get("username", "")} for one in found]


def _rights(grant: Mapping[str, Any], prefix: str) -> set[tuple[str, str, str, str]]:
    """A grant as (team, role, kind, object)."""
    objects = {
        "job_templates": [f"{prefix}: {name}" for name in grant.get("templates", [])],
        "workflow_job_templates": grant.get("workflows", []),
        **{kind: [prefix] for kind in ("inventories", "projects") if grant.get(CAPABILITIES[kind])},
    }
    team = f"{prefix} {grant['team']}"
    return {(team, grant["role"], kind, name) for kind, names_of in objects.items() for name in names_of}


def _held(found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return found["holder_name"], found["role"], found["kind"], found["object"]


def granted(held: Sequence[Mapping[str, Any]], grant: Mapping[str, Any], prefix: str) -> bool:
    """Whether the team has all rights of a grant already."""
    return _rights(grant, prefix) <= {_held(one) for one in held if one["holders"] == "teams"}


def foreign_rights(
    held: Sequence[Mapping[str, Any]], grants: Sequence[Mapping[str, Any]], prefix: str, me: Sequence[int]
) -> list[Any]:
    """The rights on our objects that no grant gives; those of the user who made them stay."""
    wanted = set().union(*(_rights(grant, prefix) for grant in grants))
    return [one for one in held if (one["holder"] not in me if one["holders"] == "users" else _held(one) not in wanted)]


def lodgers(there: Mapping[str, Sequence[Any]], mark: str) -> list[str]:
    """What others have put into our inventory by hand; what a source of it has brought goes with it."""
    return [
        item["name"]
        for kind in ("hosts", "groups")
        for item in there.get(kind, [])
        if not item["description"].endswith(mark) and not item.get("has_inventory_sources")
    ]


def surplus(there: Mapping[str, Sequence[Any]], wanted: Mapping[str, Sequence[str]], mark: str) -> dict[str, list[Any]]:
    """What is ours by its mark and not wanted, by kind; without what goes together with its parent."""
    extra = {
        kind: [
            item for item in items if item["description"].endswith(mark) and item["name"] not in wanted.get(kind, [])
        ]
        for kind, items in there.items()
    }
    if lodgers(there, mark):
        extra["inventories"] = []
    for kind, (field, parents) in PARENTS.items():
        gone = {parent["id"] for one in parents for parent in extra.get(one, [])}
        extra[kind] = [item for item in extra[kind] if item[field] not in gone]
    return extra


def names(there: Mapping[str, Sequence[Any]], mark: str) -> dict[str, list[str]]:
    """The names of what is ours by its mark, by kind. An organization counts whoever has made it."""
    return {
        kind: [one["name"] for one in items if one["description"].endswith(mark) or kind == "organizations"]
        for kind, items in there.items()
    }


def lacking(wanted: Mapping[str, Sequence[str]], there: Mapping[str, Sequence[str]]) -> list[str]:
    """The kinds of which something is wanted whose name is not among those that are there."""
    return [kind for kind, names_of_it in wanted.items() if not set(names_of_it) <= set(there[kind])]


def foreign(
    there: Mapping[str, Sequence[Any]], wanted: Mapping[str, Sequence[str]], mark: str, organization: str
) -> dict[str, list[str]]:
    """The names that are wanted and that something else, without our mark, has already where names must be unique."""
    own = {item["id"] for items in there.values() for item in items if item["description"].endswith(mark)}
    found = {}
    for kind, items in there.items():
        taken = [item for item in items if item["id"] not in own and item["name"] in wanted[kind]]
        if kind == "schedules":
            taken = [item for item in taken if item["unified_job_template"] in own]
        elif kind in IN_ORGANIZATIONS:
            homes = [item["summary_fields"].get("organization", {}).get("name") for item in taken]
            taken = [item for item, home in zip(taken, homes) if home == organization]
        if taken and kind != "organizations":
            found[kind.replace("_", " ")] = [item["name"] for item in taken]
    return found


class FilterModule:
    """The filters, by their names in templates."""

    def filters(self) -> dict[str, Any]:
        return {
            "scannerdb_awx_variables": variables,
            "scannerdb_awx_survey": survey,
            "scannerdb_awx_rrule": rrule,
            "scannerdb_awx_names": names,
            "scannerdb_awx_lacking": lacking,
            "scannerdb_awx_surplus": surplus,
            "scannerdb_awx_foreign": foreign,
            "scannerdb_awx_foreign_rights": foreign_rights,
            "scannerdb_awx_granted": granted,
            "scannerdb_awx_holders": holders,
            "scannerdb_awx_lodgers": lodgers,
            "scannerdb_awx_notifications": notifications,
            "scannerdb_awx_roles": roles,
            "scannerdb_awx_same": same,
            "scannerdb_awx_told": told,
            "scannerdb_awx_unique_name": unique_name,
        }
