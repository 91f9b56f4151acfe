"""What people want run or called around a backup: commands, without a shell, and webhooks. None ever fails a backup."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InvalidInput, ScannerDbError
from ..process import run_command, tool_error
from ..session import own_environment

WEB = ("http://", "https://")
EVENTS = ("pre_backup", "post_backup", "on_failure")


@dataclass(frozen=True)
class Hooks:
    """What to run at which event: a list of a program and its arguments, or of one `https://` address to call."""

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timeout_s: float = 60.0

    def run(self, event: str, values: Mapping[str, object]) -> str:
        """Run or call what is meant for an event, if anything is; what went wrong, as a sentence.

        A command gets `values` as SCANNERDB_… in its environment, a webhook as JSON. Both are ended after the timeout.
        """
        command = self.commands.get(event, ())
        if not command:
            return ""
        if len(command) == 1 and command[0].startswith(WEB):
            return _call(event, command[0], values, self.timeout_s)
        told = {f"SCANNERDB_{name.upper()}": str(value) for name, value in {"event": event, **values}.items()}
        environment = {**own_environment(os.environ), **told}
        try:
            finished = run_command(command, environment, self.timeout_s)
        except ScannerDbError as error:
            return f"The hook {event} failed: {error.message}"
        if finished.returncode != 0:
            return f"The hook {event} failed: {tool_error(command[0], finished).message}"
        return ""


def _call(event: str, address: str, values: Mapping[str, object], timeout_s: float) -> str:
    """Send the values to a webhook; what went wrong, as a sentence, without the address, which may hold a token."""
    body = json.dumps({"event": event, **{name: str(value) for name, value in values.items()}}).encode("utf-8")
    outcome: list[str] = []
    # A socket's timeout counts anew with every byte, so the call is left behind when its time is over.
    call = threading.Thread(target=lambda: outcome.append(_post(address, body, timeout_s)), daemon=True)
    call.start()
    call.join(timeout_s)
    why = outcome[0] if outcome else f"it did not answer in full within {timeout_s:g} s."
    return f"The hook {event} failed: calling {_host(address)} gave: {why}" if why else ""


def _post(address: str, body: bytes, timeout_s: float) -> str:
    """Call an address; why that failed, if it did."""
    headers = {"Content-Type": "application/json", "User-Agent": "scannerdb"}
    try:
        request = urllib.request.Request(address, body, headers, method="POST")  # noqa: S310 - http or https, see WEB
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read(1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = str(getattr(error, "reason", "") or error or type(error).__name__)
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        return f"{code}{why}."
    return ""


def _host(address: str) -> str:
    with contextlib.suppress(ValueError):  # of what is no address
        return urllib.parse.urlsplit(address).hostname or "it"
    return "it"


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
