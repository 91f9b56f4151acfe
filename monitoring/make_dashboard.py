"""Write dashboard.json, for Grafana 9 or newer: `python monitoring/make_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WHERE = '{host=~"$host"}'
STATES = {"0": ("ok", "green"), "1": ("warning", "orange"), "2": ("critical", "red")}
SOURCE = {"type": "prometheus", "uid": "${source}"}

# Title, kind, query (%s is where the hosts' filter goes), legend, unit, width, height.
PANELS = [
    ("State", "stat", "scannerdb_state%s", "{{host}}", "none", 24, 4),
    (
        "Age of the newest backup",
        "timeseries",
        "time() - scannerdb_backup_newest_timestamp_seconds%s",
        "{{host}}",
        "s",
        12,
        8,
    ),
    ("Size of the newest backup", "timeseries", "scannerdb_backup_newest_size_bytes%s", "{{host}}", "bytes", 12, 8),
    (
        "Since the last proof by a restore",
        "stat",
        "time() - scannerdb_backup_proven_timestamp_seconds%s",
        "{{host}}",
        "s",
        12,
        5,
    ),
    ("Room for backups", "timeseries", "scannerdb_backup_free_bytes%s", "{{host}}", "bytes", 12, 5),
    (
        "Jobs that ran when due, and well",
        "state-timeline",
        "scannerdb_job_ok%s",
        "{{host}} {{job_name}}",
        "none",
        24,
        8,
    ),
    (
        "Length of the last run",
        "timeseries",
        "scannerdb_job_last_duration_seconds%s",
        "{{host}} {{job_name}}",
        "s",
        12,
        8,
    ),
    (
        "Until the next run",
        "stat",
        "scannerdb_job_next_due_timestamp_seconds%s - time()",
        "{{host}} {{job_name}}",
        "s",
        12,
        8,
    ),
    ("Findings", "timeseries", "scannerdb_findings%s", "{{host}} {{severity}}", "none", 12, 8),
    ("Size of the database", "timeseries", "scannerdb_size_bytes%s", "{{host}}", "bytes", 12, 8),
]


def panel(number: int, x: int, y: int, spec: tuple[str, str, str, str, str, int, int]) -> dict[str, Any]:
    """One panel at its place."""
    title, kind, query, legend, unit, width, height = spec
    defaults: dict[str, Any] = {"unit": unit}
    if title == "State":
        options = {value: {"text": text, "color": color} for value, (text, color) in STATES.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "id": number,
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "targets": [{"refId": "A", "expr": query % WHERE, "legendFormat": legend, "datasource": SOURCE}],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def panels() -> list[dict[str, Any]]:
    """All panels, from left to right and from top to bottom."""
    made, x, y, tallest = [], 0, 0, 0
    for number, spec in enumerate(PANELS, 1):
        if x + spec[5] > 24:
            x, y, tallest = 0, y + tallest, 0
        made.append(panel(number, x, y, spec))
        x, tallest = x + spec[5], max(tallest, spec[6])
    return made


def dashboard() -> dict[str, Any]:
    """The dashboard, with a choice of the data source and of the hosts."""
    hosts = {
        "name": "host",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(scannerdb_state, host)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "scannerdb",
        "title": "Scanner databases",
        "schemaVersion": 38,
        "time": {"from": "now-7d", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}, hosts]},
        "panels": panels(),
    }


if __name__ == "__main__":
    text = json.dumps(dashboard(), indent=2) + "\n"
    Path(__file__).with_name("dashboard.json").write_text(text, encoding="utf-8")
