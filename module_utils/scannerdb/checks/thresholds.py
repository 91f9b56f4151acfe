"""From where on something is worth a finding: each number is declared beside its check. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput

VARIABLE = "scannerdb_check_thresholds"


@dataclass(frozen=True)
class Threshold:
    """One of the numbers behind `scannerdb_check_thresholds`; a share of a whole ends at 100.

    `above` is the threshold of the warning that comes first.
    """

    name: str
    default: float
    meaning: str
    is_share: bool
    above: Threshold | None


THRESHOLDS: dict[str, Threshold] = {}  # those of the files that were imported; registry.py has all


def threshold(
    name: str, default: float, meaning: str, *, share: bool | None = None, above: Threshold | None = None
) -> Threshold:
    """Declare a threshold; one in percent is a share unless it says otherwise."""
    is_share = name.endswith("_percent") if share is None else share
    return THRESHOLDS.setdefault(name, Threshold(name, default, meaning, is_share, above))


@dataclass(frozen=True)
class CheckThresholds:
    """The limits of the checks; what dead rows and bloat are is decided by the vacuum job's own limits."""

    given: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, one: Threshold) -> float:
        return self.given.get(one.name, one.default)


def parse_thresholds(given: Mapping[str, Any] | None, known: Mapping[str, Threshold]) -> CheckThresholds:
    """Out of `scannerdb_check_thresholds`; raises `InvalidInput` that names what is wrong. Numbers may be strings."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"{VARIABLE} must be a dictionary, not {given!r}.", "For example {disk_free_percent: 15}.")
    numbers: dict[str, float] = {}
    for name, value in (given or {}).items():
        if name not in known:
            raise InvalidInput(f"{VARIABLE} has no entry {name!r}.", f"It knows {', '.join(known)}.")
        numbers[name] = _number(known[name], value)
    limits = CheckThresholds(numbers)
    for high in known.values():
        if high.above and limits[high.above] > limits[high]:
            low = high.above
            raise InvalidInput(
                f"{VARIABLE}: {low.name} ({limits[low]:g}) is above {high.name} ({limits[high]:g}).",
                "A warning has to come first.",
            )
    return limits


def _number(one: Threshold, value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number) or number < 0:
        raise InvalidInput(f"{VARIABLE}: {one.name} must be a number of 0 or more, not {value!r}.")
    if one.is_share and number > 100:
        raise InvalidInput(f"{VARIABLE}: {one.name} is a share of a whole, so at most 100, not {value!r}.")
    return number
