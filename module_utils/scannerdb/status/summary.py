"""What a play says at its end: what was found, fixed and left, out of its tasks' results. Pure.

The controller loads this file alone (roles/scannerdb_summary/filter_plugins), so it imports nothing of the package.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MOST = 15
INDENT = " " * 13
Result = Mapping[str, Any]
Size = Callable[[float], str]


def summary(facts: Mapping[str, Any], size: Size) -> str:
    """The whole text. `facts` are described in the role's vars; `size` makes bytes readable."""
    found = facts["check"] if facts["found"] is None else facts["found"]
    fix, vacuum = facts["fix"], facts["vacuum"]
    dry, dry_fix = facts["dry"], facts["dry_fix"]
    looked_again = facts["found"] is not None and "tables" in vacuum and not dry
    last: Result = facts["check"] if looked_again else {}
    left = _above_info(fix.get("left_undone") or [])
    lines = [
        _title(facts, found, last),
        *_found(found),
        *_backup(facts["backup"], dry, size),
        *_cluster(facts["physical"], dry, size),
        *_replaced(facts["restore"], dry, size),
        *_fixed(fix, dry_fix, facts),
        *_vacuumed(vacuum, dry, size),
        *(_left(last, left) if "summary" in last else _undone(left)),
        *_failed(facts, found, last),
        *(["", f"Not done   {', '.join(facts['missing'])}"] if facts["missing"] else []),
        "",
        *_report(last.get("report", found.get("report", {}))),
        f"Logs       {facts['log_dir']}",
    ]
    return "\n".join(lines) + "\n"


def number(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{count} {one if count == 1 else many}"


def _above_info(items: Iterable[Result]) -> list[Result]:
    return [item for item in items if item.get("severity") != "info"]


def _totals(counts: Mapping[str, int]) -> str:
    warnings = number(counts["warning"], "warning", "warnings")
    return f"{counts['critical']} critical, {warnings}, {counts['info']} informational"


def _more(items: Sequence[Result]) -> list[str]:
    return [f"{INDENT}and {len(items) - MOST} more, in the report"] if len(items) > MOST else []


def _line(item: Result, message: str) -> str:
    return f"{INDENT}{item['severity']:<8}  {message}"


def _title(facts: Mapping[str, Any], found: Result, last: Result) -> str:
    server = (last.get("server") or found.get("server") or {}).get("version") or ""
    on = f" on PostgreSQL {server}" if server else ""
    title = f"{facts['database']}{on}{' (check mode: nothing was changed)' if facts['dry'] else ''}"
    if (found.get("server") or {}).get("in_recovery"):
        title += "\nA standby: it was looked at; its primary is the one to fix and to vacuum."
    return title


def _found(found: Result) -> list[str]:
    if "summary" not in found:
        return []
    severe = _above_info(found["findings"])
    listed = [_line(one, one["message"]) for one in severe[:MOST]]
    return ["", f"Found      {_totals(found['summary'])}", *listed, *_more(severe)]


def _backup(result: Result, dry: bool, size: Size) -> list[str]:
    if "backup" not in result:
        return []
    backup = result["backup"]
    verified = backup.get("verified", "none")
    state = "expected" if dry else f"verified by {verified}" if verified != "none" else "not verified"
    lines = ["", f"Backup     {backup['name']}, {size(backup['size_bytes'])}, {state}", f"{INDENT}{backup['path']}"]
    if not dry:
        tables = number(backup["tables"], "table", "tables")
        kept = sum(one["action"] == "keep" for one in result.get("retention", []))
        lines.append(f"{INDENT}{backup['rows']:,} rows of {tables}, in {round(backup['duration_s'], 1)} s; {kept} kept")
    proven = result.get("proven") or {}
    if proven.get("name"):
        lines.append(f"{INDENT}newest proven restorable: {proven['name']}, {proven['proven_at']}")
    if result.get("removed"):
        olds = number(len(result["removed"]), "old one", "old ones")
        lines.append(f"{INDENT}{olds} {'would be ' if dry else ''}removed")
    return lines


def _cluster(result: Result, dry: bool, size: Size) -> list[str]:
    """The physical backup of the whole cluster."""
    if "backup" not in result:
        return []
    each = [_of_cluster(backup, dry, size) for backup in result.get("backups") or [result["backup"]]]
    first, *more = [*each, *map(str, result.get("failures", []))]
    window = ((result.get("physical") or {}).get("window") or {}).get("sentence", "nothing")
    removed = [f"{INDENT}{label} was removed" for label in result["removed"]]
    return ["", f"Cluster    {first}", *(INDENT + line for line in more), f"{INDENT}restorable: {window}", *removed]


def _of_cluster(backup: Result, dry: bool, size: Size) -> str:
    if dry:
        return f"a {backup['kind']} physical backup, expected"
    more = " more" if backup["kind"] != "full" else ""
    return f"{backup['label']}, {size(backup['delta_bytes'])}{more}{'' if backup.get('sound', True) else ', NOT SOUND'}"


def _replaced(result: Result, dry: bool, size: Size) -> list[str]:
    """The databases that restores replaced."""
    dropped = [
        f"{one['name']}, {size(one['size_bytes'])}: {'would be ' if dry else ''}dropped"
        for one in result.get("dropped", [])
    ]
    kept = [
        f"{one['name']}, {size(one['size_bytes'])}: kept until {one['kept_until'] or 'somebody drops it'}"
        for one in result.get("kept", [])
    ]
    undone = [f"{one['name']} stays: {one['why']}" for one in result.get("left_undone", [])]
    lines = [INDENT + line for line in [*dropped, *kept, *undone]]
    return ["", "Replaced by restores", *lines] if lines else []


def _fixed(fix: Result, dry: bool, facts: Mapping[str, Any]) -> list[str]:
    if "fixed" not in fix:
        return []
    fixed = fix["fixed"]
    count = number(len(fixed), "finding", "findings") if fixed else "nothing"
    lines = ["", f"{'To fix     ' if dry else 'Fixed      '}{count}"]
    for one in fixed:
        rows = f", {number(one['rows'], 'row', 'rows')}" if one.get("rows") else ""
        lines.append(f"{INDENT}{_message(one)} [{one['id']}]{rows}")
    if fixed and not dry:
        undo = f"playbooks/undo.yml -l {shlex.quote(facts['host'])} -e scannerdb_run_id={fix['run_id']}"
        lines += [f"{INDENT}{fix['locks']}", f"{INDENT}Undo: {facts['command']} {undo}"]
    return lines


def _message(item: Result) -> str:
    return str(item.get("message", f"{item['id']} on {item['object']}"))


def _vacuumed(vacuum: Result, dry: bool, size: Size) -> list[str]:
    if "tables" not in vacuum:
        return []
    tables = vacuum["tables"]
    count = number(len(tables), "table", "tables") if tables else "nothing"
    lines = ["", f"{'To vacuum  ' if dry else 'Vacuumed   '}{count}"]
    for one in tables:
        lines.append(f"{INDENT}{one['table']}: {one['action']} ({one['reason']})")
        if one["bytes_after"] is not None:
            sizes = f"from {size(one['bytes_before'])} to {size(one['bytes_after'])}"
            lock = f", the longest lock {round(one['max_lock_ms'])} ms" if one.get("max_lock_ms") else ""
            note = f"; {one['note']}" if one.get("note") else ""
            lines.append(f"{INDENT}  in {one['duration_s']} s, {sizes}{lock}{note}")
    for one in vacuum.get("left_undone", []):
        what = f": {one['action']} was not done" if one.get("action") else " was left alone"
        lines.append(f"{INDENT}{one['table']}{what}: {one['reason']}")
    return lines


def _left(last: Result, left: Sequence[Result]) -> list[str]:
    """What the last check still finds, each with why nothing repaired it."""
    severe = _above_info(last["findings"])
    lines = ["", f"Left       {_totals(last['summary'])}"]
    for one in severe[:MOST]:
        whys = [item["why"] for item in left if (item["id"], item["object"]) == (one["id"], one["object"])]
        lines.append(_line(one, one["message"]))
        lines += [f"{INDENT}{' ' * 12}{why}" for why in whys or [_way_on(one)]]
    return [*lines, *_more(severe)]


def _way_on(finding: Result) -> str:
    """What to do about a finding that no fix had looked at: counters, without consent, are not even counted by it."""
    consent = (finding.get("fix") or {}).get("consent")
    return f"it needs consent: {consent}=true" if consent else "repair it by hand; the report says how"


def _undone(left: Sequence[Result]) -> list[str]:
    """What a fix left, where nobody looked again."""
    if not left:
        return []
    lines = ["", f"Left       {number(len(left), 'finding', 'findings')} above informational"]
    for one in left[:MOST]:
        lines += [_line(one, _message(one)), f"{INDENT}{' ' * 12}{one['why']}"]
    return [*lines, *_more(left)]


def _failed(facts: Mapping[str, Any], found: Result, last: Result) -> list[str]:
    results = {
        "Check": found,
        "Backup": facts["backup"],
        "Sweep": facts["restore"],
        "Fix": facts["fix"],
        "Vacuum": facts["vacuum"],
        "Last check": last,
        "Verdict": facts["judged"],
    }
    failed = [name for name, result in results.items() if result.get("failed")]
    return [line for name in failed for line in ("", f"Failed     {name}: the error is above")]


def _report(report: Mapping[str, str]) -> list[str]:
    page = report.get("html") or report.get("markdown") or ""
    return [f"Report     {page}"] if page else []
