"""The results as one self-contained page: tables, bars, curves. Pure; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.figure import number
from bench.report import CLIENTS, CURVES, FIGURES, SMALLER, client_cells, curve_cells, figure_cells

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5c6775; --line: #d9dee5; --paper: #fff; --ours: #2f6fde;
  --peer: #b9c3d0; --good: #16794a; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #9aa6b5; --line: #323b47; --paper: #14181e;
  --ours: #6ea3ff; --peer: #4d5a6b; --good: #5fd39a; --bad: #ff8a80 } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem } h2 { margin-top: 2.5rem; font-size: 1.15rem; border-bottom: 1px solid var(--line) }
p.dim, .note { color: var(--dim) } .wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
td:first-child { min-width: 13rem } td.n { min-width: 4.5rem; font-variant-numeric: tabular-nums }
.wide { margin-bottom: 1rem } svg { display: block }
.ours { fill: var(--ours) } .peer { fill: var(--peer) } .met { color: var(--good) } .missed { color: var(--bad) }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem }
figure { margin: 0; padding: .8rem; border: 1px solid var(--line); border-radius: 6px } figcaption { font-size: .9rem }
polyline { fill: none; stroke: var(--ours); stroke-width: 2 } .axis { stroke: var(--line) }
text { fill: var(--dim); font-size: 10px }
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    sections = "".join(_section(name, area) for name, area in document["areas"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Benchmark</title>'
        f"<style>{STYLE}</style></head><body><h1>Benchmark</h1>"
        '<p class="dim">Medians of interleaved repetitions; a bar is ours above the peer\'s, the shorter the better '
        f"unless the goal says otherwise. {SMALLER}</p>{sections}</body></html>\n"
    )


def _section(name: str, area: Mapping[str, Any]) -> str:
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in area["machine"].items())
    said = f"{area['at']}, scale {area['scale']:g}, {area['repeat']} repetitions, {area['seconds']} s; {where}"
    rows = area["rows"]
    figures = [row for row in rows if row["kind"] == "figure"]
    curves = [row for row in rows if row["kind"] == "curve"]
    clients = [row for row in rows if row["kind"] == "beside"]
    lost = "".join(f"<li>{escape(item['measurement'])}: {escape(item['message'])}</li>" for item in area["lost"])
    return (
        f'<h2 id="{escape(name, quote=True)}">{escape(name)}</h2><p class="dim">{escape(said)}</p>'
        + _table((FIGURES[0], "", *FIGURES[1:]), [_figure_row(row) for row in figures])
        + _table(CURVES, [_cells(curve_cells(row), row) for row in curves])
        + (f'<div class="curves">{"".join(curve(row) for row in curves)}</div>' if curves else "")
        + _table(CLIENTS, [_cells(client_cells(row), row) for row in clients])
        + (f"<p>Not measured:</p><ul>{lost}</ul>" if lost else "")
    )


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cells(texts: Sequence[str], row: Mapping[str, Any], bars: str = "") -> str:
    note = f'<div class="note">{escape(row["note"])}</div>' if row.get("note") else ""
    first, *rest = (escape(text) for text in texts)
    cells = "".join(f'<td class="n {text if text in ("met", "missed") else ""}">{text}</td>' for text in rest)
    return f"<tr><td>{first}{note}</td>{bars}{cells}</tr>"


def _figure_row(row: Mapping[str, Any]) -> str:
    drawn = "<td></td>"
    if row["peer"] is not None:
        most = max(row["ours"], row["peer"]) or 1
        wide = [max(0.5, 100 * value / most) for value in (row["ours"], row["peer"])]
        label = escape(
            f"ours {number(row['ours'])}, {row['peer_name']} {number(row['peer'])} {row['unit']}", quote=True
        )
        drawn = (
            f'<td><svg width="120" height="22" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" '
            f'aria-label="{label}"><title>{label}</title><rect class="ours" width="{wide[0]:.1f}" height="9"/>'
            f'<rect class="peer" y="11" width="{wide[1]:.1f}" height="9"/></svg></td>'
        )
    return _cells(figure_cells(row), row, drawn)


def curve(row: Mapping[str, Any]) -> str:
    """One curve on logarithmic axes."""
    xs, ys = ([math.log10(point[axis]) for point in row["points"]] for axis in (0, 1))
    places = list(zip(_scaled(xs, 50, 290), _scaled(ys, 125, 15), strict=True))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{number(a)} {escape(row["x_name"])}: '
        f"{number(b)} {escape(row['unit'])}</title></circle>"
        for (x, y), (a, b) in zip(places, row["points"], strict=True)
    )
    first, last = row["points"][0], row["points"][-1]
    marks = (
        f'<text x="50" y="145">{number(first[0])}</text><text x="290" y="145" text-anchor="end">{number(last[0])} '
        f'{escape(row["x_name"])}</text><text x="44" y="{places[0][1]:.0f}" text-anchor="end">{number(first[1])}</text>'
        f'<text x="44" y="{places[-1][1] + 4:.0f}" text-anchor="end">{number(last[1])} {escape(row["unit"])}</text>'
    )
    label = escape(f"{row['what']}: exponent {number(row['exponent'])}", quote=True)
    return (
        f'<figure><svg viewBox="0 0 300 150" width="100%" role="img" aria-label="{label}">'
        f'<line class="axis" x1="50" y1="130" x2="290" y2="130"/><line class="axis" x1="50" y1="10" x2="50" y2="130"/>'
        f'<polyline points="{points}"/>{dots}{marks}</svg><figcaption>{label}</figcaption></figure>'
    )


def _scaled(values: Sequence[float], start: float, end: float) -> list[float]:
    low, high = min(values), max(values)
    width = (high - low) or 1.0
    return [start + (end - start) * (value - low) / width for value in values]
