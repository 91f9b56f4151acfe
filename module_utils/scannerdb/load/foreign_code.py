"""Code in an archive that its load runs: functions in CHECKs, domains, generated columns, partition keys and casts.

They belong to roles of the database, and a load has more rights than these. So it is looked at before, in the text that
pg_dump wrote: that names with its schema whatever is not PostgreSQL's own. Indexes and statistics are built with their
owner's rights, but whoever reads the table afterwards plans with their expressions, and that may run them. Triggers,
rules and defaults do not run.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from ..connection import Connection, explained, fetch, scalar
from ..errors import RestoreRefused
from .role_mapping import Token, cut, role_of

# Built-in functions that act, or run SQL out of a text; these of them do neither.
_ACTING = """
SELECT DISTINCT proname::text AS name FROM pg_catalog.pg_proc
 WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND (provolatile = 'v' OR proname ~ '_to_xml')
"""
_INNOCENT = {"random", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7"}
MOST_TOLD = 5
# Extensions' functions that run SQL out of a text.
_EXTENSIONS_ACTING = ("dblink", "crosstab", "connectby", "xpath_table", "query_to", "lo_")


@dataclass(frozen=True)
class Use:
    """Something that runs during a load, and the functions that it calls: `schema.name`, or a bare name."""

    what: str
    calls: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """What an archive has of code: its functions with their owners, and what of it runs during a load."""

    owners: dict[str, frozenset[str]] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()


def code_in(script: str) -> Code:
    """The code in an archive's structure, as pg_restore prints it. Pure."""
    found = _Finder()
    for tokens, _ in cut(script):
        found.take(tokens)
    return Code({name: frozenset(owners) for name, owners in found.owners.items()}, tuple(found.uses()))


def untrusted_calls(code: Code, superusers: Container[str], acting: Container[str]) -> list[str]:
    """What would run during a load and is neither PostgreSQL's own nor a superuser's, as words. Pure."""
    told = []
    for use in code.uses:
        for call in use.calls:
            owners = code.owners.get(call)
            name = call.rpartition(".")[2]
            if owners is not None:
                weak = sorted(owner for owner in owners if owner not in superusers)
                if weak or not owners:
                    told.append(
                        f"{use.what} calls {call}(), which belongs to {', '.join(weak) or 'nobody who is named'}"
                    )
            elif name in acting if name == call else name.startswith(_EXTENSIONS_ACTING):
                told.append(f"{use.what} calls {call}(), which acts")
    return told


def refuse_untrusted_code(conn: Connection, code: Code, hint: str) -> None:
    """Raise `RestoreRefused` where a load would run somebody's code with more than his rights."""
    with explained("Looking at who is a superuser"):
        rows = fetch(conn, "SELECT rolname::text AS name FROM pg_roles WHERE rolsuper OR rolname = current_user")
        user = str(scalar(conn, "SELECT current_user::text"))
        superusers = {row["name"] for row in rows}
        acting = {row["name"] for row in fetch(conn, _ACTING)} - _INNOCENT
    told = untrusted_calls(code, superusers, acting)
    if told:
        more = f" ({len(told)} in all)" if len(told) > MOST_TOLD else ""
        raise RestoreRefused(
            f"Loading the backup would run others' code with the rights of {user}: "
            f"{'; '.join(told[:MOST_TOLD])}{more}.",
            hint,
        )


class _Finder:
    """Collects functions, operators and uses out of statements."""

    def __init__(self) -> None:
        self.owners: dict[str, set[str]] = {}
        self._operators: dict[str, str] = {}
        self._found: list[tuple[str, Sequence[Token]]] = []
        self._uses: list[Use] = []

    def take(self, tokens: Sequence[Token]) -> None:
        """Look at one statement."""
        words = [token.text.upper() if token.kind == "word" else "" for token in tokens]
        kind = next((word for word in words[1:] if word not in ("UNLOGGED", "FOREIGN", "EVENT", "UNIQUE")), "")
        if kind in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
            self._function(tokens, words, words.index(kind) + 1)
        elif words[:2] == ["CREATE", "OPERATOR"] and words[2:3] not in (["CLASS"], ["FAMILY"]):
            self._operators["".join(_named(tokens, 2)[:1])] = _called_after(tokens, words, ("FUNCTION", "PROCEDURE"))
        elif words[:2] == ["CREATE", "CAST"] or words[:3] == ["CREATE", "EVENT", "TRIGGER"]:
            call = _called_after(tokens, words, ("FUNCTION", "PROCEDURE"))
            what = "a cast" if words[1] == "CAST" else "an event trigger"
            self._uses += [Use(what, (call,))] if call else []
        elif kind in ("INDEX", "STATISTICS") and words[0] == "CREATE":
            name = next(iter(_named(tokens, words.index(kind) + 1)), "")
            self._found.append((f"{kind.lower()} {name}", tokens[words.index(kind) + 2 :]))
        elif kind in ("TABLE", "DOMAIN"):
            start = words.index(kind) + 1
            start += words[start : start + 1] == ["ONLY"]
            name = next(iter(_named(tokens, start)), "")
            self._found += [(f"{what} of {kind.lower()} {name}", part) for what, part in _expressions(tokens, words)]

    def uses(self) -> Iterator[Use]:
        """All uses; operators have become the functions behind them."""
        yield from self._uses
        for what, tokens in self._found:
            calls = dict.fromkeys(self._operators.get(call, call) for call in _calls(tokens))
            if calls:
                yield Use(what, tuple(calls))

    def _function(self, tokens: Sequence[Token], words: Sequence[str], start: int) -> None:
        name = next(iter(_named(tokens, start)), "")
        if words[0] == "CREATE":
            returns = words.index("RETURNS") + 1 if "RETURNS" in words else len(words)
            if words[returns : returns + 1] != ["TRIGGER"]:  # which nothing can call
                self.owners.setdefault(name, set())
        elif words[0] == "ALTER" and words[-3:-1] == ["OWNER", "TO"] and name in self.owners:
            self.owners[name].add(role_of(tokens[-1]))


def _expressions(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[tuple[str, Sequence[Token]]]:
    """What of a table's or domain's statement runs for each row."""
    for at, word in enumerate(words):
        opened = at + 1 < len(tokens) and tokens[at + 1].text == "("
        if word == "CHECK" and opened:
            yield "a CHECK", _within(tokens, at + 1)
        elif word == "AS" and words[at - 2 : at] == ["GENERATED", "ALWAYS"] and opened:
            yield "a generated column", _within(tokens, at + 1)
        elif word == "EXCLUDE" and words[at + 1 : at + 2] == ["USING"]:
            yield "an exclusion", tokens[at + 3 :]
        elif word == "PARTITION" and words[at + 1 : at + 2] == ["BY"] and not tokens[at].depth:
            yield "the partition key", tokens[at + 3 :]


def _name(token: Token) -> str:
    """The name that a token is, as the catalog has it; `public` is one here."""
    return role_of(token) if token.kind == "name" else token.text.lower()


def _within(tokens: Sequence[Token], opening: int) -> Sequence[Token]:
    """What stands within a bracket."""
    end = next((i for i in range(opening + 1, len(tokens)) if tokens[i].depth <= tokens[opening].depth), len(tokens))
    return tokens[opening + 1 : end]


def _named(tokens: Sequence[Token], start: int) -> list[str]:
    """A qualified name, or that of an operator, at a position; in a list that is empty where there is none."""
    if start + 2 >= len(tokens) or tokens[start + 1].text != ".":
        return [_name(tokens[start])] if start < len(tokens) else []
    if tokens[start + 2].kind in ("word", "name"):
        return [f"{_name(tokens[start])}.{_name(tokens[start + 2])}"]
    end = start + 2
    while end < len(tokens) and tokens[end].kind == "other" and tokens[end].text not in "()":
        end += 1
    return [f"{_name(tokens[start])}." + "".join(token.text for token in tokens[start + 2 : end])]


def _called_after(tokens: Sequence[Token], words: Sequence[str], marks: Sequence[str]) -> str:
    """The function that is named behind one of these words (and an equals sign)."""
    at = next((i for i, word in enumerate(words) if word in marks), None)
    if at is None:
        return ""
    start = at + 1 + (tokens[at + 1].text == "=" if at + 1 < len(tokens) else 0)
    return next(iter(_named(tokens, start)), "")


def _calls(tokens: Sequence[Token]) -> Iterator[str]:
    """Functions and operators in an expression: a name before a bracket, and what stands in OPERATOR(…)."""
    for at, token in enumerate(tokens):
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if after != "(" or token.kind not in ("word", "name"):
            continue
        if token.word == "OPERATOR" or token.text.upper() == "OPERATOR":
            yield from _named(tokens, at + 2)
        elif at >= 2 and tokens[at - 1].text == ".":
            yield f"{_name(tokens[at - 2])}.{_name(token)}"
        else:
            yield _name(token)
