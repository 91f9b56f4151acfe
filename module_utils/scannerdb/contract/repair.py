"""How the contract's findings are mended: the changes of ddl.py as one fix, with its place in a run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..connection import text_of
from ..finding import Change, Fix
from . import ddl

# Fixes of one run are applied in this order.
ORDER = {
    "schema.table.missing": 5,
    "schema.column.missing": 10,
    "schema.column.default": 12,
    "schema.column.nullable": 20,
    "schema.primary_key.missing": 25,
    "schema.unique.missing": 30,
    "schema.foreign_key.missing": 35,
    "schema.foreign_key.on_delete": 35,
    "schema.foreign_key.not_valid": 36,
    "schema.index.missing": 40,
    "schema.trigger.missing": 45,
    "schema.trigger.disabled": 46,
    "schema.view.missing": 50,
    "schema.view.definition": 52,
    "schema.view.trigger": 55,
    "schema.view.trigger_foreign": 55,
    "schema.privilege.missing": 60,
}


def fix_of(finding_id: str, changes: list[Change], consent: str = "", undo: Sequence[Change] = ()) -> Fix:
    """A structural fix out of its changes (and those that take it back), with the text people read."""
    locks = [change.lock for change in changes]
    strongest = max(locks, key=lambda lock: ddl.LOCK_STRENGTH[lock], default=ddl.NONE)
    sql = tuple(text_of(statement) for change in changes for statement in change.statements)
    return Fix(finding_id, sql, None, strongest, tuple(changes), consent, ORDER[finding_id], undo=tuple(undo))
