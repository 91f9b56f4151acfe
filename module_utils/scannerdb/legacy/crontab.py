"""Lines of a crontab that start the old scripts: found, switched off, removed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCRIPTS = (
    "backup_database.sh",
    "apply_db_maintenance_fixes.sh",
    "apply_view_update_fix.sh",
    "check_db_schema_issues.py",
    "check_maintenance_status.sh",
)
LOGS = ("cron_backup.log", "cron_maintenance.log", "cron_full_maintenance.log")
OURS = "run_job.py"  # the runner of the bundle logs under the old names
MARK = "# switched off by scannerdb: "


def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])" for name in names))


_SCRIPTS, _LOGS = _any_of(SCRIPTS), _any_of(LOGS)
_CD = re.compile(r"\bcd\s+(\"[^\"]+\"|'[^']+'|[^\s;&|]+)")
_PATH = re.compile(rf"(/[^\s;&|'\"]*)/(?:{'|'.join(map(re.escape, SCRIPTS))})(?![\w.-])")


@dataclass(frozen=True)
class Line:
    """A line of a crontab that starts an old script; `folder` is where the script lies, '' where the line tells not.

    `sure` is False where it only logs where the old set-up did: what it starts may be anybody's, so it is only said.
    """

    text: str
    folder: str
    sure: bool


def old_lines(content: str) -> list[Line]:
    """The lines at work (comments are not) that name an old script, or log where the old set-up did."""
    working = [line for line in content.splitlines() if not line.lstrip().startswith("#") and OURS not in line]
    return [Line(x, _folder(x), _is_old(x)) for x in working if _SCRIPTS.search(x) or _LOGS.search(x)]


def _is_old(line: str) -> bool:
    return bool(not line.lstrip().startswith("#") and OURS not in line and _SCRIPTS.search(line))


def _folder(line: str) -> str:
    path, folder = _PATH.search(line), _CD.search(line)
    if path:
        return path.group(1)
    return folder.group(1).strip("'\"") if folder else ""


def switched_off(content: str) -> str:
    """The crontab with its old lines as comments, which tell who made them so."""
    return "".join(MARK + line if _is_old(line) else line for line in content.splitlines(keepends=True))


def without(content: str) -> str:
    """The crontab without old lines, nor those that were switched off here."""
    kept = [line for line in content.splitlines(keepends=True) if not (_is_old(line) or line.startswith(MARK))]
    return "".join(kept)
