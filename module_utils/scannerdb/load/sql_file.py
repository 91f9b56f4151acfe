"""Plain SQL files: read in a stream, packed with gzip or not, judged, and fed to psql line by line."""

from __future__ import annotations

import contextlib
import gzip
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Optional, cast

from ..connection import Options
from ..errors import BackupInvalid, ToolFailed
from ..files import file_errors
from ..process import TICK_S, run_tool, tool_error
from ..sets.archive import NOT_COMPLETE, is_gzip
from ..tools import Tools
from .role_mapping import RoleRules
from .sql_script import Script, left_out, psql_guards
from .tablespaces import SETTING, moved_setting

MARK = b"\xef\xbb\xbf"  # what some editors put before UTF-8
PIECE = 1 << 18  # bytes given to psql at a time


@dataclass(frozen=True)
class Terms:
    """What of a script a server is to be spared (see `script.left_out`), and what becomes of what it names.

    `places` are the tablespaces that take others' place; "" is the database's own.
    """

    server_major: int
    superuser: bool
    roles: RoleRules = field(default_factory=RoleRules)
    places: Mapping[str, str] = field(default_factory=dict)
    name: str = ""  # of the file, where its path does not say it


def scan(path: Path, on_tick: Optional[Callable[[int], object]] = None, name: str = "") -> Script:
    """Read a whole script and judge it; `on_tick` gets the bytes so far, now and then, and `name` is what it is called.

    Raises `RestoreRefused` for what must not reach a server, `BackupInvalid` for a damaged or incomplete file.
    """
    script = Script(name or path.name)
    tick = _Ticker(on_tick)
    for line in _lines(path):
        script.take(line)
        tick(script.bytes)
    script.finish()
    return script


def load_script(
    tools: Tools,
    options: Options,
    path: Path,
    dbname: str,
    terms: Terms,
    on_tick: Optional[Callable[[], object]] = None,
) -> str:
    """Run a script in database `dbname` as one transaction; what psql said. Raises `ToolFailed` with its line.

    It is judged again on its way: what is no longer the file that was looked at does not reach the server either.
    """
    words = [tools.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "--output=/dev/null"]
    words += ["-c", "SET standard_conforming_strings = on"]
    if psql_guards(tools.version):
        words += ["-c", f"\\restrict {secrets.token_hex(16)}"]
    ticker = _Ticker((lambda _: on_tick()) if on_tick else None)
    finished = run_tool(
        [*words, "-f", "-"], options, dbname=dbname, check=False, feed=_pieces(path, terms, ticker), on_tick=on_tick
    )
    if finished.returncode == 0:
        return finished.stderr
    match = re.search(r"^psql:<stdin>:(\d+): (?:ERROR|FATAL|error|fatal|PANIC): +(.*)", finished.stderr, re.MULTILINE)
    if not match:
        raise tool_error("psql", finished)
    role = re.search(r'role "(.*)" does not exist', match.group(2))
    raise ToolFailed(
        f"psql stopped at line {match.group(1)} of {terms.name or path.name}: {match.group(2).rstrip('.')[:500]}.",
        f"Create the role (CREATE ROLE {role.group(1)} NOLOGIN), or dump with --no-owner --no-privileges."
        if role
        else "The live database was not touched.",
    )


def _pieces(path: Path, terms: Terms, tick: Callable[[int], object]) -> Iterator[bytes]:
    """The script as psql gets it: lines that are left out are empty, so that its line numbers stay true."""
    script, piece, size = Script(terms.name or path.name), [], 0
    whole: list[bytes] = []  # the lines of a statement
    for line in _lines(path):
        rows = script.in_data
        statement = script.take(line)
        whole.append(line)
        size += len(line)
        if script.idle:
            spared = script.spared and bool(statement)
            piece += whole if rows else [_fit(b"".join(whole), statement, terms, spared)]
            whole = []
        if size >= PIECE and not whole:
            yield b"".join(piece)
            piece, size = [], 0
            tick(script.bytes)
    script.finish()
    yield b"".join(piece)


def _fit(text: bytes, statement: str, terms: Terms, spared: bool) -> bytes:
    """Whole lines as the server is to get them; `statement` is what they say, where it is one."""
    if spared or (statement and left_out(statement, terms.server_major, terms.superuser)):
        return b"\n" * text.count(b"\n")
    if SETTING.fullmatch(statement):
        return moved_setting(statement, terms.places).encode("utf-8", "surrogateescape") + b"\n" * text.count(b"\n")
    if not terms.roles:
        return text
    return terms.roles.rewritten(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _lines(path: Path) -> Iterator[bytes]:
    with file_errors("Reading", path), _opened(path) as stream:
        try:
            first = True
            for line in stream:
                yield line[len(MARK) :] if first and line.startswith(MARK) else line
                first = False
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BackupInvalid(f"{path} cannot be unpacked: {error}.", NOT_COMPLETE) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as stream:
        yield cast("IO[bytes]", stream)


class _Ticker:
    """Calls a function now and then, however often it is called itself."""

    def __init__(self, on_tick: Optional[Callable[[int], object]]) -> None:
        self._on_tick, self._last = on_tick, time.monotonic()

    def __call__(self, done: int) -> None:
        if self._on_tick and time.monotonic() - self._last >= TICK_S:
            self._last = time.monotonic()
            self._on_tick(done)
