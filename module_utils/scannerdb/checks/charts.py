"""The report's charts as inline SVG. Pure; every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..finding import SEVERITIES
from .context import amount

HEIGHT = 100
SHOWN_RUNS = 60
SHOWN_TABLES = 15


def trend_bars(runs: Sequence[Mapping[str, Any]]) -> str:
    """One stacked bar a run, the newest at the right: critical at the bottom, then warnings, then the rest."""
    shown = runs[-SHOWN_RUNS:]
    most = max((sum(run["summary"][s] for s in SEVERITIES) for run in shown), default=0) or 1
    step = 600 / max(len(shown), 12)
    parts = []
    for place, run in enumerate(shown):
        left, top = 600 - step * (len(shown) - place), float(HEIGHT)
        said = ", ".join(f"{run['summary'][s]} {s}" for s in SEVERITIES)
        parts.append(f"<g><title>{escape(run['at'])}: {said}</title>")
        for severity in SEVERITIES:
            tall = 94 * run["summary"][severity] / most
            top -= tall
            if tall:
                box = f'x="{left + step * 0.14:.1f}" y="{top:.1f}" width="{step * 0.72:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="f-{severity}" {box}/>')
        parts.append("</g>")
    last = shown[-1]["summary"] if shown else dict.fromkeys(SEVERITIES, 0)
    label = f"Findings of the last {len(shown)} runs; now " + ", ".join(f"{last[s]} {s}" for s in SEVERITIES)
    return _plot(_svg("chart", f"0 0 600 {HEIGHT}", label, "".join(parts)), str(most), shown)


def size_line(runs: Sequence[Mapping[str, Any]]) -> str:
    """The database's size over the runs."""
    sizes = [run["bytes"] for run in runs[-SHOWN_RUNS:]]
    most = max(sizes, default=0) or 1
    step = 600 / max(len(sizes) - 1, 1)
    points = " ".join(f"{n * step:.1f},{HEIGHT - 90 * size / most:.1f}" for n, size in enumerate(sizes))
    label = f"Size of the database: {amount(sizes[0])} at first, {amount(sizes[-1])} now" if sizes else ""
    drawn = (
        f'<polygon class="area" points="0,{HEIGHT} {points} 600,{HEIGHT}"/><polyline class="linep" points="{points}"/>'
    )
    return _plot(_svg("chart", f"0 0 600 {HEIGHT}", label, drawn), amount(most), runs[-SHOWN_RUNS:])


def size_bars(tables: Sequence[Mapping[str, Any]]) -> str:
    """The largest tables: one row each, the bar split into the rows and their indexes."""
    most = max((table["bytes"] for table in tables), default=0) or 1
    rows = []
    for table in tables[:SHOWN_TABLES]:
        index = 100 * table["index_bytes"] / most
        rest = 100 * (table["bytes"] - table["index_bytes"]) / most
        drawn = (
            f'<rect class="f-bar" width="{rest:.2f}" height="10"/>'
            f'<rect class="f-bar2" x="{rest:.2f}" width="{index:.2f}" height="10"/>'
        )
        label = f"{table['name']}: {amount(table['bytes'])}, of these {amount(table['index_bytes'])} indexes"
        rows.append(
            f"<div><dt>{escape(table['name'])}</dt>"
            f'<dd class="b">{_svg("bar", "0 0 100 10", label, drawn)}</dd>'
            f'<dd class="n">{amount(table["bytes"])}</dd></div>'
        )
    return f'<dl class="sizes">{"".join(rows)}</dl>'


def given_back_bars(runs: Sequence[Mapping[str, Any]]) -> str:
    """What vacuum and compaction gave back to the disk, one bar a run, the newest at the right."""
    shown = runs[-SHOWN_RUNS:]
    back = [max(0, run["bytes_before"] - run["bytes_after"]) for run in shown]
    most, step = max(back, default=0) or 1, 600 / max(len(shown), 12)
    parts = []
    for place, (run, size) in enumerate(zip(shown, back)):
        left, tall = 600 - step * (len(shown) - place), 94 * size / most
        box = f'x="{left + step * 0.14:.1f}" y="{HEIGHT - tall:.1f}" width="{step * 0.72:.1f}" height="{tall:.1f}"'
        said = f"{run['at']}: {amount(size)} in {run['seconds']:g} s, longest lock {run['max_lock_ms']:g} ms"
        parts.append(f'<g><title>{escape(said)}</title><rect class="f-bar" {box}/></g>')
    label = f"Given back by the last {len(shown)} vacuum runs: {amount(sum(back))} in all"
    return _plot(_svg("chart", f"0 0 600 {HEIGHT}", label, "".join(parts)), amount(most), shown)


def gauge_bar(gauge: Mapping[str, Any]) -> str:
    """A share of a hundred, and a line at its limit."""
    drawn = f'<rect class="f-bar" width="{min(gauge["percent"], 100):.1f}" height="10"/>'
    if gauge["limit"] is not None:
        drawn += f'<line class="limit" x1="{gauge["limit"]:g}" x2="{gauge["limit"]:g}" y1="0" y2="10"/>'
    label = f"{gauge['name']}: {gauge['percent']:g} %"
    return _svg("bar full", "0 0 100 10", label, drawn)


def legend(*items: tuple[str, str]) -> str:
    """A legend of (class, words); drawn as the charts are, for a browser prints no backgrounds."""
    marks = "".join(
        '<li><svg class="mark" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect class="{kind}" width="12" height="12"/></svg>{escape(words)}</li>'
        for kind, words in items
    )
    return f'<ul class="key">{marks}</ul>'


# What tells the parts of a bar apart where there is no colour: one is whole, one hatched, one dotted.
PATTERNS = (
    '<svg width="0" height="0" class="patterns" aria-hidden="true"><defs>'
    '<pattern id="hatched" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="p-warning" width="5" height="5"/><rect class="p-paper" width="1.6" height="5"/></pattern>'
    '<pattern id="dotted" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect class="p-pale" width="5" height="5"/><circle class="p-info" cx="2.5" cy="2.5" r="1.4"/></pattern>'
    '<pattern id="striped" width="1.6" height="4" patternUnits="userSpaceOnUse">'
    '<rect class="p-bar2" width="1.6" height="4"/><rect class="p-paper" width=".4" height="4"/></pattern>'
    "</defs></svg>"
)


def ends(first: str, last: str) -> tuple[str, ...]:
    """The two ends of an axis of time: days, or moments of one day, and no label twice. Pure."""
    length = 10 if first[:10] != last[:10] else 16
    said = [moment[:length].replace("T", " ") for moment in (first, last)]
    return tuple(dict.fromkeys(said))


def _plot(drawn: str, most: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """A chart with its axes: the largest value and none, the first run and the last."""
    across = "".join(f"<span>{escape(moment)}</span>" for moment in ends(runs[0]["at"], runs[-1]["at"])) if runs else ""
    up = f'<p class="axis"><span>{escape(most)}</span><span>0</span></p>'
    return f'<div class="plot">{up}{drawn}<p class="ends">{across}</p></div>'


def _svg(kind: str, box: str, label: str, drawn: str) -> str:
    said = escape(label, quote=True)
    return (
        f'<svg class="{kind}" viewBox="{box}" preserveAspectRatio="none" role="img" aria-label="{said}">'
        f"<title>{said}</title>{drawn}</svg>"
    )
