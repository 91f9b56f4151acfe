"""A table's columns against the contract: their types, defaults and nullability. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, Reversal
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl, reversal
from .model import UNSPECIFIED, Catalog, Column, Contract, Table
from .needs import same_family
from .repair import by_hand, fix_of, retyped

declare(
    FindingKind(
        "schema.column.missing",
        "critical",
        "A column of the contract does not exist.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=10,
    ),
    FindingKind(
        "schema.column.type",
        "critical",
        "A column has another type. Changing it rewrites the table: plan that.",
        how="scannerdb_fix_types: convert for dates and booleans; else ALTER COLUMN … TYPE, or the overlay.",
        lock="ACCESS EXCLUSIVE; for an instant with scannerdb_fix_types: convert",
    ),
    FindingKind(
        "schema.column.nullable",
        "critical",
        "A column allows NULL though it must not (or the other way round, without a default).",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=20,
    ),
    FindingKind(
        "schema.column.default",
        "warning",
        "A column has another default, or none.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=12,
    ),
)


def column_findings(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    for column in table.columns.values():
        have = actual.columns.get(column.name)
        place = f"{table.name}.{column.name}"
        if have is None:
            yield _missing_column(contract, table, column)
            continue
        if have.type not in (column.type, *column.accepts) and not _shorter_text(have.type, column.type):
            yield finding(
                "schema.column.type",
                place,
                f"{place} is {have.type}; it should be {column.type}.",
                {"expected": column.type, "actual": have.type, "usable": same_family(have.type, column.type)},
                retyped(contract.schema, table.name, column, have.type),
            )
        yield from _nullable(contract, table, column, have)
        yield from _default(contract, table, column, have)


def _shorter_text(have: str, wanted: str) -> bool:
    """A varchar holds what the application writes into a text column, or refuses it aloud: no damage."""
    return wanted == "text" and have.startswith("character varying")


def _missing_column(contract: Contract, table: Table, column: Column) -> Finding:
    place = f"{table.name}.{column.name}"
    fix = None
    if column.default != "sequence" and column.name not in table.primary_key:
        fix = fix_of("schema.column.missing", ddl.add_column(contract.schema, table.name, column))
    return finding(
        "schema.column.missing",
        place,
        f"{place} ({column.type}) does not exist.",
        {"type": column.type},
        fix,
        "" if fix else "A key column cannot be added without rewriting the table; restore it or migrate by hand.",
    )


def _nullable(contract: Contract, table: Table, column: Column, have: Column) -> Iterator[Finding]:
    place = f"{table.name}.{column.name}"
    if have.nullable and not column.nullable:
        changes = ddl.set_not_null(contract.schema, table.name, column.name)
        yield finding(
            "schema.column.nullable",
            place,
            f"{place} allows NULL; it must not.",
            {"expected": "NOT NULL"},
            fix_of("schema.column.nullable", changes, undo=_altered(contract, table, column, "DROP NOT NULL")),
        )
    elif have.unproven and not column.nullable:
        changes = [ddl.online(ddl.validate(contract.schema, table.name, have.unproven))]
        yield finding(
            "schema.column.nullable",
            place,
            f"{place} is NOT NULL for new rows only: {have.unproven} is NOT VALID, and older rows may be NULL.",
            {"expected": "NOT NULL", "not_valid": have.unproven},
            fix_of("schema.column.nullable", changes),
        )
    elif not have.nullable and column.nullable and have.default is None:
        yield finding(
            "schema.column.nullable",
            place,
            f"{place} is NOT NULL without a default; the application writes rows without it.",
            {"expected": "NULL allowed"},
            by_hand(
                "schema.column.nullable",
                [ddl.alter_column(contract.schema, table.name, column.name, "DROP NOT NULL")],
                "Allow it in the overlay, or run this.",
            ),
        )


def _altered(contract: Contract, table: Table, column: Column, action: str) -> list[Reversal]:
    """How a column's alteration is taken back."""
    return [reversal.alter_column(contract.schema, table.name, column.name, action)]


def _default(contract: Contract, table: Table, column: Column, have: Column) -> Iterator[Finding]:
    if column.default in (UNSPECIFIED, have.default):
        return
    place = f"{table.name}.{column.name}"
    fix = None
    if column.default is not None and ddl.default_of(column) is not None:
        statement = ddl.set_default(contract.schema, table.name, column)
        undo = _altered(contract, table, column, "DROP DEFAULT") if have.default is None else []
        fix = fix_of("schema.column.default", [ddl.strong(contract.schema, [table.name], statement)], undo=undo)
    yield finding(
        "schema.column.default",
        place,
        f"{place} has {_said(have.default)}; it should have {_said(column.default)}.",
        {"expected": column.default, "actual": have.default},
        fix,
        "" if fix else "Declare this site's default in the overlay, or change it by hand.",
    )


def _said(default: str | None) -> str:
    return "no default" if default is None else f"the default {default}"
