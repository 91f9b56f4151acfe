"""What an archive holds, from its table of contents: extensions, owners, grantees. Reading is apart from judging."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..connection import Options
from ..errors import BackupInvalid
from ..process import Tools, memory_file, run_tool, tool_error

_ENTRY = re.compile(r"^(\d+); (\d+) (\d+) ([A-Z]+(?: [A-Z]+)*) (\S+) (.*)$")
IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\s",;]+)'
_GRANTEES = re.compile(rf" (?:TO|FROM) ({IDENTIFIER}(?:, ?{IDENTIFIER})*)(?: WITH GRANT OPTION)?;$")
_FOR_ROLE = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE ({IDENTIFIER})")
_PUBLIC = {"PUBLIC", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE"}
NOTHING = ";"  # a line of a list file that names no entry
BUILT_IN = "plpgsql"  # every database has it, from template0


@dataclass(frozen=True)
class Entry:
    """One line of the table of contents. `rest` is the object's name and its owner, which only blanks divide."""

    line: str
    kind: str
    schema: str
    rest: str

    @property
    def label(self) -> str:
        """Schema, name and owner, each followed by a blank; schema and name may hold blanks of their own."""
        return f"{self.schema} {self.rest} "


@dataclass(frozen=True)
class Contents:
    """An archive's table of contents, the roles that its grants name, and its owners as far as they are known.

    A plain SQL file has none, but can be spoken of in the same words.
    """

    entries: tuple[Entry, ...]
    grantees: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    text_bytes: int = 0  # of a plain SQL file, unpacked
    encoding: str = ""  # of a plain SQL file's text

    def of(self, kind: str) -> list[Entry]:
        """The entries of a kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    @property
    def tables(self) -> int:
        """How many tables it has."""
        return len(self.of("TABLE"))

    @property
    def extensions(self) -> list[str]:
        """The extensions it creates, the built-in one left out."""
        return [name for entry in self.of("EXTENSION") if (name := entry.rest.split(" ")[0]) != BUILT_IN]


def parse_list(text: str) -> tuple[Entry, ...]:
    """The entries out of `pg_restore --list`. Pure."""
    found = []
    for line in text.splitlines():
        match = _ENTRY.match(line)
        if match:
            found.append(Entry(line, match.group(4), match.group(5), match.group(6)))
    return tuple(found)


def parse_grantees(script: str) -> frozenset[str]:
    """The roles named by the GRANT, REVOKE and ALTER DEFAULT PRIVILEGES lines of a script. Pure."""
    roles: set[str] = set()
    for line in script.splitlines():
        if line.startswith(("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ")):
            match = _GRANTEES.search(line)
            names = re.findall(IDENTIFIER, match.group(1)) if match else []
            role = _FOR_ROLE.match(line)
            roles.update(unquoted(name) for name in [*names, *([role.group(1)] if role else [])] if name not in _PUBLIC)
    return frozenset(roles)


def unquoted(name: str) -> str:
    """A name as the catalog has it. Pure."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def parse_owners(script: str) -> frozenset[str]:
    """The owners that the comments of a script name. Pure."""
    return frozenset(
        re.findall(r"^-- (?:Data for )?Name: .*; Owner: (.+?)(?:; Tablespace: .*)?$", script, re.MULTILINE)
    )


def missing_roles(contents: Contents, existing: Iterable[str]) -> list[str]:
    """Roles that own or are granted something in the archive and that the server does not have. Pure.

    The list does not mark where an object's name ends and its owner begins, so an owner counts as known where the line
    ends in the name of any existing role; else the longest owner that the script names, or the last word, is missing.
    """
    known = set(existing)
    endings = tuple(f" {role}" for role in known)
    missing = set(contents.grantees - known)
    for entry in contents.entries:
        text = f" {entry.rest}"
        if text.endswith(endings) or text.endswith(" "):
            continue
        named = [owner for owner in contents.owners if text.endswith(f" {owner}")]
        missing.add(max(named, key=len, default=entry.rest.rpartition(" ")[2]))
    return sorted(missing)


def wanted_lines(contents: Contents, superuser: bool) -> list[str]:
    """The lines to restore: without what exists in every database, and comments only a superuser may set.

    Subscriptions are left out too: two databases must not draw from one slot. Pure.
    """
    lines = []
    for entry in contents.entries:
        built_in = entry.kind == "EXTENSION" and entry.rest.split(" ")[0] == BUILT_IN
        remark = entry.kind == "COMMENT" and entry.rest.startswith("EXTENSION ")
        hard = remark and (not superuser or entry.rest.split(" ")[1] == BUILT_IN)
        if not (built_in or hard or entry.kind.startswith("SUBSCRIPTION")):
            lines.append(entry.line)
    return lines


# What a table's own entries are; plain indexes and triggers do not say whose they are, foreign keys lead elsewhere.
_OF_A_TABLE = ("TABLE DATA", "CONSTRAINT")
_BEFORE_DATA = (
    "SCHEMA",
    "EXTENSION",
    "TYPE",
    "SHELL TYPE",
    "DOMAIN",
    "COLLATION",
    "FUNCTION",
    "TABLE",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "DEFAULT",
    "TABLE ATTACH",
)


def table_lines(contents: Contents, names: Sequence[tuple[str, str]]) -> list[str]:
    """The lines that bring some tables, as (schema, name), with their rows and keys; of the others only what they are.

    Names end where a blank is, so a table `a` may bring the rows of a table `a b` along, which does no harm. Pure.
    """
    lines = []
    for entry in contents.entries:
        mine = any(entry.label.startswith(f"{schema} {name} ") for schema, name in names)
        built_in = entry.kind in ("EXTENSION", "SCHEMA") and entry.rest.split(" ")[0] in (BUILT_IN, "public")
        if (entry.kind in _BEFORE_DATA and not built_in) or (entry.kind in _OF_A_TABLE and mine):
            lines.append(entry.line)
    return lines


def read_contents(tools: Tools, dump: Path) -> Contents:
    """Ask pg_restore for the table of contents and the grants; raises `BackupInvalid` where it cannot be read."""
    entries = parse_list(_print(tools, dump, ["--list"]))
    owners = parse_owners(_print(tools, dump, ["--schema-only", "--file=-"]))
    acls = [e.line for e in entries if e.kind in ("ACL", "DEFAULT ACL")]
    if not acls:
        return Contents(entries, owners=owners)
    return Contents(entries, parse_grantees(_print(tools, dump, ["--file=-"], acls)), owners)


def read_data(tools: Tools, dump: Path, take: Callable[[bytes], object]) -> None:
    """Decompress all data of an archive, and hand them on piece by piece, as SQL.

    Raises `BackupInvalid` where they are damaged, as far as pg_restore sees it.
    """
    _print(tools, dump, ["--section=data", "--file=-"], take=take)


def database_script(tools: Tools, dump: Path, entries: Sequence[Entry]) -> str:
    """The archive's own CREATE DATABASE and its properties, as SQL to be read, never run."""
    lines = [e.line for e in entries if e.kind in ("DATABASE", "DATABASE PROPERTIES", "ENCODING")]
    return _print(tools, dump, ["--create", "--file=-"], lines or [NOTHING])


@contextlib.contextmanager
def list_file(lines: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The lines as a file for pg_restore's --use-list, and the descriptors that it must inherit."""
    with memory_file(("\n".join(lines) + "\n").encode("utf-8")) as made:
        yield made


def _print(
    tools: Tools,
    dump: Path,
    arguments: Sequence[str],
    lines: Sequence[str] = (),
    take: Optional[Callable[[bytes], object]] = None,
) -> str:
    """What pg_restore prints; of the entries in `lines` only, where there are any. `take` gets it piece by piece."""
    words = [tools.path("pg_restore"), *arguments]
    with list_file(lines) as (listing, descriptors):
        if lines:
            words.append(f"--use-list={listing}")
        finished = run_tool([*words, str(dump)], Options(), check=False, descriptors=descriptors, on_output=take)
    if finished.returncode != 0:
        why = tool_error("pg_restore", finished).message
        raise BackupInvalid(f"The archive {dump} cannot be read: {why}", "It is damaged or incomplete: use another.")
    return finished.stdout
