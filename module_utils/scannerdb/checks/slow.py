"""The statements that cost most, as pg_stat_statements counts them: normalised text, and no values in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..connection import SQL, Connection, DriverError, Identifier, Literal, fetch, scalar

SHOWN = 10
KEPT = 200  # statements that a run leaves for the next one to compare with
LONGEST = 300
WORSE = 1.5  # times the mean that it had
WORTH_MS = 1000.0  # in all since the last check: below that a mean says nothing
_TITLE = "Slow statements"
# Its view belongs to the extension, whatever schema that was put into; nobody's look-alike is read.
_VIEW = """
SELECT n.nspname::text AS schema FROM pg_extension x
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
   AND d.classid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.objid AND c.relname = 'pg_stat_statements'
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE x.extname = 'pg_stat_statements'
"""
_COSTS = """
SELECT s.queryid::text AS id, max(s.query) AS query, sum(s.calls)::bigint AS calls,
       sum(s.total_exec_time)::float8 AS total_ms, sum(s.rows)::bigint AS rows
  FROM {}.pg_stat_statements s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.queryid IS NOT NULL
 GROUP BY s.queryid ORDER BY 4 DESC, 1 LIMIT {}
"""
# Values that normalising leaves: in commands that it does not know, and in comments.
_VALUES = re.compile(
    r"/\*.*?(?:\*/|\Z)|--[^\n]*|[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)"
    r"|\$([A-Za-z_]\w*)?\$.*?(?:\$\1\$|\Z)|(?P<kept>\$\d+|\"(?:[^\"]|\"\")*\"|[^\W\d]\w*)|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    re.DOTALL,
)


def collect(conn: Connection, past: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The report's `slow_statements`, and what the next check compares with. Reads only; says why it could not."""
    try:
        schema = scalar(conn, _VIEW)
        if schema is None:
            return _unseen("the extension pg_stat_statements is not installed in this database"), {}
        rows = fetch(conn, SQL(_COSTS).format(Identifier(schema), Literal(KEPT)))
    except DriverError as error:
        if conn.closed:
            raise
        return _unseen(str(error).strip().partition("\n")[0].rstrip(".")), {}
    before = next((run["statements"] for run in reversed(past) if isinstance(run.get("statements"), Mapping)), None)
    listed = [_judged(row, before) for row in rows[:SHOWN]]
    return {"seen": True, "why": "", "statements": listed}, {row["id"]: [row["calls"], row["total_ms"]] for row in rows}


def _unseen(why: str) -> dict[str, Any]:
    return {"seen": False, "why": why, "statements": []}


def _judged(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "query": without_values(row["query"]),
        "calls": row["calls"],
        "total_ms": round(row["total_ms"], 1),
        "mean_ms": round(row["total_ms"] / max(row["calls"], 1), 3),
        "rows": row["rows"],
        "since_last_check": verdict(row["id"], row["calls"], row["total_ms"], before),
    }


def verdict(statement: str, calls: int, total_ms: float, before: Mapping[str, Any] | None) -> str:
    """`new`, `worse` or nothing: its calls since the last check beside those before it. Pure."""
    if before is None:
        return ""
    known = before.get(statement)
    if not (isinstance(known, Sequence) and len(known) == 2 and all(isinstance(n, (int, float)) for n in known)):
        return "new"
    more, spent = calls - known[0], total_ms - known[1]
    if more <= 0 or spent < WORTH_MS or not known[0]:  # nothing since, or the counters were reset
        return ""
    return "worse" if spent / more > WORSE * known[1] / known[0] else ""


def without_values(query: str | None) -> str:
    """A statement in one line, in which no value is left, and no comment; shortened. Pure."""
    if not query or query == "<insufficient privilege>":
        return "(of another role: pg_read_all_stats shows it)"

    def masked(match: re.Match[str]) -> str:
        if match.group("kept"):
            return match.group("kept")
        return " " if match.group().startswith(("/*", "--")) else "?"

    text = " ".join(_VALUES.sub(masked, query).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def as_markdown(found: Mapping[str, Any]) -> list[str]:
    """The section of the Markdown report; none where the extension is not there."""
    rows = found.get("statements") or []
    if not rows:
        return []
    lines = ["", f"## {_TITLE}", "", "| statement | calls | in all | each | rows | since the last check |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        text = row["query"].replace("\\", "\\\\").replace("`", "'").replace("|", "\\|")
        lines.append(
            f"| `{text}` | {row['calls']} | {row['total_ms'] / 1000:.1f} s | {row['mean_ms']:.1f} ms | {row['rows']} |"
            f" {row['since_last_check']} |"
        )
    return lines


def as_html(found: Mapping[str, Any]) -> str:
    """The section of the page; none where the extension is not there."""
    rows = found.get("statements") or []
    if not rows:
        return ""
    head = "".join(f"<th>{word}</th>" for word in ("statement", "calls", "in all", "each", "rows", ""))
    body = "".join(
        f"<tr><td><code>{escape(_printable(row['query']))}</code></td><td>{row['calls']:,}</td>"
        f"<td>{row['total_ms'] / 1000:,.1f} s</td><td>{row['mean_ms']:,.1f} ms</td><td>{row['rows']:,}</td>"
        f"<td>{escape(row['since_last_check'])}</td></tr>"
        for row in rows
    )
    title = f'<div class="head"><h2>{_TITLE}</h2><span class="count">{len(rows)}</span></div>'
    return f'<section id="slow">{title}<div class="card"><table><tr>{head}</tr>{body}</table></div></section>'


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter >= " ")
