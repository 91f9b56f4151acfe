"""What an archive holds, from its table of contents: extensions, owners, grantees. Reading is apart from judging."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..errors import BackupInvalid
from ..process import memory_file, run_tool, tool_error
from ..tools import Tools
from .foreign_code import Code, code_in
from .role_mapping import about_roles, roles_in
from .tablespaces import Placed, placed_in

# A schema may begin with a blank, and hold whatever else is white space.
_ENTRY = re.compile(r"(\d+); (\d+) (\d+) ([A-Z]+(?: [A-Z]+)*) ([^ ]*) (.*)", re.DOTALL)
IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\s",;]+)'
_ROWS = ("TABLE DATA", "BLOBS", "SEQUENCE SET", "MATERIALIZED VIEW DATA", "STATISTICS DATA")
NOTHING = ";"  # a line of a list file that names no entry
BUILT_IN = "plpgsql"  # every database has it, from template0


@dataclass(frozen=True)
class ContentsEntry:
    """One line of the table of contents. `rest` is the object's name and its owner, which only blanks divide."""

    line: str
    kind: str
    schema: str
    rest: str

    def is_a(self, *kinds: str) -> bool:
        """True where it is of one of these kinds; a schema in capitals looks like a part of them."""
        return any(f"{self.kind} ".startswith(f"{kind} ") for kind in kinds)

    @property
    def label(self) -> str:
        """Schema, name and owner, each followed by a blank; schema and name may hold blanks of their own."""
        return f"{self.schema} {self.rest} "


@dataclass(frozen=True)
class Contents:
    """An archive's table of contents, the roles that own something in it, and the others that it names.

    `about_roles` are the statements that name them. A plain SQL file has neither contents nor these, but can be spoken
    of in the same words.
    """

    entries: tuple[ContentsEntry, ...]
    owners: frozenset[str] = frozenset()
    grantees: frozenset[str] = frozenset()
    about_roles: tuple[str, ...] = ()
    text_bytes: int = 0  # of a plain SQL file, unpacked
    encoding: str = ""  # of a plain SQL file's text
    database: str = ""  # what a plain SQL file says in order to make its database
    properties: int = 0  # statements of a plain SQL file about settings, privileges and comment of its database
    rights: bool = True  # whether it gives any privilege
    code: Code = field(default_factory=Code)
    placed: tuple[Placed, ...] = ()  # of a plain SQL file only the tablespaces

    def of(self, kind: str) -> list[ContentsEntry]:
        """The entries of a kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    @property
    def roles(self) -> frozenset[str]:
        """Every role it names."""
        return self.owners | self.grantees

    @property
    def tablespaces(self) -> frozenset[str]:
        """Every tablespace in which it puts something."""
        return frozenset(one.tablespace for one in self.placed)

    @property
    def tables(self) -> int:
        """How many tables it has."""
        return len(self.of("TABLE"))

    @property
    def extensions(self) -> list[str]:
        """The extensions it creates, the built-in one left out."""
        return [name for entry in self.of("EXTENSION") if (name := entry.rest.split(" ")[0]) != BUILT_IN]


def parse_list(text: str) -> tuple[ContentsEntry, ...]:
    """The entries out of `pg_restore --list`. Pure."""
    found = []
    for line in text.split("\n"):  # of all that ends a line elsewhere, pg_restore takes only this out of names
        match = _ENTRY.fullmatch(line)
        if match:
            found.append(ContentsEntry(line, match.group(4), match.group(5), match.group(6)))
    return tuple(found)


def unquoted(name: str) -> str:
    """A name as the catalog has it. Pure."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def wanted_lines(contents: Contents, superuser: bool) -> list[str]:
    """The lines to restore: without what exists in every database, and comments only a superuser may set.

    Subscriptions are left out too: two databases must not draw from one slot. Pure.
    """
    lines = []
    for entry in contents.entries:
        built_in = entry.kind == "EXTENSION" and entry.rest.split(" ")[0] == BUILT_IN
        comment = entry.kind == "COMMENT" and entry.rest.startswith("EXTENSION ")
        hard = comment and (not superuser or entry.rest.split(" ")[1] == BUILT_IN)
        if not (built_in or hard or entry.kind.startswith("SUBSCRIPTION")):
            lines.append(entry.line)
    return lines


def structure_lines(contents: Contents) -> list[str]:
    """Those of `wanted_lines` that bring no rows. Pure."""
    rows = {entry.line for entry in contents.entries if entry.is_a(*_ROWS)}
    return [line for line in wanted_lines(contents, superuser=True) if line not in rows]


def without_roles(contents: Contents, lines: Sequence[str]) -> list[str]:
    """Lines without those entries that are nothing without their roles. Pure.

    `rolenames.about_roles` has them, and whatever else pg_restore leaves out with --no-owner. What may be a comment on
    a policy is left out too: in the list nothing tells it from one on a table with that word in its name.
    """
    hard = {
        entry.line
        for entry in contents.entries
        if entry.is_a("ACL", "DEFAULT ACL", "POLICY", "USER MAPPING")
        or (entry.is_a("COMMENT") and " POLICY " in f" {entry.label}")
    }
    return [line for line in lines if line not in hard]


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
    """Ask pg_restore for the table of contents and the roles; raises `BackupInvalid` where it cannot be read."""
    listed: list[bytes] = []
    _print(tools, dump, ["--list"], take=listed.append)
    bare = Contents(parse_list(_text(listed)))
    text = structure_script(tools, dump, bare)
    told = about_roles(text)
    owners, others = roles_in("\n".join(told))
    rights = any(entry.is_a("ACL", "DEFAULT ACL") for entry in bare.entries)
    return Contents(
        bare.entries,
        frozenset(owners),
        frozenset(others),
        told,
        code=code_in(text),
        placed=placed_in(text),
        rights=rights,
    )


def structure_script(tools: Tools, dump: Path, contents: Contents) -> str:
    """The archive's SQL without rows, to be read; bytes that are no UTF-8 are Python's surrogates."""
    script: list[bytes] = []
    _print(tools, dump, ["--file=-"], structure_lines(contents) or [NOTHING], script.append)
    return _text(script)


def _text(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def verbose_script(tools: Tools, dump: Path, contents: Contents, lines: Sequence[str]) -> str:
    """The SQL of these lines without tables' rows, each entry behind a comment with its number."""
    rows = {entry.line for entry in contents.entries if entry.is_a("TABLE DATA", "BLOBS")}
    script: list[bytes] = []
    wanted = [line for line in lines if line not in rows]
    _print(tools, dump, ["--verbose", "--file=-"], wanted or [NOTHING], script.append)
    return b"".join(script).decode("utf-8", "replace")


def read_data(tools: Tools, dump: Path, take: Callable[[bytes], object]) -> None:
    """Decompress all data of an archive, and hand them on piece by piece, as SQL.

    Raises `BackupInvalid` where they are damaged, as far as pg_restore sees it.
    """
    _print(tools, dump, ["--section=data", "--file=-"], take=take)


def database_script(tools: Tools, dump: Path, entries: Sequence[ContentsEntry]) -> str:
    """The archive's own CREATE DATABASE and its properties, as SQL to be read, never run."""
    lines = [e.line for e in entries if e.kind in ("DATABASE", "DATABASE PROPERTIES", "ENCODING")]
    return _print(tools, dump, ["--create", "--file=-"], lines or [NOTHING])


@contextlib.contextmanager
def list_file(lines: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The lines as a file for pg_restore's --use-list, and the descriptors that it must inherit."""
    with memory_file(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")) as made:
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
        finished = run_tool([*words, str(dump)], None, check=False, descriptors=descriptors, on_output=take)
    if finished.returncode != 0:
        why = tool_error("pg_restore", finished).message
        raise BackupInvalid(f"The archive {dump} cannot be read: {why}", "It is damaged or incomplete: use another.")
    return finished.stdout
