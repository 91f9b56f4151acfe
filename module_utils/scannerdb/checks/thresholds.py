"""From where on something is worth a finding: the numbers behind `scannerdb_check_thresholds`. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput

VARIABLE = "scannerdb_check_thresholds"


@dataclass(frozen=True)
class CheckThresholds:
    """The limits of the checks; what dead rows and bloat are is decided by the vacuum job's own limits."""

    future_minutes: float = 60  # a date further ahead than clocks may differ
    metadata_drift_rows: float = 0  # how far a counter in metadata may be from the truth
    unindexed_rows: float = 10_000  # a foreign key without an index matters from so many rows on
    statistics_rows: float = 50  # a smaller table may go without statistics
    xid_warning_percent: float = 25  # of the 2 billion transactions after which the server refuses writes
    xid_critical_percent: float = 75
    sequence_warning_percent: float = 50  # of what the sequence and its column can hold
    sequence_critical_percent: float = 85
    sequence_warning_days: float = 365  # or full within so many days at the present pace
    connections_percent: float = 80  # of the slots that ordinary roles can have
    disk_free_percent: float = 10
    growth_percent: float = 20  # since the oldest run of the last week
    holding_minutes: float = 60  # a transaction older than this keeps vacuum from its work
    holding_transactions: float = 1_000_000  # so far behind, a slot or a standby keeps vacuum from its work
    slot_wal_mb: float = 512  # an inactive slot may keep so much WAL
    min_statistics_days: float = 14  # an index that is used once a week looks idle before
    support_days: float = 180  # how long before its end of support a version is mentioned


NAMES = tuple(field.name for field in dataclasses.fields(CheckThresholds))
PAIRS = (
    ("xid_warning_percent", "xid_critical_percent"),
    ("sequence_warning_percent", "sequence_critical_percent"),
)


def parse_thresholds(given: Mapping[str, Any] | None) -> CheckThresholds:
    """Out of `scannerdb_check_thresholds`; raises `InvalidInput` that names what is wrong. Numbers may be strings."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"{VARIABLE} must be a dictionary, not {given!r}.", "For example {disk_free_percent: 15}.")
    known: dict[str, float] = {}
    for name, value in (given or {}).items():
        if name not in NAMES:
            raise InvalidInput(f"{VARIABLE} has no entry {name!r}.", f"It knows {', '.join(NAMES)}.")
        known[name] = _number(name, value)
    limits = CheckThresholds(**known)
    for low, high in PAIRS:
        if getattr(limits, low) > getattr(limits, high):
            raise InvalidInput(
                f"{VARIABLE}: {low} ({getattr(limits, low):g}) is above {high} ({getattr(limits, high):g}).",
                "A warning has to come first.",
            )
    return limits


def _number(name: str, value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number) or number < 0:
        raise InvalidInput(f"{VARIABLE}: {name} must be a number of 0 or more, not {value!r}.")
    if name.endswith("_percent") and name != "growth_percent" and number > 100:
        raise InvalidInput(f"{VARIABLE}: {name} is a share of a whole, so at most 100, not {value!r}.")
    return number
