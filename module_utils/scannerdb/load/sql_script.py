"""What a plain SQL file does, found out line by line before a server sees any of it. Pure.

Inside COPY … FROM stdin, everything up to the line `\\.` is data. All else is cut into statements as psql would cut it.
Only what a dump of one database needs may go on: no command of psql, nothing about databases, roles or the server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BackupInvalid, RestoreRefused
from ..sets.archive import NOT_COMPLETE, Header
from .contents import IDENTIFIER, Contents, ContentsEntry, unquoted
from .own_database import OwnDatabase
from .role_mapping import roles_in
from .sql_lexer import MOST_WORDS, Lexer, SqlStatement
from .tablespaces import Placed, tablespace_of

HEAD, TAIL = b"-- PostgreSQL database dump", b"-- PostgreSQL database dump complete"
_GUARD = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\s*")  # what pg_dump writes since August 2025
_CONNECT = re.compile(rb"\\c(?:onnect)?(?:\s|$)")
_DATABASES = re.compile(r"(?:CREATE|DROP|ALTER|(?:COMMENT|SECURITY LABEL(?: FOR \S+)?) ON) DATABASE\b")
_ON_DATABASES = re.compile(r"(?:GRANT|REVOKE) .*\bON DATABASE\b|ALTER ROLE (?:\S+ )?IN DATABASE\b")
# How pg_dump --clean takes away what it is going to make, before it makes anything. In a fresh database there is
# nothing to take away, except for the schema that every database has.
_CLEARING = re.compile(
    r"DROP (?!SCHEMA (?:IF EXISTS )?public;)|ALTER TABLE [^;]* (?:DROP CONSTRAINT|DETACH PARTITION)\b"
    r"|ALTER TABLE [^;]* ALTER COLUMN [^;]* DROP (?:DEFAULT|IDENTITY)\b|SELECT pg_catalog\.lo_unlink\("
    r"|CREATE OR REPLACE VIEW [^;]* AS\s+SELECT\s+NULL::",
    re.DOTALL,
)
_SETTING = re.compile(r"SET |SELECT pg_catalog\.set_config\(")
_MAKING = re.compile(r"CREATE\b|COPY\b|INSERT\b|DO\b|WITH\b")
_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?({IDENTIFIER})")
_ENCODING = re.compile(r"SET client_encoding = '([\w-]+)';")
_NAME = r'"(?:[^"]|"")+"|[^\s".,;()]+'
_TABLE = re.compile(rf"CREATE (?:UNLOGGED |FOREIGN )?TABLE (?:IF NOT EXISTS )?({_NAME})\.({_NAME})\s")
_SCHEMA_OF_ROWS = re.compile(r"CREATE (?:UNLOGGED |FOREIGN )?TABLE\b")
_VERSIONS = {b"-- Dumped from database version ": "server", b"-- Dumped by pg_dump version ": "dump"}
# Encodings in which a byte of a longer character may look like a backslash or a quote.
_TWISTED = re.compile(rb"client_encoding\W.*(?:SJIS|SHIFT|BIG5|WIN950|GBK|WIN936|UHC|WIN949|GB18030|JOHAB)", re.I)
_STRINGS, _STRINGS_ON = b"standard_conforming_strings", b"SET standard_conforming_strings = on;"

_OTHER_DATABASE = "creates, drops or changes a database in a way in which no dump of one database does"
_ONE_DATABASE = "Files of pg_dumpall hold several: dump the one database with pg_dump."
_SHARED = r"(?:DATABASE|ROLE|TABLESPACE|PARAMETER)\b"
_FORBIDDEN = (
    (
        r"(?:CREATE|DROP|ALTER) DATABASE\b",
        _OTHER_DATABASE,
        _ONE_DATABASE,
    ),
    (
        r"(?:CREATE|DROP|ALTER) (?:ROLE|GROUP|USER(?! MAPPING))\b",
        "creates, drops or changes a role, as files of pg_dumpall do",
        "Dump the one database with pg_dump; create the roles by hand.",
    ),
    (rf"(?:COMMENT|SECURITY LABEL(?: FOR \S+)?) ON {_SHARED}", "describes what all databases share", ""),
    (rf"(?:GRANT|REVOKE) .*\bON {_SHARED}", "gives or takes rights on what all databases share", ""),
    (r"(?:CREATE|DROP|ALTER) TABLESPACE\b|ALTER SYSTEM\b", "changes the whole server", ""),
    (r"(?:DROP|REASSIGN) OWNED\b", "takes from a role what it has in other databases too", ""),
    (r"PREPARE TRANSACTION\b", "leaves a transaction prepared", ""),
    (
        r"(?:CREATE|DROP|ALTER) SUBSCRIPTION\b",
        "has a subscription, and two databases must not draw from one slot",
        "Dump again with --no-subscriptions.",
    ),
)
# What may change rows besides COPY; where a script has any of it, what it holds is not what there is in the end.
_CHANGES = {"CALL", "DELETE", "DO", "EXECUTE", "INSERT", "MERGE", "TRUNCATE", "UPDATE", "WITH"}
_TRANSACTIONS = {"ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"}
# What pg_dump itself writes around large objects. It is left out: the whole file is one transaction.
_BEGIN_OR_END = re.compile(r"(?:BEGIN|COMMIT|END|START TRANSACTION)(?: WORK| TRANSACTION)?;", re.IGNORECASE)
_NEWER_SETTINGS = {"transaction_timeout": 17}  # settings that pg_dump writes, and the servers that know them


class Script:
    """Takes the lines of a file of that name, and collects what they do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0  # of the line that was taken last
        self.rows = self.bytes = self.tables = 0
        self.encoding = ""
        self.owners: set[str] = set()
        self.grantees: set[str] = set()
        self.extensions: list[str] = []
        self.tablespaces: set[str] = set()
        self.names: list[tuple[str, str]] = []  # schema and name of the tables, as far as they stand there
        self.versions: dict[str, str] = {}
        self.in_data = False
        self._whole = 0  # heads without a tail
        self._copies: list[tuple[bytes, int]] = []  # the COPY statements, and how many rows there were before
        self._by_copy = True  # whether nothing else changes rows
        self.database = OwnDatabase()
        self.spared = False  # whether the statement that ended last is not for the side database
        self._making = self._rights = False  # whether anything was made, and any privilege given
        self._opening = True  # whether there was nothing yet but settings
        self._about_databases = ("", "")  # why the open statement would be refused, if it is not about the file's own
        self._lexer = Lexer()
        self._open: list[bytes] = []  # lines of statements that go on
        self._ended = 0  # how many have ended on these lines

    @property
    def idle(self) -> bool:
        """True where no statement, string or comment is open; rows of a table are none."""
        return self._lexer.idle

    def take(self, line: bytes) -> str:
        """Take the next line; the statement that ends with it, and has its lines for itself, or nothing.

        Raises `RestoreRefused` where the line must not go to a server, `BackupInvalid` where it is no text.
        """
        self.number += 1
        self.bytes += len(line)
        self.spared = False
        if b"\0" in line:
            raise BackupInvalid(
                f"{self.name} is not SQL: line {self.number} has a byte that no text has.", NOT_COMPLETE
            )
        if self.in_data:
            self.in_data = line not in (b"\\.\n", b"\\.\r\n")
            self.rows += self.in_data
            return ""
        return self._sql(line)

    def finish(self) -> None:
        """Raise `BackupInvalid` where the file ends too early."""
        where = ""
        if self.in_data:
            where = "in the middle of a table's rows"
        elif not self._lexer.idle:
            where = "in the middle of a statement"
        elif self.database.pending:
            raise self._refused(_OTHER_DATABASE, _ONE_DATABASE)
        elif self._whole:
            where = f"without the line {TAIL.decode()!r}"
        if where or not self.number:
            raise BackupInvalid(f"{self.name} breaks off after line {self.number}, {where or 'empty'}.", NOT_COMPLETE)

    def contents(self) -> Contents:
        """What it creates, in the words of an archive's table of contents; of a table that may lack the name."""
        tables = [ContentsEntry("", "TABLE", schema, f"{name} ") for schema, name in self.names]
        tables += [ContentsEntry("", "TABLE", "", "")] * (self.tables - len(tables))
        extensions = [ContentsEntry("", "EXTENSION", "-", f"{name} ") for name in self.extensions]
        return Contents(
            (*tables, *extensions),
            frozenset(self.owners),
            frozenset(self.grantees - self.owners),
            text_bytes=self.bytes,
            encoding=self.encoding,
            placed=tuple(Placed("", "", "", name) for name in sorted(self.tablespaces)),
            database="\n".join(self.database.script),
            properties=self.database.properties,
            rights=self._rights,
        )

    def blocks(self) -> list[tuple[bytes, int]]:
        """Its COPY statements, each with its rows, where these are all that becomes of them; else none.

        So there are none of a file that pg_dump did not write, or wrote as INSERT statements.
        """
        if not (self._by_copy and self.versions):
            return []
        ends = [*(start for _, start in self._copies[1:]), self.rows]
        return [(copy, end - start) for (copy, start), end in zip(self._copies, ends)]

    def header(self) -> Header:
        """The versions that it names."""
        return Header("", self.versions.get("server", ""), self.versions.get("dump", ""))

    def _sql(self, line: bytes) -> str:
        text, fresh = line.strip(), self._lexer.idle
        if fresh and text.startswith(b"--") and b"\r" not in text:
            self._remark(text)
            return ""
        if fresh and text.startswith(b"\\"):
            return self._meta(text)
        if (_STRINGS in line.lower() and text != _STRINGS_ON) or _TWISTED.search(line):
            raise self._refused("changes how text is read", "Dump again, in UTF-8.")
        try:
            finished = list(self._lexer.feed(line))
        except ValueError as error:
            raise self._refused(str(error)) from None
        for index, ended in enumerate(finished):
            if ended.words[:1] and ended.words[0] in _TRANSACTIONS:
                self._alone(text, fresh)
            self._judge(ended, last=index == len(finished) - 1 and self._lexer.idle and line.rstrip()[-1:] == b";")
        self._open.append(line)
        self._ended += len(finished)
        return self._finished() if self._lexer.idle else ""

    def _alone(self, text: bytes, fresh: bool) -> None:
        """Raise `RestoreRefused` for the end of a transaction that could not be left out."""
        if not (fresh and _BEGIN_OR_END.fullmatch(text.decode("utf-8", "replace"))):
            raise self._refused(
                "begins or ends a transaction, and the file is restored as one", "Take that statement out."
            )

    def _finished(self) -> str:
        """Look at the lines that have become whole statements; what they say where it is one."""
        text, alone = b"".join(self._open).strip(), self._ended == 1
        self._open, self._ended = [], 0
        if self.in_data:
            self._copies.append((text if alone and b"\n" not in text else b"", self.rows))
        statement = text.decode("utf-8", "surrogateescape")
        if statement:
            self._settle(statement, alone)
        return statement if alone else ""

    def _settle(self, statement: str, alone: bool) -> None:
        """Decide whether whole statements go on to the side database, and collect what they name."""
        (does, hint), self._about_databases = self._about_databases, ("", "")
        self.spared = bool(does)
        if does:
            if not (alone and self.database.takes(statement, first=self._opening)):
                raise self._refused(does, hint)
            if not statement.startswith("ALTER DATABASE "):
                return  # grants on it, say: nobody needs these roles
        else:
            self._opening = self._opening and alone and bool(_SETTING.match(statement))
            if self.database.pending and not self._opening:
                raise self._refused(_OTHER_DATABASE, _ONE_DATABASE)
            self.spared = not self._making and alone and bool(_CLEARING.match(statement))
            self._making = self._making or not (self.spared or (alone and not _MAKING.match(statement)))
        self._note(statement)

    def _remark(self, text: bytes) -> None:
        self._whole += (text == HEAD) - (text == TAIL)
        for start, kind in _VERSIONS.items():
            if text.startswith(start):
                self.versions.setdefault(kind, text[len(start) :].decode("utf-8", "replace"))

    def _meta(self, text: bytes) -> str:
        if _GUARD.fullmatch(text):
            return text.decode()
        if text == b"\\encoding SQL_ASCII" and self.database.name:  # before \connect to an odd name
            return "\\connect"
        if _CONNECT.match(text):
            if self.database.connects(text.decode("utf-8", "replace")):
                return "\\connect"
            raise self._refused(
                "connects to another database, as files of pg_dumpall do", "Dump the one database with pg_dump."
            )
        word = text.split()[0].decode("utf-8", "replace")
        raise self._refused(f"has a command of psql ({word[:20]})")

    def _judge(self, statement: SqlStatement, last: bool) -> None:
        """Raise `RestoreRefused` for what no dump of one database does."""
        head = statement.head
        for pattern, does, hint in _FORBIDDEN:
            if re.match(pattern, head):
                if not (_DATABASES.match(head) or _ON_DATABASES.match(head)):
                    raise self._refused(does, hint)
                self._about_databases = (does, hint)  # it is decided where its whole text is known
                return
        if statement.words[:1] in (["GRANT"], ["REVOKE"]) and "ON" not in statement.words:
            raise self._refused(
                "makes a role a member of another" if len(statement.words) < MOST_WORDS else "is too long"
            )
        if statement.words[:1] == ["COPY"]:
            if statement.last != ("FROM", "STDIN") or not last:
                raise self._refused("has a COPY that is not one of pg_dump's")
            self.in_data = True
        self._by_copy = self._by_copy and _CHANGES.isdisjoint(statement.words[:1])
        self.tables += bool(_SCHEMA_OF_ROWS.match(head))

    def _note(self, statement: str) -> None:
        """Collect what a statement names."""
        owners, grantees = roles_in(statement)
        self._rights = self._rights or statement.startswith(("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES "))
        self.owners |= owners
        self.grantees |= grantees
        table = _TABLE.match(statement)
        if table:
            self.names.append((unquoted(table.group(1)), unquoted(table.group(2))))
        self.tablespaces |= {tablespace_of(statement)} - {""}
        extension, encoding = _EXTENSION.match(statement), _ENCODING.fullmatch(statement)
        if extension:
            self.extensions.append(unquoted(extension.group(1)))
        if encoding and not self.encoding:
            self.encoding = encoding.group(1)

    def _refused(self, does: str, hint: str = "") -> RestoreRefused:
        return RestoreRefused(
            f"{self.name} is not restored: its line {self.number} {does}.",
            hint or "Dump the database with pg_dump -Fc, and restore that; or take this line out, if it is not needed.",
        )


def left_out(statement: str, server_major: int, superuser: bool) -> bool:
    """True for a statement that this server cannot take.

    These are the beginnings and ends of transactions, the guards of newer versions of psql (we set our own), timeouts
    that an older server does not know, and comments on extensions where only a superuser may make them.
    """
    if statement.startswith(("\\restrict ", "\\unrestrict ", "\\connect")):
        return True
    if _BEGIN_OR_END.fullmatch(statement):
        return True
    if statement.startswith("COMMENT ON EXTENSION "):
        return not superuser
    setting = re.match(r"SET (\w+) = ", statement)
    return setting is not None and _NEWER_SETTINGS.get(setting.group(1), 0) > server_major


def psql_guards(version: str) -> bool:
    """True where this psql can be told to take no commands (\\restrict)."""
    numbers = [int(n) for n in re.findall(r"\d+", version)[:2]]
    first: Sequence[int] = {13: [13, 22], 14: [14, 19], 15: [15, 14], 16: [16, 10], 17: [17, 6]}.get(
        numbers[0] if numbers else 0, [18]
    )
    return numbers >= list(first)
