#!/usr/bin/env python3
"""Run one scheduled job: the playbook that a person would run, once at a time, with an end, a log and a record.

    run_job.py /etc/scannerdb/<host>/schedule.json <job>
    run_job.py /etc/scannerdb/<host>/schedule.json --self-test

cron and systemd start it; a person may. Needs the standard library only, so that a broken virtual environment is a
failure that is recorded and told like any other. Exit code: the play's; 124 when its time was up, 143 when it was
stopped, 75 when another job held the lock all the time, 78 when there is no such job or its file cannot be read. Silent
when all is well; else one sentence on the standard error, which cron mails.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

BUNDLE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BUNDLE / "module_utils"))

from scannerdb.connection import Options  # noqa: E402
from scannerdb.errors import ScannerDbError  # noqa: E402
from scannerdb.files import ensure_folder  # noqa: E402
from scannerdb.jobs.status import status  # noqa: E402
from scannerdb.jsontext import LONGEST_CONFIG, read_json_file  # noqa: E402
from scannerdb.process import die_with_parent  # noqa: E402
from scannerdb.runs import STAMP, new_run_id, utc_now  # noqa: E402
from scannerdb.schedule.records import LOCK, OK, Record, alive, process_began, write_record  # noqa: E402
from scannerdb.status.options import StatusOptions  # noqa: E402
from self_test import self_test  # noqa: E402

TEXTS = ("bundle", "python", "inventory", "host", "backup_dir", "state_dir")
TIME_UP, LOCKED, MISCONFIGURED, STOPPED = 124, 75, 78, 143
POLL_S = 1.0
GRACE_S = 30  # from SIGTERM to SIGKILL: enough for pg_dump to cancel, and for a vacuum to let go
PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")  # cron's own has two of them


class Ended(Exception):
    """The run is over before its play was: `code` is the exit code, `outcome` the record's word."""

    def __init__(self, code: int, outcome: str, message: str) -> None:
        super().__init__(message)
        self.code, self.outcome, self.message = code, outcome, message


def signals(handler: Any) -> None:
    """Give all signals that ask for an end one handler."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def stop(number: int, _frame: FrameType | None) -> None:
    """A signal ends the run in good order: the play is stopped, the record says so."""
    signals(signal.SIG_IGN)  # once is enough; a second one must not disturb the clearing up
    raise Ended(STOPPED, "stopped", f"It was stopped by {signal.Signals(number).name}.")


@contextlib.contextmanager
def lock(folder: Path, wait_s: float, holder: dict[str, Any]) -> Iterator[int]:
    """Hold the host's lock; yields its descriptor, which the play inherits.

    So the lock lives as long as any process of the play does, even when this runner was killed.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not _locked(handle):
            if time.monotonic() >= deadline:
                said = os.pread(handle, 4096, 0).decode("utf-8", "replace").strip() or "an unknown run"
                raise Ended(
                    LOCKED, "locked", f"It waited {wait_s:g} s for another job, which is still at work: {said}."
                )
            time.sleep(min(POLL_S, max(0.01, deadline - time.monotonic())))
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def command(config: dict[str, Any], job: dict[str, Any]) -> list[str]:
    """The play's command line; no secret is in it."""
    variables = {"scannerdb_profile": job["profile"], "scannerdb_lock_wait_s": config["lock_wait_s"]}
    variables["scannerdb_standby_ok"] = True  # the host does not know the others of its cluster
    start = [config["python"], "-m", "ansible", "playbook", "-i", config["inventory"], "-e", json.dumps(variables)]
    return [*start, str(Path(config["bundle"], job.get("playbook") or "maintain.yml"))]


def environment(config: dict[str, Any]) -> dict[str, str]:
    """The play's environment: Ansible's settings are the bundle's own, its files lie in the state folder."""
    home = str(Path(config["state_dir"], "ansible"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    paths = [*os.environ.get("PATH", "").split(":"), *PATHS]
    return {
        **kept,
        "PATH": ":".join(dict.fromkeys(path for path in paths if path)),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(Path(config["bundle"], "ansible.cfg")),
        "ANSIBLE_HOME": home,
        "ANSIBLE_REMOTE_TEMP": str(Path(home, "tmp")),
        "ANSIBLE_NOCOLOR": "1",
    }


def play(config: dict[str, Any], job: dict[str, Any], held: int, log: IO[bytes]) -> int:
    """Run the playbook to its end, or for its time at most; returns its exit code."""
    limit = float(config["time_limit_s"]) or None
    try:
        child = subprocess.Popen(
            command(config, job),
            cwd=config["bundle"],
            env=environment(config),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(held,),
            umask=0o077,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads here
        )
    except OSError as error:
        raise Ended(MISCONFIGURED, "failed", f"{config['python']} cannot be run: {error.strerror}.") from error
    try:
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        end(child)
        raise Ended(TIME_UP, "timeout", f"It was ended after its time limit of {limit:g} s.") from None
    except BaseException:
        end(child)
        raise
    return code if code >= 0 else 128 - code


def end(child: subprocess.Popen[bytes]) -> None:
    """End the play: Ansible passes SIGTERM on to its workers; whoever is left after a while is killed."""
    family = descendants(child.pid)
    child.terminate()
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        family |= descendants(child.pid)
        if child.poll() is not None and not any(alive(*one) for one in family):
            return
        time.sleep(0.1)
    child.kill()
    for one in family:
        if alive(*one):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one[0], signal.SIGKILL)
    child.wait()


def descendants(root: int) -> set[tuple[int, str]]:
    """All processes below one, each with its start time."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int(path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = set(), list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        found.add((pid, process_began(pid)))
        waiting += children.get(pid, ())
    return found


def hook(config: dict[str, Any], record: Record, log: IO[bytes]) -> None:
    """Run the command that is to be told of a failure; that it fails itself is a line in the log."""
    arguments = config.get("hook_failure") or []
    if not arguments:
        return
    told = {"EVENT": "on_job_failure", "HOST": config["host"], "DATABASE": config["database"], "LOG": record.log}
    told.update(JOB=record.job, RUN_ID=record.run_id, OUTCOME=record.outcome, MESSAGE=record.message)
    told.update(EXIT_CODE=str(record.exit_code))
    env = {**os.environ, **{f"SCANNERDB_{name}": value for name, value in told.items()}}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    try:
        subprocess.run(arguments, env=env, timeout=float(config["hook_timeout_s"]), check=True, **streams)
    except (OSError, subprocess.SubprocessError) as error:
        say(log, record, f"The failure hook failed: {error}")


def say(log: IO[bytes], record: Record, text: str) -> None:
    """A line of the runner's own in the job's log; a full disk does not stop a job."""
    with contextlib.suppress(OSError):
        log.write(f"{utc_now():{STAMP}} {record.run_id} {record.job}: {text}\n".encode())


def keep(config: dict[str, Any], record: Record, log: IO[bytes]) -> None:
    """Write the record; where that fails, the job goes on and its log says so."""
    try:
        write_record(config["state_dir"], record)
    except ScannerDbError as error:
        say(log, record, str(error))


def measure(config: dict[str, Any], record: Record, log: IO[bytes]) -> None:
    """Rewrite the metrics, where they are asked for, without asking the server."""
    if not config["metrics_path"]:
        return
    folders = {name: config[name] for name in ("backup_dir", "state_dir", "log_dir", "config_dir")}
    asked = {"host": config["host"], "ask_server": False, "metrics_path": config["metrics_path"]}
    asked["trusted_signers"] = config.get("trusted_signers", ())
    try:
        why = status(Options(db=config["database"]), StatusOptions(**folders, **asked))["metrics_why"]
    except (OSError, ScannerDbError) as error:
        why = f"The metrics were not written: {error}"
    if why:
        say(log, record, why)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The job's log, to append to. Where it cannot be written the job still runs, and speaks to the standard error."""
    try:
        ensure_folder(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except Exception as error:  # a full disk, a folder of somebody else, a file in its place
        print(f"{path} cannot be written: {error}", file=sys.stderr)
        handle = os.dup(sys.stderr.fileno())
    with os.fdopen(handle, "ab", buffering=0) as stream:
        yield stream


def perform(config: dict[str, Any], job: dict[str, Any], record: Record, log: IO[bytes]) -> Record:
    """Lock, play, and say what came of it."""
    holder = {"job": record.job, "run_id": record.run_id, "pid": record.pid, "since": record.started}
    try:
        keep(config, record, log)
        measure(config, record, log)  # from now on it is not overdue
        with lock(ensure_folder(config["state_dir"]), float(config["lock_wait_s"]), holder) as held:
            say(log, record, "started")
            code = play(config, job, held, log)
        outcome, message = (OK, "") if code == 0 else ("failed", f"The play ended with code {code}.")
    except Ended as ended:
        code, outcome, message = ended.code, ended.outcome, ended.message
    except (OSError, ScannerDbError) as error:
        code, outcome, message = MISCONFIGURED, "failed", f"The job's lock cannot be taken: {error}"
    return replace(record, outcome=outcome, exit_code=code, message=message, finished=f"{utc_now():{STAMP}}")


def load(path: str) -> dict[str, Any]:
    """The schedule's file."""
    try:
        config: dict[str, Any] = read_json_file(path, LONGEST_CONFIG)
        texts = [config[name] for name in TEXTS] + [job[name] for job in config["jobs"] for name in ("name", "log")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name or path in it is no text")
        # An upgrade moves the link; this run stays where it began.
        config["bundle"] = str(Path(config["bundle"]).resolve())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Ended(
            MISCONFIGURED, "failed", f"{path} cannot be read: {error}. Run playbooks/schedule.yml again."
        ) from error
    return config


def find_job(config: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    """The job of that name."""
    job: dict[str, Any] | None = next((job for job in config.get("jobs", ()) if job.get("name") == name), None)
    if job is None:
        raise Ended(MISCONFIGURED, "failed", f"{path} has no job {name!r}.")
    return job


def answer_self_test(config: dict[str, Any]) -> int:
    """Say as JSON whether the jobs could start."""
    found = self_test(config, environment(config))
    print(json.dumps(found))
    return 0 if found["ready"] else MISCONFIGURED


def main(arguments: list[str]) -> int:
    """Run the job that the command line names."""
    signals(stop)
    os.umask(0o077)  # whatever cron's or a shell's is
    if len(arguments) != 2:
        print("usage: run_job.py SCHEDULE.json JOB|--self-test", file=sys.stderr)
        return MISCONFIGURED
    try:
        config = load(arguments[0])
        if arguments[1] == "--self-test":
            return answer_self_test(config)
        job = find_job(config, *arguments)
    except Ended as ended:
        print(ended.message, file=sys.stderr)
        return ended.code
    path = Path(config["backup_dir"], job["log"])
    pid = os.getpid()
    record = Record(new_run_id(), job["name"], f"{utc_now():{STAMP}}", str(path), pid=pid, began=process_began(pid))
    with opened(path) as log:
        done = perform(config, job, record, log)
        signals(signal.SIG_IGN)  # what is left takes a moment, and must be whole
        say(log, done, f"{done.outcome}, code {done.exit_code}{': ' + done.message if done.message else ''}")
        keep(config, done, log)
        measure(config, done, log)
        if done.outcome != OK:
            print(f"{config['host']}: {done.job} {done.outcome}. {done.message} See {path}.", file=sys.stderr)
            hook(config, done, log)
    return int(done.exit_code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
