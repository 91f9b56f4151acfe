"""The roles that SQL of pg_dump names: who owns, who is granted, whom a policy is for. Read and rewritten. Pure.

A statement is known by its first words, and cut into tokens by the rules of PostgreSQL's lexer (scan.l), so that no
name, string or function body is taken for a role, however it is spelt. Bytes that are no UTF-8 are expected as Python's
surrogates: they come out as they went in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# PostgreSQL takes whatever is not ASCII for a letter. A string with escapes goes on behind a line end.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\r\f\v]+|--[^\n\r]*|^\\(?:un)?restrict\ [^\n]*)
      | (?P<comment>/\*)
      | (?P<string>[eE]'(?:[^'\\]|\\.|''
          |'(?:[ \t\f\v]|--[^\n\r]*(?=[\n\r]))*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*(?=[\n\r]))*')*'|'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*")
      | (?P<body>\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$)
      | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
      | (?P<end>;)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(r"/\*|\*/")
_KEYWORDS = {"PUBLIC", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "DEFAULT"}  # they stand for roles
# How statements begin that name roles, and the words behind which they do.
_KINDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("ALTER", "DEFAULT", "PRIVILEGES"): ("ROLE", "TO", "FROM"),
    ("GRANT",): ("TO",),
    ("REVOKE",): ("FROM",),
    ("SET", "SESSION", "AUTHORIZATION"): ("AUTHORIZATION",),
    ("RESET", "SESSION", "AUTHORIZATION"): (),
    ("CREATE", "POLICY"): ("TO",),
    ("CREATE", "USER", "MAPPING"): ("FOR",),
}
_OWNING = {"ROLE", "AUTHORIZATION"}  # what is behind these makes, or has made, things of its own
# What a text must hold to be worth cutting: most of a dump is not.
_WORTH = re.compile(r"GRANT|REVOKE|OWNER|AUTHORIZATION|POLICY|MAPPING|client_encoding", re.IGNORECASE)


@dataclass(frozen=True)
class Token:
    """A token of a statement: its text as written, where that begins, and how deep in brackets."""

    kind: str
    text: str
    start: int
    depth: int = 0

    @property
    def word(self) -> str:
        """An unquoted word outside of brackets, in capitals; else nothing."""
        return self.text.upper() if self.kind == "word" and not self.depth else ""


@dataclass(frozen=True)
class RoleList:
    """A list of roles in a statement: from where to where it stands, and the names; `owns` where they get to own."""

    start: int
    end: int
    names: tuple[Token, ...]
    owns: bool = False


@dataclass(frozen=True)
class RoleStatement:
    """A statement of a text, from its first token to its semicolon, and where it names roles.

    `places` is None where it has nothing to do with roles.
    """

    start: int
    end: int
    head: str
    places: tuple[RoleList, ...] | None


@dataclass(frozen=True)
class RoleRules:
    """What becomes of roles: those in `mapped` are replaced by others, all at once; those in `ignored` left out."""

    mapped: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.mapped or self.ignored)

    def of(self, role: str) -> str:
        """The role that takes a role's place."""
        return self.mapped.get(role, role)

    def rewritten(self, text: str) -> str:
        """Statements with the roles that they shall name; of a statement that names nobody any more only line ends."""
        if not (self and _WORTH.search(text)):
            return text
        parts, done = [], 0
        for statement in statements(text):
            parts.append(text[done : statement.start])
            parts.append(self._statement(text, statement))
            done = statement.end
        return "".join([*parts, text[done:]])

    def _statement(self, text: str, statement: RoleStatement) -> str:
        parts, done = [], statement.start
        for place in statement.places or ():
            kept = self._names(place.names)
            if not kept:
                return "\n" * text.count("\n", statement.start, statement.end)
            parts += [text[done : place.start], kept]
            done = place.end
        return "".join([*parts, text[done : statement.end]])

    def _names(self, names: Sequence[Token]) -> str:
        """A list of roles as it shall be; one that nothing is done to stays letter by letter."""
        kept = []
        for token in names:
            role = role_of(token)
            if not role or role not in {*self.mapped, *self.ignored}:
                kept.append(token.text)
            elif role in self.mapped:
                kept.append(quoted(self.mapped[role]))
        return ", ".join(dict.fromkeys(kept))


def statements(text: str) -> Iterator[RoleStatement]:
    """The statements of a text. One that lacks its semicolon is none."""
    for tokens, end in cut(text):
        head = " ".join(token.text.upper() for token in tokens[:3])
        yield RoleStatement(tokens[0].start, end, head, _places(tokens))


def cut(text: str) -> Iterator[tuple[list[Token], int]]:
    """The statements of a text as tokens, and where each ends."""
    tokens: list[Token] = []
    depth = position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind = str(match.lastgroup) if match.lastgroup != "tag" else "body"
        if kind == "comment":
            position = _behind_comment(text, position)
        if kind in ("space", "comment"):
            continue
        if kind == "end":
            if tokens:
                yield tokens, match.end()
            tokens, depth = [], 0
            continue
        depth -= match.group() == ")"
        tokens.append(Token(kind, match.group(), match.start(), max(0, depth)))
        depth += match.group() == "("


def _behind_comment(text: str, position: int) -> int:
    """Where a comment ends whose opening is behind us: comments nest. One without an end takes the rest."""
    depth = 1
    for mark in _COMMENT.finditer(text, position):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)


def roles_in(text: str) -> tuple[set[str], set[str]]:
    """The roles that get to own something in a text, and the others that it names."""
    owners: set[str] = set()
    others: set[str] = set()
    if not _WORTH.search(text):
        return owners, others
    for statement in statements(text):
        for place in statement.places or ():
            (owners if place.owns else others).update(filter(None, map(role_of, place.names)))
    return owners, others - owners


def about_roles(text: str) -> tuple[str, ...]:
    """The statements of an archive's script that give anything to roles, in their order; and what they need.

    Comments are among them that may be on policies (see `contents.without_roles`); made twice they do no
    harm.
    """
    found = []
    for statement in statements(text):
        whole = text[statement.start : statement.end]
        comment = statement.head.startswith("COMMENT ON") and not statement.head.endswith(" EXTENSION")
        needed = statement.head.startswith("SET CLIENT_ENCODING") or (comment and "POLICY" in whole)
        if needed or statement.places is not None:
            found.append(whole)
    return tuple(found)


def role_of(token: Token) -> str:
    """The role that a token names, as the catalog has it; nothing for PUBLIC and the like."""
    if token.kind == "name":
        return token.text[1:-1].replace('""', '"')
    if token.kind == "string":  # SET SESSION AUTHORIZATION takes one too
        return token.text[1:-1].replace("''", "'")
    return "" if token.text.upper() in _KEYWORDS else token.text.lower()


def quoted(role: str) -> str:
    """A role's name as SQL, in letters that every encoding has."""
    if role.isascii():
        return '"' + role.replace('"', '""') + '"'
    escaped = role.replace("\\", "\\\\").replace('"', '""')
    return 'U&"' + "".join(c if c.isascii() else f"\\+{ord(c):06x}" for c in escaped) + '"'


def _places(tokens: Sequence[Token]) -> tuple[RoleList, ...] | None:
    """Where a statement names roles; None where it is of no kind that does."""
    words = [token.word for token in tokens]
    if words[0] == "ALTER" and words[-3:-1] == ["OWNER", "TO"]:
        return _listed(tokens, len(tokens) - 1, owns=True)
    for head, marks in _KINDS.items():
        if words[: len(head)] == list(head):
            found = [words.index(mark) for mark in marks if mark in words]
            return tuple(p for at in found for p in _listed(tokens, at + 1, owns=words[at] in _OWNING))
    return None


def _listed(tokens: Sequence[Token], position: int, owns: bool = False) -> tuple[RoleList, ...]:
    """The names, with commas between, that begin at a position."""
    names: list[Token] = []
    while position < len(tokens) and tokens[position].kind in ("name", "word", "string"):
        if tokens[position].word == "GROUP" and not names and position + 1 < len(tokens):
            position += 1
            continue
        names.append(tokens[position])
        if position + 1 >= len(tokens) or tokens[position + 1].text != ",":
            break
        position += 2
    if not names:
        return ()
    return (RoleList(names[0].start, names[-1].start + len(names[-1].text), tuple(names), owns),)
