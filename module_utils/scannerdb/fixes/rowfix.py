"""Fixes of rows that are not driven by conditions over one table's ids (data.py): what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ..lockbudget import Budget, LockRecord
from .journal import JournalEntry
from .rights import Writer


@dataclass(frozen=True)
class At:
    """What such a fix works with: the rights, the journal, the lock budget, and whoever hears of its rows.

    `touch` is called once something is in the database that stays there although the fix fails.
    """

    writer: Writer
    entry: JournalEntry
    budget: Budget
    record: LockRecord
    batch_rows: int
    progress: Callable[[int], None]
    pause: Callable[[], None] = lambda: None
    touch: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class RowFix(ABC):
    """One of them. `tables` are those that it reads or writes; `run` returns how many rows it changed."""

    id: str
    tables: tuple[str, ...]

    @abstractmethod
    def run(self, at: At) -> int:
        """Do it; each batch is one transaction."""
