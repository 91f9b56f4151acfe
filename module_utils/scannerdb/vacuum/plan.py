"""What may be asked for, and what is to be done about it: the words that deciding and doing share. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..argspec import PROFILES
from ..errors import InvalidInput
from .measure import TableMeasure
from .options import METHODS, OTHER_NAMES, VacuumOptions

MIB = 1 << 20
REWRITE_BYTES_PER_S = 50 * MIB  # a cautious guess at how fast VACUUM FULL copies, until a run has been timed

REPACK = "repack"  # REPACK (CONCURRENTLY) of PostgreSQL 19
PG_REPACK = "pg_repack"
REWRITES = ("full", REPACK, PG_REPACK)

SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE: stops no reader and no writer"
MOMENTS = "SHARE UPDATE EXCLUSIVE or less while it works; ACCESS EXCLUSIVE for moments, under the lock budget"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE: stops every reader and writer of the table"
LOCKS = (SHARE_UPDATE_EXCLUSIVE, MOMENTS, ACCESS_EXCLUSIVE)  # the strongest last


@dataclass(frozen=True)
class OnlineRewrite:
    """How this server can rewrite a table beside its users: `kind` is REPACK, PG_REPACK or '' (`why_not` says why).

    `program` is the path of pg_repack.
    """

    kind: str = ""
    program: str = ""
    why_not: str = "this server has no means to rewrite a table online"


@dataclass(frozen=True)
class VacuumRequest:
    """What was asked for. `compaction` allows rebuilding tables and indexes, `allow_exclusive` even by VACUUM FULL.

    `rate` is how many bytes a second a rewrite is expected to copy.
    """

    method: str = VacuumOptions.method
    compaction: bool = False
    allow_exclusive: bool = False
    online: OnlineRewrite = field(default_factory=OnlineRewrite)
    rate: float = REWRITE_BYTES_PER_S


@dataclass(frozen=True)
class Action:
    """One thing to do to one table: analyze, vacuum, full, repack, pg_repack, reindex (of `index`), drop_index
    (likewise) or drop_repack.

    `room` is the free disk it needs, in bytes; `lock_s` how long it is expected to lock everybody out, in seconds.
    `instead` is what the table gets where this is refused or fails: a rewrite stands for the VACUUM that is due too.
    """

    kind: str
    reasons: tuple[str, ...]
    lock: str = SHARE_UPDATE_EXCLUSIVE
    index: str = ""
    freeze: bool = False
    forced: bool = False  # asked for by name, so done without need
    room: int = 0
    lock_s: float = 0.0
    instead: tuple[Action, ...] = ()

    @property
    def words(self) -> str:
        """What it is, for people: its kind, and the index."""
        return f"{self.kind} {self.index}".strip()


@dataclass(frozen=True)
class TableDecision:
    """What is to be done to a table, in order, and what is not and why (`notes`)."""

    measure: TableMeasure
    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = field(default=())


def vacuum_request_for(method: str, profile: str, allow_exclusive: bool) -> VacuumRequest:
    """The request behind the options; raises `InvalidInput` where they make no sense."""
    name = OTHER_NAMES.get(method, method)
    if name not in METHODS:
        raise InvalidInput(f"{method!r} is not a method of vacuum.", f"Choose one of {', '.join(METHODS)}.")
    if profile not in PROFILES:
        raise InvalidInput(f"{profile!r} is not a profile.", f"Choose one of {', '.join(PROFILES)}.")
    if name == "full" and not allow_exclusive:
        raise InvalidInput(
            "Method full (VACUUM FULL) stops every reader and writer of a table while it copies it.",
            "Set scannerdb_vacuum_allow_exclusive to true to allow that, or choose method repack or compact.",
        )
    compaction = name == "compact" or (name == "auto" and profile == "monthly")
    return VacuumRequest(name, compaction, allow_exclusive)


def pretty(size: float) -> str:
    """Bytes for people."""
    for limit, unit in ((1 << 30, "GB"), (MIB, "MB"), (1 << 10, "kB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size:.0f} bytes"
