"""What can be restored: from backups, the archive's segments and the history of timelines. Pure.

A *window* belongs to a timeline. It is made of *stretches*: each begins where the first usable backup became consistent
and ends with the last segment that follows without a hole. Between two stretches lies a *gap*, whose moments nobody
can restore. The time of a segment is when it came into the archive: its last commit is never later.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import BackupInvalid
from .archive import SEGMENT_BYTES, Range, parse_lsn, range_from, ranges, segment_of

ROUNDED = datetime.timedelta(seconds=1)  # a backup's times are whole seconds, cut off
HISTORY_LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)(?:\s.*)?")


@dataclass(frozen=True)
class PhysicalBackup:
    """A backup of a whole cluster. `prior` is the one it builds upon, '' for a full one."""

    label: str
    kind: str  # full, diff or incr
    started: datetime.datetime
    stopped: datetime.datetime
    start_lsn: int
    stop_lsn: int
    start_segment: int
    stop_segment: int
    timeline: int
    size_bytes: int
    repository_bytes: int
    page_errors: bool = False
    prior: str = ""
    archive_id: str = ""  # which cluster of the stanza: another one after pg_upgrade
    repository: int = 1
    references: tuple[str, ...] = ()  # every backup whose files it needs
    delta_bytes: int = 0  # what it added to the repository

    @property
    def consistent(self) -> datetime.datetime:
        """The first moment to which it can be restored."""
        return self.stopped + ROUNDED


@dataclass(frozen=True)
class ArchiveSegment:
    """One segment in the archive, with its file's name there."""

    timeline: int
    number: int
    archived: datetime.datetime
    name: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class Fork:
    """Where a timeline left its parent."""

    parent: int
    lsn: int


@dataclass(frozen=True)
class Gap:
    """Moments after `begins` and before `ends` cannot be restored.

    `ends` is None where no backup follows yet, on the timeline or on a newer one.
    """

    begins: datetime.datetime
    ends: datetime.datetime | None
    missing: Range  # the numbers that are not in the archive


@dataclass(frozen=True)
class Stretch:
    """Every moment of it can be restored, from one of its `backups` and the segments of it."""

    begins: datetime.datetime
    ends: datetime.datetime
    backups: tuple[PhysicalBackup, ...]  # oldest first
    segments: Range

    def holds(self, moment: datetime.datetime) -> bool:
        """Whether that moment can be restored."""
        return self.begins <= moment <= self.ends


@dataclass(frozen=True)
class Window:
    """What can be restored along one timeline (and its ancestors up to where it left them)."""

    timeline: int
    stretches: tuple[Stretch, ...]  # in order of time; at least one
    gaps: tuple[Gap, ...] = ()
    archive_id: str = ""
    repository: int = 1

    @property
    def begins(self) -> datetime.datetime:
        """The first moment that can be restored."""
        return self.stretches[0].begins

    @property
    def ends(self) -> datetime.datetime:
        """When the last segment that can be reached was archived."""
        return self.stretches[-1].ends

    @property
    def first_backup(self) -> PhysicalBackup:
        """The backup with which the window begins."""
        return self.stretches[0].backups[0]

    @property
    def last_backup(self) -> PhysicalBackup:
        """The newest backup in it."""
        return self.stretches[-1].backups[-1]

    @property
    def open_gap(self) -> Gap | None:
        """The gap that no backup has closed: from there on nothing can be restored."""
        return next((gap for gap in self.gaps if gap.ends is None), None)

    def holds(self, moment: datetime.datetime) -> bool:
        """Whether that moment can be restored."""
        return any(stretch.holds(moment) for stretch in self.stretches)


def parse_history(text: str) -> tuple[Fork, ...]:
    """The ancestors of a timeline out of its .history file, oldest first; raises `BackupInvalid`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    forks = []
    for line in lines:
        match = HISTORY_LINE.fullmatch(line)
        if not match:
            raise BackupInvalid(f"A timeline's history has a line that cannot be read: {line[:60]!r}.")
        forks.append(Fork(int(match.group(1)), parse_lsn(match.group(2))))
    return tuple(forks)


def windows(
    backups: Iterable[PhysicalBackup],
    segments: Iterable[ArchiveSegment],
    histories: Mapping[int, Sequence[Fork]],
    segment_bytes: int = SEGMENT_BYTES,
) -> list[Window]:
    """The window of each timeline that has one, oldest timeline first; all of one cluster in one repository."""
    made, present = list(backups), list(segments)
    timelines = {b.timeline for b in made} | {s.timeline for s in present} | set(histories)
    each = (_window(timeline, made, present, histories, segment_bytes) for timeline in sorted(timelines))
    found = [window for window in each if window]
    return [_left_behind(window, found, present) for window in found]


def _left_behind(window: Window, found: Sequence[Window], present: Sequence[ArchiveSegment]) -> Window:
    """The window; its open gap is closed where its timeline was left, and a newer one has a usable backup since.

    A timeline into which WAL still comes was not left.
    """
    opened = window.open_gap
    if opened is None:
        return window
    last = max([opened.begins, *(s.archived for s in present if s.timeline == window.timeline)])
    later = [
        backup.consistent
        for other in found
        for stretch in other.stretches
        for backup in stretch.backups
        if backup.timeline > window.timeline and backup.consistent > last
    ]
    if not later:
        return window
    gaps = (replace(gap, ends=min(later)) if gap.ends is None else gap for gap in window.gaps)
    return replace(window, gaps=tuple(gaps))


def broken_backups(backups: Iterable[PhysicalBackup], segments: Iterable[ArchiveSegment]) -> dict[str, str]:
    """Why a backup cannot be restored at all, by its label."""
    made, present = list(backups), list(segments)
    labels = {backup.label for backup in made}
    reasons = {}
    for backup in made:
        lost = [label for label in {backup.prior, *backup.references} - {""} if label not in labels]
        numbers = ranges(s.number for s in present if s.timeline == backup.timeline)
        if lost:
            reasons[backup.label] = f"it builds upon {sorted(lost)[0]}, which is gone"
        elif not any(found.covers(backup.start_segment, backup.stop_segment) for found in numbers):
            reasons[backup.label] = "the archive lacks WAL that was written while it was made"
    return reasons


def _window(
    timeline: int,
    backups: Sequence[PhysicalBackup],
    segments: Sequence[ArchiveSegment],
    histories: Mapping[int, Sequence[Fork]],
    segment_bytes: int,
) -> Window | None:
    """The window along a timeline, or None where no backup leads there."""
    chain = [*histories.get(timeline, ())]
    path = _path(timeline, chain, segments, segment_bytes)
    broken = broken_backups(backups, segments)
    left = {fork.parent: fork.lsn for fork in chain}
    usable = sorted(
        (
            backup
            for backup in backups
            if backup.label not in broken
            and (backup.timeline == timeline or backup.stop_lsn <= left.get(backup.timeline, -1))
        ),
        key=lambda backup: (backup.stop_lsn, backup.label),
    )
    stretches = _stretches(usable, path)
    if not stretches:
        return None
    anyone = stretches[0].backups[0]
    return Window(timeline, tuple(stretches), tuple(_gaps(stretches, path)), anyone.archive_id, anyone.repository)


def _path(
    timeline: int, chain: Sequence[Fork], segments: Sequence[ArchiveSegment], segment_bytes: int
) -> dict[int, datetime.datetime]:
    """When each segment that recovery along the timeline reads was archived, by its number.

    From the segment in which a timeline left its parent, recovery reads the child's files.
    """
    bounds, begin = {}, 0
    for fork in chain:
        end = segment_of(fork.lsn, segment_bytes)
        bounds[fork.parent] = (begin, end - 1)
        begin = end
    found = {}
    for segment in segments:
        low, high = (begin, segment.number) if segment.timeline == timeline else bounds.get(segment.timeline, (1, 0))
        if low <= segment.number <= high:
            found[segment.number] = segment.archived
    return found


def _stretches(usable: Sequence[PhysicalBackup], path: Mapping[int, datetime.datetime]) -> list[Stretch]:
    present = ranges(path)
    by_range: dict[int, list[PhysicalBackup]] = {}
    for backup in usable:
        reached = range_from(backup.start_segment, present)
        if reached and reached.last >= backup.stop_segment:
            by_range.setdefault(reached.last, []).append(backup)
    found = []
    for last, members in sorted(by_range.items()):
        first = min(members, key=lambda backup: backup.consistent)
        numbers = Range(min(backup.start_segment for backup in members), last)
        # The clock of an archive's files is another one than the cluster's: a stretch never ends before it begins.
        ends = max(path[last], *(backup.consistent for backup in members))
        found.append(Stretch(first.consistent, ends, tuple(members), numbers))
    return found


def _gaps(stretches: Sequence[Stretch], path: Mapping[int, datetime.datetime]) -> list[Gap]:
    """What lies between the stretches, and behind the last one where more segments follow."""
    present = ranges(path)
    found = []
    for position, stretch in enumerate(stretches):
        following = next((later for later in present if later.first > stretch.segments.last), None)
        if following is None:
            continue
        ends = stretches[position + 1].begins if position + 1 < len(stretches) else None
        found.append(Gap(stretch.ends, ends, Range(stretch.segments.last + 1, following.first - 1)))
    return found
