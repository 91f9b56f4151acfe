"""A run's name, its progress file and its log: what every job leaves for people to look at."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import FileProblem, InvalidInput
from .files import append_line, ensure_folder, file_errors, sweep_partials, write_atomic
from .jsontext import read_json

PROGRESS_KEPT = 50
STAMP = "%Y-%m-%dT%H:%M:%SZ"  # of moments in UTC
RUN_ID = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{8}$")
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \d{8}T\d{6}Z-[0-9a-f]{8} ")


def utc_now() -> datetime.datetime:
    """Now, in UTC."""
    return datetime.datetime.now(tz=datetime.timezone.utc)


def now_text() -> str:
    """Now, as a stamp."""
    return f"{utc_now():{STAMP}}"


def new_run_id() -> str:
    """A run's name, `YYYYMMDDTHHMMSSZ-<8 hex>`: sorts by time, and is unique."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def checked_run_id(text: str) -> str:
    """`text` where it is a run's name; raises `InvalidInput` otherwise."""
    if not RUN_ID.fullmatch(text):
        raise InvalidInput(f"{text!r} is not a run's name.", "It looks like 20250418T031500Z-0a1b2c3d.")
    return text


ENDS = ("done", "failed", "outside the window")
EARLY = "ended early"


@dataclass
class Run:
    """One run of one job. With an empty folder (or in check mode) the matching file is not written.

    `log_path` gets time-stamped lines; `<state_dir>/progress/<run_id>.json` is rewritten as the work goes on. Neither
    stops the work where it cannot be written (a full disk may be what it is to repair): the standard error has it then.
    """

    job: str
    database: str
    run_id: str = field(default_factory=new_run_id)
    state_dir: str = ""
    log_path: str = ""
    started: bool = field(default=False, repr=False)
    unwritable: set[str] = field(default_factory=set, repr=False)
    changes: dict[str, str] = field(default_factory=dict, repr=False)  # what was changed, with the way back
    facts: dict[str, Any] = field(default_factory=dict, repr=False)  # of the result, as far as it is known

    def note_change(self, what: str, back: str = "") -> None:
        """Remember a change that stays even if the run fails from here on, as a sentence, and how to take it back."""
        self.changes[what] = back

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        if self.log_path:
            text = " ".join(line.splitlines())  # one entry, one line: names may hold line ends
            entry = f"{now_text()} {self.run_id} {self.job}: {text}"
            try:
                ensure_folder(Path(self.log_path).parent)
                append_line(self.log_path, entry)
            except FileProblem as error:
                self._say_once(error)
                print(entry, file=sys.stderr)

    def _say_once(self, error: FileProblem) -> None:
        if error.message not in self.unwritable:
            self.unwritable.add(error.message)
            print(f"{self.job} {self.run_id}: {error}", file=sys.stderr)

    def progress(self, step: str, done: int = 0, total: int = 0, **more: Any) -> None:
        """Say how far the work is: `done` of `total`, in the step's own unit."""
        if not self.state_dir:
            return
        status = {
            "run_id": self.run_id,
            "job": self.job,
            "database": self.database,
            "step": step,
            "done": done,
            "total": total,
            "at": now_text(),
            "pid": os.getpid(),
            "machine": socket.gethostname(),
            **more,
        }
        try:
            folder = ensure_folder(Path(ensure_folder(self.state_dir), "progress"))
            if not self.started:
                self.started = True
                forget_old(folder)
            write_atomic(folder / f"{self.run_id}.json", json.dumps(status) + "\n")
        except FileProblem as error:
            self._say_once(error)

    @contextlib.contextmanager
    def failure_told(self) -> Iterator[None]:
        """Say in the log, and as progress, why the block failed."""
        try:
            yield
        except BaseException as error:
            self.log(f"failed: {error or type(error).__name__}")
            self.progress("failed")
            raise


def last_runs(state_dir: str, database: str) -> list[dict[str, Any]]:
    """The newest progress file of each job on a database, the newest run first; a damaged one is passed over.

    Whoever started the job: a schedule, AWX, a person. `at_s` is in seconds since 1970. Raises `FileProblem`.
    """
    folder = Path(state_dir, "progress")
    found: dict[str, dict[str, Any]] = {}
    texts = []
    with file_errors("Reading", folder):
        for path in sorted(folder.glob("*.json"), reverse=True) if folder.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # each run forgets the oldest
                texts += [path.read_text(encoding="utf-8", errors="replace")] if RUN_ID.fullmatch(path.stem) else []
    for text in texts:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            run: dict[str, Any] = read_json(text)
            when = datetime.datetime.strptime(run["at"], STAMP).replace(tzinfo=datetime.timezone.utc)
            if run["database"] == database:
                found.setdefault(str(run["job"]), {**run, "step": _outcome(run), "at_s": when.timestamp()})
    return list(found.values())


def _outcome(run: Mapping[str, Any]) -> str:
    """The step that a run is at; of one whose process is gone without having said its end, that it ended early."""
    step = str(run["step"])
    if step in ENDS or run.get("machine") != socket.gethostname() or Path(f"/proc/{run.get('pid', 'self')}").exists():
        return step
    return f"{EARLY} ({step})" if Path("/proc/self").exists() else step


def is_our_log(path: Path) -> bool:
    """Whether a file begins as our logs do; the old scripts' have the same names. Reads what logrotate has packed."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            return bool(_LOG_LINE.match(stream.readline(200).decode("utf-8", "replace")))
    except (OSError, EOFError):
        return False


def forget_old(folder: Path, keep: int = PROGRESS_KEPT) -> None:
    """Remove all but the newest progress files, whose names sort by time, and what killed runs left of theirs."""
    sweep_partials(folder)
    for path in sorted(folder.glob("*.json"))[:-keep]:
        path.unlink(missing_ok=True)
