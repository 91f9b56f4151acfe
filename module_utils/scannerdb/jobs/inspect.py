"""Look at a database once: contract, data rules, indexes, dead rows and bloat, as one list of findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from ..checks import tables
from ..checks.context import Context, Reference
from ..checks.run import could_not_look, run_checks
from ..connection import Connection, DriverError, explained
from ..contract.difference import demanded_indexes, difference
from ..contract.introspect import read_catalog
from ..contract.model import Catalog, Contract
from ..errors import ScannerDbError
from ..finding import Finding, ordered
from ..fixes.data import DataFix, data_fixes, fix_text, orphan_fix
from ..fixes.policy import Policy
from ..vacuum.decide import Thresholds, is_bloated, is_dead_heavy
from ..vacuum.measure import measure


@dataclass(frozen=True)
class Inspection:
    """What was seen. `data_fixes` mend findings, by (id, object); an object of '' stands for any."""

    catalog: Catalog
    findings: list[Finding]
    data_fixes: dict[tuple[str, str], list[DataFix]]


def inspect(conn: Connection, contract: Contract, policy: Policy | None = None) -> Inspection:
    """Every finding, the gravest first. Reads only; a part that could not look is a finding of its own."""
    catalog = read_catalog(conn, contract)
    unproven = _unproven(contract, catalog)
    context = Context(
        conn,
        contract.schema,
        {name: frozenset(table.columns) for name, table in catalog.tables.items()},
        unproven,
        demanded_indexes(contract, catalog),
    )
    with explained("Checking the database"):
        findings = difference(contract, catalog) + run_checks(context) + _tables(conn)
    fixes = _data_fixes(policy or Policy(), contract, unproven, catalog)
    return Inspection(catalog, ordered(_with_data_fixes(findings, fixes, contract.schema)), fixes)


def _unproven(contract: Contract, catalog: Catalog) -> tuple[Reference, ...]:
    """The contract's references that no validated foreign key proves."""
    found = []
    for table in contract.tables.values():
        have = catalog.tables[table.name].foreign_keys if table.name in catalog.tables else ()
        for key in table.foreign_keys:
            proven = any(k.columns == key.columns and k.table == key.table and k.validated for k in have)
            if not proven and len(key.columns) == 1:
                found.append(Reference(table.name, key.columns[0], key.table, key.ref_columns[0]))
    return tuple(found)


def _tables(conn: Connection) -> list[Finding]:
    thresholds = Thresholds()
    found = []
    try:
        for m in measure(conn):
            if is_dead_heavy(m, thresholds):
                found.append(tables.dead_tuples(m.schema, m.name, m.dead, m.live))
            if is_bloated(m, thresholds):
                found.append(tables.bloat(m.schema, m.name, m.bloat_bytes, m.heap_bytes))
    except (ScannerDbError, DriverError) as error:
        if conn.closed:
            raise
        found.append(could_not_look("dead rows and bloat", error))
    return found


def _data_fixes(
    policy: Policy, contract: Contract, unproven: Iterable[Reference], catalog: Catalog
) -> dict[tuple[str, str], list[DataFix]]:
    fixes: dict[tuple[str, str], list[DataFix]] = {}
    for fix in data_fixes(policy):
        fixes.setdefault((fix.id, ""), []).append(fix)
    for ref in unproven:
        children = [
            (table.name, key.columns[0])
            for table in contract.tables.values()
            for key in table.foreign_keys
            if key.table == ref.table and key.on_delete == "CASCADE" and "id" in _columns(catalog, table.name)
        ]
        if "id" in _columns(catalog, ref.table):
            fix = orphan_fix(ref.table, ref.column, ref.parent, ref.parent_column, children)
            fixes.setdefault(("data.orphan", f"{ref.table}.{ref.column}"), []).append(fix)
    return fixes


def _columns(catalog: Catalog, table: str) -> frozenset[str]:
    return frozenset(catalog.tables[table].columns) if table in catalog.tables else frozenset()


def _with_data_fixes(
    findings: Iterable[Finding], fixes: dict[tuple[str, str], list[DataFix]], schema: str
) -> list[Finding]:
    """Findings about rows get the statements that would mend them."""
    dressed = []
    for finding in findings:
        mine = fixes.get((finding.id, finding.object)) or fixes.get((finding.id, ""))
        if mine:
            fix = fix_text(mine, schema, finding.evidence.get("rows"))
            dressed.append(dataclasses.replace(finding, fix=fix))
        else:
            dressed.append(finding)
    return dressed
