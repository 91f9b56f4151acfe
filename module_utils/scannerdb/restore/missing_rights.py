"""A dump without owners or privileges: they come from the live database, and what that does not know from the contract.

A restore never ends with an application that cannot read its tables: it stops before the cutover then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..connection import Connection, Options, Query, connect, explained
from ..contract import ddl
from ..contract.baseline import application_grants
from ..contract.introspect import read_catalog
from ..contract.model import Contract, Grant
from ..load.contents import Contents
from .rights import Default, HeldRights, Key, giving, giving_defaults, read_defaults, read_held

DATABASE_OWNER = "pg_database_owner"  # has the schema public, in every database


@dataclass(frozen=True)
class Carried:
    """What is given to the restored objects because the dump does not say it; `held` is the live database's."""

    owners: bool = False
    rights: bool = False
    held: Mapping[Key, HeldRights] = field(default_factory=dict)
    live: bool = False
    defaults: tuple[Default, ...] = ()

    def __bool__(self) -> bool:
        return self.owners or self.rights

    @property
    def sentence(self) -> str:
        """What the dump lacks, and whose is taken."""
        lacking = " and ".join(word for word, on in (("owners", self.owners), ("privileges", self.rights)) if on)
        whose = "the live database's, and for what that does not have " if self.live else ""
        return f"The backup names no {lacking}: its objects get {whose}those of the contract."

    @property
    def new_owners(self) -> set[str]:
        """Who gets to own something."""
        return {held.owner for held in self.held.values()} - {"", DATABASE_OWNER} if self.owners else set()


def carried(options: Options, contents: Contents, *, is_set: bool, live: bool) -> Carried:
    """What a source does not say. A set of this bundle says all there was."""
    wanted = Carried(owners=not contents.owners, rights=not contents.rights, live=live)
    if is_set or not wanted or not contents.tables:
        return Carried()
    if not live:
        return wanted
    with contextlib.closing(connect(options, purpose="restore plan")) as conn:
        return replace(wanted, held=read_held(conn), defaults=read_defaults(conn) if wanted.rights else ())


def give_carried(side: Connection, wanted: Carried, contract: Contract) -> int:
    """Give owners and privileges in the side database; how many statements that took."""
    there = read_held(side)
    statements = giving(there, _with_owners(there, wanted), owners=wanted.owners, rights=wanted.rights)
    statements += giving_defaults(wanted.defaults, {key[1] for key in there})
    _run(side, statements)
    grants = _from_contract(side, wanted, contract, there) if wanted.rights else []
    _run(side, [ddl.grant(contract.schema, grant) for grant in grants])
    return len(statements) + len(grants)


def _run(side: Connection, statements: Sequence[Query]) -> None:
    with explained("Giving the restored objects their owners and privileges"), side.transaction():
        for statement in statements:
            side.execute(statement)


def _with_owners(there: Mapping[Key, HeldRights], wanted: Carried) -> dict[Key, HeldRights]:
    """What is wanted, and for objects that the live database lacks the owner of most others in their schema."""
    by_schema: dict[str, list[str]] = {}
    for (kind, schema, _, _), held in wanted.held.items():
        if kind == "TABLE":
            by_schema.setdefault(schema, []).append(held.owner)
    most = {schema: max(set(owners), key=owners.count) for schema, owners in by_schema.items()}
    lacking = {
        key: HeldRights(held.label, most[key[1]], None)
        for key, held in there.items()
        if key not in wanted.held and key[1] in most and key[0] not in ("SCHEMA", "COLUMN")
    }
    return {**lacking, **wanted.held}


def _from_contract(
    side: Connection, wanted: Carried, contract: Contract, there: Mapping[Key, HeldRights]
) -> list[Grant]:
    """The contract's grants that are missing, and the application's on tables that the live database does not know."""
    catalog = read_catalog(side, contract)
    role = contract.application_role
    if role not in catalog.roles:
        return []
    fresh = [key for key in there if key[1] == contract.schema and key not in wanted.held]
    tables = [name for kind, _, name, _ in fresh if kind == "TABLE"]
    sequences = [
        Grant(role, name, frozenset({"USAGE"}), "SEQUENCE") for kind, _, name, _ in fresh if kind == "SEQUENCE"
    ]
    return [*catalog.missing_grants, *application_grants(role, tables, contract.application_creates), *sequences]


def unreadable(side: Connection, contract: Contract, *, roleless: bool) -> list[str]:
    """The tables that the application could not read, as sentences; with `roleless` also that it has no role."""
    catalog = read_catalog(side, contract)
    role = contract.application_role
    if role not in catalog.roles:
        return [f"Role {role} does not exist"] if roleless and catalog.tables else []
    return [
        f"Role {grant.role} may not read {grant.relation}"
        for grant in catalog.missing_grants
        if grant.role == role and grant.kind == "TABLE" and "SELECT" in grant.privileges
    ]


def unreadable_or_absent(live: Connection, contract: Contract) -> list[str]:
    """The same of the live database, and the contract's tables that are not there, which nobody reads either."""
    there = read_catalog(live, contract).tables
    absent = [name for name in contract.tables if name not in there]
    role = contract.application_role
    return [*unreadable(live, contract, roleless=False), *(f"Role {role} may not read {name}" for name in absent)]
