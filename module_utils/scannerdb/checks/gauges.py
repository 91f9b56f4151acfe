"""How full the server is, and how well its cache serves: figures of every check, a finding or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..connection import fetch
from ..finding import Finding
from .capacity import CONNECTIONS, CONNECTIONS_PERCENT, WRAP_AROUND, XID_WARNING_PERCENT, XIDS
from .charts import gauge_bar
from .context import Context
from .unit import check

FEW_BLOCKS = 10_000  # fewer tell nothing of a cache
CACHE = """
SELECT blks_hit::bigint AS hit, (blks_hit + blks_read)::bigint AS blocks FROM pg_stat_database
 WHERE datname = current_database()
"""
Gauge = Mapping[str, Any]


@check("gauges")
def measure(context: Context) -> Iterator[Finding]:
    """Leave the gauges for the report; whatever is too full is another check's finding."""
    used, most, reserved = fetch(context.conn, CONNECTIONS)[0].values()
    oldest, cache = fetch(context.conn, XIDS)[0], fetch(context.conn, CACHE)[0]
    limits = context.limits
    context.seen["gauges"] = [
        gauge("connections", used, max(most - reserved, 1), limits[CONNECTIONS_PERCENT]),
        gauge("cache hits", cache["hit"], cache["blocks"], None) if cache["blocks"] >= FEW_BLOCKS else None,
        gauge("transaction ids to wraparound", oldest["xids"], WRAP_AROUND, limits[XID_WARNING_PERCENT]),
        gauge("multixacts to wraparound", oldest["multixacts"], WRAP_AROUND, limits[XID_WARNING_PERCENT]),
    ]
    context.seen["gauges"] = [one for one in context.seen["gauges"] if one]
    return iter(())


def gauge(name: str, value: int, most: int, limit: float | None) -> Gauge:
    """A figure and what it is a share of; from `limit` percent on it is a finding. Pure."""
    return {"name": name, "value": value, "most": most, "percent": round(100 * value / most, 1), "limit": limit}


def as_html(gauges: Sequence[Gauge]) -> str:
    """A bar for each, with its figures in words."""
    if not gauges:
        return ""
    rows = "".join(
        f'<div><dt>{escape(one["name"])}</dt><dd class="b">{gauge_bar(one)}</dd>'
        f'<dd class="n">{one["percent"]:g} %<small>{one["value"]:,} of {one["most"]:,}</small></dd></div>'
        for one in gauges
    )
    note = "A line marks from where on it is a finding."
    return f'<section class="card"><h2>Gauges</h2><dl class="sizes">{rows}</dl><p class="soft">{note}</p></section>'


def as_markdown(gauges: Sequence[Gauge]) -> list[str]:
    """The same as a table."""
    if not gauges:
        return []
    lines = ["", "## Gauges", "", "| what | share | figures | a finding from |", "|---|---|---|---|"]
    for one in gauges:
        limit = f"{one['limit']:g} %" if one["limit"] is not None else "-"
        lines.append(f"| {one['name']} | {one['percent']:g} % | {one['value']:,} of {one['most']:,} | {limit} |")
    return lines
