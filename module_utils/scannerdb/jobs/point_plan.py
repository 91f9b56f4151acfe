"""The plan of a restore to a point in time, in words and as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..physical.judge import ServerFacts
from ..physical.recovery import needed_bytes
from ..physical.target import Landing, Target, stamp, told_ending

REPLAY_S = 0.25  # for each segment; synchronous archive-get on two cores
RESTORE_RATE = 60 << 20  # bytes a second, a guess


@dataclass(frozen=True)
class PointPlan:
    """Where a target lies, and what it takes to get there."""

    target: Target
    landing: Landing
    server: ServerFacts
    free_bytes: int

    @property
    def needed(self) -> int:
        """Bytes of the copy."""
        return needed_bytes(self.landing, self.server.segment_bytes)

    @property
    def seconds(self) -> float:
        """About how long the copy takes to be there."""
        return self.landing.base.size_bytes / RESTORE_RATE + REPLAY_S * self.segments

    @property
    def segments(self) -> int:
        """Segments to replay."""
        return self.landing.segments(self.server.segment_bytes)

    @property
    def name(self) -> str:
        """What people call this source; without a slash."""
        return f"physical backup {self.landing.base.label} at {self.moment}"

    @property
    def moment(self) -> str:
        """The target in words."""
        return stamp(self.target.moment) if self.target.moment else self.target.text.replace("/", "-")

    def lines(self) -> list[str]:
        """The plan in words, one line a step."""
        landing = self.landing
        window = landing.window
        return [
            f"window: timeline {window.timeline}, from {stamp(window.begins)} to {stamp(window.ends)}",
            f"base backup: {landing.base.label} ({landing.base.kind}, ended {stamp(landing.base.stopped)}), repository "
            f"{landing.base.repository}, {landing.base.size_bytes >> 20} MiB",
            f"WAL to replay: {self.segments} segments along timeline {window.timeline}",
            f"last transaction in: {told_ending(landing.last_in)}; first one out: {told_ending(landing.first_out)}",
            f"copy: about {self.needed >> 20} MiB, {self.free_bytes >> 20} MiB free; about {self.seconds:.0f} s",
        ]

    def values(self) -> dict[str, Any]:
        """The plan as results show it."""
        landing, window = self.landing, self.landing.window
        ends = {"last_in": landing.last_in, "first_out": landing.first_out}
        return {
            "steps": self.lines(),
            "target": self.moment,
            "window": {"begins": stamp(window.begins), "ends": stamp(window.ends), "gaps": len(window.gaps)},
            "timeline": window.timeline,
            "base": landing.base.label,
            "segments": self.segments,
            "needed_bytes": self.needed,
            "free_bytes": self.free_bytes,
            "estimate_s": round(self.seconds, 1),
            **{k: {"xid": e.xid, "at": stamp(e.at)} if e else None for k, e in ends.items()},
        }
