"""A point in time to which a cluster is brought back: what people write, where it lands, and which timeline. Pure.

Nothing is guessed: what cannot be reached is refused with what can, and where several timelines hold the point with
different contents, people are asked.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import InvalidInput, RestoreRefused
from .archive import SEGMENT_BYTES, lsn_text, parse_lsn, segment_of
from .engine import Recovery
from .transactions import Ending
from .window import PhysicalBackup, Window

PHYSICAL = "physical:"  # before a source: the physical backups, not the dumps
DUMP = "dump:"  # the other way round
MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?"
)
WORDS = re.compile(r"(lsn|xid|before-xid|name):(.+)")
HOW = (
    "Write a time such as 2026-11-24 03:10:00+00 (UTC where no zone is given), lsn:0/3000028 (all before that "
    "position), xid:1234 (with that transaction), before-xid:1234 (without it and all later ones), name:NAME (a "
    "restore point) or physical:latest."
)
TIME, LSN, XID, BEFORE_XID, NAME, LATEST = "time", "lsn", "xid", "before-xid", "name", "latest"


@dataclass(frozen=True)
class Target:
    """What was asked for. One of `moment`, `number` (a position or a transaction) and `name` says where."""

    kind: str
    text: str
    moment: Optional[datetime.datetime] = None
    number: int = 0
    name: str = ""


@dataclass(frozen=True)
class Landing:
    """Where recovery along one window's timeline ends: before the first record at or after `stop`.

    `last_in` is the last transaction that the result holds, `first_out` the first that it lacks; `last_ended` also
    counts what was rolled back. `written_by` is the timeline that wrote `last_in`.
    """

    window: Window
    base: PhysicalBackup
    stop: int
    last_in: Optional[Ending] = None
    first_out: Optional[Ending] = None
    last_ended: Optional[Ending] = None
    written_by: int = 0

    @property
    def content(self) -> tuple[str, int, int]:
        """The same for landings that hold the same transactions."""
        if self.last_in is None:
            return self.base.label, 0, 0
        return "", self.written_by, self.last_in.lsn

    @property
    def recovery(self) -> Recovery:
        """What the engine is asked for."""
        return Recovery("lsn", lsn_text(self.stop), str(self.window.timeline), inclusive=False)

    def segments(self, segment_bytes: int = SEGMENT_BYTES) -> int:
        """How many segments recovery reads."""
        return segment_of(self.stop, segment_bytes) - self.base.start_segment + 1


def parse_target(text: str) -> Optional[Target]:
    """The point that a source names; None where it names a dump. Raises `InvalidInput` for what is neither."""
    plain = text.strip()
    if plain.startswith(DUMP):
        return None
    asked, word = plain.startswith(PHYSICAL), plain[len(PHYSICAL) :].strip() if plain.startswith(PHYSICAL) else plain
    if asked and word == LATEST:
        return Target(LATEST, plain)
    match = MOMENT.fullmatch(word)
    if match:
        return Target(TIME, plain, moment=_moment(match, word))
    match = WORDS.fullmatch(word)
    if match:
        return _by_word(match.group(1), match.group(2).strip(), plain)
    if asked:
        raise InvalidInput(f"{text!r} names no point in time.", HOW)
    return None


def _moment(match: re.Match[str], text: str) -> datetime.datetime:
    day, hour, minute, second, fraction, zone = match.groups()
    offset = "+0000" if zone in (None, "Z", "UTC") else str(zone).replace(":", "").ljust(5, "0")
    stamp = f"{day} {hour}:{minute}:{second or '00'}.{fraction or '0'} {offset}"
    try:
        return datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f %z").astimezone(datetime.timezone.utc)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a time.", HOW) from None


def _by_word(kind: str, value: str, text: str) -> Target:
    if kind == LSN:
        return Target(kind, text, number=parse_lsn(value))
    if kind == NAME:
        return Target(kind, text, name=value)
    if not value.isdigit() or not 3 <= int(value) < 1 << 32:
        raise InvalidInput(
            f"{value[:40]!r} is no transaction.", "xid: takes a number as pg_current_xact_id() gives it."
        )
    return Target(kind, text, number=int(value))


def choose(target: Target, landings: Sequence[Landing], windows: Sequence[Window], timeline: int = 0) -> Landing:
    """The one landing that is meant; raises `RestoreRefused` where none can be reached, or several differ.

    `timeline` is what people said when they were asked, 0 where they said nothing.
    """
    wanted = [one for one in landings if timeline in (0, one.window.timeline)]
    if not wanted:
        along = f" along timeline {timeline}" if timeline else ""
        raise RestoreRefused(f"{target.text} cannot be reached{along}. {reach(windows)}", HOW)
    if len({one.content for one in wanted}) > 1:
        told = "; ".join(sorted({_told(one) for one in wanted}))
        raise RestoreRefused(
            f"More than one timeline holds {target.text}, with different contents: {told}.",
            "Set scannerdb_restore_timeline to the one that you mean. The server of today is on the newest, unless "
            "somebody went back.",
        )
    return max(wanted, key=lambda one: (one.window.timeline, one.base.stop_lsn, -one.window.repository))


def _told(one: Landing) -> str:
    last = f"its last transaction then is {told_ending(one.last_in)}" if one.last_in else "with no transaction since"
    return f"timeline {one.window.timeline} ({last})"


def told_ending(ending: Optional[Ending]) -> str:
    """A transaction for a sentence."""
    return f"{ending.xid} of {stamp(ending.at)}" if ending else "not known"


def stamp(moment: datetime.datetime) -> str:
    """A moment as people write it here, in UTC, with as much of the second as it has."""
    utc = moment.astimezone(datetime.timezone.utc)
    return f"{utc:%Y-%m-%d %H:%M:%S}" + (f".{utc.microsecond:06d}".rstrip("0") if utc.microsecond else "") + "+00"


def reach(windows: Iterable[Window]) -> str:
    """What can be reached, as a sentence."""
    told = []
    for window in windows:
        gaps = "".join(
            f", not from {stamp(gap.begins)} to {stamp(gap.ends) if gap.ends else 'the next backup'} (WAL is missing)"
            for gap in window.gaps
        )
        told.append(f"timeline {window.timeline} from {stamp(window.begins)} to {stamp(window.ends)}{gaps}")
    return f"What can be reached: {'; '.join(told)}." if told else "There is no usable physical backup."


def check_future(target: Target, now: datetime.datetime) -> None:
    """Raise `RestoreRefused` for a time that has not come yet."""
    if target.moment and target.moment > now:
        raise RestoreRefused(f"{stamp(target.moment)} has not come yet: it is {stamp(now)}.", "Is the zone right?")
