"""Cuts SQL into statements where psql would: by the rules of its own lexer (psqlscan.l of PostgreSQL 15 to 18). Pure.

What psql takes for a meta command depends on what it takes for a string or a comment, so whoever wants to know what a
script does has to read it the same way. Strings are read as with standard_conforming_strings on. What is rare and would
have to be read one way or another by the version of psql is no guess but a `ValueError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

MOST_WORDS = 64  # of a statement; the rest is not needed to know what it is
_START, _PART = rb"A-Za-z_\x80-\xff", rb"A-Za-z0-9_\x80-\xff"
_TOKEN = re.compile(
    rb"(?P<line_comment>--)|(?P<comment>/\*)|(?P<escaped>[eE]')"
    rb"|(?P<word>[" + _START + rb"][" + _PART + rb"$]*)"
    rb"|(?P<dollar>\$(?:[" + _START + rb"][" + _PART + rb"]*)?\$)"
    rb"|\$?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?P<junk>[" + _START + rb"$])?"
    rb"|(?P<plain>')|(?P<name>\")|(?P<end>;)|(?P<open>\()|(?P<close>\))"
    rb"|::|:=|(?P<variable>:['\"]?[A-Z]|:\{)|(?P<meta>\\)"
)
_ENDS = {
    "escaped": re.compile(rb"(?s)\\.|''|'"),
    "plain": re.compile(rb"'"),
    "name": re.compile(rb'"'),
    "comment": re.compile(rb"/\*|\*/"),
}
_LINE_END = re.compile(rb"[\r\n]|\Z")  # a carriage return ends a comment too
_ROUTINE = re.compile(r"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE)\b")


@dataclass
class SqlStatement:
    """A statement: its unquoted words in capitals, the first of them and the last two."""

    words: list[str] = field(default_factory=list)
    last: tuple[str, str] = ("", "")

    @property
    def head(self) -> str:
        """Its first words."""
        return " ".join(self.words)


class Lexer:
    """Takes a script line by line. `idle` is true between two statements."""

    def __init__(self) -> None:
        self._end: Optional[re.Pattern[bytes]] = None  # what ends the string or comment that we are in
        self._within = ""
        self._next_statement()

    def _next_statement(self) -> None:
        self._statement, self._begun = SqlStatement(), False
        self._brackets = self._blocks = self._comments = 0
        self._after_escaped = False

    @property
    def idle(self) -> bool:
        """True where no statement, string or comment is open."""
        return not self._begun and self._end is None

    def feed(self, line: bytes) -> Iterator[SqlStatement]:
        """The statements that end in this line; raises `ValueError`, which says what cannot be taken."""
        position = 0
        while position < len(line):
            if self._end is not None:
                position = self._pass(line, position)
                continue
            match = _TOKEN.search(line, position)
            if line[position : match.start() if match else None].strip():
                self._begun, self._after_escaped = True, False
            if not match:
                return
            position = match.end()
            if match.lastgroup == "line_comment":
                position = _LINE_END.search(line, position).start()  # type: ignore[union-attr] # it always matches
                continue
            if match.lastgroup == "end" and not self._brackets and not self._blocks:
                finished = self._statement
                self._next_statement()
                yield finished
            else:
                self._token(match.lastgroup or "", match.group())

    def _pass(self, line: bytes, position: int) -> int:
        """Go on inside a string or comment; the position behind what was read."""
        match = self._end.search(line, position) if self._end else None
        if not match:
            return len(line)
        if self._within == "comment":
            self._comments += 1 if match.group() == b"/*" else -1
        if not (match.group().startswith(b"\\") or match.group() == b"''" or self._comments):
            self._end = None
        return match.end()

    def _token(self, kind: str, text: bytes) -> None:
        if kind in ("meta", "variable", "junk"):
            raise ValueError(
                {"meta": "has a command of psql", "variable": "has a variable of psql"}.get(kind, "is no SQL")
            )
        if kind == "comment":
            self._open(kind, _ENDS[kind])
            self._comments = 1
            return
        if kind == "plain" and self._after_escaped:
            raise ValueError("has a string that goes on after its end")
        self._begun, self._after_escaped = True, kind == "escaped"
        if kind == "word":
            self._word(text.decode("utf-8", "replace").upper())
        elif kind == "dollar":
            self._open(kind, re.compile(re.escape(text)))
        elif kind in _ENDS:
            self._open(kind, _ENDS[kind])
        elif kind == "open":
            self._brackets += 1
        elif kind == "close":
            self._brackets = max(0, self._brackets - 1)

    def _open(self, kind: str, end: re.Pattern[bytes]) -> None:
        self._within, self._end = kind, end

    def _word(self, word: str) -> None:
        statement = self._statement
        if len(statement.words) < MOST_WORDS:
            statement.words.append(word)
        statement.last = (statement.last[1], word)
        # The body of a routine in SQL: BEGIN ATOMIC … END, whose own statements end with semicolons too.
        if word in ("BEGIN", "CASE", "END") and not self._brackets and _ROUTINE.match(" ".join(statement.words[:4])):
            if word == "END":
                self._blocks = max(0, self._blocks - 1)
            elif word == "BEGIN" or self._blocks:
                self._blocks += 1
