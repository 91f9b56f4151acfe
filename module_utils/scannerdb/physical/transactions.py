"""Which transactions ended where, read out of the archive's WAL with pg_waldump.

A backup's times are those of other clocks, and a segment's is when it was archived. Where a transaction ended, and
when, only the WAL says: that is what a point in time is judged by.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ToolFailed
from ..files import file_errors, remove_tree
from ..process import run_tool, tool_error
from ..tools import Tools
from .archive import SEGMENT_BYTES, parse_lsn, segment_name, segment_of
from .window import Fork

RECORD = re.compile(
    r"^rmgr: (?P<rmgr>\w+)\s.*?tx:\s*(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), .*?desc: (?P<desc>.*)$", re.M
)
ENDED = re.compile(
    r"(?P<how>COMMIT|ABORT)(?:_PREPARED)? (?:(?P<xid>\d+): )?(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)
POINT = re.compile(r"RESTORE_POINT (?P<name>.*)")
KEPT = 6  # segments on the disk at a time
Fetch = Callable[[str, Path], bool]  # a segment of that name into that file; False where the archive does not have it


@dataclass(frozen=True, order=True)
class Ending:
    """The end of a transaction: its record's position, its number, when, and whether it was committed."""

    lsn: int
    xid: int
    at: datetime.datetime
    committed: bool = True


@dataclass(frozen=True)
class Point:
    """A restore point."""

    lsn: int
    name: str


@dataclass(frozen=True)
class Line:
    """A timeline with its ancestors: whose file recovery reads of each segment, and who wrote each position."""

    timeline: int
    forks: tuple[Fork, ...] = ()  # oldest first
    segment_bytes: int = SEGMENT_BYTES

    def reads(self, number: int) -> int:
        """The timeline whose file of that segment is read: from the fork's segment on the child's."""
        parents = (f.parent for f in self.forks if number < segment_of(f.lsn, self.segment_bytes))
        return next(parents, self.timeline)

    def wrote(self, lsn: int) -> int:
        """The timeline that wrote the record there."""
        return next((fork.parent for fork in self.forks if lsn < fork.lsn), self.timeline)


def parse_endings(text: str) -> list[Ending]:
    """The ends of transactions out of what pg_waldump prints with the zone UTC. Pure."""
    found = []
    for record in RECORD.finditer(text):
        match = ENDED.match(record["desc"])
        if match:
            at = datetime.datetime.fromisoformat(match["at"]).replace(tzinfo=datetime.timezone.utc)
            xid = int(match["xid"] or record["xid"])
            found.append(Ending(parse_lsn(record["lsn"]), xid, at, match["how"] == "COMMIT"))
    return found


def parse_points(text: str) -> list[Point]:
    """The restore points out of what pg_waldump prints. Pure."""
    matches = ((record, POINT.match(record["desc"])) for record in RECORD.finditer(text))
    return [Point(parse_lsn(record["lsn"]), match["name"]) for record, match in matches if match]


@dataclass
class WalReader:
    """Reads segments of the archive, each once. `folder` is for its files; it is emptied as the reading goes on."""

    fetch: Fetch
    programs: Tools
    folder: Path
    segment_bytes: int = SEGMENT_BYTES
    user: str = ""  # who fetches, where we are root
    on_read: Callable[[int], object] = lambda number: None
    _endings: dict[tuple[int, int, int], tuple[Ending, ...]] = field(default_factory=dict)
    _points: dict[tuple[int, int, int], tuple[Point, ...]] = field(default_factory=dict)

    def endings(self, line: Line, number: int) -> Sequence[Ending]:
        """The transactions whose last record begins in that segment, in the order of the WAL."""
        key = (line.reads(number), line.reads(number + 1), number)
        if key not in self._endings:
            found = parse_endings(self._dump(line, number, "Transaction"))
            self._endings[key] = tuple(one for one in found if segment_of(one.lsn, self.segment_bytes) == number)
        return self._endings[key]

    def points(self, line: Line, number: int) -> Sequence[Point]:
        """The restore points in that segment."""
        key = (line.reads(number), line.reads(number + 1), number)
        if key not in self._points:
            found = parse_points(self._dump(line, number, "XLOG"))
            self._points[key] = tuple(one for one in found if segment_of(one.lsn, self.segment_bytes) == number)
        return self._points[key]

    def _dump(self, line: Line, number: int, manager: str) -> str:
        """What pg_waldump prints of a segment; the next one is there too, for a record that goes on in it.

        Files get the names of one timeline: pg_waldump follows names, and recovery goes from parent to child.
        """
        self.on_read(number)
        place = self.folder / f"{line.timeline}"
        with file_errors("Making the folder", place):
            place.mkdir(mode=0o700, exist_ok=True)
            if self.user:
                shutil.chown(place, self.user)
        first = self._file(place, line, number)
        if first is None:
            name = segment_name(line.reads(number), number, self.segment_bytes)
            raise ToolFailed(f"Segment {name} is listed in the archive, but could not be fetched.")
        following = self._file(place, line, number + 1)
        names = [path.name for path in (first, following) if path]
        command = [self.programs.path("pg_waldump"), f"--rmgr={manager}", f"--path={place}", "--timeline=1", *names]
        finished = run_tool(command, None, check=False, extra_environment={"TZ": "UTC", "LC_ALL": "C"})
        self._forget(place, number)
        if finished.returncode:
            raise tool_error("pg_waldump", finished)
        return finished.stdout

    def _file(self, place: Path, line: Line, number: int) -> Path | None:
        path = place / segment_name(1, number, self.segment_bytes)
        if path.exists():
            return path
        name = segment_name(line.reads(number), number, self.segment_bytes)
        return path if self.fetch(name, path) else None

    def _forget(self, place: Path, number: int) -> None:
        """Let go of the segments that are farthest from the one that was read."""

        def far(path: Path) -> int:
            return abs(int(path.name[8:16], 16) * (2**32 // self.segment_bytes) + int(path.name[16:], 16) - number)

        for path in sorted(place.iterdir(), key=far)[KEPT:]:
            remove_tree(path)
