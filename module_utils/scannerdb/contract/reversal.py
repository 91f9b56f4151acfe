"""How a change of structure is taken back: kept in the journal as words, turned into SQL here and nowhere else. Pure.

Every word that becomes part of a statement is an identifier, or one of PostgreSQL's own that stands in the lists below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput
from ..finding import Change, Reversal
from . import ddl
from .model import ForeignKey, Grant

RULES = frozenset({"NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"})
DEFERRALS = frozenset(
    {"NOT DEFERRABLE", "DEFERRABLE", "DEFERRABLE INITIALLY IMMEDIATE", "DEFERRABLE INITIALLY DEFERRED"}
)
MATCHES = frozenset({"SIMPLE", "FULL", "PARTIAL"})
ACTIONS = frozenset({"DROP NOT NULL", "DROP DEFAULT"})
KINDS = frozenset({"TABLE", "SEQUENCE", "SCHEMA"})
PRIVILEGES = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE", "CREATE"}
)


def drop_constraint(schema: str, tables: Sequence[str], name: str) -> Reversal:
    """A constraint that was made goes."""
    return Reversal("drop_constraint", {"schema": schema, "tables": list(tables), "name": name})


def alter_column(schema: str, table: str, column: str, action: str) -> Reversal:
    """A column loses what it was given: DROP NOT NULL, DROP DEFAULT."""
    return Reversal("alter_column", {"schema": schema, "table": table, "column": column, "action": action})


def drop_index(schema: str, name: str) -> Reversal:
    """An index that was made goes."""
    return Reversal("drop_index", {"schema": schema, "name": name})


def drop_triggers(schema: str, relation: str, names: Sequence[str], soft: bool = True) -> Reversal:
    """Triggers that were made go."""
    return Reversal("drop_triggers", {"schema": schema, "relation": relation, "names": list(names), "soft": soft})


def revoke(schema: str, grant: Grant) -> Reversal:
    """A privilege that was granted is revoked."""
    words = {"role": grant.role, "relation": grant.relation, "privileges": sorted(grant.privileges), "kind": grant.kind}
    return Reversal("revoke", {"schema": schema, **words})


def add_foreign_key(schema: str, table: str, key: ForeignKey, name: str) -> Reversal:
    """A foreign key that was dropped comes back."""
    return Reversal("add_foreign_key", {"schema": schema, "table": table, "key": _words(key), "name": name})


def swap_foreign_key(schema: str, table: str, old: ForeignKey, new: ForeignKey) -> Reversal:
    """A foreign key gets the rules back that it had."""
    return Reversal("swap_foreign_key", {"schema": schema, "table": table, "old": _words(old), "new": _words(new)})


def _words(key: ForeignKey) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(key).items()}


def changes_of(reversal: Reversal) -> list[Change]:
    """The statements of a reversal; raises `InvalidInput` for one that this release does not make."""
    make = _MAKERS.get(reversal.kind)
    if make is None:
        raise InvalidInput(f"The journal has a way back of the unknown kind {reversal.kind!r}.")
    try:
        return make(_Words(reversal.arguments))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"The journal's way back {reversal.kind!r} is not one that this release makes: {error}."
        ) from error


class _Words:
    """A reversal's arguments, each of the type that it must have."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def text(self, name: str, allowed: frozenset[str] | None = None) -> str:
        value = self.values[name]
        if not isinstance(value, str) or (allowed is not None and value not in allowed):
            raise ValueError(f"{name} is {value!r}")
        return value

    def texts(self, name: str, allowed: frozenset[str] | None = None) -> tuple[str, ...]:
        value = self.values[name]
        if not isinstance(value, list):
            raise ValueError(f"{name} is {value!r}")
        return tuple(_Words({name: one}).text(name, allowed) for one in value)

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    def key(self, name: str) -> ForeignKey:
        words = _Words(self.values[name])
        return ForeignKey(
            columns=words.texts("columns"),
            table=words.text("table"),
            ref_columns=words.texts("ref_columns"),
            on_delete=words.text("on_delete", RULES),
            name=words.text("name"),
            validated=words.flag("validated"),
            on_update=words.text("on_update", RULES),
            match=words.text("match", MATCHES),
            deferral=words.text("deferral", DEFERRALS),
            set_columns=words.texts("set_columns"),
            enforced=words.flag("enforced"),
        )


def _revoke(words: _Words) -> list[Change]:
    privileges = frozenset(words.texts("privileges", PRIVILEGES))
    grant = Grant(words.text("role"), words.text("relation"), privileges, words.text("kind", KINDS))
    return [Change((ddl.revoke(words.text("schema"), grant),), ddl.NONE, "plain")]


_MAKERS: Mapping[str, Callable[[_Words], list[Change]]] = {
    "drop_constraint": lambda w: [ddl.drop_constraint(w.text("schema"), w.texts("tables"), w.text("name"))],
    "alter_column": lambda w: [
        ddl.alter_column(w.text("schema"), w.text("table"), w.text("column"), w.text("action", ACTIONS))
    ],
    "drop_index": lambda w: [ddl.drop_index(w.text("schema"), w.text("name"))],
    "drop_triggers": lambda w: [
        ddl.drop_triggers(w.text("schema"), w.text("relation"), w.texts("names"), w.flag("soft"))
    ],
    "revoke": _revoke,
    "add_foreign_key": lambda w: ddl.add_foreign_key(w.text("schema"), w.text("table"), w.key("key"), w.text("name")),
    "swap_foreign_key": lambda w: ddl.swap_foreign_key(w.text("schema"), w.text("table"), w.key("old"), w.key("new")),
}
