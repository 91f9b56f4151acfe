"""The schedule as it is installed on a host: the file that the runner reads, and whether something would start it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..files import file_errors
from ..jsontext import read_json
from .model import Job, read_jobs

FILE = "schedule.json"


@dataclass(frozen=True)
class Installed:
    """`since` is when it was last changed: nothing that was due earlier is missed. `entries` says where cron or systemd
    look for each job; a job whose entry is gone will not start."""

    kind: str
    timezone: str
    jobs: tuple[Job, ...]
    since: datetime.datetime
    random_delay_s: int
    time_limit_s: int
    entries: dict[str, str]


def read_installed(config_dir: str) -> Installed | None:
    """What is installed; None where nothing is. Raises `InvalidInput` where the file is damaged, `FileProblem` too."""
    path = Path(config_dir, FILE)
    with file_errors("Reading", path):
        if not path.is_file():
            return None
        text, changed = path.read_text(encoding="utf-8"), path.stat().st_mtime
    try:
        values: dict[str, Any] = read_json(text)
        return Installed(
            kind=str(values["kind"]),
            timezone=str(values["timezone"]),
            jobs=tuple(read_jobs(values["jobs"], int(values["offset"]))),
            since=datetime.datetime.fromtimestamp(changed, tz=datetime.timezone.utc),
            random_delay_s=int(values["random_delay_s"]),
            time_limit_s=int(values["time_limit_s"]),
            entries=dict(values["entries"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is damaged: {error}.", "Run playbooks/schedule.yml again.") from error


def has_entry(installed: Installed, job: Job) -> bool:
    """True where cron's file names the job, or its timer is there."""
    path = Path(installed.entries.get(job.name, ""))
    try:
        if not path.name or not path.is_file():
            return False
        if installed.kind != "cron":
            return True
        text = path.read_text(encoding="utf-8", errors="replace")
    except PermissionError:  # a hardened /etc/cron.d: what may not be seen is not missed
        return True
    return any(not line.startswith("#") and line.split()[-1:] == [job.name] for line in text.splitlines())
