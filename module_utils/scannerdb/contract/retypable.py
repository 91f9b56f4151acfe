"""Types of columns, by PostgreSQL's own names: which of them a fix turns into which. Pure."""

from __future__ import annotations

import re

TIMESTAMPTZ, TIMESTAMP, BOOLEAN = "timestamp with time zone", "timestamp without time zone", "boolean"
INTEGERS = ("smallint", "integer", "bigint")
_VARYING = re.compile(r"^character varying\((\d+)\)$")


def is_text(kind: str) -> bool:
    """True for the types of text that a date is read from, and written back to."""
    return kind in ("text", "character varying") or bool(_VARYING.match(kind))


def length_of(kind: str) -> int | None:
    """How many letters a text holds; None for any number."""
    found = _VARYING.match(kind)
    return int(found[1]) if found else None


def convertible(have: str, want: str) -> bool:
    """True where a column of one type can be turned into the other."""
    if want == TIMESTAMPTZ:
        return is_text(have) or have == TIMESTAMP
    return want == BOOLEAN and have in INTEGERS


def needs_zone(have: str) -> bool:
    """True for a type whose values may leave their time zone to the reader."""
    return is_text(have) or have == TIMESTAMP


def too_short(have: str) -> bool:
    """True for a text that cannot hold a date, so that what is written later could not be taken back into it."""
    length = length_of(have)
    return length is not None and length < len("YYYY-MM-DDTHH:MM:SSZ")
