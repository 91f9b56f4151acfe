"""What the scheduled runner leaves: one record a run, `<state_dir>/runs/<run_id>.json`."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FileProblem
from ..files import ensure_folder, file_errors, write_atomic
from ..jsontext import read_json
from ..runs import RUN_ID, STAMP

FOLDER = "runs"
LOCK = "schedule.lock"  # in the state folder; whoever holds it is at work
KEPT = 400  # some months of three jobs
RUNNING = "running"
KILLED = "killed"  # a record says `running`, but its process is gone
OK = "ok"


@dataclass(frozen=True)
class Record:
    """One run of one job. `outcome` is running, ok, failed, timeout, stopped, locked, or killed.

    Moments are UTC, as `STAMP`; `began` is the start time of process `pid`, so that a reused number is noticed.
    """

    run_id: str
    job: str
    started: str
    log: str = ""
    outcome: str = RUNNING
    finished: str = ""
    exit_code: int | None = None
    message: str = ""
    pid: int = 0
    began: str = ""

    @property
    def started_at(self) -> datetime.datetime:
        """When it started."""
        return moment(self.started)

    @property
    def duration_s(self) -> int | None:
        """Seconds it took; None while it has not ended."""
        return int((moment(self.finished) - self.started_at).total_seconds()) if self.finished else None


def moment(text: str) -> datetime.datetime:
    """A stamp as a moment."""
    return datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.timezone.utc)


def process_began(pid: int) -> str:
    """The kernel's start time of a process, '' where there is none (or no /proc)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def record_path(state_dir: str, record: Record) -> Path:
    """Where a run's record lies."""
    return Path(state_dir, FOLDER, f"{record.run_id}.json")


def write_record(state_dir: str, record: Record) -> None:
    """Write or replace a run's record, and forget the oldest ones."""
    folder = ensure_folder(Path(ensure_folder(state_dir), FOLDER))
    write_atomic(record_path(state_dir, record), json.dumps(asdict(record), sort_keys=True) + "\n")
    for path in sorted(folder.glob("*.json"))[:-KEPT]:
        path.unlink(missing_ok=True)


def read_records(state_dir: str) -> list[Record]:
    """The records, oldest first; one that is damaged is passed over. `killed` is found out here."""
    folder = Path(state_dir, FOLDER)
    with file_errors("Reading", folder):
        if not folder.is_dir():
            return []
        names = sorted(path for path in folder.iterdir() if path.suffix == ".json" and RUN_ID.fullmatch(path.stem))
    return [_settled(record) for record in map(_read, names[-KEPT:]) if record]


def _read(path: Path) -> Record | None:
    try:
        with file_errors("Reading", path):
            fields: dict[str, Any] = read_json(path.read_text(encoding="utf-8"))
        record = Record(**{key: value for key, value in fields.items() if key in Record.__dataclass_fields__})
        moment(record.started)
        if record.finished:
            moment(record.finished)
    except (FileProblem, ValueError, TypeError, AttributeError):
        return None
    return record


def _settled(record: Record) -> Record:
    if record.outcome != RUNNING or alive(record.pid, record.began):
        return record
    return Record(**{**asdict(record), "outcome": KILLED, "message": "It was killed, or the machine went down."})


def alive(pid: int, began: str) -> bool:
    """True where that very process is running. Without /proc the number alone decides."""
    if Path("/proc/self/stat").exists():
        return bool(began) and process_began(pid) == began
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def last_of(records: Sequence[Record], job: str) -> Record | None:
    """The newest record of a job."""
    return next((record for record in reversed(records) if record.job == job), None)
