"""How the contract's findings are repaired: the changes of ddl.py as one fix, with its place in a run. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..connection import SQL, Identifier, text_of
from ..finding import Change, Fix, Reversal
from ..finding_kinds import KINDS
from . import ddl
from .model import Column
from .retypable import convertible


def fix_of(finding_id: str, changes: list[Change], consent: str = "", undo: Sequence[Reversal] = ()) -> Fix:
    """A structural fix out of its changes (and those that take it back), with the text people read."""
    locks = [change.lock for change in changes]
    strongest = max(locks, key=lambda lock: ddl.LOCK_STRENGTH[lock], default=ddl.NONE)
    sql = tuple(text_of(statement) for change in changes for statement in change.statements)
    return Fix(finding_id, sql, None, strongest, tuple(changes), consent, KINDS[finding_id].order, undo=tuple(undo))


def by_hand(finding_id: str, changes: list[Change], why: str) -> Fix:
    """A fix that is shown, and left to people because of `why`."""
    return dataclasses.replace(fix_of(finding_id, changes), changes=(), job=why)


def retyped(schema: str, table: str, column: Column, have: str) -> Fix:
    """The statement that gives a column its type, for people: it rewrites the table, and may refuse values."""
    kind = SQL(column.type)  # type: ignore[arg-type,unused-ignore]
    action = SQL("ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}").format(name=Identifier(column.name), kind=kind)
    why = "Changing a type rewrites the table under an exclusive lock: plan it, or allow the type in the overlay."
    if convertible(have, column.type):
        why = (
            "scannerdb_fix_types is leave: convert has it done online (docs/fix.md); or allow the type in the overlay."
        )
    lock = f"{ddl.ACCESS_EXCLUSIVE}, rewrites the table"
    return Fix("schema.column.type", (text_of(ddl.alter(schema, table, action)),), None, lock, job=why)
