"""The one reader of JSON that lies in files, comments and settings: bounded in size, depth and numbers.

Such text may have been written by anybody who can write there. What is beyond the bounds is damaged, like what is no
JSON at all.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

LONGEST = 256 * 1024 * 1024
LONGEST_CONFIG = 16 * 1024 * 1024  # of what the roles write for the runner, and of a run's progress
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


def read_json_file(path: Path | str, longest: int = LONGEST) -> Any:
    """The value of a file of ours; `ValueError` as above, also where it is longer than `longest` bytes or no file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no file")
        data = stream.read(longest + 1)
    if len(data) > longest:
        raise ValueError(f"it is longer than {longest} bytes")
    return read_json(data.decode("utf-8"))


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
