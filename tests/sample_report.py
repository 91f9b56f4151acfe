"""A report with something of everything, as of a database in the middle of its life."""

from __future__ import annotations

from typing import Any

from scannerdb.checks import html
from scannerdb.checks.gauges import gauge
from scannerdb.checks.since import difference
from scannerdb.finding import Finding, Fix, ordered, summary

SIZES = [52, 53, 53, 55, 58, 60, 61, 66, 70, 71, 71, 75, 78, 78, 80]
COUNTS = [(2, 5, 9), (2, 6, 9), (0, 5, 9), (0, 3, 8), (0, 3, 8), (1, 4, 8), (0, 2, 8), (0, 2, 7)]
COUNTS += [(0, 2, 7), (0, 4, 7), (1, 4, 7), (0, 3, 6), (0, 2, 6), (0, 2, 6), (1, 2, 2)]


def found() -> list[Finding]:
    """Findings of each severity."""
    merge = "UPDATE public.endpoints e SET verified = 0\n WHERE e.is_honeypot AND e.verified = 1"
    return ordered(
        [
            Finding(
                "data.verified.link_missing",
                "critical",
                "verified_endpoints",
                "12 verified endpoints have no row in verified_endpoints, so they are not in servers.",
                {"rows": 12, "example_id": 4711},
                Fix("data.verified.link_missing", ("INSERT INTO public.verified_endpoints …",), 12, "ROW EXCLUSIVE"),
            ),
            Finding(
                "data.verified.honeypot",
                "warning",
                "endpoints",
                "31 honeypots count as verified.",
                {"rows": 31},
                Fix("data.verified.honeypot", (merge,), 31, "ROW EXCLUSIVE"),
            ),
            Finding(
                "table.bloat", "warning", "models", "About 41 % of models is empty space.", {"bloat_bytes": 33 << 20}
            ),
            Finding("index.redundant", "info", "endpoints.ix_ip", "ix_ip is a prefix of ux_ip_port."),
            Finding("schema.table.unexpected", "info", "chat_history", "chat_history is no table of the contract."),
        ]
    )


def runs() -> list[dict[str, Any]]:
    """Fifteen weeks."""
    names = ("critical", "warning", "info")
    moments = [f"2026-{month:02}-{day:02}T04:00:00Z" for month in (2, 3, 4, 5) for day in (1, 8, 15, 22)]
    return [
        {"at": at, "summary": dict(zip(names, counts)), "bytes": size << 20}
        for at, counts, size in zip(moments, COUNTS, SIZES)
    ]


def document() -> dict[str, Any]:
    """The JSON report."""
    findings = found()
    names = ("endpoints", "models", "benchmark_results", "verified_endpoints", "metadata")
    gone = {"id": "index.invalid", "object": "models.ix_name", "severity": "warning", "message": "ix_name is invalid."}
    last = {"at": "2026-05-08T04:00:00Z", "findings": [gone, *(f.public() for f in findings[1:])]}
    backups = [
        {"name": f"ollama_scanner_202605{day}_030000.backup", "size_bytes": 14 << 20, "purpose": "regular"}
        | {"verified": level, "verified_at": f"2026-05-{day}T03:01:00Z", "damaged": False}
        for day, level in ((15, "read"), (14, "read"), (11, "restore"))
    ]
    vacuums = [
        {"at": f"2026-05-{day:02}T04:20:00Z", "seconds": 3.2 * day, "bytes_before": 80 << 20, "max_lock_ms": 31.0}
        | {"bytes_after": (80 - day) << 20}
        for day in (1, 8, 15)
    ]
    return {
        "host": "scanner-eu",
        "findings": [f.public() for f in findings],
        "summary": summary(findings),
        "server": {"database": "ollama_scanner", "version": "17.5", "version_num": 170005, "in_recovery": False}
        | {"encoding": "UTF8", "user": "scannerdb_maint"},
        "suppressed": [
            {"id": "index.unused", "object": "chat_history.*", "reason": "used by the yearly report", "until": ""}
        ],
        "database_bytes": 80 << 20,
        "tables": [
            {
                "name": name,
                "bytes": (48 >> n) << 20,
                "index_bytes": (48 >> n) << 19,
                "rows": 50_000 >> n,
                "dead_rows": 9,
            }
            for n, name in enumerate(names)
        ],
        "gauges": [
            gauge("connections", 41, 97, 80),
            gauge("cache hits", 991_204, 1_000_000, None),
            gauge("transaction ids to wraparound", 198_000_000, 2**31, 25),
        ],
        "since": difference(last, findings),
        "backups": {"dir": "/var/backups/scannerdb/scanner-eu", "why": "", "count": 9, "sets": backups}
        | {"proven": {"name": backups[2]["name"], "at": backups[2]["verified_at"]}},
        "vacuum": vacuums,
        "trend": runs(),
        "checked_at": "2026-05-15T04:00:00Z",
    }


def sample() -> str:
    """The page."""
    return html.as_html(found(), document(), runs())
