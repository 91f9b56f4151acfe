"""The shape of a database: what a contract demands and what a catalog holds, in the same words. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..expiry import ExpiryRule

NOW = "now()"  # every spelling of the transaction's time
SEQUENCE = "sequence"  # serial or identity
UNSPECIFIED = "*"  # the contract does not say, so anything is right


@dataclass(frozen=True)
class Column:
    """A column. `type` is PostgreSQL's own name for it; `accepts` lists other types that are right too.

    `default` is None for none, NOW, SEQUENCE, UNSPECIFIED, or a constant's text ('11434', 'false'). `unproven` comes
    from a catalog: the name of its NOT NULL where that is NOT VALID, so that older rows may be NULL all the same.
    """

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    accepts: tuple[str, ...] = ()
    unproven: str = ""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key; its rules as SQL says them. `name`, `validated` and `enforced` come from a catalog.

    `set_columns` are those that SET NULL or SET DEFAULT is limited to; empty means all of the key's.
    """

    columns: tuple[str, ...]
    table: str
    ref_columns: tuple[str, ...] = ("id",)
    on_delete: str = "CASCADE"
    name: str = ""
    validated: bool = True
    on_update: str = "NO ACTION"
    match: str = "SIMPLE"
    deferral: str = "NOT DEFERRABLE"
    set_columns: tuple[str, ...] = ()
    enforced: bool = True


@dataclass(frozen=True)
class Index:
    """An index by its meaning: key columns in order (an expression is its text).

    In a contract, `unless_unique_leads` says that a unique index whose first columns are these serves as well.
    `plain` in a catalog: a btree with default order and operator classes over columns, without a predicate. Not
    `immediate`: the index of a DEFERRABLE constraint, which INSERT … ON CONFLICT cannot use.
    """

    columns: tuple[str, ...]
    unique: bool = False
    unless_unique_leads: bool = False
    name: str = ""
    valid: bool = True
    plain: bool = True
    constraint: bool = False
    immediate: bool = True


@dataclass(frozen=True)
class RowTrigger:
    """A row trigger BEFORE UPDATE that stamps a column with the time when other columns change."""

    stamps: str
    when_changed: tuple[str, ...]


@dataclass(frozen=True)
class Trigger:
    """A trigger as the catalog has it. `events` are INSERT, UPDATE, DELETE; `source` is its function's body."""

    name: str
    timing: str
    events: frozenset[str]
    enabled: bool
    function: str
    function_schema: str
    source: str
    search_path: str | None = None
    security_definer: bool = False


@dataclass(frozen=True)
class Extra:
    """Something in the schema that is neither a table nor a view; `kind` as people call it, e.g. `function`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Table:
    """A table, as demanded or as found; `conditions` are its CHECK and exclusion constraints."""

    name: str
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[Index, ...] = ()
    row_triggers: tuple[RowTrigger, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    disabled_triggers: tuple[str, ...] = ()
    conditions: tuple[Extra, ...] = ()
    kind: str = "table"
    owner: str = ""
    rows: int = -1  # the planner's estimate; -1 where unknown


@dataclass(frozen=True)
class View:
    """A view. `reads` are the (relation, column) pairs its rule depends on; `kind` as the catalog names it.

    `filtered`: it has a condition beyond the one that joins its tables, or limits or groups its rows.
    """

    name: str
    columns: tuple[str, ...]
    reads: frozenset[tuple[str, str]] = frozenset()
    outer_join: bool = False
    filtered: bool = False
    triggers: tuple[Trigger, ...] = ()
    kind: str = "view"
    owner: str = ""


@dataclass(frozen=True)
class Grant:
    """A role's privileges on an object; `kind` is TABLE (views too), SEQUENCE or SCHEMA."""

    role: str
    relation: str
    privileges: frozenset[str]
    kind: str = "TABLE"


@dataclass(frozen=True)
class Pointing:
    """A foreign key of any table that references one of the contract's. `nullable`: its columns all allow NULL."""

    schema: str
    table: str
    key: ForeignKey
    nullable: bool
    kind: str = "table"


@dataclass(frozen=True)
class Allowance:
    """A finding this site has decided to live without: it is not demanded."""

    id: str
    object: str


@dataclass(frozen=True)
class Contract:
    """What the database should be. `readers` are roles that may read everything and change nothing.

    `foreign_keys_of_others` says what becomes of other tables' foreign keys that refuse a delete here: report, cascade,
    or set_null. Where `application_creates`, the application's role may make tables of its own beside these, and
    reference these. `expiry` says which old rows go.
    """

    tables: Mapping[str, Table]
    view: View
    grants: tuple[Grant, ...] = ()
    exceptions: tuple[Allowance, ...] = ()
    readers: tuple[str, ...] = ()
    application_role: str = "ollama"
    application_creates: bool = True
    foreign_keys_of_others: str = "report"
    schema: str = "public"
    expiry: tuple[ExpiryRule, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """What the database is, in one schema.

    `owner` owns most of the demanded tables (else the database); `user` is who looks, as a `superuser` or not. `names`
    are all the relations' names of the schema, which a new object must not take. Of tables and views that the contract
    does not name, only kind, owner and number of rows are known. What belongs to an extension is not in it; of
    functions, sequences and the like (`extras`) only those that nothing of the contract needs.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    missing_grants: tuple[Grant, ...] = ()
    schema: str = "public"
    owner: str = ""
    user: str = ""
    superuser: bool = False
    names: frozenset[str] = frozenset()
    extras: tuple[Extra, ...] = ()
    pointing: tuple[Pointing, ...] = ()

    @property
    def heir(self) -> str:
        """Who gets the functions that a superuser makes; else no other role could ever replace or restore them."""
        return self.owner if self.superuser and self.owner != self.user else ""
