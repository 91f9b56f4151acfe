"""The older layouts, in which `servers` is a table: what each of its tables becomes in the baseline. Pure.

Tables are renamed and altered, never copied: ids, rows, other tables' foreign keys, indexes, privileges and columns
that the baseline does not know stay as they are. `status` becomes `verified`; a size in bytes stays beside `size_mb`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..connection import SQL, Composable, Identifier, Literal, Query
from ..finding import Change
from . import ddl
from .model import Catalog, Contract, Table

SERVERS, ENDPOINTS, LINKS, MODELS = "servers", "endpoints", "verified_endpoints", "models"
STATUS, VERIFIED = "status", "verified"
STATUSES = {"scanned": 0, "verified": 1, "failed": 2}
RENAMED: Mapping[str, Mapping[str, str]] = {
    SERVERS: {STATUS: VERIFIED, "verified_date": "verification_date"},
    MODELS: {"server_id": "endpoint_id", "params": "parameter_size", "quant": "quantization_level"},
    "benchmark_results": {"server_id": "endpoint_id"},
}
NEEDED = {SERVERS: ("id", "ip", "port", STATUS), MODELS: ("id", "name")}
BYTES_IN_MB = 1024 * 1024
NUMBERS = ("smallint", "integer", "bigint", "numeric")


@dataclass(frozen=True)
class Moved:
    """A table on its way: its name, and its columns', before and after."""

    table: str
    becomes: str
    columns: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """What changes, as a line of a plan; empty where nothing does."""
        names = [f"{old} becomes {new}" for old, new in self.columns if old != new]
        whole = f"table {self.table}" + (f" becomes {self.becomes}" if self.becomes != self.table else "")
        return f"{whole}: {', '.join(names)}" if names or self.becomes != self.table else ""


@dataclass(frozen=True)
class OnStatus:
    """Something that depends on `servers.status`. `goes`: it is dropped with the words it speaks of."""

    kind: str
    name: str
    goes: bool


def is_older(contract: Contract, catalog: Catalog) -> bool:
    """True where `servers` is a table."""
    return contract.view.name in catalog.tables


def moved_tables(contract: Contract, catalog: Catalog) -> tuple[Moved, ...]:
    """The tables of the layout that the contract knows, in a fixed order."""
    names = [SERVERS, *(name for name in contract.tables if name in catalog.tables)]
    return tuple(_moved(catalog.tables[name]) for name in names)


def _moved(table: Table) -> Moved:
    renamed = RENAMED.get(table.name, {})
    becomes = ENDPOINTS if table.name == SERVERS else table.name
    return Moved(table.name, becomes, tuple((c, renamed.get(c, c)) for c in table.columns))


def obstacles(
    contract: Contract, catalog: Catalog, statuses: Mapping[str | None, int], depending: Sequence[OnStatus]
) -> list[str]:
    """Why the layout cannot be migrated, as sentences; each is for people to decide."""
    found = [
        f"There is a {name} beside the table servers: the layout is half migrated."
        for name in (ENDPOINTS, LINKS)
        if name in catalog.names
    ]
    for name in (SERVERS, MODELS):
        found += _missing(name, catalog.tables.get(name))
    for moved in moved_tables(contract, catalog):
        names = [new for _, new in moved.columns]
        twice = sorted({new for new in names if names.count(new) > 1})
        found += [f"{moved.table} has two columns that would become {column}." for column in twice]
    strange = {word: rows for word, rows in statuses.items() if word is not None and word not in STATUSES}
    if strange:
        words = ", ".join(f"{word!r} ({rows} rows)" for word, rows in sorted(strange.items()))
        known = ", ".join(STATUSES)
        found.append(f"servers.status has values that mean nothing here: {words}. Known are {known}; set them so.")
    found += [
        f"The {one.kind} {one.name} depends on servers.status. Drop it, and make it anew over endpoints.verified."
        for one in depending
        if not one.goes
    ]
    return found


def _missing(name: str, table: Table | None) -> list[str]:
    if table is None:
        return [] if name != SERVERS else ["There is no table servers."]
    if table.kind != "table":
        return [f"{name} is a {table.kind}, not a plain table."]
    lacks = [column for column in NEEDED[name] if column not in table.columns]
    if name == MODELS and not {"server_id", "endpoint_id"} & set(table.columns):
        lacks.append("server_id")
    return [f"{name} has no column {', '.join(lacks)}."] if lacks else []


def verified_of(column: Composable) -> Composable:
    """The number that stands for a status, as an expression; NULL stays NULL."""
    cases = [SQL("WHEN {} THEN {}").format(Literal(word), Literal(number)) for word, number in STATUSES.items()]
    return SQL("CASE {} {} END").format(column, SQL(" ").join(cases))


def movement(
    schema: str, catalog: Catalog, depending: Sequence[OnStatus], names: Sequence[tuple[str, str]]
) -> list[Change]:
    """The steps that turn the tables into the baseline's; what the baseline has besides is for the schema's own fixes.

    `names` are the (kind, name) of the constraints and sequences of `servers` that are named after it.
    """
    steps = [_plain(schema, SERVERS, _of_servers(schema, catalog.tables[SERVERS], depending, names))]
    for name in sorted(set(RENAMED) - {SERVERS}):
        if name in catalog.tables:
            steps.append(_plain(schema, name, _of_other(schema, catalog.tables[name])))
    return [step for step in steps if step.statements]


def _plain(schema: str, table: str, statements: Sequence[Query]) -> Change:
    return Change(tuple(statements), ddl.NONE, "plain", ((schema, table),))


def _of_servers(
    schema: str, table: Table, depending: Sequence[OnStatus], names: Sequence[tuple[str, str]]
) -> list[Query]:
    status, gone = Identifier(STATUS), [one for one in depending if one.goes]
    drops: list[Query] = [
        ddl.alter(schema, SERVERS, SQL("DROP CONSTRAINT {}").format(Identifier(one.name)))
        if one.kind == "check"
        else SQL("DROP INDEX {}").format(ddl.qualified(schema, one.name))
        for one in gone
    ]
    convert = SQL("ALTER COLUMN {} TYPE integer USING {}").format(status, verified_of(status))
    return [
        *drops,
        ddl.alter(schema, SERVERS, SQL("ALTER COLUMN {} DROP DEFAULT").format(status)),
        ddl.alter(schema, SERVERS, convert),
        *_renames(schema, table),
        *_renamed_parts(schema, names, {one.name for one in gone}),
        ddl.alter(schema, SERVERS, SQL("RENAME TO {}").format(Identifier(ENDPOINTS))),
    ]


def _renames(schema: str, table: Table) -> list[Query]:
    return [
        ddl.alter(schema, table.name, SQL("RENAME COLUMN {} TO {}").format(Identifier(old), Identifier(new)))
        for old, new in RENAMED[table.name].items()
        if old in table.columns
    ]


def _renamed_parts(schema: str, names: Sequence[tuple[str, str]], gone: Collection[str]) -> list[Query]:
    """Constraints and sequences are named after the table that they will belong to."""
    made: list[Query] = []
    for kind, name in names:
        new = Identifier(ddl.short_name(ENDPOINTS, name[len(SERVERS) + 1 :]))
        if kind == "sequence":
            made.append(SQL("ALTER SEQUENCE {} RENAME TO {}").format(ddl.qualified(schema, name), new))
        elif name not in gone:
            made.append(ddl.alter(schema, SERVERS, SQL("RENAME CONSTRAINT {} TO {}").format(Identifier(name), new)))
    return made


def _of_other(schema: str, table: Table) -> list[Query]:
    made = _renames(schema, table)
    size = table.columns.get("size")
    if table.name == MODELS and size and size.type.startswith(NUMBERS) and "size_mb" not in table.columns:
        amount = SQL("round({}::numeric / {}, 2)").format(Identifier("size"), Literal(BYTES_IN_MB))
        made.append(ddl.alter(schema, MODELS, SQL("ADD COLUMN size_mb numeric(12,2)")))
        # Not by UPDATE: it would fire the site's own triggers.
        made.append(ddl.alter(schema, MODELS, SQL("ALTER COLUMN size_mb TYPE numeric(12,2) USING {}").format(amount)))
    return made


def print_query(schema: str, moved: Moved, after: bool) -> Composable:
    """One row of text: how many rows a table has, and the fingerprint of all its old columns; the same afterwards."""
    columns: list[Composable] = []
    for old, new in moved.columns:
        name = Identifier("content", new if after else old)
        columns.append(verified_of(name) if moved.table == SERVERS and old == STATUS and not after else name)
    return SQL(
        "SELECT pg_catalog.count(*)::text AS rows, coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
        "pg_catalog.textin(pg_catalog.record_out(ROW({}))), 0)::numeric), 0)::text AS print FROM ONLY {} content"
    ).format(SQL(", ").join(columns), ddl.qualified(schema, moved.becomes if after else moved.table))


def link_statement(schema: str) -> Composable:
    """A link for each verified endpoint, as old as its verification."""
    return SQL(
        "INSERT INTO {} (endpoint_id, verification_date) SELECT id, verification_date FROM {} WHERE verified = 1"
    ).format(ddl.qualified(schema, LINKS), ddl.qualified(schema, ENDPOINTS))
