"""The report as one self-contained HTML page: no outside request, every string escaped. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..finding import SEVERITIES, Finding
from . import backups, gauges, since, slow
from .charts import PATTERNS, SHOWN_RUNS, SHOWN_TABLES, given_back_bars, legend, size_bars, size_line, trend_bars
from .context import amount, printable
from .html_page import SCRIPT, STYLE
from .registry import KINDS

TITLES = {"critical": "Critical", "warning": "Warnings", "info": "Informational"}
MOST = 200  # findings of one severity on the page; the JSON report has them all
VACUUMS = 8  # runs in the table; the chart has more
NOTHING = "-"
GROUPED = 10_000  # from here on, digits in threes
EMPTY = '<p class="soft">None.</p>'


def e(value: Any) -> str:
    """Text that stays text, in content and in attributes. Control characters, which no page may hold, are dropped."""
    return escape(printable(str(value)), quote=True)


def as_html(
    findings: Sequence[Finding],
    document: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
) -> str:
    """The page, out of the findings, the JSON report's document, and the runs so far with this one as the last."""
    database, host = document["server"]["database"], document.get("host", "")
    policy = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    security = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{policy}'; img-src data:"
    sections = [_tiles(document), since.as_html(document.get("since") or {}), _charts(document, runs)]
    sections += ['<div class="pair">', gauges.as_html(document.get("gauges") or [])]
    sections += [backups.as_html(document.get("backups") or {}), "</div>"]
    sections += [_group(severity, [f for f in findings if f.severity == severity]) for severity in SEVERITIES]
    sections += [slow.as_html(document.get("slow_statements") or {})]
    sections += [_vacuum(document.get("vacuum") or ()), _suppressed(document["suppressed"])]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{e(security)}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">',
            f"<title>{e(host)}: {e(database)}, database report</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f'<a class="skip" href="#findings">Skip to the findings</a>{PATTERNS}',
            _header(document),
            f"<main>\n{''.join(sections)}\n</main>",
            _footer(),
            f"<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _header(document: Mapping[str, Any]) -> str:
    server, counts, host = document["server"], document["summary"], document.get("host", "")
    standby = ", a standby" if server.get("in_recovery") else ""
    tone, verdict = verdict_of(counts)
    when = document["checked_at"].replace("T", " ").replace("Z", " UTC")
    return (
        f"<header><h1>{e(server['database'])}</h1>"
        f'<p class="soft">{e(host)} · PostgreSQL {e(server["version"])}{standby} · checked {e(when)}</p>'
        f'<p class="verdict {tone}">{verdict}</p></header>'
    )


def verdict_of(counts: Mapping[str, int]) -> tuple[str, str]:
    """The report in one sentence, and its colour. Pure."""
    if counts["critical"]:
        one = counts["critical"] == 1
        what = "One thing is" if one else f"{counts['critical']} things are"
        return "critical", f"{what} critical: data or writes are wrong, or will be."
    if counts["warning"]:
        one = counts["warning"] == 1
        return (
            "warning",
            f"Nothing is critical; {'one thing' if one else str(counts['warning']) + ' things'} to repair soon.",
        )
    return "good", "All is well."


def _tiles(document: Mapping[str, Any]) -> str:
    tiles = []
    for severity in SEVERITIES:
        count = document["summary"][severity]
        empty = "" if count else " none"
        tiles.append(
            f'<a class="tile {severity}{empty}" href="#{severity}"><b>{count}</b><span>{TITLES[severity]}</span></a>'
        )
    size = document.get("database_bytes")
    tiles.append(f'<div class="tile"><b>{amount(size) if size else NOTHING}</b><span>Size</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _charts(document: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    shown = runs[-SHOWN_RUNS:]
    parts = ['<div class="pair">']
    if len(shown) > 1:
        marks = legend(*((f"f-{severity}", TITLES[severity]) for severity in SEVERITIES))
        parts.append(f'<section class="card"><h2>Findings, run by run</h2>{trend_bars(shown)}{marks}</section>')
        grown = f"{amount(shown[0]['bytes'])} → {amount(shown[-1]['bytes'])}"
        parts.append(f'<section class="card"><h2>Size of the database</h2>{size_line(shown)}')
        parts.append(f'<p class="soft">{grown}</p></section>')
    parts.append("</div>")
    if len(shown) <= 1:
        parts = ['<section class="card"><h2>Trend</h2><p class="soft">This is the first run on record; ']
        parts.append("the trend begins with the next.</p></section>")
    tables = document.get("tables") or []
    if tables:
        rest = len(tables) - SHOWN_TABLES
        more = f'<p class="soft">and {rest} smaller ones in the JSON report</p>' if rest > 0 else ""
        marks = legend(("f-bar", "rows"), ("f-bar2", "indexes"))
        parts.append(f'<section class="card"><h2>Largest tables</h2>{size_bars(tables)}{more}{marks}</section>')
    return "".join(parts)


def _group(severity: str, findings: Sequence[Finding]) -> str:
    anchor = ' id="findings"' if severity == SEVERITIES[0] else ""
    button = '<button type="button" data-all hidden>Open all</button>' if len(findings) > 1 else ""
    head = f'<div class="head"><h2>{TITLES[severity]}</h2><span class="count">{len(findings)}</span>{button}</div>'
    items = "".join(_finding(finding, severity == "critical") for finding in findings[:MOST])
    more = len(findings) - MOST
    items += f'<p class="soft">and {more} more in the JSON report</p>' if more > 0 else ""
    return f'<section class="{severity}" id="{severity}"><div{anchor}></div>{head}{items or EMPTY}</section>'


def _finding(finding: Finding, is_open: bool) -> str:
    entry = KINDS[finding.id]
    shown = {k: v for k, v in finding.evidence.items() if k not in ("query", "source")}
    parts = [f"<p>{e(entry.meaning)}</p>"]
    facts = "".join(f"<dt>{e(key.replace('_', ' '))}</dt><dd>{_value(key, value)}</dd>" for key, value in shown.items())
    parts.append(f'<dl class="facts">{facts}</dl>' if facts else "")
    for key, title in (("query", "The rows"), ("source", "Its body")):
        if finding.evidence.get(key):
            parts.append(_sql(title, str(finding.evidence[key])))
    if finding.fix:
        consent = f", with {finding.fix.consent}=true" if finding.fix.consent else ""
        title = f"Repaired {_by(entry.fixed_by)}{consent}; lock: {finding.fix.lock or 'none'}"
        parts.append(_sql(title, "\n".join(s.rstrip().rstrip(";") + ";" for s in finding.fix.sql)))
    how = finding.why_no_fix or entry.how
    parts.append(f'<p class="soft">{e(how)}</p>' if how else "")
    opened = " open" if is_open else ""
    return (
        f'<details{opened}><summary><span class="what">{e(finding.message)}</span>'
        f"<code>{e(finding.id)} · {e(finding.object)}</code></summary>"
        f'<div class="body">{"".join(parts)}</div></details>'
    )


def _by(fixed_by: str) -> str:
    return fixed_by if fixed_by.startswith("by ") else f"by {fixed_by}"


def _value(key: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and (key == "bytes" or key.endswith("_bytes")):
        return e(amount(value))
    if isinstance(value, (int, float)) and abs(value) >= GROUPED and not key.endswith("id"):
        return f"{value:,}"
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return e(", ".join(value)) or NOTHING
    if isinstance(value, Mapping):
        return "<br>".join(f"{e(k)}: {e(_short(v))}" for k, v in value.items())
    return e(_short(value))


def _short(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _sql(title: str, text: str) -> str:
    button = '<button type="button" data-copy hidden>Copy</button>'
    return f'<div class="sql"><div><span>{e(title)}</span>{button}</div><pre><code>{e(text)}</code></pre></div>'


def _vacuum(runs: Sequence[Mapping[str, Any]]) -> str:
    """What the vacuum runs gave back, and what they cost."""
    if not runs:
        return ""
    rows = "".join(
        f"<tr><td>{e(run['at'].replace('T', ' ').replace('Z', ' UTC'))}</td>"
        f"<td>{amount(run['bytes_before'] - run['bytes_after'])}</td><td>{run['seconds']:.1f} s</td>"
        f"<td>{run['max_lock_ms']:.0f} ms</td></tr>"
        for run in reversed(runs[-VACUUMS:])
    )
    head = "<tr><th>run</th><th>given back</th><th>took</th><th>longest lock</th></tr>"
    title = f'<div class="head"><h2>Vacuum</h2><span class="count">{len(runs)}</span></div>'
    return f'<section>{title}<div class="card">{given_back_bars(runs)}<table>{head}{rows}</table></div></section>'


def _suppressed(items: Sequence[Mapping[str, str]]) -> str:
    if not items:
        return ""
    rows = "".join(
        f"<tr><td><code>{e(s['id'])}</code></td><td>{e(s['object'])}</td><td>{e(s['reason'])}"
        f"{e(' (until ' + s['until'] + ')') if s['until'] else ''}</td></tr>"
        for s in items[:MOST]
    )
    head = f'<div class="head"><h2>Suppressed</h2><span class="count">{len(items)}</span></div>'
    return f'<section>{head}<div class="card"><table>{rows}</table></div></section>'


def _footer() -> str:
    said = "Made by playbooks/check.yml, which only reads. docs/checks.md says what each finding means, and its repair."
    return f'<footer class="soft">{said}</footer>'
