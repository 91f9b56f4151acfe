"""Foreign keys against the contract: what is referenced, and by which rules. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..finding import Finding
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl, reversal
from .model import Catalog, Contract, ForeignKey, Table
from .repair import fix_of
from .view import CONSENT

declare(
    FindingKind(
        "schema.foreign_key.missing",
        "critical",
        "A foreign key is missing, so orphans can appear.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=35,
    ),
    FindingKind(
        "schema.foreign_key.on_delete",
        "warning",
        "A foreign key has another ON DELETE rule; the old layout kept results of deleted models.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=35,
    ),
    FindingKind(
        "schema.foreign_key.not_enforced",
        "critical",
        "A foreign key is NOT ENFORCED (PostgreSQL 18), so orphans can appear.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=35,
    ),
    FindingKind(
        "schema.foreign_key.rules",
        "warning",
        "A foreign key differs in ON UPDATE, MATCH or DEFERRABLE. Replaced only with consent.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=35,
    ),
    FindingKind(
        "schema.foreign_key.not_valid",
        "warning",
        "A foreign key was never checked against old rows.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
        order=36,
    ),
)


def foreign_keys(contract: Contract, table: Table, actual: Table, catalog: Catalog) -> Iterator[Finding]:
    """What is wrong with a table's foreign keys. Of one key only the most severe is told; where that is repaired, a fix
    run looks again and finds the rest."""
    for key in table.foreign_keys:
        same = [have for have in actual.foreign_keys if have.columns == key.columns and have.table == key.table]
        if not same and set(key.columns) <= set(actual.columns):
            yield _missing(contract, table, actual, key)
        names = {have.name for have in same}
        swaps = {ddl.swap_name(have.name): have for have in same}  # by the name that an interrupted swap leaves behind
        for have in same:
            original = swaps.get(have.name)
            if original is None:
                yield from _compared(contract, table, have, key, ddl.swap_name(have.name) in names)
            elif is_right(original, key):
                yield _left_over(contract, table, have, original)
            # else the original's own swap, which is still to be done, begins with taking this one away


def is_right(have: ForeignKey, key: ForeignKey) -> bool:
    """True where a key has the contract's rules, valid or not."""
    return have.on_delete == key.on_delete and have.enforced and not other_rules(have, key)


def other_rules(have: ForeignKey, key: ForeignKey) -> dict[str, list[str]]:
    """The rules beside ON DELETE in which a key differs: what it is, and what it should be."""
    rules = {
        "ON UPDATE": (have.on_update, key.on_update),
        "timing": (have.deferral, key.deferral),
        "columns of ON DELETE": (", ".join(have.set_columns) or "all", ", ".join(key.set_columns) or "all"),
    }
    if len(key.columns) > 1:  # over one column, MATCH FULL and SIMPLE are the same
        rules["MATCH"] = (have.match, key.match)
    return {name: list(both) for name, both in rules.items() if both[0] != both[1]}


def _compared(
    contract: Contract, table: Table, have: ForeignKey, key: ForeignKey, has_left_over: bool
) -> Iterator[Finding]:
    """The most severe difference of one key. Its fix changes that, and nothing else of the key."""
    place, other = _place(table, key), other_rules(have, key)
    evidence = {"constraint": have.name, **({"other_rules": other} if other else {})}
    proven = dataclasses.replace(have, validated=True, enforced=True)
    if have.on_delete != key.on_delete:
        message = f"{have.name} on {table.name} has ON DELETE {have.on_delete}; it should have {key.on_delete}."
        evidence = {**evidence, "expected": key.on_delete, "actual": have.on_delete}
        wrong = finding("schema.foreign_key.on_delete", place, message, evidence)
        right = dataclasses.replace(proven, on_delete=key.on_delete, set_columns=())
        yield _swapped(contract, table, wrong, have, right, has_left_over)
    elif not have.enforced:
        message = f"{have.name} on {table.name} is NOT ENFORCED, so orphans can appear."
        wrong = finding("schema.foreign_key.not_enforced", place, message, evidence)
        yield _swapped(contract, table, wrong, have, proven, has_left_over)
    elif other:
        differs = ", ".join(f"{name} is {actual}, not {wanted}" for name, (actual, wanted) in other.items())
        message = f"{have.name} on {table.name} has other rules than it should: {differs}."
        wrong = finding("schema.foreign_key.rules", place, message, evidence)
        right = dataclasses.replace(key, name=have.name)
        yield _swapped(contract, table, wrong, have, right, has_left_over, CONSENT)
    elif not have.validated:
        message = f"{have.name} on {table.name} is NOT VALID: rows from before it were never checked."
        changes = [ddl.online(ddl.validate(contract.schema, table.name, have.name))]
        fix = fix_of("schema.foreign_key.not_valid", changes)
        yield finding("schema.foreign_key.not_valid", place, message, evidence, fix)


def _place(table: Table, key: ForeignKey) -> str:
    return f"{table.name}({', '.join(key.columns)})"


def _swapped(
    contract: Contract,
    table: Table,
    found: Finding,
    wrong: ForeignKey,
    right: ForeignKey,
    has_left_over: bool,
    consent: str = "",
) -> Finding:
    """The finding, repaired by swapping one key for another under its name; the way back is the key just as it was."""
    changes = ddl.swap_foreign_key(contract.schema, table.name, wrong, right, has_left_over)
    undo = [reversal.swap_foreign_key(contract.schema, table.name, right, wrong)]
    return dataclasses.replace(found, fix=fix_of(found.id, changes, consent, undo))


def _left_over(contract: Contract, table: Table, have: ForeignKey, original: ForeignKey) -> Finding:
    """What an interrupted swap left beside a key that is right: it goes."""
    differs = have.on_delete != original.on_delete
    finding_id = "schema.foreign_key.on_delete" if differs else "schema.foreign_key.rules"
    fix = fix_of(
        finding_id,
        [ddl.drop_constraint(contract.schema, [table.name, have.table], have.name)],
        undo=[reversal.add_foreign_key(contract.schema, table.name, have, have.name)],
    )
    message = f"{have.name} on {table.name} is left over from an interrupted swap; {original.name} is in its place."
    return finding(finding_id, _place(table, have), message, {"constraint": have.name}, fix)


def _missing(contract: Contract, table: Table, actual: Table, key: ForeignKey) -> Finding:
    name = ddl.free_name({k.name for k in actual.foreign_keys}, table.name, *key.columns, "fkey")
    changes = ddl.add_foreign_key(contract.schema, table.name, key, name)
    undo = [reversal.drop_constraint(contract.schema, [table.name, key.table], name)]
    return finding(
        "schema.foreign_key.missing",
        _place(table, key),
        f"{table.name}({', '.join(key.columns)}) does not reference {key.table}.",
        {"expected": f"{key.table}({', '.join(key.ref_columns)}) ON DELETE {key.on_delete}"},
        fix_of("schema.foreign_key.missing", changes, undo=undo),
    )
