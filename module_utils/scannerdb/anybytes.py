"""Texts of a database without an encoding (SQL_ASCII): any bytes, which go through unchanged in both directions.

Its names and values are read as UTF-8, and a byte that is none becomes one of Python's lone surrogates, as in the names
of files. The server checks what it is sent as the client's encoding, so that is one in which every byte is a character.
`connection.py` alone uses this.
"""

from __future__ import annotations

import json
from typing import Any, Union

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads
from psycopg.types.string import StrDumperUnknown, TextLoader

ANY_BYTES = "LATIN1"
_TEXTS = (0, "text", "varchar", "bpchar", "name", '"char"')


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: Any) -> str:
    return bytes(data).decode("utf-8", "surrogateescape")


class Identifier(sql.Identifier):
    """A name, which may hold bytes that are no UTF-8."""

    def as_bytes(self, context: Any = None) -> bytes:
        """The quoted name, in every encoding that a session of ours has."""
        return b".".join(b'"' + _bytes(name).replace(b'"', b'""') + b'"' for name in self._obj)


class SQL(sql.SQL):
    """A piece of a statement, in which there may be such a name."""

    def as_bytes(self, context: Any = None) -> bytes:
        """The piece, in every encoding that a session of ours has."""
        return _bytes(str(self._obj))


class _Loader(TextLoader):
    def load(self, data: Any) -> str:
        return _text(data)


class _Dumper(StrDumperUnknown):
    def dump(self, obj: str) -> bytes:
        return _bytes(obj)


class _Cursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, *args: Any, **more: Any) -> Any:
        return super().execute(self._plain(query), *args, **more)

    def copy(self, statement: Any, *args: Any, **more: Any) -> Any:
        return super().copy(self._plain(statement), *args, **more)

    def _plain(self, query: Any) -> Union[bytes, Any]:
        if isinstance(query, sql.Composable):
            return query.as_bytes(self)
        return _bytes(query) if isinstance(query, str) else query


def take_any_bytes(conn: Any) -> bool:
    """Let a session take and give any bytes where its database has no encoding; whether that is so.

    It takes them in any case: the names of roles and databases have the encoding of wherever they were made.
    """
    for kind in _TEXTS:
        conn.adapters.register_loader(kind, _Loader)
    if conn.info.parameter_status("server_encoding") != "SQL_ASCII":
        return False
    conn.adapters.register_dumper(str, _Dumper)
    set_json_loads(lambda data: json.loads(_text(data) if not isinstance(data, str) else data), conn)
    conn.cursor_factory = _Cursor
    return True
