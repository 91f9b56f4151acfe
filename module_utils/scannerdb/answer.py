"""How every module ends: the job's result, or its error in a sentence, handed to Ansible in one place.

Nothing here imports Ansible: the module is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .errors import ScannerDbError
from .option import ensure_within_bounds


class Module(Protocol):
    """What is used of an AnsibleModule."""

    params: dict[str, Any]
    check_mode: bool

    def warn(self, warning: str) -> None:
        """Show a warning."""

    def exit_json(self, **result: Any) -> Any:
        """Answer, and end the process."""

    def fail_json(self, msg: str, **result: Any) -> Any:
        """Answer that the task failed, and end the process."""


def run_module(module: Module, job: Callable[[], dict[str, Any]]) -> None:
    """Hold the options against their bounds, do the job, answer.

    An error carries what was changed before it; a result that lists `failures` is a failed one. Its `warnings` are
    shown, and are no part of it.
    """
    try:
        ensure_within_bounds(module.params)
        result = job()
    except ScannerDbError as error:
        module.fail_json(**error.result)
        return
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    if result.get("failures"):
        result["failed"] = True
    module.exit_json(**result)
