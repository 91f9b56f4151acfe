"""What a check may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..connection import Connection
from ..finding import Finding


@dataclass(frozen=True)
class Reference:
    """A foreign key the contract demands: `table.column` points at `parent.parent_column`."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True)
class Context:
    """The connection, and what is known of the schema.

    `tables` holds the columns of every table that exists. `unproven` are the demanded references that no validated
    foreign key proves. `demanded_indexes` must not be called redundant or unused.
    """

    conn: Connection
    schema: str
    tables: Mapping[str, frozenset[str]]
    unproven: tuple[Reference, ...] = ()
    demanded_indexes: frozenset[str] = frozenset()


Check = Callable[[Context], Iterator[Finding]]
