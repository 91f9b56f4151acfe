"""What is new since the last check of a database, and what is gone: its findings are kept in the state folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import FileProblem
from ..files import ensure_folder, read_if_there, write_atomic
from ..finding import Finding
from ..jsontext import read_json
from .context import printable

NAME = "check_findings.json"
KEPT = 5000  # findings of one check
SHOWN = 20
FIELDS = ("id", "object", "severity", "message")


def read_last(state_dir: str, database: str) -> dict[str, Any]:
    """The findings of the last check with its time; empty where there is none, or it cannot be read."""
    try:
        last = read_json(read_if_there(Path(state_dir, NAME))) if state_dir else {}
        fits = last["database"] == database and all(isinstance(f[k], str) for f in last["findings"] for k in FIELDS)
        return {"at": str(last["at"]), "findings": last["findings"]} if fits else {}
    except (FileProblem, ValueError, KeyError, TypeError):
        return {}


def keep(state_dir: str, database: str, at: str, findings: Sequence[Finding]) -> str:
    """Keep the findings for the next check; where that fails, a sentence says so."""
    if not state_dir:
        return ""
    kept = {"database": database, "at": at, "findings": [_short(f) for f in findings[:KEPT]]}
    try:
        write_atomic(ensure_folder(Path(state_dir)) / NAME, json.dumps(kept, ensure_ascii=False) + "\n")
    except FileProblem as error:
        return str(error)
    return ""


def _short(finding: Finding) -> dict[str, str]:
    return {name: str(getattr(finding, name)) for name in FIELDS}


def difference(last: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """What is new and what is gone, by id and object; empty where there was no check before. Pure."""
    if not last:
        return {}
    before = {(f["id"], f["object"]): f for f in last["findings"]}
    now = {(f.id, f.object): _short(f) for f in findings}
    return {
        "at": last["at"],
        "new": [one for key, one in now.items() if key not in before],
        "gone": [{name: one[name] for name in FIELDS} for key, one in before.items() if key not in now],
    }


def as_html(since: Mapping[str, Any]) -> str:
    """Both lists, the most severe first, as they were."""
    if not since:
        return ""
    when = escape(since["at"].replace("T", " ").replace("Z", " UTC"))
    parts = [f'<section class="card"><h2>Since the last check</h2><p class="soft">of {when}</p>']
    for word in ("new", "gone"):
        items = since[word]
        rows = (
            "".join(f"<li><b>{escape(f['severity'])}</b> {escape(printable(f['message']))}</li>" for f in items[:SHOWN])
            or '<li class="soft">nothing</li>'
        )
        more = f"<li>and {len(items) - SHOWN} more in the JSON report</li>" if len(items) > SHOWN else ""
        parts.append(f'<h3>{word.capitalize()} ({len(items)})</h3><ul class="plain">{rows}{more}</ul>')
    return "".join([*parts, "</section>"])


def as_markdown(since: Mapping[str, Any], plain: Any) -> list[str]:
    """The same; `plain` makes a name text in Markdown."""
    if not since:
        return []
    lines = ["", f"## Since the last check, of {plain(since['at'])}", ""]
    for word in ("new", "gone"):
        items = since[word]
        lines += [f"{word.capitalize()}: {len(items)}", ""]
        lines += [f"- {f['severity']}: {plain(f['message'])}" for f in items[:SHOWN]]
        lines += [f"- and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
        lines += [""] if items else []
    return lines[:-1] if lines[-1] == "" else lines
