"""What a measurement yields, and its arithmetic. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Judged = Literal["median", "worst"]


class NotHere(RuntimeError):
    """A peer's program is missing; the message says what to install."""


@dataclass(frozen=True)
class Goal:
    """The limits of a figure, in its unit; those that are set must all hold.

    `most`: at most this. `least`: at least this. `times` and `plus`: at most so many times the peer's, plus this.
    `least_times`: at least so many times the peer's.
    """

    most: float | None = None
    least: float | None = None
    times: float | None = None
    plus: float = 0.0
    least_times: float | None = None

    @property
    def needs_peer(self) -> bool:
        """True when the peer decides."""
        return self.times is not None or self.least_times is not None

    def words(self, unit: str) -> str:
        """The limits as a person says them; empty when there are none."""
        said = []
        if self.most is not None:
            said.append(f"at most {number(self.most)} {unit}".strip())
        if self.least is not None:
            said.append(f"at least {number(self.least)} {unit}".strip())
        if self.times is not None:
            faster = f"1/{number(1 / self.times)}" if self.times < 0.5 else f"{number(self.times)} times"
            said.append(f"at most {faster} the peer's" + (f" plus {number(self.plus)} {unit}" if self.plus else ""))
        if self.least_times is not None:
            said.append(f"at least {number(self.least_times)} times the peer's")
        return ", ".join(said)

    def met(self, ours: float, peer: float | None) -> bool:
        """Whether all limits hold; one that needs a peer doesn't hold without."""
        if self.needs_peer and peer is None:
            return False
        beside = peer or 0.0
        return (
            (self.most is None or ours <= self.most)
            and (self.least is None or ours >= self.least)
            and (self.times is None or ours <= self.times * beside + self.plus)
            and (self.least_times is None or ours >= self.least_times * beside)
        )


@dataclass(frozen=True)
class Figure:
    """One line of the table: the values of each repetition in `unit`, ours and the peer's (in the same order)."""

    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str = ""
    goal: Goal | None = None
    judged: Judged = "median"
    note: str = ""

    def row(self) -> dict[str, Any]:
        """What the table shows, with the raw values."""
        ours, peer = self._judge(self.ours), self._judge(self.peer) if self.peer else None
        verdict = "" if self.goal is None else "met" if self.goal.met(ours, peer) else "missed"
        pairs = [mine / its for mine, its in zip(self.ours, self.peer, strict=False) if its]
        return {
            "kind": "figure",
            "what": self.what,
            "unit": self.unit,
            "judged": self.judged,
            "ours": ours,
            "ours_spread": spread(self.ours),
            "peer": peer,
            "peer_spread": spread(self.peer) if self.peer else None,
            "peer_name": self.peer_name,
            "ratio": ours / peer if peer else None,
            "ratio_spread": spread(pairs) if pairs else None,
            "goal": self.goal.words(self.unit) if self.goal else "",
            "verdict": verdict,
            "note": self.note,
            "raw": {"ours": list(self.ours), "peer": list(self.peer)},
        }

    def _judge(self, values: Sequence[float]) -> float:
        return statistics.median(values) if self.judged == "median" else max(values)


@dataclass(frozen=True)
class Curve:
    """How something grows: points (x, y), y in `unit`; `most` is the largest exponent that still is good."""

    what: str
    x_name: str
    unit: str
    points: Sequence[tuple[float, float]]
    most: float | None = None
    note: str = ""

    def row(self) -> dict[str, Any]:
        """What the table and the chart show."""
        exponent = fit_exponent(self.points)
        verdict = "" if self.most is None else "met" if exponent <= self.most else "missed"
        return {
            "kind": "curve",
            "what": self.what,
            "x_name": self.x_name,
            "unit": self.unit,
            "points": [list(point) for point in self.points],
            "exponent": exponent,
            "goal": "" if self.most is None else f"exponent at most {number(self.most)}",
            "verdict": verdict,
            "note": self.note,
        }


@dataclass(frozen=True)
class Beside:
    """What writers or readers saw beside a job: requests a second, latencies in ms, failed requests."""

    job: str
    by: str
    who: str
    per_s: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    errors: int
    raw: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """What the table shows."""
        return {"kind": "beside", **self.__dict__}


def fit_exponent(points: Sequence[tuple[float, float]]) -> float:
    """The exponent b of y = a·x^b: the slope of the least-squares line through the logarithms.

    Raises ValueError for fewer than two different x, or for values that aren't positive.
    """
    if len({x for x, _ in points}) < 2:
        raise ValueError("An exponent needs at least two different sizes.")
    logs = [(math.log(x), math.log(y)) for x, y in points]
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending values that at least that share of them does not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("No values, no percentile.")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> list[float]:
    """The smallest and the largest value."""
    return [min(values), max(values)]


def number(value: float | None) -> str:
    """A number for people: three digits that count, thousands with a comma, no exponent."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
