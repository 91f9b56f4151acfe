"""The tables and the JSON document. Pure, but for `keep`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figure import number

FIGURES = ("what", "ours", "peer", "ratio", "spread of the ratio", "goal", "")
CURVES = ("what grows", "from", "to", "exponent", "goal", "")
FULL_SCALE = 20
SMALLER = f"The goals are for --scale {FULL_SCALE}; below that, what a run costs whatever the size weighs more."
CLIENTS = ("beside", "done by", "who", "requests/s", "p50 ms", "p99 ms", "worst ms", "errors")


def keep(path: Path, area: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Put one area's results into the document at `path`, in place of its earlier ones; returns the document."""
    document: dict[str, Any] = {"areas": {}}
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
    document["areas"][area] = found
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)
    return document


def tables(document: Mapping[str, Any]) -> str:
    """All results as Markdown: figures, curves, clients, and what could not be measured."""
    areas = document["areas"].values()
    rows = [row for area in areas for row in area["rows"]]
    parts = [
        markdown(FIGURES, [figure_cells(row) for row in rows if row["kind"] == "figure"]),
        markdown(CURVES, [curve_cells(row) for row in rows if row["kind"] == "curve"]),
        markdown(CLIENTS, [client_cells(row) for row in rows if row["kind"] == "beside"]),
    ]
    lost = [f"- {item['measurement']}: {item['message']}" for area in areas for item in area["lost"]]
    parts.append("Not measured:\n\n" + "\n".join(lost) if lost else "")
    parts.append(SMALLER if any(area["scale"] < FULL_SCALE for area in areas) else "")
    return "\n\n".join(part for part in parts if part)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty without rows."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else ""


def figure_cells(row: Mapping[str, Any]) -> list[str]:
    """One line of the table of figures."""
    peer = f"{number(row['peer'])} {row['unit']}, {row['peer_name']}" if row["peer"] is not None else ""
    ours = f"{number(row['ours'])} {row['unit']}" + (" (worst)" if row["judged"] == "worst" else "")
    return [row["what"], ours, peer, number(row["ratio"]), between(row["ratio_spread"]), row["goal"], row["verdict"]]


def curve_cells(row: Mapping[str, Any]) -> list[str]:
    """One line of the table of curves."""
    (x0, y0), (x1, y1) = row["points"][0], row["points"][-1]
    ends = [f"{number(y)} {row['unit']} at {number(x)} {row['x_name']}" for x, y in ((x0, y0), (x1, y1))]
    return [row["what"], *ends, number(row["exponent"]), row["goal"], row["verdict"]]


def client_cells(row: Mapping[str, Any]) -> list[str]:
    """One line of the table of clients."""
    figures = [number(row[name]) for name in ("per_s", "p50_ms", "p99_ms", "worst_ms", "errors")]
    return [row["job"], row["by"], row["who"], *figures]


def between(low_high: Sequence[float] | None) -> str:
    """A spread for people."""
    return f"{number(low_high[0])} to {number(low_high[1])}" if low_high else ""
