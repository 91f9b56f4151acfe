"""Findings and documents for the tests of the report."""

from __future__ import annotations

from typing import Any

from scannerdb.finding import Finding, summary

HOSTILE = "<img src=x onerror=document.title='hit'>\"'&</code></script><script>document.title='hit'</script>"


def document_of(findings: list[Finding], name: str = "plain") -> dict[str, Any]:
    server = {"database": name, "version": name, "version_num": 170005, "in_recovery": True}
    runs = runs_of(2)
    return {
        "findings": [f.public() for f in findings],
        "summary": summary(findings),
        "server": {**server, "encoding": "UTF8", "user": name},
        "suppressed": [{"id": "data.orphan", "object": name, "reason": name, "until": "2030-01-01"}],
        "database_bytes": 123456789,
        "tables": [{"name": name, "bytes": 300, "index_bytes": 100, "rows": 5, "dead_rows": 0}],
        "trend": runs,
        "checked_at": "2026-01-02T03:04:05Z",
    }


def runs_of(count: int) -> list[dict[str, Any]]:
    counts = {"critical": 1, "warning": 2, "info": 3}
    return [{"at": f"2026-01-{n + 1:02}T00:00:00Z", "summary": counts, "bytes": 1000 * n} for n in range(count)]
