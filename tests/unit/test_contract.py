"""The contract's pure parts: overlay, meaning of defaults, difference."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.contract import ddl
from scannerdb.contract.baseline import baseline
from scannerdb.contract.difference import demanded_indexes, difference
from scannerdb.contract.functions import SEARCH_PATH, VIEW_PROGRAMS
from scannerdb.contract.introspect import default_meaning
from scannerdb.contract.model import Catalog, Contract, Index, Table, Trigger, View
from scannerdb.contract.overlay import canonical_type, contract_with
from scannerdb.errors import InvalidInput

BASELINE = baseline()


def perfect(contract: Contract) -> Catalog:
    """The catalog of a database that is just what the contract asks for."""

    def table(wanted: Table) -> Table:
        stamps = tuple(
            Trigger(f"t_{s.stamps}", "BEFORE", frozenset({"UPDATE"}), True, "f", "public", f"NEW.{s.stamps} = now()")
            for s in wanted.row_triggers
        )
        indexes = tuple(dataclasses.replace(i, name=f"{wanted.name}_{n}") for n, i in enumerate(wanted.indexes))
        indexes += tuple(Index(u, unique=True, name=f"{wanted.name}_u{n}") for n, u in enumerate(wanted.uniques))
        return dataclasses.replace(wanted, triggers=stamps, indexes=indexes, rows=10)

    instead = tuple(
        Trigger(p.name, p.timing, frozenset({event}), True, p.name, "public", ddl.body_of("public", p), SEARCH_PATH)
        for event, p in VIEW_PROGRAMS.items()
    )
    view = dataclasses.replace(contract.view, triggers=instead)
    return Catalog(
        tables={t.name: table(t) for t in contract.tables.values()},
        views={view.name: view},
        roles=frozenset(g.role for g in contract.grants),
        owner="owner",
        user="postgres",
        names=frozenset(contract.tables) | {view.name},
    )


def without(catalog: Catalog, name: str, **changes: Any) -> Catalog:
    tables = {**catalog.tables, name: dataclasses.replace(catalog.tables[name], **changes)}
    return dataclasses.replace(catalog, tables=tables)


def test_a_perfect_database_has_no_finding() -> None:
    assert difference(BASELINE, perfect(BASELINE)) == []


@given(st.sampled_from(sorted(BASELINE.tables)))
def test_a_missing_table_is_one_critical_finding_with_its_fix(name: str) -> None:
    catalog = perfect(BASELINE)
    catalog = dataclasses.replace(
        catalog,
        tables={k: v for k, v in catalog.tables.items() if k != name},
        names=catalog.names - {name},
    )
    (finding,) = difference(BASELINE, catalog)
    assert (finding.id, finding.severity, finding.object) == ("schema.table.missing", "critical", name)
    assert finding.fix is not None
    assert f'CREATE TABLE "public"."{name}"' in finding.fix.sql[0]
    assert any("OWNER TO" in sql for sql in finding.fix.sql)


@given(st.data())
def test_every_missing_column_is_seen(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(list(BASELINE.tables.values())))
    column = data.draw(st.sampled_from(sorted(table.columns)))
    rest = {k: v for k, v in table.columns.items() if k != column}
    found = difference(BASELINE, without(perfect(BASELINE), table.name, columns=rest))
    assert [f.object for f in found if f.id == "schema.column.missing"] == [f"{table.name}.{column}"]


@given(st.data())
def test_every_missing_index_is_seen_and_an_invalid_one_is_rebuilt(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([t for t in BASELINE.tables.values() if t.indexes]))
    wanted = data.draw(st.sampled_from([i for i in table.indexes if not i.unless_unique_leads]))
    have = perfect(BASELINE).tables[table.name].indexes
    gone = tuple(i for i in have if i.columns != wanted.columns)
    found = difference(BASELINE, without(perfect(BASELINE), table.name, indexes=gone))
    assert [f.id for f in found] == ["schema.index.missing"]
    assert found[0].fix is not None
    assert "CREATE INDEX CONCURRENTLY" in found[0].fix.sql[0]
    broken = tuple(dataclasses.replace(i, valid=i.columns != wanted.columns) for i in have)
    found = difference(BASELINE, without(perfect(BASELINE), table.name, indexes=broken))
    assert found[0].fix is not None
    assert "REINDEX INDEX CONCURRENTLY" in found[0].fix.sql[0]


def test_a_unique_index_that_leads_serves_as_well() -> None:
    have = perfect(BASELINE).tables["endpoints"].indexes
    reduced = tuple(i for i in have if i.columns != ("ip",))
    assert difference(BASELINE, without(perfect(BASELINE), "endpoints", indexes=reduced)) == []


@pytest.mark.parametrize(
    ("rules", "finding_id", "consent"),
    [
        ({"on_delete": "SET NULL"}, "on_delete", ""),
        ({"on_delete": "RESTRICT", "deferral": "DEFERRABLE INITIALLY DEFERRED"}, "on_delete", ""),
        ({"on_update": "CASCADE"}, "rules", "scannerdb_fix_replace_foreign"),
        ({"deferral": "DEFERRABLE INITIALLY IMMEDIATE"}, "rules", "scannerdb_fix_replace_foreign"),
        ({"enforced": False, "validated": False}, "not_enforced", ""),
        ({"validated": False}, "not_valid", ""),
        ({"match": "FULL"}, "", ""),  # over one column it means the same
    ],
)
def test_a_foreign_keys_rules(rules: dict[str, Any], finding_id: str, consent: str) -> None:
    catalog = perfect(BASELINE)
    (key,) = catalog.tables["models"].foreign_keys
    have = dataclasses.replace(key, name="k", **rules)
    found = difference(BASELINE, without(catalog, "models", foreign_keys=(have,)))
    assert [f.id for f in found] == ([f"schema.foreign_key.{finding_id}"] if finding_id else [])
    for finding in found:
        assert finding.fix is not None and finding.fix.consent == consent


def test_a_sites_foreign_key_takes_the_place_of_the_baselines() -> None:
    words = {"columns": ["endpoint_id"], "table": "endpoints", "on_delete": "cascade", "initially_deferred": True}
    contract = contract_with({"tables": {"models": {"foreign_keys": [words]}}})
    (key,) = contract.tables["models"].foreign_keys
    assert (key.on_delete, key.on_update, key.deferral) == ("CASCADE", "NO ACTION", "DEFERRABLE INITIALLY DEFERRED")
    assert difference(contract, perfect(contract)) == []
    assert [f.id for f in difference(contract, perfect(BASELINE))] == ["schema.foreign_key.rules"]


def test_the_order_of_a_unique_constraints_columns_does_not_matter() -> None:
    assert difference(BASELINE, without(perfect(BASELINE), "endpoints", uniques=(("port", "ip"),))) == []


def test_an_exception_takes_a_demand_away() -> None:
    contract = contract_with({"exceptions": [{"id": "schema.column.*", "object": "models.size_mb"}]})
    columns = {k: v for k, v in contract.tables["models"].columns.items() if k != "size_mb"}
    assert difference(contract, without(perfect(contract), "models", columns=columns)) == []


def test_a_view_that_reads_something_else_is_seen() -> None:
    catalog = perfect(BASELINE)
    view = catalog.views["servers"]
    other = dataclasses.replace(view, reads=view.reads | {("endpoints", "is_active")})
    found = difference(BASELINE, dataclasses.replace(catalog, views={"servers": other}))
    assert [(f.id, f.fix is not None and f.fix.consent) for f in found] == [
        ("schema.view.definition", "scannerdb_fix_replace_foreign")
    ]


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"source": "BEGIN RETURN NEW; END"}, False),
        ({"enabled": False}, False),
        ({"search_path": None}, False),
        ({"security_definer": True}, False),
    ],
)
def test_only_our_own_unchanged_triggers_count(change: dict[str, Any], ours: bool) -> None:
    catalog = perfect(BASELINE)
    view: View = catalog.views["servers"]
    first, *rest = view.triggers
    changed = dataclasses.replace(view, triggers=(dataclasses.replace(first, **change), *rest))
    found = difference(BASELINE, dataclasses.replace(catalog, views={"servers": changed}))
    assert (found == []) is ours


def test_demanded_indexes_are_never_called_redundant() -> None:
    catalog = perfect(BASELINE)
    names = {i.columns: i.name for i in catalog.tables["endpoints"].indexes}
    demanded = demanded_indexes(BASELINE, catalog)
    assert names["verified",] in demanded
    assert names["ip",] not in demanded  # the unique constraint leads with it


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (None, None),
        ("now()", "now()"),
        ("CURRENT_TIMESTAMP", "now()"),
        ("('now'::text)::timestamp with time zone", "now"),
        ("11434", "11434"),
        ("'11434'::integer", "11434"),
        ("'-1'::integer", "-1"),
        ("false", "false"),
        ("'it''s'::text", "it's"),
        ("'x'::character varying(20)", "x"),
        ("nextval('endpoints_id_seq'::regclass)", "sequence"),
        ("lower('A'::text)", "lower('A'::text)"),
    ],
)
def test_defaults_are_compared_by_meaning(text: str | None, meaning: str | None) -> None:
    assert default_meaning({"identity": "", "generated": "", "default": text}) == meaning


def test_an_identity_column_is_a_sequence() -> None:
    assert default_meaning({"identity": "d", "generated": "", "default": None}) == "sequence"


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("int", "integer"),
        ("VARCHAR(20)", "character varying(20)"),
        ("timestamptz", "timestamp with time zone"),
        ("numeric(10, 4)", "numeric(10,4)"),
        ("text", "text"),
        ("jsonb", "jsonb"),
    ],
)
def test_types_may_be_spelled_as_people_do(spelled: str, canonical: str) -> None:
    assert canonical_type(spelled) == canonical


@pytest.mark.parametrize(
    ("overlay", "says"),
    [
        ({"tabels": {}}, "no key 'tabels'"),
        ({"tables": ["x"]}, "must be a dictionary"),
        ({"tables": {"endpoints": {"indexes": [["nope"]]}}}, "'nope'"),
        ({"tables": {"extra": {}}}, "no columns"),
        ({"tables": {"extra": {"columns": {"a": {"nullable": True}}}}}, "needs a type"),
        (
            {"tables": {"endpoints": {"foreign_keys": [{"columns": ["ip"], "table": "x", "on_delete": "MAYBE"}]}}},
            "on_delete",
        ),
        (
            {"tables": {"endpoints": {"foreign_keys": [{"columns": ["ip"], "table": "x", "match": "HALF"}]}}},
            "match must be one of FULL, SIMPLE",
        ),
        ({"tables": {"endpoints": {"foreign_keys": [{"columns": ["ip"]}]}}}, "needs a table"),
        ({"grants": [{"role": "r", "relation": "models", "privileges": ["FLY"]}]}, "privileges"),
        ({"exceptions": ["x"]}, "must be a dictionary"),
        ({"read_only_roles": "me"}, "must be a list"),
    ],
)
def test_a_wrong_overlay_is_a_sentence(overlay: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        contract_with(overlay)


def test_an_overlay_of_three_lines_adds_an_index() -> None:
    contract = contract_with({"tables": {"endpoints": {"indexes": [["last_check_date"]]}}})
    assert contract.tables["endpoints"].indexes[-1] == Index(("last_check_date",))
    assert len(contract.tables["endpoints"].columns) == 11


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=3))
def test_names_fit_and_stay_apart(parts: list[str]) -> None:
    name = ddl.short_name(*parts)
    assert len(name.encode()) <= ddl.NAME_BYTES
    assert ddl.free_name({name}, *parts) != name
    assert ddl.short_name(*parts, "x" * 70) != ddl.short_name(*parts, "x" * 71)
