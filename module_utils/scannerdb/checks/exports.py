"""The report for pipelines: JUnit XML and SARIF. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape  # enough for XML too, and xml.sax would load an HTTP client with it
from typing import Any

from ..finding import Finding
from .registry import KINDS

LEVELS = {"critical": "error", "warning": "warning", "info": "note"}


def _clean(text: str) -> str:
    """Without the characters that XML may not hold."""
    return "".join(
        c for c in text if c in "\n\t" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff")
    )


def _attribute(text: str) -> str:
    """A quoted XML attribute; white space in it would otherwise be read as spaces."""
    return '"' + escape(_clean(text)).replace("\n", "&#10;").replace("\t", "&#9;") + '"'


def as_junit(findings: Sequence[Finding], document: Mapping[str, Any]) -> str:
    """One test case for each kind of finding the check knows: failed where it is above informational."""
    failed = [f for f in findings if f.severity != "info"]
    by_id: dict[str, list[Finding]] = {}
    for finding in failed:
        by_id.setdefault(finding.id, []).append(finding)
    name = _attribute(f"scannerdb check of {document['server']['database']}")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={name} tests="{len(KINDS)}" failures="{len(by_id)}" errors="0"'
        f" timestamp={_attribute(document['checked_at'].rstrip('Z'))}>",
    ]
    for finding_id in sorted(KINDS):
        case = f'  <testcase classname="scannerdb.{finding_id.split(".")[0]}" name="{finding_id}"'
        group = by_id.get(finding_id)
        if not group:
            lines.append(f"{case}/>")
            continue
        text = "\n".join(f"{f.object}: {f.message}" for f in group)
        shown = escape(_clean(text), quote=False)
        lines.append(f'{case}>\n    <failure type="{group[0].severity}" message={_attribute(group[0].message)}>{shown}')
        lines.append("    </failure>\n  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def as_sarif(findings: Sequence[Finding], document: Mapping[str, Any]) -> str:
    """SARIF 2.1.0: a rule for each kind of finding, a result for each finding."""
    rules = [
        {
            "id": i,
            "shortDescription": {"text": entry.meaning},
            "defaultConfiguration": {"level": LEVELS[entry.severity]},
        }
        for i, entry in sorted(KINDS.items())
    ]
    database = document["server"]["database"]
    results = [
        {
            "ruleId": f.id,
            "level": LEVELS[f.severity],
            "message": {"text": f.message},
            "locations": [{"logicalLocations": [{"name": f.object, "fullyQualifiedName": f"{database}.{f.object}"}]}],
        }
        for f in findings
    ]
    run = {"tool": {"driver": {"name": "scannerdb check", "rules": rules}}, "results": results}
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"
