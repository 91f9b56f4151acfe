"""The kinds of endpoints found in the field, and how many of each a generated database has.

This is the generator's own arithmetic: everything a check should count follows from the flags of a kind and its
number of rows, without asking the database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

ENDPOINTS, MODELS, BENCHMARKS, CHATS = 50_000, 120_000, 200_000, 20_000
FEWEST_ENDPOINTS, FEWEST_CHATS, FEWEST_DEAD = 200, 3_000, 2_000
FEWEST_OF_A_KIND = 2


@dataclass(frozen=True)
class Kind:
    """One kind of endpoint; `share` is its part of a thousand endpoints."""

    name: str
    share: float
    verified: Optional[int] = 1
    dated: bool = True  # has a verification_date
    linked: bool = True  # has a row in verified_endpoints
    link_dated: bool = True
    is_honeypot: Optional[bool] = False
    is_active: Optional[bool] = True
    scanned: bool = True  # has a scan_date
    checked: bool = True  # has a last_check_date


KINDS = (
    # Sound ones. The first is also the kind of endpoint 1, which is 127.0.0.1:11434.
    Kind("sound", 300),
    Kind("sound_flags_null", 2, is_honeypot=None, is_active=None),
    Kind("failed", 90, verified=2, linked=False),
    Kind("failed_undated", 30, verified=2, dated=False, linked=False),
    Kind("honeypot", 40, verified=0, dated=False, linked=False, is_honeypot=True),
    Kind("inactive", 80, verified=0, linked=False, is_active=False),
    Kind("unverified_flags_null", 5, verified=0, dated=False, linked=False, is_honeypot=None, is_active=None),
    Kind("verified_null", 4, verified=None, dated=False, linked=False),
    # Dates that are missing.
    Kind("date_in_link", 6, dated=False),
    Kind("date_in_scan", 4, dated=False, link_dated=False),
    Kind("date_nowhere", 1, dated=False, link_dated=False, scanned=False),
    Kind("date_in_scan_unlinked", 3, dated=False, linked=False),
    Kind("date_nowhere_unlinked", 1, dated=False, linked=False, scanned=False),
    Kind("check_null", 8, checked=False),
    Kind("check_null_failed", 3, verified=2, linked=False, checked=False),
    Kind("check_null_unverified", 20, verified=0, dated=False, linked=False, checked=False),
    Kind("check_null_no_dates", 1, verified=0, dated=False, linked=False, scanned=False, checked=False),
    Kind("all_dates_null", 1, dated=False, link_dated=False, scanned=False, checked=False),
    # Links that are missing, and links that should not be.
    Kind("unlinked", 6, linked=False),
    Kind("unlinked_inactive", 1, linked=False, is_active=False),
    Kind("linked_failed", 4, verified=2),
    Kind("linked_failed_honeypot", 1, verified=2, is_honeypot=True),
    Kind("linked_unverified", 3, verified=0, dated=False),
    Kind("linked_unverified_flags_null", 1, verified=0, dated=False, is_honeypot=None, is_active=None),
    Kind("linked_null", 1, verified=None, dated=False),
    Kind("linked_unverified_honeypot", 1, verified=0, is_honeypot=True),
    Kind("linked_unverified_inactive", 1, verified=0, is_active=False),
    Kind("linked_null_honeypot", 0.5, verified=None, is_honeypot=True),
    # Flags that contradict each other.
    Kind("honeypot_linked", 3, is_honeypot=True),
    Kind("honeypot_unlinked", 1, linked=False, is_honeypot=True),
    Kind("honeypot_undated", 1, dated=False, is_honeypot=True),
    Kind("honeypot_inactive", 1, is_honeypot=True, is_active=False),
    Kind("inactive_linked", 4, is_active=False),
    Kind("inactive_undated", 1, dated=False, is_active=False),
    # Values that nobody defined.
    Kind("odd_linked", 0.2, verified=7),
    Kind("odd_unlinked", 0.2, verified=-1, linked=False),
    # Whatever is left over.
    Kind("unverified", 0, verified=0, dated=False, linked=False),
)


@dataclass(frozen=True)
class Plan:
    """How many rows a generated database gets. `slots` gives each kind its first and one-past-last slot."""

    endpoints: int
    stride: int
    models: int
    junk_models: int
    benchmarks: int
    chats: int
    slots: dict[str, tuple[int, int]]

    def count(self, kind: str) -> int:
        """Number of endpoints of that kind."""
        first, end = self.slots[kind]
        return end - first

    def ids(self, kind: str) -> list[int]:
        """The ids of all endpoints of that kind, in ascending order."""
        return sorted(1 + slot * self.stride % self.endpoints for slot in range(*self.slots[kind]))


def make_plan(
    scale: float, models_each: float = MODELS / ENDPOINTS, benchmarks_each: float = BENCHMARKS / ENDPOINTS
) -> Plan:
    """The plan for a scale; 1 is the full size, and every kind is there at any scale.

    The other two say how many models and benchmark results there are for each endpoint.
    """
    endpoints = max(FEWEST_ENDPOINTS, round(ENDPOINTS * scale))
    slots: dict[str, tuple[int, int]] = {}
    first = 0
    for kind in KINDS[:-1]:
        size = max(FEWEST_OF_A_KIND, round(endpoints * kind.share / 1000))
        slots[kind.name] = (first, first + size)
        first += size
    slots[KINDS[-1].name] = (first, endpoints)
    models = round(endpoints * models_each)
    junk = max(FEWEST_DEAD, models * 2 // 3)
    while math.gcd(7927, models + junk) != 1:
        junk += 1
    return Plan(
        endpoints=endpoints,
        stride=7919 if endpoints % 7919 else 7907,
        models=models,
        junk_models=junk,
        benchmarks=round(endpoints * benchmarks_each),
        chats=max(FEWEST_CHATS, round(CHATS * scale)),
        slots=slots,
    )
