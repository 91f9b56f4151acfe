"""What a file of pg_dump -C says about the one database that it is of: read for what it asks, and never run. Pure.

Only the words in which pg_dump says it are known; whatever differs is somebody else's, and is refused by the caller.
"""

from __future__ import annotations

import re

from .contents import IDENTIFIER, unquoted

_NAME = rf"({IDENTIFIER})"
_DROP = re.compile(rf"DROP DATABASE (?:IF EXISTS )?{_NAME};")
_CREATE = re.compile(rf"CREATE DATABASE {_NAME} WITH [^;]*;")
_OWNER = re.compile(rf"ALTER DATABASE {_NAME} OWNER TO {IDENTIFIER};")
_TEXT = r"(?:'(?:[^']|'')*'|[^';])*"
_MORE = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rf"ALTER DATABASE {_NAME} (?:SET|CONNECTION LIMIT|IS_TEMPLATE) {_TEXT};",
        rf"ALTER ROLE {IDENTIFIER} IN DATABASE {_NAME} SET {_TEXT};",
        rf"COMMENT ON DATABASE {_NAME} IS {_TEXT};",
        rf"SECURITY LABEL FOR \S+ ON DATABASE {_NAME} IS {_TEXT};",
        rf"(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE {_NAME} (?:TO|FROM) {_TEXT};",
    )
)
_CONNECT = re.compile(rf'\\connect (?:-reuse-previous=on "dbname=(?P<odd>(?:[^"]|"")+)"|{_NAME})')


class OwnDatabase:
    """Collects the statements about one database; `takes` and `connects` answer whether one is of that kind."""

    def __init__(self) -> None:
        self._dropped = self.name = ""
        self.script: list[str] = []  # CREATE DATABASE, and who owns it
        self.properties = 0  # statements about settings, privileges and comment

    @property
    def pending(self) -> bool:
        """True where a database was dropped, and none has been created in its place."""
        return bool(self._dropped and not self.name)

    def takes(self, statement: str, *, first: bool) -> bool:
        """Whether a statement is about the file's own database, as pg_dump words it; `first`: nothing was made yet."""
        dropped, created = _DROP.fullmatch(statement), _CREATE.fullmatch(statement)
        if dropped and first and not (self._dropped or self.name):
            self._dropped = dropped.group(1)
            return True
        if created and first and not self.name and self._dropped in ("", created.group(1)):
            self.name = created.group(1)
            self.script.append(statement)
            return True
        owned = _OWNER.fullmatch(statement)
        if owned and owned.group(1) == self.name:
            self.script.append(statement)
            return True
        found = next(filter(None, (pattern.fullmatch(statement) for pattern in _MORE)), None)
        self.properties += bool(found and found.group(1) == self.name)
        return bool(found and found.group(1) == self.name)

    def connects(self, line: str) -> bool:
        """Whether a line of psql connects to the file's own database, and no more than that."""
        match = _CONNECT.fullmatch(line)
        if not match or not self.name:
            return False
        odd = match.group("odd")
        wanted = _from_connection_string(odd.replace('""', '"')) if odd else unquoted(match.group(2))
        return wanted == unquoted(self.name)


def _from_connection_string(value: str) -> str:
    """A value as libpq reads it out of a connection string: quoted, with backslashes before quotes and backslashes."""
    if not re.fullmatch(r"'(?:[^'\\]|\\.)*'", value):
        return value if re.fullmatch(r"[\w.]+", value) else ""
    return re.sub(r"\\(.)", r"\1", value[1:-1])
