"""Look at a database once: contract, data rules, indexes, tables and, for the health check, what is around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checks import counters, expiry, tables
from ..checks.context import Context, Reference, StandbyUse
from ..checks.counters import is_dated
from ..checks.registry import UNITS
from ..checks.run import could_not_look, run_checks
from ..checks.thresholds import CheckThresholds as Limits
from ..checks.unit import unit_of
from ..connection import Composable, Connection, DriverError, Row, explained
from ..contract.difference import demanded_indexes, difference
from ..contract.introspect import read_catalog
from ..contract.model import Catalog, Contract
from ..contract.needs import left_alone, needs_of, unusable
from ..counters import CONSENT, TABLE, tables_of
from ..errors import LockTimeout, QueryFailed, ScannerDbError, UnsafeCode
from ..finding import Finding, ordered
from ..fixes.convert_plan import with_conversions
from ..fixes.counters import CounterFix
from ..fixes.data import DataFix, data_fixes, fix_text, orphan_fix
from ..fixes.expiry import ExpiryFix
from ..fixes.policy import FixPolicy
from ..fixes.rights import reader_for
from ..fixes.rowfix import RowFix
from ..vacuum.confirm import confirmed
from ..vacuum.measure import TableMeasure, measure
from ..vacuum.thresholds import VacuumThresholds, is_bloated, is_dead_heavy, is_index_bloated


@dataclass(frozen=True)
class Deep:
    """What a health check looks at beyond what fixes need; `past` are the earlier runs, the newest last;
    `standbys` tells how they use the indexes.
    """

    limits: Limits = field(default_factory=Limits)
    cross_table: bool = False
    past: Sequence[Mapping[str, Any]] = ()
    standbys: StandbyUse = field(default_factory=StandbyUse)


@dataclass(frozen=True)
class Inspection:
    """What was seen. `data_fixes` repair findings, by (id, object); an object of '' stands for any.

    `seen` is what a deep look leaves for the next one: the database's `bytes`, and the `sequences`.
    """

    catalog: Catalog
    findings: list[Finding]
    data_fixes: dict[tuple[str, str], list[DataFix | RowFix]]
    measures: list[TableMeasure] = field(default_factory=list)
    seen: Mapping[str, Any] = field(default_factory=dict)


def inspect(
    conn: Connection, contract: Contract, policy: FixPolicy | None = None, deep: Deep | None = None
) -> Inspection:
    """Every finding, the most severe first. Reads only; a part that could not look is a finding of its own."""
    catalog, findings = _catalog(conn, contract, may_fail=deep is not None)
    context = _context(conn, contract, catalog, deep or Deep())
    with explained("Checking the database"):
        findings += run_checks(context, UNITS, deep=deep is not None, cross_table=deep is not None and deep.cross_table)
        if deep is None and policy and CONSENT in policy.consents:
            findings += run_checks(context, [unit_of(counters.stored_counters)], deep=True)
        measures, unseen = _measures(conn)
    findings += unseen
    for one in measures:
        findings += _table(one, VacuumThresholds(), (deep or Deep()).limits if deep else None)
    fixes = _data_fixes(policy or FixPolicy(), contract, context.unproven, catalog)
    fixes |= _row_fixes(findings, context)
    if policy and policy.types == "convert":
        with explained("Planning the conversion of types"):
            reader = reader_of(conn, contract, catalog)
            findings, converted = with_conversions(conn, contract, findings, policy.types_zone, reader)
        fixes |= converted
    found = left_alone(_with_data_fixes(_without_repeats(findings), fixes, contract.schema))
    return Inspection(catalog, ordered(found), fixes, measures, context.seen)


def _without_repeats(findings: Sequence[Finding]) -> list[Finding]:
    """An extra index is not worth a line where something is wrong with it, which says so already."""
    judged = {f.object for f in findings if f.id.startswith("index.")}
    return [f for f in findings if f.id != "schema.index.unexpected" or f.object not in judged]


def _catalog(conn: Connection, contract: Contract, may_fail: bool) -> tuple[Catalog, list[Finding]]:
    """The catalog and how it differs from the contract. `may_fail`: what cannot be read is a finding, no error."""
    try:
        catalog = read_catalog(conn, contract)
    except (QueryFailed, LockTimeout) as error:
        if conn.closed or not may_fail:
            raise
        return Catalog(), [could_not_look("the contract, and every rule over its tables", error)]
    return catalog, difference(contract, catalog)


def _context(conn: Connection, contract: Contract, catalog: Catalog, deep: Deep) -> Context:
    return Context(
        conn,
        contract.schema,
        {name: {c.name: c.type for c in table.columns.values()} for name, table in catalog.tables.items()},
        unproven=_unproven(contract, catalog),
        unguarded=_unguarded(contract, catalog),
        demanded_indexes=demanded_indexes(contract, catalog),
        index_columns=frozenset((t.name, i.columns) for t in contract.tables.values() for i in t.indexes),
        contract_tables=frozenset(contract.tables),
        stamps={t.stamps: frozenset(t.when_changed) for table in contract.tables.values() for t in table.row_triggers},
        role=contract.application_role,
        creates=contract.application_creates,
        readers=contract.readers,
        standbys=deep.standbys,
        limits=deep.limits,
        version=conn.info.server_version,
        past=deep.past,
        reader=reader_of(conn, contract, catalog),
        expiry=contract.expiry,
    )


def reader_of(conn: Connection, contract: Contract, catalog: Catalog) -> Callable[[Composable], list[Row]]:
    """What reads the tables; where that would not be safe, it says so to each check that asks."""
    tables = sorted(name for name in catalog.tables if name in contract.tables)
    try:
        return reader_for(conn, contract.schema, tables, contract.application_role)
    except UnsafeCode as error:
        why = error

        def refuse(_: Composable) -> list[Row]:
            raise why

        return refuse


def _unguarded(contract: Contract, catalog: Catalog) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The contract's keys that no valid unique index proves."""
    found = []
    for table in contract.tables.values():
        have = catalog.tables.get(table.name)
        proven = [frozenset(columns) for columns in have.uniques] if have else []
        keys = [key for key in (table.primary_key, *table.uniques) if key]
        found += [(table.name, key) for key in keys if have and frozenset(key) not in proven]
    return tuple(found)


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


def _measures(conn: Connection) -> tuple[list[TableMeasure], list[Finding]]:
    """The tables' measures; a finding where they could not be taken."""
    try:
        return confirmed(conn, measure(conn, VacuumThresholds().floor), VacuumThresholds()), []
    except (ScannerDbError, DriverError) as error:
        if conn.closed:
            raise
        return [], [could_not_look("dead rows and bloat", error)]


def _table(m: TableMeasure, thresholds: VacuumThresholds, limits: Limits | None) -> Iterator[Finding]:
    """Findings about one table; the same limits as the vacuum job's, which repairs them. Pure."""
    if is_dead_heavy(m, thresholds):
        yield tables.dead_tuples(m.schema, m.name, m.dead, m.live)
    if is_bloated(m, thresholds):
        yield tables.bloat(m.schema, m.name, m.bloat_bytes, m.heap_bytes, measured=m.bloat_measured)
    if limits is None:
        return
    if m.autovacuum_off:
        yield tables.autovacuum_off(m.schema, m.name, m.dead)
    if m.live >= limits[tables.STATISTICS_ROWS]:
        changed = m.mod_since_analyze / max(m.live, 1)
        if m.analyzed is None and not m.has_statistics:
            yield tables.statistics_missing(m.schema, m.name, m.live)
        elif m.mod_since_analyze >= thresholds.changed_rows and changed >= thresholds.changed_limit(m.live):
            yield tables.statistics_stale(m.schema, m.name, m.mod_since_analyze, m.live, m.analyzed)
    for index in m.indexes:
        if index.valid and is_index_bloated(index, thresholds):
            yield tables.index_bloat(m.schema, m.name, index.name, index.bloat_bytes, index.bytes)


def _data_fixes(
    policy: FixPolicy, contract: Contract, unproven: Iterable[Reference], catalog: Catalog
) -> dict[tuple[str, str], list[DataFix | RowFix]]:
    fixes: dict[tuple[str, str], list[DataFix | RowFix]] = {}
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


def _row_fixes(findings: Iterable[Finding], context: Context) -> dict[tuple[str, str], list[DataFix | RowFix]]:
    """What repairs rows in a way of its own, out of what was found."""
    fixes: dict[tuple[str, str], list[DataFix | RowFix]] = {}
    for one in findings:
        if one.id == "data.metadata.counter":
            keys = tuple(one.evidence)
            fixes[one.id, one.object] = [CounterFix(one.id, tables_of(keys), keys, is_dated(context.tables[TABLE]))]
        elif one.id == expiry.DUE:
            rule = next(rule for rule in context.expiry if rule.table == one.object)
            columns = expiry.columns_of(context, rule.table)
            fixes[one.id, one.object] = [ExpiryFix(one.id, (rule.table,), rule, columns)]
    return fixes


def _columns(catalog: Catalog, table: str) -> frozenset[str]:
    return frozenset(catalog.tables[table].columns) if table in catalog.tables else frozenset()


def _with_data_fixes(
    findings: Iterable[Finding], fixes: Mapping[tuple[str, str], Sequence[DataFix | RowFix]], schema: str
) -> list[Finding]:
    """Findings about rows get the statements that would repair them."""
    findings = list(findings)
    wrong, dressed = unusable(findings), []
    for finding in findings:
        known = fixes.get((finding.id, finding.object)) or fixes.get((finding.id, "")) or ()
        mine = [one for one in known if isinstance(one, DataFix)]
        if mine:
            fix = fix_text(mine, schema, finding.evidence.get("rows"))
            touched = {one.table for one in mine} | {write.table for one in mine for write in one.writes}
            needs = needs_of(wrong, touched)
            dressed.append(dataclasses.replace(finding, fix=dataclasses.replace(fix, needs=needs)))
        else:
            dressed.append(finding)
    return dressed
