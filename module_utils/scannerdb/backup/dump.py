"""pg_dump and pg_dumpall: which compression their build has, how they are called, and what their failures mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..connection import Options
from ..errors import ConnectionFailed, PrivilegeMissing, ToolMissing
from ..files import remove_tree
from ..process import Tools, run_tool, tool_error
from .snapshot import Passing

# Fastest first; measured on this kind of data, level 1 costs the least time and gzip 6 several times as much.
COMPRESSIONS = ("zstd:1", "lz4:1", "gzip:1")
NOWHERE = {"PGHOST": "/nonexistent"}
# Another session's strong lock, or a standby's replay, came in between; pg_dump's lock wait is a statement timeout.
_PASSING = (
    r"canceling statement due to (lock timeout|statement timeout|conflict with recovery)"
    r"|could not obtain lock on relation|could not open relation with OID|deadlock detected"
    r"|terminating connection due to conflict with recovery"
)


def choose_compression(tools: Tools, nice: int = 0) -> str:
    """The best compression of a pg_dump's build, found by trying: a build may lack what its version could have."""
    if tools.major < 16:  # it knows gzip only, and no names for it
        return COMPRESSIONS[-1]
    for compression in COMPRESSIONS[:-1]:
        # The specification is checked before the connection is tried, so no server is needed to ask.
        command = [tools.path("pg_dump"), "-Fc", f"--compress={compression}", "--no-password"]
        finished = run_tool(command, None, check=False, nice=nice, extra_environment=NOWHERE)
        if "compress" not in finished.stderr:
            return compression
    return COMPRESSIONS[-1]


def dump_command(
    tools: Tools,
    target: Path,
    *,
    compression: str,
    jobs: int,
    snapshot: str,
    lock_timeout_ms: int,
    dump_format: str = "directory",
) -> list[str]:
    """The pg_dump call for a dump into `target`; the database comes by PGDATABASE. Pure.

    Only the directory format has several workers.
    """
    level = compression.rsplit(":", 1)[1] if tools.major < 16 else compression
    return [
        tools.path("pg_dump"),
        f"--format={dump_format}",
        f"--file={target}",
        *([f"--jobs={jobs}"] if dump_format == "directory" else []),
        f"--compress={level}",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={lock_timeout_ms}",
        "--no-sync",  # the whole set is flushed once, at its end
        "--no-password",
    ]


def run_dump(
    command: list[str],
    options: Options,
    *,
    application: str,
    nice: int,
    meanwhile: Callable[[Callable[[], int | None]], object],
    on_tick: Callable[[], object],
) -> None:
    """Run pg_dump, whose sessions have the name `application`.

    Raises `Passing` where another attempt may succeed, else `ConnectionFailed`, `PrivilegeMissing` or
    `ToolFailed`.
    """
    finished = run_tool(
        command,
        options,
        check=False,
        nice=nice,
        extra_environment={"PGAPPNAME": application},
        meanwhile=meanwhile,
        on_tick=on_tick,
    )
    if finished.returncode == 0:
        return
    error = tool_error(command[0], finished)
    if re.search(_PASSING, finished.stderr):
        raise Passing(error.message)
    if re.search(r"snapshot .* does not exist|invalid snapshot identifier", finished.stderr):
        raise ConnectionFailed(
            "The server ended the connection that held the dump's snapshot.",
            "Look at the server's log and run again.",
        )
    if "permission denied for" in finished.stderr:
        raise PrivilegeMissing(error.message, error.cure)
    raise error


def run_globals(tools: Tools, options: Options, target: Path, lock_timeout_ms: int) -> str:
    """Write role definitions without passwords to `target`; where that is not permitted, return why not.

    With tablespaces and parameter grants where the role may read them, else the roles alone. Raises `Passing` where
    somebody holds a strong lock on them: without a limit pg_dumpall would wait for ever, and the snapshot with it.
    """
    why = ""
    limit = {"lock_timeout": str(lock_timeout_ms)}
    for what in ("--globals-only", "--roles-only"):
        command = [
            tools.path("pg_dumpall"),
            what,
            "--no-role-passwords",
            "--no-password",
            "--no-sync",
            f"--database={_quoted(options.maintenance_db)}",
        ]
        try:
            finished = run_tool(
                command,
                options,
                dbname=options.maintenance_db,
                check=False,
                stdout_path=target,
                settings=limit,
            )
        except ToolMissing as error:
            why = error.message
            break
        if finished.returncode == 0:
            return ""
        why = tool_error(command[0], finished).message
        if "canceling statement due to lock timeout" in finished.stderr:
            raise Passing(why)
    remove_tree(target)
    return why


def _quoted(dbname: str) -> str:
    """A name as a connection string: pg_dumpall would read `a=b` as one."""
    escaped = dbname.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
