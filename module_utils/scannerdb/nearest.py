"""The nearest known name in the place of a misspelt one. Pure; filters on the controller load this file by itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What a sentence about an unknown name ends with: the nearest known one, if any is near, and the full stop.

    A prefix that all of them have would make any two alike.
    """
    rest = [one[len(prefix) :] for one in sorted(known)]
    near = difflib.get_close_matches(name[len(prefix) :], rest, 1)
    return f"; {prefix}{near[0]} is the nearest that there is." if near else "."
