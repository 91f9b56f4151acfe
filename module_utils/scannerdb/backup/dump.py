"""pg_dump and pg_dumpall: which compression their build has, how they are called, and what their failures mean."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from ..connection import Options, connect, explained, scalar
from ..errors import ConnectionFailed, PrivilegeMissing, ToolFailed, ToolMissing
from ..files import remove_tree
from ..process import run_tool, tool_error
from ..tools import Tools
from .options import BackupOptions
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
# Which query of a tool failed. That part of its words is the tool's own, and English, whatever the server's language.
_QUERY = re.compile(r"^\w+: (?:detail: |error: )?(?:Query was|query was): ([A-Z]+(?: [A-Z]+)*)", re.MULTILINE)


def choose_compression(tools: Tools, nice: int = 0, *, large_files: bool = False) -> str:
    """The best compression of a pg_dump's build, found by trying: a build may lack what its version could have.

    `large_files` is true where each large object gets a file of its own. Of an empty one zstd and lz4 leave an empty
    file, which pg_restore refuses since version 19.
    """
    if tools.major < 16 or (large_files and tools.major >= 19):  # the former knows gzip only, and no names for it
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
    dump_format: str = BackupOptions.dump_format,
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
    query = "" if finished.english else failed_query(finished.stderr)
    # The snapshot's session has locked the same tables as the same role: no right was missing there.
    if re.search(_PASSING, finished.stderr) or query.startswith("LOCK TABLE"):
        raise Passing(error.message)
    lost = r"snapshot .* does not exist|invalid snapshot identifier"
    if re.search(lost, finished.stderr) or query.startswith("SET TRANSACTION SNAPSHOT"):
        raise ConnectionFailed(
            "The server ended the connection that held the dump's snapshot.",
            "Look at the server's log and run again.",
        )
    if "permission denied for" in finished.stderr:
        raise PrivilegeMissing(error.message, error.hint)
    raise error if finished.english else UnreadError(error.message, error.hint)


def failed_query(stderr: str) -> str:
    """The first words of the query that a tool says has failed; empty where it says none. Pure."""
    match = _QUERY.search(stderr)
    return match.group(1) if match else ""


class UnreadError(ToolFailed):
    """A tool failed, and the server told it why in a language that is not read here."""


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
        if "canceling statement due to lock timeout" in finished.stderr or (
            not finished.english and _is_catalog_locked(options)
        ):
            raise Passing(why)
    remove_tree(target)
    return why


def _is_catalog_locked(options: Options) -> bool:
    """Whether somebody holds a lock on a catalog that stops readers, just now or still."""
    query = """
        SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND database = 0
                          AND relation IS NOT NULL AND pid <> pg_backend_pid())
    """
    session = contextlib.closing(connect(options, dbname=options.maintenance_db, purpose="backup", allow_standby=True))
    with session as conn, explained("Looking at the locks"):
        return bool(scalar(conn, query))


def _quoted(dbname: str) -> str:
    """A name as a connection string: pg_dumpall would read `a=b` as one."""
    escaped = dbname.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
