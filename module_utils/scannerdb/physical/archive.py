"""Arithmetic over a WAL archive: names of segments and their numbers, positions, ranges without a hole. Pure.

A segment has the same number on every timeline; its name is made of the timeline and of that number, split where the
segment's size says. A range is what lies in the archive from its first to its last number with nothing missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidInput

SEGMENT_BYTES = 16 * 1024 * 1024  # what initdb chooses
NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
LOG_BYTES = 1 << 32  # what the middle part of a name counts


def ensure_segment_size(segment_bytes: int) -> int:
    """The size, where it is one that a cluster can have; raises `InvalidInput`."""
    if not 1 << 20 <= segment_bytes <= 1 << 30 or segment_bytes & (segment_bytes - 1):
        raise InvalidInput(
            f"A WAL segment of {segment_bytes} bytes is none that PostgreSQL knows.",
            "It is a power of two from 1 MB to 1 GB: SHOW wal_segment_size.",
        )
    return segment_bytes


def parse_lsn(text: str) -> int:
    """The position that a text such as 0/3000028 names; raises `InvalidInput`."""
    match = LSN.fullmatch(text.strip())
    if not match:
        raise InvalidInput(f"{text[:40]!r} is no position in the WAL.", "One looks like 0/3000028.")
    return int(match.group(1), 16) << 32 | int(match.group(2), 16)


def lsn_text(lsn: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_of(lsn: int, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The number of the segment that holds the position."""
    return lsn // segment_bytes


def start_of(number: int, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The first position of a segment."""
    return number * segment_bytes


def segment_name(timeline: int, number: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The file's name: 24 hexadecimal digits."""
    per_log = LOG_BYTES // segment_bytes
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def parse_segment(name: str, segment_bytes: int = SEGMENT_BYTES) -> tuple[int, int]:
    """Timeline and number of a segment by its name; raises `InvalidInput` where no segment of that size has it."""
    match = NAME.fullmatch(name)
    per_log = LOG_BYTES // ensure_segment_size(segment_bytes)
    if not match or int(match.group(3), 16) >= per_log:
        raise InvalidInput(f"{name[:40]!r} is no WAL segment of {segment_bytes >> 20} MB.")
    timeline, log, rest = (int(part, 16) for part in match.groups())
    return timeline, log * per_log + rest


@dataclass(frozen=True, order=True)
class Range:
    """Numbers from `first` to `last`, both in it."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many segments these are."""
        return self.last - self.first + 1

    def covers(self, first: int, last: int) -> bool:
        """Whether all of these are in it."""
        return self.first <= first and last <= self.last


def ranges(numbers: Iterable[int]) -> list[Range]:
    """The numbers as ranges without a hole, in order; what comes twice counts once."""
    found: list[Range] = []
    for number in sorted(set(numbers)):
        if found and found[-1].last == number - 1:
            found[-1] = Range(found[-1].first, number)
        else:
            found.append(Range(number, number))
    return found


def range_from(number: int, present: Iterable[Range]) -> Range | None:
    """What follows without a hole from that number on; None where it is not there itself."""
    return next((Range(number, found.last) for found in present if found.covers(number, number)), None)
