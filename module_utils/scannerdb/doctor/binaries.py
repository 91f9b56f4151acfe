"""A server whose programs were upgraded under it: it runs on, and new sessions load libraries of another version."""

from __future__ import annotations

import re
from pathlib import Path

from ..connection import Connection, explained, scalar
from ..process import version_of
from .diagnosis import Diagnosis, fine, unknown, wrong

CAUSE = "server programs"
GONE = " (deleted)"  # what Linux adds to the name of a program whose file was replaced


def server_programs(conn: Connection, running: str) -> Diagnosis:
    """Whether the server that runs is of the version that lies on this machine's disk."""
    with explained("Asking for the server's process"):
        pid = int(scalar(conn, "SELECT pg_backend_pid()"))
    try:
        program = str(Path(f"/proc/{pid}/exe").readlink())
    except PermissionError:
        return unknown(CAUSE, "only the server's own user and root may see which program it runs.")
    except OSError:
        return unknown(CAUSE, "the server's process is not on this machine.")
    program = program[: -len(GONE)] if program.endswith(GONE) else program
    if Path(program).name != "postgres":
        return unknown(CAUSE, "the server's process is not on this machine.")
    return judged(running, version_of(program), program)


def judged(running: str, on_disk: str, program: str) -> Diagnosis:
    """Compare the version that runs with the one that would be started. Pure."""
    if not on_disk:
        return wrong(
            CAUSE, f"{program} cannot be run any more.", "Install the server's packages again before it is restarted."
        )
    if numbers(on_disk) != numbers(running):
        text = f"The server runs PostgreSQL {running}, but {program} is {on_disk} by now: it was not restarted."
        hint = (
            "Restart the server (systemctl restart postgresql): until then sessions may fail with 'undefined symbol'."
        )
        return wrong(CAUSE, text, hint)
    return fine(CAUSE, f"The server runs what is on the disk, {running}.")


def numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split(maxsplit=1)[0]))
