"""The runner's self-test: whatever a scheduled job needs before its play begins, looked at as the jobs' user.

It stops at the first thing that is missing, because what comes after it would fail for the same reason.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scannerdb.jsontext import LONGEST_CONFIG, read_json_file

LIMIT_S = 120
IMPORTS = "import ansible, psycopg, sys; print('%d.%d' % sys.version_info[:2])"
PLAYBOOK = "playbooks/internal/self_test.yml"
AGAIN = "Then run playbooks/schedule.yml again."


class NotReady(Exception):
    """A job would not start: what is missing, and the hint."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem} {hint} {AGAIN}")


def self_test(config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Look at everything; returns `ready`, the tests that passed, and what is wrong with the one that did not."""
    passed: list[str] = []
    try:
        for name, test in steps(config, environment):
            test()
            passed.append(name)
    except NotReady as error:
        return {"ready": False, "passed": passed, "problem": str(error)}
    return {"ready": True, "passed": passed, "problem": ""}


def steps(config: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], None]]]:
    """The tests, in the order in which a job meets them."""
    yield "interpreter", lambda: _interpreter(config, environment)
    yield "playbooks", lambda: _playbooks(config)
    yield "inventory", lambda: _inventory(config)
    yield "folders", lambda: _folders(config)
    yield "connection", lambda: _connection(config, environment)


def _interpreter(config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    python = config["python"]
    code, said = _run([python, "-c", IMPORTS], config, environment)
    if code:
        raise NotReady(
            f"{python} does not run with the bundle's libraries: {_last(said)}.",
            "Give the jobs a Python that their user may read, such as -e scannerdb_bundle_python=/usr/bin/python3.",
        )


def _playbooks(config: Mapping[str, Any]) -> None:
    for job in config["jobs"]:
        path = Path(config["bundle"], job.get("playbook") or "maintain.yml")
        if not os.access(path, os.R_OK):
            raise NotReady(
                f"Job {job['name']!r} runs {path}, which is not there or may not be read.",
                "Name a playbook of the bundle in scannerdb_schedule, and let the jobs' user read its folder.",
            )


def _inventory(config: Mapping[str, Any]) -> None:
    path = Path(config["inventory"])
    try:
        hosts = read_json_file(path, LONGEST_CONFIG)["scannerdb"]["hosts"]
        if config["host"] not in hosts:
            raise ValueError(f"it has no host {config['host']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady(f"The jobs' inventory {path} cannot be read: {error}.", "Let the jobs' user own it.") from error


def _folders(config: Mapping[str, Any]) -> None:
    for name in ("backup_dir", "state_dir", "log_dir"):
        path = Path(config[name])
        nearest = next(place for place in (path, *path.parents) if place.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise NotReady(
                f"{nearest} cannot be written by the jobs' user, and scannerdb_{name} is {path}.",
                "Give it to that user (install -d -m 0700 -o USER), or choose another folder.",
            )


def _connection(config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """A play of the same make as the jobs' own, which only connects."""
    command = [config["python"], "-m", "ansible", "playbook", "-i", config["inventory"]]
    more = {**environment, "ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    code, said = _run([*command, str(Path(config["bundle"], PLAYBOOK))], config, more)
    if code:
        raise NotReady(f"A job cannot connect: {_message(said) or _last(said)}", "playbooks/doctor.yml tells more.")


def _message(said: str) -> str:
    """What the task that failed says, out of what the play printed: `host | FAILED! => {…}`, or UNREACHABLE!."""
    try:
        result = json.JSONDecoder().raw_decode(said, said.index("! => {") + 5)[0]
        return str(result["msg"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it says nothing"


def _run(command: list[str], config: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a program as a job would be run; returns its exit code and what it said."""
    try:
        done = subprocess.run(
            command,
            cwd=config["bundle"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except OSError as error:
        return 126, f"{error.filename or command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return 124, f"it gave no answer in {LIMIT_S} s"
    return done.returncode, done.stdout.decode("utf-8", "replace")
