"""The report as Markdown (under the old script's name) and as JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..finding import SEVERITIES, Finding
from . import backups, gauges, since, slow
from .context import amount
from .registry import KINDS

MARKDOWN = "db_schema_issues_report.md"
JSON = "db_schema_issues_report.json"
LARGEST = 10
TITLES = {"critical": "Critical", "warning": "Warnings", "info": "Informational"}


def as_json(report: Mapping[str, Any]) -> str:
    """The JSON report; its keys are those of the module's result: findings, summary, server, and more."""
    return json.dumps(report, indent=2, sort_keys=True, default=str, ensure_ascii=False) + "\n"


def as_markdown(findings: Sequence[Finding], document: Mapping[str, Any]) -> str:
    """The report for people: a summary, then findings by severity with evidence and the SQL that would repair them."""
    host = _plain(document.get("host", "this host"))
    server, summary, suppressed = document["server"], document["summary"], document["suppressed"]
    lines = [
        "# Database Schema Issues Report",
        "",
        f"Database **{_plain(server['database'])}** of {host} on PostgreSQL {server['version']},"
        f" checked {document['checked_at']}"
        f"{' on a standby' if server.get('in_recovery') else ''}.",
        "",
        "| severity | findings |",
        "|---|---|",
        *(f"| {TITLES[s]} | {summary[s]} |" for s in SEVERITIES),
    ]
    lines += since.as_markdown(document.get("since") or {}, _plain)
    lines += gauges.as_markdown(document.get("gauges") or [])
    lines += backups.as_markdown(document.get("backups") or {}, _plain)
    lines += _tables(document.get("tables") or ())
    for severity in SEVERITIES:
        group = [f for f in findings if f.severity == severity]
        lines += ["", f"## {TITLES[severity]} ({len(group)})", ""]
        lines += [line for finding in group for line in _section(finding)] or ["None."]
    lines += slow.as_markdown(document.get("slow_statements") or {})
    lines += _vacuum(document.get("vacuum") or ())
    if suppressed:
        lines += ["", f"## Suppressed ({len(suppressed)})", ""]
        lines += [
            f"- `{s['id']}` on {_plain(s['object'])}: {_plain(s['reason'])}"
            + (f" (until {s['until']})" if s["until"] else "")
            for s in suppressed
        ]
    return "\n".join(lines).rstrip() + "\n"


def _tables(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The largest tables."""
    if not tables:
        return []
    lines = [
        "",
        "## Largest tables",
        "",
        "| table | size | of these indexes | rows | dead rows |",
        "|---|---|---|---|---|",
    ]
    for table in tables[:LARGEST]:
        sizes = f"{amount(table['bytes'])} | {amount(table['index_bytes'])}"
        lines.append(f"| {_plain(table['name'])} | {sizes} | {table['rows']} | {table['dead_rows']} |")
    return lines


def _vacuum(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the last vacuum runs gave back, and what they cost."""
    if not runs:
        return []
    lines = ["", "## Vacuum", "", "| run | given back | took | longest lock |", "|---|---|---|---|"]
    for run in reversed(runs[-LARGEST:]):
        back = amount(run["bytes_before"] - run["bytes_after"])
        lines.append(f"| {_plain(run['at'])} | {back} | {run['seconds']:.1f} s | {run['max_lock_ms']:.0f} ms |")
    return lines


def _section(finding: Finding) -> list[str]:
    entry = KINDS[finding.id]
    lines = [f"### {_plain(finding.message)}", "", f"`{finding.id}` on {_plain(finding.object)}. {entry.meaning}", ""]
    if finding.evidence:
        facts = ", ".join(f"{key}: {_plain(json.dumps(v, default=str))}" for key, v in finding.evidence.items())
        lines += [f"Evidence: {facts}", ""]
    if finding.fix:
        consent = f", with {finding.fix.consent}=true" if finding.fix.consent else ""
        statements = [statement.rstrip().rstrip(";") + ";" for statement in finding.fix.sql]
        fence = "`" * (2 + max([1, *(len(run) for text in statements for run in re.findall("`+", text))]))
        lines += [f"Fix ({entry.fixed_by}{consent}; lock: {finding.fix.lock}):", "", f"{fence}sql"]
        lines += [*statements, fence, ""]
    elif finding.why_no_fix:
        lines += [f"Not fixed by the bundle: {_plain(finding.why_no_fix)}", ""]
    return lines


def _plain(text: str) -> str:
    """Text that stays text in Markdown: names may hold anything."""
    for mark in ("\\", "`", "*", "_", "<", "|", "#", "["):
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", " ")
