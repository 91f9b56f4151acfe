"""The bench's arithmetic: goals, spreads, percentiles, fitted exponents, tables, the page, and losing no figure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import __main__ as frame
from bench.figure import Beside, Curve, Figure, Goal, NotHere, fit_exponent, number, percentile
from bench.lab import Lab
from bench.measure import interleave
from bench.page import page
from bench.report import SMALLER, keep, tables

some = st.floats(0.001, 1e6)


@given(st.floats(-3, 3), some, st.sets(st.integers(1, 10**6), min_size=2, max_size=8))
def test_the_exponent_of_a_power_is_found(exponent: float, factor: float, sizes: set[int]) -> None:
    points = [(float(x), factor * x**exponent) for x in sizes]
    assert fit_exponent(points) == pytest.approx(exponent, abs=1e-4)


def test_one_size_has_no_exponent() -> None:
    with pytest.raises(ValueError, match="two different sizes"):
        fit_exponent([(10, 1), (10, 2)])


@given(st.lists(some, min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_leaves_its_share_below(values: list[float], share: float) -> None:
    values.sort()
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_the_99th_percentile_of_a_hundred_is_the_99th() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99
    with pytest.raises(ValueError, match="No values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("goal", "words", "good", "bad"),
    [
        (Goal(most=100), "at most 100 ms", (100, None), (101, None)),
        (Goal(times=1.2), "at most 1.2 times the peer's", (12, 10), (12.1, 10)),
        (Goal(times=1.1, plus=1.5), "at most 1.1 times the peer's plus 1.5 ms", (12.5, 10), (12.6, 10)),
        (Goal(most=100, times=1 / 50), "at most 100 ms, at most 1/50 the peer's", (90, 4500), (90, 4400)),
        (Goal(least_times=0.95), "at least 0.95 times the peer's", (96, 100), (94, 100)),
        (Goal(least=6), "at least 6 ms", (6, None), (5, None)),
    ],
)
def test_a_goal_says_what_it_judges(
    goal: Goal, words: str, good: tuple[float, float | None], bad: tuple[float, float | None]
) -> None:
    assert goal.words("ms") == words
    assert goal.met(*good)
    assert not goal.met(*bad)
    assert not goal.needs_peer or not goal.met(0, None)


def test_a_figure_has_the_ratio_of_medians_and_the_spread_of_pairs() -> None:
    row = Figure("it", "s", [1, 2, 9], [2, 4, 3], "its peer", Goal(times=0.7)).row()
    assert (row["ours"], row["peer"], row["ratio"]) == (2, 3, pytest.approx(2 / 3))
    assert row["ratio_spread"] == [0.5, 3]
    assert row["verdict"] == "met"
    worst = Figure("it", "s", [1, 2, 9], goal=Goal(most=5), judged="worst").row()
    assert (worst["ours"], worst["peer"], worst["ratio"], worst["verdict"]) == (9, None, None, "missed")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (1234567.8, "1,234,568"),
        (99.96, "100"),
        (12.34, "12.3"),
        (0.001234, "0.00123"),
        (2.0, "2"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_turns_begin_with_another_way_each_time() -> None:
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) or name for name in "abc"}
    assert interleave(3, ways) == {name: [name] * 3 for name in "abc"}
    assert "".join(order) == "abcbcacab"


def measured(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The results of an area of three measurements: one fails midway, one lacks a program, one works."""

    def breaks(lab: Lab, repetitions: int) -> Iterator[Figure]:
        yield Figure("kept <b>", "s", [1.0] * repetitions, [2.0], "peer & co", Goal(times=1), note="it's bound by I/O")
        raise RuntimeError("no room\nsecond line")

    def lacks(lab: Lab, repetitions: int) -> Iterator[Figure]:
        raise NotHere("pgBackRest is not installed.")
        yield

    def works(lab: Lab, repetitions: int) -> Iterator[Curve | Beside]:
        yield Curve("a check", "endpoints", "s", [(10, 1), (100, 10), (1000, 100)], most=0.5)
        yield Beside("a fix", "ours", "writers", 500, 1, 2, 3, 0)

    area = ModuleType(f"bench.{name}")
    vars(area)["MEASUREMENTS"] = (breaks, lacks, works)
    monkeypatch.setitem(sys.modules, f"bench.{name}", area)
    return frame.measure(name, cast(Lab, SimpleNamespace(scale=2.0)), 2)


def test_a_measurement_that_fails_loses_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("trial", monkeypatch)
    assert [row["kind"] for row in found["rows"]] == ["figure", "curve", "beside"]
    assert [(item["measurement"], item["failed"]) for item in found["lost"]] == [
        ("trial.breaks", True),
        ("trial.lacks", False),
    ]
    text = tables({"areas": {"trial": found}})
    assert "| kept <b> | 1 s | 2 s, peer & co | 0.5 | 0.5 to 0.5 | at most 1 times the peer's | met |" in text
    assert "| a check | 1 s at 10 endpoints | 100 s at 1,000 endpoints | 1 | exponent at most 0.5 | missed |" in text
    assert "| a fix | ours | writers | 500 | 1 | 2 | 3 | 0 |" in text
    assert "- trial.breaks: RuntimeError: no room" in text
    assert SMALLER in text
    assert SMALLER not in tables({"areas": {"trial": {**found, "scale": 20.0}}})


def test_an_area_replaces_only_its_own_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    found = measured("trial", monkeypatch)
    keep(path, "trial", found)
    keep(path, "other", found)
    keep(path, "trial", {**found, "scale": 20.0})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert {name: area["scale"] for name, area in document["areas"].items()} == {"trial": 20.0, "other": 2.0}


def test_the_page_stands_alone_and_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page({"areas": {"trial": measured("trial", monkeypatch)}})
    assert "kept &lt;b&gt;" in text and "<b>" not in text and "peer &amp; co" in text
    assert "it&#x27;s bound by I/O" in text and "no room" in text
    assert "polyline" in text and "exponent 1" in text
    for outside in ("http:", "https:", "<script", "@import", "url("):
        assert outside not in text
