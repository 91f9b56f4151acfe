"""What AWX refuses beyond types and names: surveys, recurrence rules, secrets, launches, links between nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dateutil import rrule

HIDDEN = "$encrypted$"
QUESTIONS = ("text", "textarea", "password", "multiplechoice", "multiselect", "integer", "float")
NOTIFICATION = {  # type: (name, kind, default; None where it must be given), and the one that is secret
    "email": (
        {
            "host": None,
            "port": None,
            "username": None,
            "password": None,
            "sender": None,
            "recipients": None,
            "use_tls": None,
            "use_ssl": None,
            "timeout": 30,
        },
        "password",
    ),
    "slack": ({"token": None, "channels": None, "hex_color": ""}, "token"),
    "webhook": (
        {
            "url": None,
            "http_method": "POST",
            "headers": {},
            "username": "",
            "password": "",
            "disable_ssl_verification": False,
        },
        "password",
    ),
}
PROPERTIES = {"id", "label", "help_text", "type", "secret", "multiline", "choices", "default", "format"}
MESSAGES = {"started", "success", "error", "workflow_approval"}


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
    for rule in rules:
        if "INTERVAL" not in rule:
            errors.append(f"INTERVAL required in rrule: {rule}")
        if re.search(r"BYDAY=\d", rule):
            errors.append(f"BYDAY with numeric prefix not supported: {rule}")
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
    """What a launch with these answers lacks or gets wrong, as AWX says it."""
    errors = []
    for question in questions:
        name, kind = question["variable"], question["type"]
        value = extra_data.get(name, question.get("default", ""))
        if value in ("", None, []):
            if question["required"]:
                errors.append(f"'{name}' value missing")
            continue
        if kind in ("text", "textarea", "password"):
            if not isinstance(value, str):
                errors.append(f"Value {value} for '{name}' expected to be a string.")
            elif question.get("min") and len(value) < question["min"]:
                errors.append(f"'{name}' value {value} is too small (length is {len(value)} must be at least …).")
            elif question.get("max") and len(value) > question["max"]:
                errors.append(f"'{name}' value {value} is too large (must be no more than {question['max']}).")
        if kind == "multiplechoice" and value not in _choices(question):
            errors.append(f"Value {value} for '{name}' expected to be one of {question['choices']}.")
    return errors


def _choices(question: Mapping[str, Any]) -> list[str]:
    choices = question["choices"]
    return list(choices.split("\n") if isinstance(choices, str) else choices)


def check_credential_type(item: Mapping[str, Any]) -> None:
    """Inputs are a list of fields; injectors may speak of them only."""
    inputs, injectors = item["inputs"], item["injectors"]
    fields = {field["id"] for field in inputs.get("fields", [])}
    if not set(inputs) <= {"fields", "required"} or not set(inputs.get("required", [])) <= fields:
        raise Refused({"inputs": ["Schema validation failed"]})
    if not set(injectors) <= {"env", "file", "extra_vars"}:
        raise Refused({"injectors": ["Additional properties are not allowed"]})
    for field in inputs.get("fields", []):
        if not set(field) <= {
            "id",
            "label",
            "help_text",
            "type",
            "secret",
            "multiline",
            "choices",
            "default",
            "format",
        }:
            raise Refused({"inputs": [f"Additional properties are not allowed in {field}"]})
    known = fields | {"tower", "awx"}
    for used in re.findall(r"{{\s*(\w+)", json.dumps(injectors)):
        if used not in known:
            raise Refused({"injectors": [f"{used} uses an undefined field"]})
    if any(name.startswith("ANSIBLE_") for name in injectors.get("env", {})):
        raise Refused({"injectors": ["Environment variables starting with ANSIBLE_ are not allowed"]})


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
    """The configuration of the type, completed by its defaults; messages only of known events."""
    parameters, _ = NOTIFICATION[item["notification_type"]]
    configuration = item["notification_configuration"]
    if unknown := set(configuration) - set(parameters):
        raise Refused({"notification_configuration": [f"Unexpected fields: {sorted(unknown)}"]})
    if missing := {name for name, default in parameters.items() if default is None} - set(configuration):
        raise Refused({"notification_configuration": [f"Missing required fields: {sorted(missing)}"]})
    for name, default in parameters.items():
        configuration.setdefault(name, default)
    for event, message in (item["messages"] or {}).items():
        if event not in MESSAGES or not set(message or {}) <= {"message", "body"}:
            raise Refused({"messages": [f"Unexpected field 'messages.{event}'"]})


def hide(values: Mapping[str, Any], secret: set[str]) -> dict[str, Any]:
    """The values as they are shown."""
    return {name: HIDDEN if name in secret and value else value for name, value in values.items()}


def keep_hidden(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are stored: a hidden one that comes back stays as it was."""
    return {name: old.get(name, "") if value == HIDDEN else value for name, value in new.items()}
