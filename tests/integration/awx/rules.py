"""What AWX refuses beyond types and names: surveys, recurrence rules, secrets, launches, links between nodes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jinja2
import jinja2.sandbox
import yaml
from dateutil import rrule

HIDDEN = "$encrypted$"
LONGEST_NAME = 512
QUESTIONS = ("text", "textarea", "password", "multiplechoice", "multiselect", "integer", "float")
NUMBERS: dict[str, Any] = {"integer": int, "float": (int, float)}
# type: its parameters as (type, default), without a default where they must be given; and the one that is secret
NOTIFICATION: dict[str, tuple[dict[str, tuple[Any, ...]], str]] = {
    "email": (
        {
            "host": (str,),
            "port": (int,),
            "username": (str,),
            "password": (str,),
            "sender": (str,),
            "recipients": (list,),
            "use_tls": (bool,),
            "use_ssl": (bool,),
            "timeout": (int, 30),
        },
        "password",
    ),
    "slack": ({"token": (str,), "channels": (list,), "hex_color": (str, "")}, "token"),
    "webhook": (
        {
            "url": (str,),
            "http_method": (str, "POST"),
            "headers": (dict, {}),
            "username": (str, ""),
            "password": (str, ""),
            "disable_ssl_verification": (bool, False),
        },
        "password",
    ),
}
MESSAGES = {"started", "success", "error", "workflow_approval"}
# What AWX has taken out of recurrence rules, and how it says so.
RULES = (
    (r"^(?!.*INTERVAL)", "INTERVAL required in rrule"),
    (r"FREQ=SECONDLY", "SECONDLY is not supported"),
    (r"BYDAY=\d", "BYDAY with numeric prefix not supported"),
    (r"COUNT=\d{4,}", "COUNT > 999 is unsupported"),
    (r"^(?=.*COUNT)(?=.*UNTIL)", "RRULE may not contain both COUNT and UNTIL"),
)
FIELD = {"id", "label", "help_text", "type", "secret", "multiline", "choices", "default", "format"}
RESERVED_FIELDS = {"tower", "awx"}


class Refused(Exception):
    """An answer of the API in the 4xx range."""

    def __init__(self, body: Any, status: int = 400) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def check_rrule(value: str) -> None:
    """One DTSTART with a time zone, one RRULE with an INTERVAL, nothing that AWX has taken out; and it must parse."""
    errors = []
    if len(re.findall(r"DTSTART(?:;TZID=[^:]+)?:\d{8}T\d{6}Z?", value)) != 1:
        errors.append("Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ")
    if re.search(r"DTSTART:\d{8}T\d{6}(?!Z)", value):
        errors.append("DTSTART cannot be a naive datetime.  Specify ;TZINFO= or YYYYMMDDTHHMMSSZZ.")
    rules = re.findall(r"RRULE:(\S*)", value)
    if not rules:
        errors.append("One or more rule required in rrule.")
    errors += [f"{said}: {rule}" for rule in rules for pattern, said in RULES if re.search(pattern, rule)]
    try:
        parsed = rrule.rrulestr(value, forceset=True)
        if any(one._dtstart.tzinfo is None for one in parsed._rrule):
            errors.append("A valid TZID must be provided (e.g., America/New_York)")
    except (ValueError, KeyError) as error:
        errors.append(f"rrule parsing failed validation: {error}")
    if errors:
        raise Refused({"rrule": errors})


def check_survey(spec: Any) -> None:
    """A survey as the endpoint survey_spec takes it."""
    if not isinstance(spec, dict) or not {"name", "description", "spec"} <= set(spec):
        raise Refused({"error": "'name', 'description' and 'spec' are required in a survey spec."})
    variables: set[str] = set()
    for number, question in enumerate(spec["spec"]):
        for key in ("type", "question_name", "variable", "required"):
            if key not in question:
                raise Refused({"error": f"'{key}' missing from survey question {number}."})
        if question["type"] not in QUESTIONS:
            raise Refused({"error": f"'{question['type']}' in survey question {number} is not one of {QUESTIONS}"})
        if question["variable"] in variables:
            raise Refused({"error": f"'variable' '{question['variable']}' duplicated in survey question {number}."})
        variables.add(question["variable"])
        _check_default(number, question)


def _check_default(number: int, question: Mapping[str, Any]) -> None:
    kind, default = question["type"], question.get("default", "")
    if kind in ("multiplechoice", "multiselect"):
        choices = question.get("choices")
        choices = choices.split("\n") if isinstance(choices, str) else choices
        if not choices:
            raise Refused({"error": f"Survey question {number} of type {kind} must specify choices."})
        chosen = default.split("\n") if isinstance(default, str) else default
        if default and not set(chosen) <= set(choices):
            raise Refused({"error": "Default choice must be answered from the choices listed."})
    wanted: Any = {"integer": int, "float": (int, float)}.get(kind, str)
    if default != "" and not isinstance(default, wanted) and kind != "multiselect":
        raise Refused({"error": f"Value {default} for '{question['question_name']}' expected to be a {kind}."})
    for bound in ("min", "max"):
        if bound in question and question[bound] not in (None, "") and not isinstance(question[bound], int):
            raise Refused({"error": f"The {bound} limit in survey question {number} expected to be integer."})


def check_answers(questions: list[dict[str, Any]], extra_data: Mapping[str, Any]) -> list[str]:
    """What a launch with these answers lacks or gets wrong, as AWX says it.

    A required question must be answered even where it has a default: only AWX's own page fills that in.
    """
    errors = []
    for question in questions:
        name = question["variable"]
        if name in extra_data:
            errors += _check_answer(question, extra_data[name])
        elif question["required"]:
            errors.append(f"'{name}' value missing")
    return errors


def _check_answer(question: Mapping[str, Any], value: Any) -> list[str]:
    name, kind = question["variable"], question["type"]
    least, most = question.get("min"), question.get("max")
    if kind == "multiplechoice":  # not even an empty one, unless it is among the choices
        known = value in _choices(question)
        return [] if known else [f"Value {value} for '{name}' expected to be one of {question['choices']}."]
    if value in ("", None) and not question["required"]:
        return []
    wanted = NUMBERS.get(kind, str)
    if not isinstance(value, wanted) or isinstance(value, bool):
        return [f"Value {value!r} for '{name}' expected to be a {'string' if wanted is str else kind}."]
    size = len(value) if isinstance(value, str) else value
    what = "length is " if isinstance(value, str) else ""
    if least is not None and size < least:
        return [f"'{name}' value {value} is too small ({what}{size} must be at least {least})."]
    if most is not None and size > most:
        return [f"'{name}' value {value} is too large ({what}{size} must be no more than {most})."]
    return []


def _choices(question: Mapping[str, Any]) -> list[str]:
    choices = question["choices"]
    return list(choices.split("\n") if isinstance(choices, str) else choices)


def check_credential_type(item: Mapping[str, Any]) -> None:
    """Inputs are a list of fields; injectors may speak of them only."""
    inputs, injectors = item["inputs"], item["injectors"]
    fields = inputs.get("fields", [])
    ids = Counter(field.get("id", "") for field in fields)
    if not set(inputs) <= {"fields", "required"} or not set(inputs.get("required", [])) <= set(ids):
        raise Refused({"inputs": ["Schema validation failed"]})
    for field in fields:
        _check_field(field, ids)
    if not set(injectors) <= {"env", "file", "extra_vars"}:
        raise Refused({"injectors": ["Additional properties are not allowed"]})
    files = set(injectors.get("file", {}))
    if "template" in files and len(files) > 1:
        raise Refused({"injectors": ["Must use multi-file syntax when injecting multiple files"]})
    if bad := [name for name in files if not re.fullmatch(r"template(\.[a-zA-Z_]\w*)?", name)]:
        raise Refused({"injectors": [f"{bad[0]} does not match the pattern of a file template"]})
    for used in re.findall(r"{{\s*(\w+)", json.dumps(injectors)):
        if used not in set(ids) | RESERVED_FIELDS:
            raise Refused({"injectors": [f"{used} uses an undefined field"]})
    if any(name.startswith("ANSIBLE_") for name in injectors.get("env", {})):
        raise Refused({"injectors": ["Environment variables starting with ANSIBLE_ are not allowed"]})


def _check_field(field: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    name = field.get("id", "")
    wrong = {
        f"Additional properties are not allowed in {name}": not set(field) <= FIELD or "label" not in field,
        f"{name} is a reserved field": name in RESERVED_FIELDS,
        f"{name} is an invalid variable name": not re.fullmatch(r"[a-zA-Z_]+[a-zA-Z0-9_]*", name),
        f"{name} must be unique in field list": ids[name] > 1,
        f"secret is not allowed for {name}, a boolean": field.get("type") == "boolean" and "secret" in field,
        f"become_method is a reserved type name: {name}": field.get("type") == "become_method",
        f"{name} has an unknown type": field.get("type", "string") not in ("string", "boolean"),
    }
    if said := [sentence for sentence, true in wrong.items() if true]:
        raise Refused({"inputs": said})


def secrets_of(credential_type: Mapping[str, Any]) -> set[str]:
    """The inputs of a credential that are never shown."""
    return {field["id"] for field in credential_type["inputs"].get("fields", []) if field.get("secret")}


def check_credential(item: Mapping[str, Any], credential_type: Mapping[str, Any]) -> None:
    """Only the type's inputs, and strings."""
    fields = {field["id"] for field in credential_type["inputs"].get("fields", [])}
    if unknown := set(item["inputs"]) - fields:
        raise Refused({"inputs": [f"Additional properties are not allowed: {sorted(unknown)}"]})
    if item["organization"] is None:
        raise Refused({"detail": "Missing 'user', 'team', or 'organization'."})


def check_notification(item: dict[str, Any]) -> None:
    """The configuration of the type, completed by its defaults; messages of known events, that render."""
    parameters, _ = NOTIFICATION[item["notification_type"]]
    configuration = item["notification_configuration"]
    if unknown := set(configuration) - set(parameters):
        raise Refused({"notification_configuration": [f"Unexpected fields: {sorted(unknown)}"]})
    if missing := {name for name, known in parameters.items() if len(known) == 1} - set(configuration):
        raise Refused({"notification_configuration": [f"Missing required fields: {sorted(missing)}"]})
    for name, known in parameters.items():
        value = configuration.setdefault(name, known[-1])
        if type(value) is not known[0]:
            told = f"Configuration field '{name}' incorrect type, expected {known[0].__name__}."
            raise Refused({"notification_configuration": [told]})
    for event, message in (item["messages"] or {}).items():
        if event not in MESSAGES or not set(message or {}) <= {"message", "body"}:
            raise Refused({"messages": [f"Unexpected field 'messages.{event}'"]})
        for name, text in (message or {}).items():
            try:
                jinja2.sandbox.ImmutableSandboxedEnvironment().parse(text)
            except jinja2.TemplateSyntaxError as error:
                raise Refused({"messages": [f"Unable to render message '{event}.{name}': {error}"]}) from None


def check_variables(item: Mapping[str, Any]) -> None:
    """Variables of an inventory, a group or a host are a mapping in JSON or YAML."""
    try:
        given = yaml.safe_load(item["variables"] or "{}")
    except yaml.YAMLError as error:
        raise Refused({"variables": [f"Cannot parse as JSON or YAML: {error}"]}) from None
    if not isinstance(given, dict):
        raise Refused({"variables": ["Variables must be a mapping."]})


def hide(values: Mapping[str, Any], secret: set[str]) -> dict[str, Any]:
    """The values as they are shown."""
    return {name: HIDDEN if name in secret and value else value for name, value in values.items()}


def keep_hidden(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are stored: a hidden one that comes back stays as it was."""
    return {name: old.get(name, "") if value == HIDDEN else value for name, value in new.items()}
