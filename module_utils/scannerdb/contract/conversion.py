"""Columns whose type is being changed, or was: their names, and what a catalog shows of it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..connection import SQL, Identifier
from ..finding import Finding
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl
from .model import Table
from .repair import by_hand, fix_of

UNFINISHED = "schema.conversion.unfinished"
declare(
    FindingKind(
        UNFINISHED,
        "warning",
        "A conversion of types was interrupted. With scannerdb_fix_types: convert it goes on, else what is left goes.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=10.5,
    ),
)
BESIDE, KEPT = "scannerdb_new", "scannerdb_was"
TRIGGER = "~scannerdb_convert"  # the last of a table's row triggers: what the others write is converted, too


def beside_name(column: str) -> str:
    """The column in which the values of the new type grow."""
    return ddl.short_name(BESIDE, column)


def kept_name(column: str) -> str:
    """The column that keeps the values of the old type, for an undo."""
    return ddl.short_name(KEPT, column)


def function_name(table: str) -> str:
    """The function of a table's trigger."""
    return ddl.short_name("scannerdb_convert", table)


def proof_name(table: str) -> str:
    """The index over the rows that cannot be read, by which a swap sees in an instant that there are none."""
    return ddl.short_name("scannerdb_proof", table)


def is_beside(column: str) -> bool:
    """True for a column that an unfinished conversion left."""
    return column.startswith(f"{BESIDE}_")


def is_kept(column: str) -> bool:
    """True for a column that a conversion kept."""
    return column.startswith(f"{KEPT}_")


def unfinished(schema: str, table: Table) -> Iterator[Finding]:
    """What an interrupted conversion left: in nobody's way, and taken away unless the conversion goes on."""
    yield from _unproven(schema, table)
    left = [name for name in table.columns if is_beside(name)]
    if not left and not any(trigger.name == TRIGGER for trigger in table.triggers):
        return
    yield finding(
        UNFINISHED,
        table.name,
        f"A conversion of types in {table.name} was interrupted; what it had made is still there.",
        {"columns": left},
        fix_of(UNFINISHED, [ddl.strong(schema, [table.name], *removal(schema, table.name, left))]),
    )


def _unproven(schema: str, table: Table) -> Iterator[Finding]:
    """Columns that are converted, but for the CHECK that stands in for their NOT NULL."""
    checks = {one.name for one in table.conditions}
    for name, column in table.columns.items():
        stands_in = ddl.short_name("scannerdb", table.name, name, "not_null") in checks
        if not (stands_in and column.nullable and kept_name(name) in table.columns):
            continue
        # Without its clean-up: a CHECK that cannot be validated yet is better than none.
        changes = [dataclasses.replace(change, cleanup=None) for change in ddl.set_not_null(schema, table.name, name)]
        yield finding(
            UNFINISHED,
            f"{table.name}.{name}",
            f"{table.name}.{name} was converted, but its NOT NULL is not back: a CHECK stands in for it.",
            {"columns": [name]},
            fix_of(UNFINISHED, changes),
        )


def removal(schema: str, table: str, columns: list[str]) -> list[SQL]:
    """The statements that take away what a conversion has made besides."""
    drops = [ddl.alter(schema, table, SQL("DROP COLUMN IF EXISTS {}").format(Identifier(column))) for column in columns]
    trigger = SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(TRIGGER), ddl.qualified(schema, table))
    function = SQL("DROP FUNCTION IF EXISTS {}()").format(ddl.qualified(schema, function_name(table)))
    return [trigger, function, *drops]  # type: ignore[list-item]


def kept(schema: str, table: str, column: str, kind: str) -> Finding:
    """The column that a conversion kept."""
    drop = ddl.alter(schema, table, SQL("DROP COLUMN {}").format(Identifier(column)))
    return finding(
        "schema.column.unexpected",
        f"{table}.{column}",
        f"{table}.{column} ({kind}) has the values of {column[len(KEPT) + 1 :]} from before its type was changed; "
        "undo.yml needs it.",
        {"type": kind},
        by_hand(
            "schema.column.unexpected",
            [ddl.strong(schema, [table], drop)],
            "Drop it once nobody wants to go back.",
        ),
    )
