"""What a check may look at."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..connection import Composable, Connection, Row, fetch
from ..expiry import ExpiryRule
from ..finding import Finding
from ..runs import utc_now
from .thresholds import CheckThresholds


@dataclass(frozen=True)
class Reference:
    """A foreign key the contract demands: `table.column` points at `parent.parent_column`."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True)
class StandbyUse:
    """Which indexes (schema, name) queries on standbys have used, and how standbys and primary are set.

    `seen` are the standbys that were looked at, with how long each has counted; `unseen` the others, with why not.
    """

    used: frozenset[tuple[str, str]] = frozenset()
    seen: Mapping[str, str] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    own_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """The connection, and what is known of the schema.

    `tables` holds the columns of every table that exists, with their types. `unproven` are the demanded references
    that no validated foreign key proves, `unguarded` the demanded keys (table, columns) that no unique index proves.
    `demanded_indexes` must not be called redundant or unused; `index_columns` are (table, columns) for which the
    contract speaks for itself. `stamps` are the dates that a trigger moves, with the columns whose change it follows.
    `role` is the application's, which makes tables of its own where `creates`; `readers` are those that must not write,
    `past` what earlier runs saw (history.py), the newest last.
    `standbys` tells how they use the indexes. `reader` is what reads the tables themselves. `expiry` are the site's
    rules for old rows.
    `counts` takes what one pass over a table learns for another check, by the name of its counter in `metadata`;
    `seen` takes what this run leaves for the next: the database's `bytes`, and the `sequences`.
    """

    conn: Connection
    schema: str
    tables: Mapping[str, Mapping[str, str]]
    unproven: tuple[Reference, ...] = ()
    unguarded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    demanded_indexes: frozenset[str] = frozenset()
    index_columns: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    contract_tables: frozenset[str] = frozenset()
    stamps: Mapping[str, frozenset[str]] = field(default_factory=dict)
    role: str = "ollama"
    creates: bool = True
    readers: tuple[str, ...] = ()
    standbys: StandbyUse = field(default_factory=StandbyUse)
    limits: CheckThresholds = field(default_factory=CheckThresholds)
    version: int = 0
    now: datetime.datetime = field(default_factory=utc_now)
    past: Sequence[Mapping[str, Any]] = ()
    counts: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    reader: Callable[[Composable], list[Row]] | None = None
    expiry: Sequence[ExpiryRule] = ()

    def read(self, query: Composable) -> list[Row]:
        """The rows of a query over the tables themselves, which may run their owners' code (numbers and texts only)."""
        return self.reader(query) if self.reader else fetch(self.conn, query)

    def number(self, query: Composable) -> int:
        """The one number that such a query returns."""
        return int(next(iter(self.read(query)[0].values())))


Check = Callable[[Context], Iterator[Finding]]


def place(schema: str, *names: str) -> str:
    """An object for people: its schema only where that is not public."""
    return ".".join(names if schema == "public" else (schema, *names))


def printable(text: str) -> str:
    """Without the control characters that no page may hold."""
    return "".join(letter for letter in text if letter >= " " or letter in "\n\t")


def amount(number: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1024 or unit == "GB":
            break
        number /= 1024
    digits = 0 if unit == "bytes" or abs(number) >= 100 else 1
    return f"{number:.{digits}f} {unit}"
