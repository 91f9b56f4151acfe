"""The report as Markdown (under the old script's name) and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..finding import SEVERITIES, Finding
from .registry import ENTRIES

MARKDOWN = "db_schema_issues_report.md"
JSON = "db_schema_issues_report.json"
TITLES = {"critical": "Critical", "warning": "Warnings", "info": "Informational"}


def as_json(report: Mapping[str, Any]) -> str:
    """The JSON report; its keys are those of the module's result: findings, summary, server, and more."""
    return json.dumps(report, indent=2, sort_keys=True, default=str, ensure_ascii=False) + "\n"


def as_markdown(
    findings: Sequence[Finding],
    summary: Mapping[str, int],
    server: Mapping[str, Any],
    made_at: str,
    suppressed: Sequence[Mapping[str, str]] = (),
) -> str:
    """The report for people: a summary, then findings by severity with evidence and the SQL that would mend them."""
    lines = [
        "# Database Schema Issues Report",
        "",
        f"Database **{_plain(server['database'])}** on PostgreSQL {server['version']}, checked {made_at} UTC"
        f"{' on a standby' if server.get('in_recovery') else ''}.",
        "",
        "| severity | findings |",
        "|---|---|",
        *(f"| {TITLES[s]} | {summary[s]} |" for s in SEVERITIES),
    ]
    for severity in SEVERITIES:
        group = [f for f in findings if f.severity == severity]
        lines += ["", f"## {TITLES[severity]} ({len(group)})", ""]
        lines += [line for finding in group for line in _section(finding)] or ["None."]
    if suppressed:
        lines += ["", f"## Suppressed ({len(suppressed)})", ""]
        lines += [
            f"- `{s['id']}` on {_plain(s['object'])}: {_plain(s['reason'])}"
            + (f" (until {s['until']})" if s["until"] else "")
            for s in suppressed
        ]
    return "\n".join(lines).rstrip() + "\n"


def _section(finding: Finding) -> list[str]:
    entry = ENTRIES[finding.id]
    lines = [f"### {_plain(finding.message)}", "", f"`{finding.id}` on {_plain(finding.object)}. {entry.meaning}", ""]
    if finding.evidence:
        facts = ", ".join(f"{key}: {_plain(json.dumps(v, default=str))}" for key, v in finding.evidence.items())
        lines += [f"Evidence: {facts}", ""]
    if finding.fix:
        consent = f", with {finding.fix.consent}=true" if finding.fix.consent else ""
        lines += [f"Fix ({entry.mended_by}{consent}; lock: {finding.fix.lock}):", "", "```sql"]
        lines += [statement.rstrip().rstrip(";") + ";" for statement in finding.fix.sql]
        lines += ["```", ""]
    elif finding.why_no_fix:
        lines += [f"Not fixed by the bundle: {_plain(finding.why_no_fix)}", ""]
    return lines


def _plain(text: str) -> str:
    """Text that stays text in Markdown: names may hold anything."""
    for mark in ("\\", "`", "*", "_", "<", "|", "#", "["):
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", " ")
