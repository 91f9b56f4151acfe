"""What a database has on top of its contract: normal, and good to know. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..finding import Finding
from ..finding_kinds import FindingKind, declare, finding
from .conversion import is_beside, is_kept, kept
from .model import Catalog, Contract, Index, Table

declare(
    FindingKind(
        "schema.table.unexpected", "info", "A table the contract does not know. Normal; declare it to have it checked."
    ),
    FindingKind(
        "schema.column.unexpected",
        "info",
        "A column the contract does not know. Normal; declare it to have it checked.",
    ),
    FindingKind("schema.relation.unexpected", "info", "A view the contract does not know. Normal."),
    FindingKind(
        "schema.index.unexpected",
        "info",
        "An index that the contract does not ask for, on a table of its own. Normal.",
    ),
    FindingKind(
        "schema.constraint.unexpected",
        "info",
        "A constraint that the contract does not know, on a table of its own: it may refuse the application's rows.",
        how="Read it; if it is this site's own, suppress the finding with that reason.",
    ),
    FindingKind(
        "schema.object.unexpected",
        "info",
        "A function, sequence, type, or a rule or policy on a table of the contract, that the contract does not know.",
        how="Read it; if it is this site's own, suppress the finding with that reason.",
    ),
)

NORMAL = "Extra {} are normal."
OWN = "Read it; if it is this site's own, suppress the finding with that reason."
DECLARE = NORMAL + " Declare it in the overlay to have it checked."


def unexpected(contract: Contract, catalog: Catalog) -> Iterator[Finding]:
    """Tables, views, columns, indexes, constraints, functions and so on that the contract does not name."""
    for name, table in catalog.tables.items():
        if name in contract.tables:
            yield from _of_table(contract.schema, contract.tables[name], table)
        elif name != contract.view.name:
            message = f"{name} is an extra {table.kind} of about {max(table.rows, 0)} rows."
            evidence = {"kind": table.kind, "rows": table.rows}
            yield _extra("schema.table.unexpected", name, message, evidence, DECLARE.format("tables"))
    for name, view in catalog.views.items():
        if name != contract.view.name and name not in contract.tables:
            message = f"{name} is an extra {view.kind}."
            yield _extra("schema.relation.unexpected", name, message, {"kind": view.kind}, NORMAL.format("views"))
    for extra in catalog.extras:
        message = f"{extra.name} is an extra {extra.kind}."
        yield _extra("schema.object.unexpected", extra.name, message, {"kind": extra.kind}, OWN)


def _extra(finding_id: str, place: str, message: str, evidence: Mapping[str, object], why: str) -> Finding:
    return finding(finding_id, place, message, evidence, why_no_fix=why)


def _of_table(schema: str, wanted: Table, actual: Table) -> Iterator[Finding]:
    for column in actual.columns.values():
        if is_kept(column.name):
            yield kept(schema, wanted.name, column.name, column.type)
        elif column.name not in wanted.columns and not is_beside(column.name):
            place, message = f"{wanted.name}.{column.name}", f"{wanted.name} has an extra column {column.name}"
            why = DECLARE.format("columns")
            yield _extra("schema.column.unexpected", place, f"{message} ({column.type}).", {"type": column.type}, why)
    for index in actual.indexes:
        if not index.constraint and not _is_demanded(wanted, index):
            place, evidence = f"{wanted.name}.{index.name}", {"columns": list(index.columns)}
            message = f"{wanted.name} has an extra index {index.name}."
            yield _extra("schema.index.unexpected", place, message, evidence, DECLARE.format("indexes"))
    for name, kind in _constraints(wanted, actual):
        place, message = f"{wanted.name}.{name}", f"{wanted.name} has an extra {kind} {name}."
        yield _extra("schema.constraint.unexpected", place, message, {"kind": kind}, NORMAL.format("constraints"))


def index_serves(wanted: Index, have: Index) -> bool:
    """True where an index is what the contract wants, valid or not."""
    if not have.plain:
        return False
    if have.columns == wanted.columns and (have.unique or not wanted.unique):
        return True
    leads = have.columns[: len(wanted.columns)] == wanted.columns
    return wanted.unless_unique_leads and have.unique and leads


def _is_demanded(wanted: Table, index: Index) -> bool:
    keys = {frozenset(key) for key in (wanted.primary_key, *wanted.uniques)}
    guards = index.unique and index.plain and frozenset(index.columns) in keys
    return guards or any(index_serves(one, index) for one in wanted.indexes)


def _constraints(wanted: Table, actual: Table) -> Iterator[tuple[str, str]]:
    """The constraints (name, kind) that the contract does not ask for; another primary key is a finding of its own."""
    keys = {frozenset(key) for key in (wanted.primary_key, *wanted.uniques)}
    for index in actual.indexes:
        if index.constraint and index.unique and frozenset(index.columns) not in keys | {frozenset(actual.primary_key)}:
            yield index.name, "UNIQUE constraint"
    demanded = {(key.columns, key.table) for key in wanted.foreign_keys}
    for key in actual.foreign_keys:
        if (key.columns, key.table) not in demanded:
            yield key.name, "foreign key"
    for condition in actual.conditions:
        yield condition.name, condition.kind
