"""Physical backups and their windows as results, tables and sentences show them. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from .archive import segment_name
from .engine import Repository
from .window import PhysicalBackup, Window, broken_backups

STAMP = "%Y-%m-%dT%H:%M:%SZ"


def public_backup(backup: PhysicalBackup, now: datetime.datetime) -> dict[str, Any]:
    """A backup as results show it."""
    return {
        "label": backup.label,
        "kind": backup.kind,
        "started": f"{backup.started:{STAMP}}",
        "stopped": f"{backup.stopped:{STAMP}}",
        "stopped_s": backup.stopped.timestamp(),
        "duration_s": (backup.stopped - backup.started).total_seconds(),
        "age_s": round((now - backup.stopped).total_seconds()),
        "age_h": round((now - backup.stopped).total_seconds() / 3600, 1),
        "size_bytes": backup.size_bytes,
        "repository_bytes": backup.repository_bytes,
        "delta_bytes": backup.delta_bytes,
        "page_errors": backup.page_errors,
        "timeline": backup.timeline,
        "prior": backup.prior,
        "repository": backup.repository,
    }


def public_window(window: Window, now: datetime.datetime, segment_bytes: int) -> dict[str, Any]:
    """A window as results show it; the names of segments go by their size."""
    return {
        "repository": window.repository,
        "timeline": window.timeline,
        "begins": f"{window.begins:{STAMP}}",
        "ends": f"{window.ends:{STAMP}}",
        "begins_s": window.begins.timestamp(),
        "ends_s": window.ends.timestamp(),
        "behind_s": max(0.0, round((now - window.ends).total_seconds(), 1)),
        "first_backup": window.first_backup.label,
        "last_backup": window.last_backup.label,
        "gaps": [
            {
                "begins": f"{gap.begins:{STAMP}}",
                "ends": f"{gap.ends:{STAMP}}" if gap.ends else "",
                "segments": gap.missing.count,
                "first_segment": segment_name(window.timeline, gap.missing.first, segment_bytes),
            }
            for gap in window.gaps
        ],
        "sentence": sentence(window, now),
    }


def sentence(window: Window, now: datetime.datetime) -> str:
    """What can be restored, such as "23 Nov 02:11 to now -40 s, no gaps"."""
    behind = (now - window.ends).total_seconds()
    end = f"now -{_span(behind)}" if behind < 86400 else _short(window.ends)
    gaps = "no gaps" if not window.gaps else "1 gap" if len(window.gaps) == 1 else f"{len(window.gaps)} gaps"
    opened = window.open_gap
    if opened:
        gaps = f"NOTHING after {_short(opened.begins)}: {opened.missing.count} WAL segments are missing"
    return f"{_short(window.begins)} to {end}, {gaps}"


def current(windows: Sequence[Window]) -> Window | None:
    """The window that reaches furthest: along the newest timeline."""
    return max(windows, key=lambda window: (window.timeline, window.ends), default=None)


def restorable(repository: Repository) -> list[PhysicalBackup]:
    """The backups of the present cluster that can be restored, oldest first."""
    own = [backup for backup in repository.backups if backup.archive_id == repository.archive_id]
    broken = broken_backups(own, repository.segments.get(repository.archive_id, ()))
    return [backup for backup in own if backup.label not in broken]


def _short(moment: datetime.datetime) -> str:
    return f"{moment.day} {moment:%b %H:%M}"


def _span(seconds: float) -> str:
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
