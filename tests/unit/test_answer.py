"""A module's answer: warnings, failures, errors, and what was changed before them."""

from __future__ import annotations

from typing import Any

import pytest
from scannerdb.answer import run_module
from scannerdb.errors import InvalidInput


class Answered(Exception):
    """Where AnsibleModule would end the process."""


class Recorded:
    """A module that keeps what it is told."""

    check_mode = False

    def __init__(self, **params: Any) -> None:
        self.params = params
        self.warned: list[str] = []
        self.said: dict[str, Any] = {}

    def warn(self, warning: str) -> None:
        self.warned.append(warning)

    def exit_json(self, **result: Any) -> None:
        self.said = result
        raise Answered

    def fail_json(self, msg: str, **result: Any) -> None:
        self.said = {"msg": msg, "failed": True, **result}
        raise Answered


def answer(module: Recorded, result: dict[str, Any] | Exception) -> dict[str, Any]:
    def job() -> dict[str, Any]:
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(Answered):
        run_module(module, job)
    return module.said


def test_warnings_are_shown_and_failures_fail() -> None:
    module = Recorded()
    assert answer(module, {"changed": True, "warnings": ["slow"]}) == {"changed": True}
    assert module.warned == ["slow"]
    assert answer(Recorded(), {"failures": []}) == {"failures": []}
    assert answer(Recorded(), {"failures": ["one"]}) == {"failures": ["one"], "failed": True}


def test_an_error_says_what_was_changed_before() -> None:
    error = InvalidInput("It failed.", "Try again.")
    error.done = {"changed": True, "run_id": "r"}
    wanted = {"msg": "It failed. Try again.", "failed": True, "changed": True, "run_id": "r"}
    assert answer(Recorded(), error) == wanted


def test_options_are_held_against_their_bounds_first() -> None:
    said = answer(Recorded(login_port=0), AssertionError("the job has begun"))
    assert "login_port" in said["msg"] and said["failed"]
