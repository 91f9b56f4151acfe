"""The command line of pg_restore, and whether it was the server or the machine that ended one."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ToolFailed
from ..process import Finished
from ..tools import Tools

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
_MACHINE = re.compile(
    r"(?:Permission denied|Too many open files|Cannot allocate memory|No space left on device|out of memory)\.?$"
    r"|is not a regular file$",
    re.MULTILINE,
)
_LOST = re.compile(
    r"^(?:pg_restore: error: (?:could not execute query: )?)?(?:server closed the connection unexpectedly$|"
    r"no connection to the server$)",
    re.MULTILINE,
)


class LoadInterrupted(ToolFailed):
    """A load that the server or the machine ended: it says nothing about the archive."""


def conninfo(dbname: str) -> str:
    """A connection string that holds only the database's name: `-d` alone would read `a=b` as one. Pure."""
    escaped = dbname.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def command(tools: Tools, dump: Path, kind: str, dbname: str, listing: str, jobs: int) -> list[str]:
    """The pg_restore command line; a tar archive cannot be read by several workers. Pure.

    It goes on after an error: what failed is tried again, and one object must not cost all the data.
    """
    words = [tools.path("pg_restore"), f"--dbname={conninfo(dbname)}", f"--use-list={listing}"]
    if kind != "tar" and jobs > 1:
        words.append(f"--jobs={jobs}")
    return [*words, str(dump)]


def _blocks(stderr: str) -> list[str]:
    """The errors without the harmless ones; whatever stands between two of pg_restore's lines belongs to the first."""
    blocks = re.split(r"^(?=pg_restore: )", stderr, flags=re.MULTILINE)
    return [b for b in blocks if _FAILED.match(b) and not re.search(NEWER_SETTINGS, b)]


def machine_failed(finished: Finished) -> bool:
    """True where a program that reads an archive, without a server, was stopped by the machine it ran on. Pure."""
    return finished.returncode < 0 or bool(_MACHINE.search(finished.stderr))


def interrupted(finished: Finished) -> bool:
    """True where the server or the machine was the reason: the first error says so, for others may follow from it.

    Or pg_restore itself lost the server at any time, and says that in its own words, whatever the server's language.
    Pure.
    """
    blocks = _blocks(finished.stderr)
    return (
        finished.returncode < 0
        or any(_NOT_THE_ARCHIVE.match(block) for block in blocks[:1])
        or any(_LOST.search(block) for block in blocks)
    )
