"""Commands that people want run around a backup: argument lists, never a shell, and never a reason for it to fail."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..connection import Options
from ..errors import InvalidInput, ScannerDbError, ToolFailed
from ..process import run_tool, tool_error

EVENTS = ("pre_backup", "post_backup", "on_failure")


@dataclass(frozen=True)
class Hooks:
    """What to run at which event; each command is a list of its program and arguments."""

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timeout_s: float = 60.0

    def run(self, event: str, values: Mapping[str, object]) -> str:
        """Run the command of an event, if there is one; what went wrong, as a sentence.

        It gets `values` as SCANNERDB_… in its environment, and is ended after the timeout.
        """
        command = self.commands.get(event, ())
        if not command:
            return ""
        environment = {f"SCANNERDB_{name.upper()}": str(value) for name, value in {"event": event, **values}.items()}
        deadline = time.monotonic() + self.timeout_s

        def patience() -> None:
            if time.monotonic() > deadline:
                raise ToolFailed(f"it did not end within {self.timeout_s:g} s.")

        try:
            finished = run_tool(command, Options(), check=False, extra_environment=environment, on_tick=patience)
        except ScannerDbError as error:
            return f"The hook {event} failed: {error.message}"
        if finished.returncode != 0:
            return f"The hook {event} failed: {tool_error(command[0], finished).message}"
        return ""


def hooks_from(
    pre_backup: Sequence[str], post_backup: Sequence[str], on_failure: Sequence[str], timeout_s: float
) -> Hooks:
    """The hooks out of a job's options; raises `InvalidInput`. Pure."""
    given = dict(zip(EVENTS, (pre_backup, post_backup, on_failure)))
    for event, command in given.items():
        if isinstance(command, str) or (command and not command[0]):
            raise InvalidInput(
                f"hook_{event} is {command!r}.", "Give a list: the program first, then its arguments one by one."
            )
    if timeout_s <= 0:
        raise InvalidInput(f"hook_timeout_s is {timeout_s:g}.", "Give a number of seconds above 0.")
    return Hooks({event: tuple(command) for event, command in given.items() if command}, timeout_s)
