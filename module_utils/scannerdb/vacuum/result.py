"""What came of an action, and what is said on the way. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..connection import Options
from ..errors import ScannerDbError
from ..lockbudget import Budget, LockRecord
from .plan import Action, TableDecision


class Blocked(ScannerDbError):
    """Somebody holds a lock that the action needs; nothing was done."""


class Refused(ScannerDbError):
    """The action was not begun, or given up, for a reason that a second try would meet again."""


@dataclass
class ActionResult:
    """What came of one action. `seconds` is its time; `lock` the strong lock it took, if it took one."""

    decision: TableDecision
    action: Action
    done: bool = False
    seconds: float = 0.0
    lock: LockRecord = field(default_factory=LockRecord)
    blocked: bool = False  # worth a second try
    note: str = ""  # why it was not done, or not fully
    error: str = ""  # what failed: worth failing the job for
    instead: str = ""  # what was done in its place, in words

    @property
    def why_not(self) -> str:
        """Why it was not done, and what was instead."""
        return (self.error or self.note) + (f"; done instead: {self.instead}" if self.instead else "")


@dataclass(frozen=True)
class VacuumStep:
    """What is about to be done, for whoever watches."""

    number: int
    total: int
    decision: TableDecision
    action: Action


def _quietly(*_: Any, **__: Any) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Means:
    """What doing needs besides the connection.

    `gate` says why an action may not be begun now, or ''. `watch` hears of each step, `tell` of how far it is (phase,
    done, total), `finished` of each action that was done. `free_bytes` is what the operator says of the server's disk,
    where nobody can look; 0 for nothing.
    """

    options: Options
    budget: Budget = field(default_factory=Budget)
    program: str = ""  # pg_repack
    gate: Callable[[Action], str] = field(default=lambda action: "")
    watch: Callable[[VacuumStep], None] = field(default=_quietly)
    tell: Callable[[str, int, int], None] = field(default=_quietly)
    free_bytes: int = 0
    finished: Callable[[ActionResult], None] = field(default=_quietly)
