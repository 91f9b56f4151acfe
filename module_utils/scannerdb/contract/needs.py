"""Which fixes build on what: a trigger over a column of a strange type breaks every write, for one. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from ..finding import Finding, matches
from .model import Contract, ForeignKey

TYPE = "schema.column.type"
OLDER_LAYOUT = "schema.view.not_a_view"
MIGRATE = (
    "servers is a table, so this is an older layout, which is left alone until playbooks/migrate.yml has migrated it."
)
FAMILIES = (
    ("timestamp", "date"),
    ("smallint", "integer", "bigint"),
    ("text", "character", "citext"),
    ("numeric", "real", "double precision"),
)
# What the functions behind `servers` read and write, and the keys that their ON CONFLICT goes by.
VIEW_COLUMNS = frozenset(
    {f"endpoints.{name}" for name in ("id", "ip", "port", "scan_date", "verified", "verification_date")}
    | {"verified_endpoints.endpoint_id"}
)
VIEW_KEYS = frozenset({"endpoints(ip, port)", "verified_endpoints(endpoint_id)"})
VIEW_TABLES = frozenset({"endpoints", "verified_endpoints"})
BY_COLUMN = ("schema.column.default", "schema.trigger.missing", "schema.column.nullable")
VIEW_FIXES = ("schema.view.missing", "schema.view.definition", "schema.view.trigger", "schema.view.trigger_foreign")


def same_family(have: str, wanted: str) -> bool:
    """True where a column of one type takes and gives what the contract's programs write into the other."""
    return any(have.startswith(family) and wanted.startswith(family) for family in FAMILIES)


def unusable(found: Iterable[Finding]) -> frozenset[str]:
    """The columns (`table.column`) whose type is of another family than the contract's."""
    return frozenset(f.object for f in found if f.id == TYPE and not f.evidence.get("usable"))


def needs_of(columns: Collection[str], tables: Collection[str]) -> tuple[tuple[str, str], ...]:
    """What a change of rows in these tables builds on: their columns' types."""
    return tuple(sorted((TYPE, column) for column in columns if column.split(".")[0] in tables))


def with_needs(contract: Contract, found: Sequence[Finding]) -> list[Finding]:
    """The findings, their fixes with what each builds on."""
    wrong = unusable(found)
    broken = [(f.id, f.object) for f in found if breaks_the_view(f)]
    gone = {f.object for f in found if f.id == "schema.table.missing"}
    return [_with(finding, _needs(contract, finding, wrong, broken, gone)) for finding in found]


def _with(finding: Finding, needs: Sequence[tuple[str, str]]) -> Finding:
    if finding.fix is None or not needs:
        return finding
    return dataclasses.replace(finding, fix=dataclasses.replace(finding.fix, needs=tuple(needs)))


def breaks_the_view(finding: Finding) -> bool:
    """True where a write through the view's triggers fails as long as this is not repaired."""
    if finding.id == TYPE:
        return finding.object in VIEW_COLUMNS and not finding.evidence.get("usable")
    if finding.id == "schema.table.missing":
        return finding.object in VIEW_TABLES
    if finding.id == "schema.column.missing":
        return finding.object in VIEW_COLUMNS
    return matches(finding.id, ["schema.unique.*"]) and finding.object in VIEW_KEYS


def _needs(
    contract: Contract,
    finding: Finding,
    wrong: Collection[str],
    broken: Sequence[tuple[str, str]],
    gone: Collection[str],
) -> list[tuple[str, str]]:
    if finding.id in VIEW_FIXES:
        return list(broken)
    if finding.id in BY_COLUMN:
        return [(TYPE, finding.object)] if finding.object in wrong else []
    if finding.id == "schema.foreign_key.missing":
        table = finding.object.split("(")[0]
        keys = contract.tables[table].foreign_keys if table in contract.tables else ()
        mine = [key for key in keys if finding.object == f"{table}({', '.join(key.columns)})"]
        return sorted({need for key in mine for need in _of_key(table, key, wrong, gone)})
    return []


def _of_key(table: str, key: ForeignKey, wrong: Collection[str], gone: Collection[str]) -> list[tuple[str, str]]:
    columns = [f"{table}.{name}" for name in key.columns] + [f"{key.table}.{name}" for name in key.ref_columns]
    missing = [("schema.table.missing", key.table)] if key.table in gone else []
    return missing + [(TYPE, column) for column in columns if column in wrong]


def left_alone(found: Sequence[Finding]) -> list[Finding]:
    """The findings; in an older layout without their fixes, for what is missing there is not missing by damage."""
    if not any(f.id == OLDER_LAYOUT for f in found):
        return list(found)
    return [dataclasses.replace(f, fix=None, why_no_fix=MIGRATE) if _alters(f) else f for f in found]


def _alters(finding: Finding) -> bool:
    """True where a run would apply the finding's fix, and do it to tables or rows."""
    return finding.fix is not None and not finding.fix.job
