"""Where in the WAL a target lies, along each window: between which two transactions recovery is to end."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import RestoreRefused
from .archive import Range, lsn_text, segment_of
from .target import BEFORE_XID, LSN, NAME, XID, Landing, Target
from .transactions import Ending, Line, Point, WalReader
from .window import PhysicalBackup, Stretch, Window

ONE_SECOND = datetime.timedelta(seconds=1)  # a backup's end is told in whole seconds


@dataclass(frozen=True)
class Track:
    """A window, its timeline's line, and when each segment along it was archived, by number."""

    window: Window
    line: Line
    archived: Mapping[int, datetime.datetime]


def landings(target: Target, tracks: Sequence[Track], reader: WalReader) -> list[Landing]:
    """Where the target lies along each window that reaches it; reads as little of the WAL as that takes."""
    found = []
    for track in tracks:
        for stretch in track.window.stretches:
            landing = _landing(target, track, stretch, reader)
            if landing:
                found.append(landing)
    return found


def _landing(target: Target, track: Track, stretch: Stretch, reader: WalReader) -> Optional[Landing]:
    if target.moment:
        return _at_moment(target.moment, track, stretch, reader)
    if target.kind == LSN:
        return _at_position(target.number, track, stretch, reader)
    if target.kind == NAME:
        point = _point(target, track, stretch, reader)
        return _at_position(point.lsn, track, stretch, reader) if point else None
    if target.kind in (XID, BEFORE_XID):
        ending = _transaction(target, track, stretch, reader)
        behind = target.kind == XID  # of its commit, so with it
        return _at_position(ending.lsn + behind, track, stretch, reader) if ending else None
    return None


def _at_moment(moment: datetime.datetime, track: Track, stretch: Stretch, reader: WalReader) -> Optional[Landing]:
    """Before the first transaction that was committed after the moment, as PostgreSQL would stop there."""
    numbers = stretch.segments
    begin = next((n for n in _each(numbers) if track.archived[n] > moment), numbers.last)
    while begin > numbers.first and not any(one.at <= moment for one in reader.endings(track.line, begin)):
        begin -= 1
    last_in = last_ended = None
    for ending in _endings(track, Range(begin, numbers.last), reader):
        if ending.committed and ending.at > moment:
            base = _base(stretch, ending.lsn)
            if base is None or (last_in is None and base.stopped + ONE_SECOND > moment):
                return None
            return _made(track, base, ending.lsn, last_in, ending, last_ended)
        last_ended = ending
        last_in = ending if ending.committed else last_in
    return None  # PostgreSQL ends a recovery to a time only where a later transaction is in the WAL


def _at_position(lsn: int, track: Track, stretch: Stretch, reader: WalReader) -> Optional[Landing]:
    size = reader.segment_bytes
    number, base = segment_of(lsn, size), _base(stretch, lsn)
    if base is None or not stretch.segments.covers(number, number):
        return None
    last_in = last_ended = first_out = None
    for current in range(number, base.start_segment - 1, -1):
        before = [e for e in reader.endings(track.line, current) if e.lsn < lsn]
        last_ended = last_ended or (before[-1] if before else None)
        last_in = next((one for one in reversed(before) if one.committed), None)
        if last_in:
            break
    for ending in _endings(track, Range(number, stretch.segments.last), reader):
        if ending.committed and ending.lsn >= lsn:
            first_out = ending
            break
    return _made(track, base, lsn, last_in, first_out, last_ended)


def _made(
    track: Track,
    base: PhysicalBackup,
    stop: int,
    last_in: Optional[Ending],
    first_out: Optional[Ending],
    last_ended: Optional[Ending],
) -> Landing:
    written_by = track.line.wrote(last_in.lsn) if last_in else 0
    return Landing(track.window, base, stop, last_in, first_out, last_ended, written_by)


def _base(stretch: Stretch, lsn: int) -> Optional[PhysicalBackup]:
    """The newest backup that is consistent there."""
    fitting = [backup for backup in stretch.backups if backup.stop_lsn <= lsn]
    return fitting[-1] if fitting else None


def _transaction(target: Target, track: Track, stretch: Stretch, reader: WalReader) -> Optional[Ending]:
    for number in reversed(_each(stretch.segments)):
        for ending in reader.endings(track.line, number):
            if ending.xid == target.number:
                if not ending.committed:
                    raise RestoreRefused(f"Transaction {ending.xid} was rolled back: nothing of it was ever seen.")
                return ending
    return None


def _point(target: Target, track: Track, stretch: Stretch, reader: WalReader) -> Optional[Point]:
    found = [
        point
        for number in _each(stretch.segments)
        for point in reader.points(track.line, number)
        if point.name == target.name
    ]
    if len(found) > 1:
        places = ", ".join(f"lsn:{lsn_text(point.lsn)}" for point in found)
        raise RestoreRefused(f"There are several restore points named {target.name!r}: {places}.", "Name the position.")
    return found[0] if found else None


def _endings(track: Track, numbers: Range, reader: WalReader) -> Iterator[Ending]:
    for number in _each(numbers):
        yield from reader.endings(track.line, number)


def _each(numbers: Range) -> range:
    return range(numbers.first, numbers.last + 1)
