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
    return _svg("chart", f"0 0 600 {HEIGHT}", label, "".join(parts))


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
    return _svg("chart", f"0 0 600 {HEIGHT}", label, drawn)


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
    return _svg("chart", f"0 0 600 {HEIGHT}", label, "".join(parts))


def _svg(kind: str, box: str, label: str, drawn: str) -> str:
    said = escape(label, quote=True)
    return (
        f'<svg class="{kind}" viewBox="{box}" preserveAspectRatio="none" role="img" aria-label="{said}">'
        f"<title>{said}</title>{drawn}</svg>"
    )
