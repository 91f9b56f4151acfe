"""A site's additions to the baseline, out of `scannerdb_contract_overlay`. Pure.

The overlay is a dictionary:

    application_role: ollama
    application_creates: true
    foreign_keys_of_others: report
    retention_rules: [{table: benchmark_results, column: test_date, days: 180, keep: 5}]
    read_only_roles: [grafana_ro]
    tables:
      endpoints:
        columns: {api_type: {type: text, nullable: true, default: "ollama"}}
        indexes: [[last_check_date], {columns: [scan_date, verified]}]
        uniques: [[ip, port, api_type]]
        foreign_keys: [{columns: [user_id], table: users, ref_columns: [id], on_delete: CASCADE, on_update: NO ACTION,
                        match: SIMPLE, deferrable: false, initially_deferred: false}]
      chat_history:
        columns: {id: {type: integer, nullable: false, default: sequence}, message: text}
        primary_key: [id]
    grants: [{role: reporter, relation: models, privileges: [SELECT]}]
    exceptions: [{id: schema.index.missing, object: "endpoints(is_active)"}]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidInput
from ..expiry import rules_from
from .baseline import application_grants, baseline
from .model import Allowance, Column, Contract, ForeignKey, Grant, Index, Table

TOP = {
    "application_role",
    "application_creates",
    "foreign_keys_of_others",
    "retention_rules",
    "read_only_roles",
    "tables",
    "grants",
    "exceptions",
}
TABLE = {"columns", "indexes", "uniques", "foreign_keys", "primary_key"}
FOREIGN_KEY = {"columns", "table", "ref_columns", "on_delete", "on_update", "match", "deferrable", "initially_deferred"}
RULES = {"CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"}
MATCHES = {"SIMPLE", "FULL"}
OTHERS = ("report", "cascade", "set_null")
PRIVILEGES = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}
# Short spellings of types, as PostgreSQL's format_type() writes them.
TYPE_NAMES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "varchar": "character varying",
    "float8": "double precision",
}


def contract_with(overlay: Mapping[str, Any] | None) -> Contract:
    """The baseline with a site's overlay on top; raises `InvalidInput` that names the wrong place."""
    overlay = _mapping(overlay or {}, "the overlay", TOP)
    role = str(overlay.get("application_role") or "ollama")
    creates = overlay.get("application_creates", True)
    if not isinstance(creates, bool):
        raise InvalidInput(f"scannerdb_contract_overlay: application_creates must be true or false, not {creates!r}.")
    contract = baseline(role, creates)
    others = overlay.get("foreign_keys_of_others", contract.foreign_keys_of_others)
    if others not in OTHERS:
        raise InvalidInput(
            f"scannerdb_contract_overlay: foreign_keys_of_others must be one of {', '.join(OTHERS)}, not {others!r}."
        )
    tables = dict(contract.tables)
    for name, additions in _mapping(overlay.get("tables") or {}, "tables").items():
        tables[name] = _table(str(name), tables.get(name), additions)
    extra = [name for name in tables if name not in contract.tables]
    relations = [*tables, contract.view.name]
    grants = list(contract.grants) + list(application_grants(role, extra, creates))
    readers = _names(overlay.get("read_only_roles") or [], "read_only_roles")
    for reader in readers:
        grants += [Grant(reader, relation, frozenset({"SELECT"})) for relation in relations]
    grants += [_grant(item) for item in _list(overlay.get("grants") or [], "grants")]
    return dataclasses.replace(
        contract,
        tables=tables,
        grants=tuple(grants),
        readers=readers,
        foreign_keys_of_others=others,
        expiry=rules_from(overlay.get("retention_rules") or []),
        exceptions=tuple(_exception(item) for item in _list(overlay.get("exceptions") or [], "exceptions")),
    )


def _mapping(value: Any, where: str, allowed: Iterable[str] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"scannerdb_contract_overlay: {where} must be a dictionary, not {value!r}.")
    unknown = sorted(str(key) for key in value if allowed and key not in set(allowed))
    if unknown:
        raise InvalidInput(
            f"scannerdb_contract_overlay: {where} has no key {', '.join(map(repr, unknown))}.",
            f"It knows {', '.join(sorted(allowed))}.",
        )
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"scannerdb_contract_overlay: {where} must be a list, not {value!r}.")
    return list(value)


def _names(value: Any, where: str) -> tuple[str, ...]:
    names = _list(value, where)
    if not all(isinstance(name, str) and name for name in names):
        raise InvalidInput(f"scannerdb_contract_overlay: {where} must be a list of names, not {value!r}.")
    return tuple(names)


def _table(name: str, known: Table | None, additions: Any) -> Table:
    where = f"tables.{name}"
    given = _mapping(additions or {}, where, TABLE)
    columns = dict(known.columns) if known else {}
    for column, says in _mapping(given.get("columns") or {}, f"{where}.columns").items():
        columns[column] = _column(str(column), says, where)
    if not columns:
        raise InvalidInput(f"scannerdb_contract_overlay: {where} has no columns.", "An extra table needs them.")
    base = known or Table(name, columns)
    table = dataclasses.replace(
        base,
        columns=columns,
        primary_key=_names(given["primary_key"], f"{where}.primary_key")
        if "primary_key" in given
        else base.primary_key,
        uniques=base.uniques
        + tuple(_names(u, f"{where}.uniques") for u in _list(given.get("uniques") or [], f"{where}.uniques")),
        indexes=base.indexes
        + tuple(_index(i, f"{where}.indexes") for i in _list(given.get("indexes") or [], f"{where}.indexes")),
        foreign_keys=_foreign_keys(base.foreign_keys, given.get("foreign_keys") or [], f"{where}.foreign_keys"),
    )
    _check_columns(table, where)
    return table


def _check_columns(table: Table, where: str) -> None:
    used = [table.primary_key, *table.uniques, *(i.columns for i in table.indexes)]
    used += [f.columns for f in table.foreign_keys]
    unknown = sorted({column for group in used for column in group} - set(table.columns))
    if unknown:
        raise InvalidInput(
            f"scannerdb_contract_overlay: {where} uses the column {unknown[0]!r}, which it does not declare.",
            "Add it under columns.",
        )


def _column(name: str, says: Any, where: str) -> Column:
    if isinstance(says, str):
        says = {"type": says}
    given = _mapping(says, f"{where}.columns.{name}", {"type", "nullable", "default", "accepts"})
    if not isinstance(given.get("type"), str):
        raise InvalidInput(f"scannerdb_contract_overlay: {where}.columns.{name} needs a type.")
    default = given.get("default")
    if isinstance(default, bool):
        default = "true" if default else "false"
    return Column(
        name,
        canonical_type(given["type"]),
        nullable=bool(given.get("nullable", True)),
        default=None if default is None else str(default),
        accepts=tuple(canonical_type(t) for t in _names(given.get("accepts") or [], f"{where}.columns.{name}.accepts")),
    )


def canonical_type(text: str) -> str:
    """A type's name as the catalog spells it: 'varchar(20)' is 'character varying(20)'."""
    base, bracket, rest = text.strip().lower().partition("(")
    base = base.strip()
    arguments = (bracket + rest).replace(" ", "")
    return TYPE_NAMES.get(base, base) + arguments


def _index(says: Any, where: str) -> Index:
    if isinstance(says, (list, tuple)):
        return Index(_names(says, where))
    given = _mapping(says, where, {"columns", "unique"})
    return Index(_names(given.get("columns") or [], where), unique=bool(given.get("unique", False)))


def _foreign_keys(known: tuple[ForeignKey, ...], says: Any, where: str) -> tuple[ForeignKey, ...]:
    """The keys of the baseline and the site's; a site's over the same columns to the same table takes its place."""
    given = tuple(_foreign_key(key, where) for key in _list(says, where))
    replaced = {(key.columns, key.table) for key in given}
    return tuple(key for key in known if (key.columns, key.table) not in replaced) + given


def _foreign_key(says: Any, where: str) -> ForeignKey:
    given = _mapping(says, where, FOREIGN_KEY)
    if not isinstance(given.get("table"), str):
        raise InvalidInput(f"scannerdb_contract_overlay: {where} needs a table.")
    deferred = bool(given.get("initially_deferred", False))
    timing = f"DEFERRABLE INITIALLY {'DEFERRED' if deferred else 'IMMEDIATE'}"
    return ForeignKey(
        _names(given.get("columns") or [], f"{where}.columns"),
        given["table"],
        _names(given.get("ref_columns") or ["id"], f"{where}.ref_columns"),
        _word(given.get("on_delete", "NO ACTION"), RULES, f"{where}.on_delete"),
        on_update=_word(given.get("on_update", "NO ACTION"), RULES, f"{where}.on_update"),
        match=_word(given.get("match", "SIMPLE"), MATCHES, f"{where}.match"),
        deferral=timing if deferred or given.get("deferrable", False) else "NOT DEFERRABLE",
    )


def _word(value: Any, allowed: Iterable[str], where: str) -> str:
    word = str(value).upper()
    if word not in allowed:
        raise InvalidInput(
            f"scannerdb_contract_overlay: {where} must be one of {', '.join(sorted(allowed))}, not {value!r}."
        )
    return word


def _grant(says: Any) -> Grant:
    given = _mapping(says, "grants", {"role", "relation", "privileges"})
    privileges = frozenset(p.upper() for p in _names(given.get("privileges") or [], "grants.privileges"))
    if not privileges or not privileges <= PRIVILEGES or not given.get("role") or not given.get("relation"):
        raise InvalidInput(
            f"scannerdb_contract_overlay: a grant needs role, relation and privileges out of "
            f"{', '.join(sorted(PRIVILEGES))}, not {says!r}."
        )
    return Grant(str(given["role"]), str(given["relation"]), privileges)


def _exception(says: Any) -> Allowance:
    given = _mapping(says, "exceptions", {"id", "object", "reason"})
    if not given.get("id"):
        raise InvalidInput(f"scannerdb_contract_overlay: an exception needs an id, not {says!r}.")
    return Allowance(str(given["id"]), str(given.get("object") or "*"))
