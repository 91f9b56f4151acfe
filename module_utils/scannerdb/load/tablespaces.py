"""The tablespaces of tables and indexes in an archive, and those that take their place. Reading is pure.

pg_restore cannot rename tablespaces. So where any takes another's place, it is told to leave them all alone; tables are
moved while they are empty, indexes when they are built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..connection import SQL, Connection, Identifier, explained
from .role_mapping import Token, cut

_NAMED = re.compile(r"default_tablespace = (?!'')")
_INDEXED = ("PRIMARY", "UNIQUE", "EXCLUDE")
SETTING = re.compile(r"SET default_tablespace = (\"(?:[^\"]|\"\")+\"|[^\s\"';]+);")


@dataclass(frozen=True)
class Placed:
    """A table, materialized view or index that lies in a tablespace of its own."""

    kind: str
    schema: str
    name: str
    tablespace: str


def placed_in(script: str) -> tuple[Placed, ...]:
    """What lies in tablespaces, out of an archive's structure as pg_restore prints it."""
    return tuple(_placed(script)) if _NAMED.search(script) else ()


def moved_setting(statement: str, places: Mapping[str, str]) -> str:
    """A statement of plain SQL that chooses a tablespace, with the one that takes its place; else as it is."""
    match = SETTING.fullmatch(statement)
    name = _unquoted(match.group(1)) if match else ""
    if name not in places:
        return statement
    instead = places[name].replace('"', '""')
    return f'SET default_tablespace = "{instead}";' if instead else "SET default_tablespace = '';"


def tablespace_of(statement: str) -> str:
    """The tablespace that a statement of plain SQL chooses; empty where it chooses none."""
    match = SETTING.fullmatch(statement)
    return _unquoted(match.group(1)) if match else ""


def move(conn: Connection, placed: Sequence[Placed], places: Mapping[str, str]) -> None:
    """Put each into its tablespace, or the one that takes its place; "" is the database's own."""
    for one in placed:
        where = places.get(one.tablespace, one.tablespace)
        if where:
            statement = SQL("ALTER {} {}.{} SET TABLESPACE {}").format(
                SQL(one.kind), Identifier(one.schema), Identifier(one.name), Identifier(where)
            )
            with explained(f"Moving {one.schema}.{one.name} into the tablespace {where!r}"):
                conn.execute(statement)


def _placed(script: str) -> Iterator[Placed]:
    now = ""
    for tokens, _ in cut(script):
        words = [token.text.upper() if token.kind == "word" else "" for token in tokens]
        if words[:2] == ["SET", "DEFAULT_TABLESPACE"]:
            now = _unquoted(tokens[3].text) if len(tokens) > 3 else ""
        elif now:
            found = _object(tokens, words)
            if found:
                yield Placed(*found, now)


def _object(tokens: Sequence[Token], words: Sequence[str]) -> Optional[tuple[str, str, str]]:
    """The kind, schema and name of what a statement makes and a tablespace holds."""
    if words[0] == "CREATE" and "INDEX" in words[1:3]:
        at = words.index("INDEX") + 1
        table = at + 2 + (words[at + 2 : at + 3] == ["ONLY"])
        return "INDEX", _name(tokens, table), _name(tokens, at)
    if words[:2] == ["ALTER", "TABLE"] and "CONSTRAINT" in words:
        at = words.index("CONSTRAINT") + 1
        if not {*_INDEXED}.isdisjoint(words[at + 1 : at + 2]):
            return "INDEX", _name(tokens, 2 + (words[2] == "ONLY")), _name(tokens, at)
        return None
    if words[:3] == ["CREATE", "MATERIALIZED", "VIEW"]:
        return "MATERIALIZED VIEW", _name(tokens, 3), _name(tokens, 5)
    if words[0] == "CREATE" and "TABLE" in words[1:3] and "FOREIGN" not in words[1:3]:
        at = words.index("TABLE") + 1
        return "TABLE", _name(tokens, at), _name(tokens, at + 2)
    return None


def _name(tokens: Sequence[Token], at: int) -> str:
    return _unquoted(tokens[at].text) if at < len(tokens) else ""


def _unquoted(text: str) -> str:
    """A name as the catalog has it; an empty string is none."""
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.strip("'")
