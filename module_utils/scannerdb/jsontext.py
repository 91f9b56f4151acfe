"""The one reader of JSON that lies in files, comments and settings: bounded in size, depth and numbers. Pure.

Such text may have been written by anybody who can write there. What is beyond the bounds is damaged, like what is no
JSON at all.
"""

from __future__ import annotations

import json
import math
from typing import Any

LONGEST = 256 * 1024 * 1024
DEEPEST = 40
LONGEST_NUMBER = 19  # digits and sign: about what PostgreSQL's bigint holds


def read_json(text: str) -> Any:
    """The value of a JSON text; raises `ValueError` where it is none, or none of ours."""
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("a number in it is too large")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number in it is too large")
    return number


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")
