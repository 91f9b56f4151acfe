"""What the database lacks against its contract: a pure function from (contract, catalog) to findings with their fixes.

Objects are compared by meaning: an index by its columns, a trigger by what it does, never by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from ..connection import SQL, Identifier
from ..finding import Change, Finding, matches
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl, reversal
from .columns import column_findings
from .conversion import unfinished
from .foreign_keys import foreign_keys
from .functions import stamp_program
from .model import Catalog, Contract, Grant, Table
from .needs import left_alone, with_needs
from .pointing import blocking
from .repair import by_hand, fix_of
from .unexpected import index_serves, unexpected
from .view import view_findings

declare(
    FindingKind(
        "schema.table.missing",
        "critical",
        "A table of the contract does not exist.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE on the tables it references",
        order=5,
    ),
    FindingKind(
        "schema.primary_key.missing",
        "critical",
        "A table has no primary key.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=25,
    ),
    FindingKind(
        "schema.unique.missing",
        "critical",
        "A unique constraint is missing, so duplicates can appear.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=30,
    ),
    FindingKind(
        "schema.unique.deferrable",
        "critical",
        "A unique constraint is DEFERRABLE: INSERT … ON CONFLICT fails, and so does every write to servers.",
        how="Put one that is not in its place: the SQL is in the report.",
        lock="ACCESS EXCLUSIVE",
        order=30,
    ),
    FindingKind(
        "schema.index.missing",
        "warning",
        "An index that the application's queries need is missing.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
        order=40,
    ),
    FindingKind(
        "schema.trigger.missing",
        "info",
        "A row trigger that stamps a date on endpoints is missing.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=45,
    ),
    FindingKind(
        "schema.trigger.disabled",
        "critical",
        "A trigger is disabled, also one behind a foreign key.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=46,
    ),
    FindingKind(
        "schema.privilege.missing",
        "critical",
        "A role lacks a privilege that the contract gives it.",
        BY_FIX,
        lock="none",
        order=60,
    ),
)


def difference(contract: Contract, catalog: Catalog) -> list[Finding]:
    """Every finding of the `schema.*` family, without the site's exceptions."""
    found: list[Finding] = []
    for table in contract.tables.values():
        actual = catalog.tables.get(table.name)
        if actual is None:
            found += _missing_table(contract, table, catalog)
            continue
        for rule in TABLE_RULES:
            found += rule(contract, table, actual, catalog)
    found += view_findings(contract, catalog)
    found += _privileges(contract, catalog)
    found += unexpected(contract, catalog)
    for name in contract.tables:
        found += unfinished(contract.schema, catalog.tables[name]) if name in catalog.tables else []
    found += blocking(contract, catalog)
    found = left_alone(with_needs(contract, found))
    allowed = contract.exceptions
    return [f for f in found if not any(matches(f.id, [a.id]) and matches(f.object, [a.object]) for a in allowed)]


def demanded_indexes(contract: Contract, catalog: Catalog) -> frozenset[str]:
    """The names of the indexes that the contract asks for, which must not be called redundant or unused."""
    names: set[str] = set()
    for name, table in contract.tables.items():
        have = catalog.tables[name].indexes if name in catalog.tables else ()
        for wanted in table.indexes:
            unique_serves = any(i.unique and i.columns != wanted.columns and index_serves(wanted, i) for i in have)
            if not unique_serves:
                names |= {i.name for i in have if i.plain and i.columns == wanted.columns}
    return frozenset(names)


def _missing_table(contract: Contract, table: Table, catalog: Catalog) -> Iterator[Finding]:
    grants = [g for g in contract.grants if g.relation == table.name and g.role in catalog.roles]
    message = f"Table {table.name} does not exist."
    if table.name in catalog.names:
        kind = catalog.views[table.name].kind if table.name in catalog.views else "another object"
        yield finding(
            "schema.table.missing",
            table.name,
            f"{table.name} is a {kind}, not a table.",
            {"kind": kind},
            why_no_fix="The object that has its name would have to go first.",
        )
        return
    owner = catalog.owner if catalog.owner not in ("", catalog.user) else ""
    changes = ddl.new_table(contract.schema, table, grants, catalog.names, owner)
    fix = fix_of("schema.table.missing", changes)
    position = list(contract.tables).index(table.name)  # parents stand before their children
    yield finding(
        "schema.table.missing",
        table.name,
        message,
        {"columns": len(table.columns)},
        dataclasses.replace(fix, order=fix.order + position / 1000),
    )


def _keys(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    unique_sets = [frozenset(columns) for columns in actual.uniques]
    if table.primary_key and actual.primary_key != table.primary_key:
        place = f"{table.name}({', '.join(table.primary_key)})"
        fix, why = None, "The table has another primary key; changing it is a migration."
        if not actual.primary_key and set(table.primary_key) <= set(actual.columns):
            name = ddl.free_name(catalog.names, table.name, "pkey")
            nullable = [c for c in table.primary_key if actual.columns[c].nullable]
            changes = [change for c in nullable for change in ddl.set_not_null(contract.schema, table.name, c)]
            changes += ddl.add_key(contract.schema, table.name, table.primary_key, name, primary=True)
            undo = [reversal.drop_constraint(contract.schema, [table.name], name)]
            fix, why = fix_of("schema.primary_key.missing", changes, undo=undo), ""
        yield finding(
            "schema.primary_key.missing",
            place,
            f"{table.name} has no primary key on {', '.join(table.primary_key)}.",
            {"expected": list(table.primary_key), "actual": list(actual.primary_key)},
            fix,
            why,
        )
    for columns in table.uniques:
        if frozenset(columns) not in unique_sets and set(columns) <= set(actual.columns):
            name = ddl.free_name(catalog.names, table.name, *columns, "key")
            changes = ddl.add_key(contract.schema, table.name, columns, name, primary=False)
            yield finding(
                "schema.unique.missing",
                f"{table.name}({', '.join(columns)})",
                f"{table.name} has no unique constraint on {', '.join(columns)}.",
                {"expected": list(columns)},
                fix_of(
                    "schema.unique.missing",
                    changes,
                    undo=[reversal.drop_constraint(contract.schema, [table.name], name)],
                ),
            )


def _deferrable_keys(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    """Unique constraints that are DEFERRABLE. Left to people: a transaction of theirs may count on it."""
    for columns in table.uniques:
        for have in actual.indexes:
            if have.immediate or frozenset(have.columns) != frozenset(columns):
                continue
            name = ddl.free_name(catalog.names, table.name, *columns, "key")
            drop = SQL("DROP CONSTRAINT {}").format(Identifier(have.name))
            changes = ddl.add_key(contract.schema, table.name, columns, name, primary=False)
            changes.append(ddl.strong(contract.schema, [table.name], ddl.alter(contract.schema, table.name, drop)))
            yield finding(
                "schema.unique.deferrable",
                f"{table.name}({', '.join(columns)})",
                f"{have.name} on {table.name} is DEFERRABLE, so INSERT … ON CONFLICT fails, which servers lives by.",
                {"constraint": have.name},
                by_hand("schema.unique.deferrable", changes, "No transaction may count on it any more: run the SQL."),
            )


def _indexes(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    for wanted in table.indexes:
        serving = [have for have in actual.indexes if index_serves(wanted, have)]
        if any(have.valid for have in serving) or not set(wanted.columns) <= set(actual.columns):
            continue
        place = f"{table.name}({', '.join(wanted.columns)})"
        if serving:
            message = f"The only index on {place}, {serving[0].name}, is invalid."
            changes, undo = [ddl.reindex(contract.schema, serving[0].name)], []
        else:
            message = f"There is no index on {place}."
            name = ddl.free_name(catalog.names, table.name, *wanted.columns, "idx")
            changes = [ddl.create_index(contract.schema, table.name, wanted, name)]
            undo = [reversal.drop_index(contract.schema, name)]
        yield finding(
            "schema.index.missing",
            place,
            message,
            {"rows": actual.rows},
            fix_of("schema.index.missing", changes, undo=undo),
        )


def _row_triggers(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    for wanted in table.row_triggers:
        assigns = re.compile(rf'new\s*\.\s*"?{wanted.stamps}"?\s*:?=', re.IGNORECASE)
        stamping = [t for t in actual.triggers if t.timing == "BEFORE" and "UPDATE" in t.events]
        if any(assigns.search(t.source) for t in stamping):
            continue
        program = stamp_program(wanted.stamps, wanted.when_changed)
        place = f"{table.name}.{wanted.stamps}"
        undo = [reversal.drop_triggers(contract.schema, table.name, [program.name])]
        yield finding(
            "schema.trigger.missing",
            place,
            f"No trigger moves {place} when {' or '.join(wanted.when_changed)} changes.",
            {"stamps": wanted.stamps, "when_changed": list(wanted.when_changed)},
            fix_of("schema.trigger.missing", ddl.row_trigger(contract.schema, program, catalog.heir), undo=undo),
        )
    for name in actual.disabled_triggers:
        yield finding(
            "schema.trigger.disabled",
            f"{table.name}.{name}",
            f"Trigger {name} on {table.name} is disabled: what it guarantees is not guaranteed.",
            {"trigger": name},
            fix_of("schema.trigger.disabled", [ddl.enable_trigger(contract.schema, table.name, name)]),
        )


TableRule = Callable[[Contract, Table, Table, Catalog], Iterator[Finding]]
TABLE_RULES: tuple[TableRule, ...] = (column_findings, _keys, _deferrable_keys, foreign_keys, _indexes, _row_triggers)


def _privileges(contract: Contract, catalog: Catalog) -> Iterator[Finding]:
    for role in sorted({grant.role for grant in contract.grants} - catalog.roles):
        yield finding(
            "schema.privilege.missing",
            f"role {role}",
            f"Role {role} does not exist, so the application cannot log in with it.",
            {"role": role},
            why_no_fix="playbooks/deploy.yml creates it; or name this site's role in the overlay.",
        )
    for grant in catalog.missing_grants:
        yield _missing_grant(contract, grant)


def _missing_grant(contract: Contract, grant: Grant) -> Finding:
    privileges = ", ".join(sorted(grant.privileges))
    changes = [Change((ddl.grant(contract.schema, grant),), ddl.NONE, "plain")]
    undo = [reversal.revoke(contract.schema, grant)]
    return finding(
        "schema.privilege.missing",
        grant.relation,
        f"Role {grant.role} lacks {privileges} on {grant.kind.lower()} {grant.relation}.",
        {"role": grant.role, "privileges": sorted(grant.privileges)},
        fix_of("schema.privilege.missing", changes, undo=undo),
    )
