"""Numbers and texts of options that nothing could work with are refused in a sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scannerdb.argspec import ConnectionOptions
from scannerdb.errors import InvalidInput
from scannerdb.option import argument_spec, ensure_within_bounds

DEFAULTS = {name: spec["default"] for name, spec in argument_spec(ConnectionOptions).items()}
DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]
BAD = [
    {"login_port": 0},
    {"login_port": 70000},
    {"lock_deadline_s": 10**12},
    {"lock_deadline_s": -1},
    {"lock_timeout_ms": 2**31},
    {"retention_days": 10**9},
    {"keep_hours": math.nan},
    {"keep_hours": math.inf},
    {"free_bytes": 10**40},
    {"login_db": "a\0b"},
    {"login_password": "a\udc80"},
    {"contract_overlay": {"tables": ["a\0b"]}},
    {"thresholds": {"bloat": 1e300}},
    {"thresholds": {"bloat": DEEP}},
]


@pytest.mark.parametrize("given", BAD, ids=str)
def test_nonsense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(given))):
        ensure_within_bounds({**DEFAULTS, **given})


def test_what_people_give_is_not() -> None:
    ensure_within_bounds(
        {**DEFAULTS, "retention_days": 36500, "lock_wait_s": 86400, "nice": 19, "free_bytes": 10**15, "flag": True}
    )
