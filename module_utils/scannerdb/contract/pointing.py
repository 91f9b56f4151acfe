"""Foreign keys of other tables that refuse a delete in ours, so that `DELETE FROM servers` fails. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..finding import Finding
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl, reversal
from .model import Catalog, Contract, Pointing
from .repair import by_hand, fix_of

declare(
    FindingKind(
        "schema.foreign_key.blocks_delete",
        "warning",
        "A foreign key of another table refuses the delete of rows that it references, so DELETE FROM servers fails."
        " Repaired only where scannerdb_fix_foreign_keys is cascade or set_null, or the overlay names the key.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=37,
    ),
)

KIND = "schema.foreign_key.blocks_delete"
REFUSING = ("NO ACTION", "RESTRICT")
VARIABLE = "scannerdb_fix_foreign_keys"
WORDS = {"cascade": "CASCADE", "set_null": "SET NULL"}


def blocking(contract: Contract, catalog: Catalog) -> Iterator[Finding]:
    """One finding for each, with the SQL; applied where the site says so."""
    reached = deleted_with("endpoints", contract)
    demanded = {(t.name, k.columns, k.table) for t in contract.tables.values() for k in t.foreign_keys}
    for one in catalog.pointing:
        key = one.key
        known = one.schema == contract.schema and (one.table, key.columns, key.table) in demanded
        if not known and key.table in reached and key.on_delete in REFUSING and not key.name.startswith("scannerdb_"):
            yield _blocked(contract, one)


def deleted_with(table: str, contract: Contract) -> frozenset[str]:
    """The contract's tables that lose rows when one of `table` is deleted, itself among them."""
    found = {table}
    while True:
        more = {t.name for t in contract.tables.values() if any(k.table in found for k in t.foreign_keys)} - found
        if not more:
            return frozenset(found)
        found |= more


def _blocked(contract: Contract, one: Pointing) -> Finding:
    key, wanted = one.key, contract.foreign_keys_of_others
    name = one.table if one.schema == contract.schema else f"{one.schema}.{one.table}"
    rule = WORDS.get(wanted, "SET NULL" if one.nullable else "CASCADE")
    blocked = finding(
        KIND,
        f"{name}({', '.join(key.columns)})",
        f"{key.name} of {name} lets no row of {key.table} go that it references: writes through servers fail on those.",
        {"constraint": key.name, "on_delete": key.on_delete, "table": name},
    )
    if one.schema != contract.schema or one.kind != "table":
        why = f"Give it ON DELETE {rule} by hand: it is in another schema, or no plain table."
        return dataclasses.replace(blocked, why_no_fix=why)
    if rule == "SET NULL" and not one.nullable:
        return dataclasses.replace(blocked, why_no_fix=f"{VARIABLE} is set_null, and its column allows no NULL.")
    right = dataclasses.replace(key, on_delete=rule, set_columns=())
    changes = ddl.swap_foreign_key(contract.schema, one.table, key, right)
    if wanted not in WORDS:
        why = f"{VARIABLE} is report: cascade or set_null has it done; so does an overlay that names the key."
        return dataclasses.replace(blocked, fix=by_hand(KIND, changes, why))
    undo = [reversal.swap_foreign_key(contract.schema, one.table, right, key)]
    return dataclasses.replace(blocked, fix=fix_of(KIND, changes, undo=undo))
