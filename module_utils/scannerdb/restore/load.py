"""Filling the side database with pg_restore, and telling real errors from harmless ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from ..connection import Options
from ..errors import ToolFailed
from ..process import Finished, Tools, run_tool, tool_error

# Settings that a newer pg_restore emits and an older server does not know; each is a timeout set to its default.
NEWER_SETTINGS = r"Command was: SET (?:transaction_timeout|idle_session_timeout|default_table_access_method) = "
_FAILED = re.compile(r"^pg_restore: error: ", re.MULTILINE)
# How an error begins that the server or its machine is to blame for. Anchored, and never within quotes, for objects may
# have any name. What comes from the server has its severity before it.
_NOT_THE_ARCHIVE = re.compile(
    r"pg_restore: error: (?:"
    r"(?:connection to (?:server|database) |could not connect to |reconnection failed|a worker process died)|"
    r'(?:could not execute query: |error returned by PQputCopy\w+: |COPY failed for table "(?:.|\n)*?": )?'
    r"(?:server closed the connection unexpectedly|no connection to the server|lost synchronization with server|"
    r"could not (?:send data to|receive data from) server|SSL SYSCALL error|SSL error|out of memory|"
    r"(?:ERROR|FATAL|PANIC):  (?:terminating connection|canceling statement due to|out of memory|out of shared memory|"
    r"the database system is |could not extend file |"
    r'could not [^"\n]*(?:file|segment|directory|block)[^\n]*: (?:No space left on device|Disk quota exceeded)$)))',
    re.MULTILINE,
)
_SERVER_SAYS = re.compile(
    r"pg_restore: error: (?:could not execute query: |error returned by PQputCopy|COPY failed for table "
    r"|query failed: |connection to (?:server|database) )"
)


class LoadInterrupted(ToolFailed):
    """A load that the server or the machine ended: it says nothing about the archive."""


def conninfo(dbname: str) -> str:
    """A connection string that holds only the database's name: `-d` alone would read `a=b` as one. Pure."""
    escaped = dbname.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def command(tools: Tools, dump: Path, kind: str, dbname: str, listing: str, jobs: int, stop: bool) -> list[str]:
    """The pg_restore command line; a tar archive cannot be read by several workers. Pure."""
    words = [tools.path("pg_restore"), f"--dbname={conninfo(dbname)}", f"--use-list={listing}"]
    if kind != "tar" and jobs > 1:
        words.append(f"--jobs={jobs}")
    if stop:
        words.append("--exit-on-error")
    return [*words, str(dump)]


def _blocks(stderr: str) -> list[str]:
    """The errors without the harmless ones; whatever stands between two of pg_restore's lines belongs to the first."""
    blocks = re.split(r"^(?=pg_restore: )", stderr, flags=re.MULTILINE)
    return [b for b in blocks if _FAILED.match(b) and not re.search(NEWER_SETTINGS, b)]


def real_errors(stderr: str) -> list[str]:
    """The errors of a pg_restore that went on after them, without the harmless ones. Pure.

    Harmless is a setting that an older server does not know; the command tells, for messages come in the server's
    language.
    """
    return [" ".join(b.split()) for b in _blocks(stderr)]


def interrupted(finished: Finished) -> bool:
    """True where the server or the machine was the reason. The first error decides: others may follow from it. Pure.

    What the server says in a language that is not read here blames nobody; pg_restore's own words are English.
    """
    first = _blocks(finished.stderr)[:1]
    unread = not finished.english and any(_SERVER_SAYS.match(block) for block in first)
    return finished.returncode < 0 or unread or any(_NOT_THE_ARCHIVE.match(block) for block in first)


def load(
    tools: Tools,
    options: Options,
    words: Sequence[str],
    dbname: str,
    on_tick: Optional[Callable[[], object]] = None,
    descriptors: tuple[int, ...] = (),
) -> Finished:
    """Run pg_restore (`words` from `command`, `descriptors` of its list file).

    Raises `ToolFailed` with real errors, `LoadInterrupted` where these are not the archive's.
    """
    finished = run_tool(words, options, dbname=dbname, check=False, on_tick=on_tick, descriptors=descriptors)
    if finished.returncode == 0:
        return finished
    try:
        return _judged(words, finished)
    except ToolFailed as error:
        if interrupted(finished):
            raise LoadInterrupted(error.message, error.cure) from None
        raise


def _judged(words: Sequence[str], finished: Finished) -> Finished:
    """What ended with harmless errors only; raises for the others."""
    if "--exit-on-error" in words or finished.returncode < 0:
        raise tool_error(words[0], finished)
    errors = real_errors(finished.stderr)
    went_on = "errors ignored on restore" in finished.stderr  # its number counts some twice, with several workers
    if errors:
        more = f" ({len(errors)} errors in all.)" if len(errors) > 1 else ""
        raise ToolFailed(f"pg_restore failed: {errors[0][:500].rstrip('.')}.{more}")
    if not went_on or not _FAILED.search(finished.stderr):
        raise tool_error(words[0], finished)  # it failed without saying at what
    return finished


def must_go_on(tools: Tools, server_major: int) -> bool:
    """True where harmless errors are certain, so that pg_restore must not stop at the first. Pure."""
    return tools.major >= 17 > server_major
