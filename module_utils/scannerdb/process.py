"""Runs programs without a shell, and says why one failed.

The only file that starts processes. A child gets SIGTERM when its parent dies, however it dies: pg_dump then cancels
its workers' queries too, so nothing goes on running behind a killed job.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .connection import member_of, tool_settings
from .errors import InvalidInput, ToolFailed, ToolMissing
from .files import DISK_FULL
from .login import SERVICE, Options, passfile_line, tool_environment
from .session import own_environment, service_file

PR_SET_PDEATHSIG = 1
TICK_S = 0.5
NICEST = 19  # leaves the processor to everybody else who wants it
GRACE_S = 10.0  # for a child that was asked to end
MOST_JOBS = 8
MACHINE = re.compile(
    r"No space left on device|Disk quota exceeded|out of memory|Cannot allocate memory|could not fork|Permission denied"
    r"|could not (?:bind|create lock file|create shared memory|resize shared memory|map anonymous shared memory)"
    r"|Address already in use|Too many open files|Read-only file system|Input/output error|terminated by signal"
)
PIECE = 1 << 16  # as much as a pipe holds


@dataclass(frozen=True)
class Finished:
    """What a program left behind."""

    stdout: str
    stderr: str
    returncode: int
    english: bool = True  # whether the server told the program of errors in English


def version_of(program: str, pattern: str = r"\(PostgreSQL\)\s+(\d+[\w.]*)") -> str:
    """The version a program names, e.g. '17.10'; empty where it cannot be run. `pattern` finds it in the answer."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(pattern, answer.stdout)
    return match.group(1) if answer.returncode == 0 and match else ""


# Looked up here, not between fork and exec, where loading a library could wait for ever for another thread's lock.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent() -> None:
    """Runs in the child before exec: SIGTERM when the parent is gone (Linux only; elsewhere nothing).

    The signal comes when the *thread* that forked ends: start long children from the main thread.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def as_system_user(user: str, command: Sequence[str]) -> list[str]:
    """The command as that user where we are root; it still dies with us."""
    if not user or os.geteuid() != 0:
        return list(command)
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InvalidInput(f"There is no user {user!r} on this machine.") from error
    drop = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--pdeathsig=TERM", "--"]
    return [*drop, "env", "--chdir=/", *command]


def give_way(nice: int = NICEST) -> None:
    """Be that much nicer for the rest of this thread (on Linux, where threads have a niceness; elsewhere nothing)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # it is no more than a courtesy
            os.setpriority(os.PRIO_PROCESS, thread, min(NICEST, os.getpriority(os.PRIO_PROCESS, thread) + nice))


@contextlib.contextmanager
def memory_file(data: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A private file for a child to read, that never touches a disk where the system allows, and dies with us.

    Yields its path and the descriptors that the child must inherit.
    """
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("scannerdb", 0)
        try:
            os.fchmod(handle, 0o600)
            with open(handle, "wb", closefd=False) as stream:
                stream.write(data)
            yield f"/proc/self/fd/{handle}", (handle,)
        finally:
            os.close(handle)
        return
    with tempfile.NamedTemporaryFile(prefix="scannerdb-") as stream:  # made 0600
        stream.write(data)
        stream.flush()
        yield stream.name, ()


@contextlib.contextmanager
def passfile(password: str) -> Iterator[tuple[str | None, tuple[int, ...]]]:
    """A libpq password file, as a `memory_file`; `(None, ())` where there is no password."""
    if not password:
        yield None, ()
        return
    with memory_file(passfile_line(password).encode("utf-8")) as made:
        yield made


@contextlib.contextmanager
def _reaching(
    options: Options, dbname: str | None, settings: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], tuple[int, ...], bool]]:
    """A tool's environment for a server, the descriptors of the private files in it, and whether it speaks English."""
    wanted = options.db if dbname is None else dbname
    options = member_of(options, wanted)  # a tool that chose for itself might choose another than we did
    startup, english = tool_settings(options, wanted, settings)
    service = memory_file(service_file(SERVICE, dict(options.connect_params)).encode("utf-8"))
    with passfile(options.password) as (secret, descriptors), service as (path, more):
        yield (
            tool_environment(options, wanted, os.environ, passfile=secret, servicefile=path, startup=startup),
            (*descriptors, *more),
            english,
        )


def run_tool(
    arguments: Sequence[str],
    options: Options | None,
    *,
    dbname: str | None = None,
    check: bool = True,
    nice: int = 0,
    extra_environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    stdout_path: Path | None = None,
    meanwhile: Callable[[Callable[[], int | None]], object] | None = None,
    on_tick: Callable[[], object] | None = None,
    on_output: Callable[[bytes], object] | None = None,
    feed: Iterable[bytes] | None = None,
    descriptors: tuple[int, ...] = (),
) -> Finished:
    """Run a client program against the server of `options` (None: it connects nowhere) and wait for it.

    Its sessions are prepared as ours are, with `settings` on top. It inherits `descriptors`, of a `memory_file`. With
    `stdout_path` the standard output goes to that file (made 0600).
    `meanwhile` is called once while the program runs, with a function that gives its exit code (None while it runs);
    `on_tick` every half second of the wait after that. `on_output` takes the standard output piece by piece, and
    nothing of it is kept; `feed` gives the standard input, as long as the program takes it. An exception out of any of
    them ends the program. Raises `ToolMissing` where the program is not there and, with `check`, `ToolFailed` with the
    program's own last words.
    """
    with contextlib.ExitStack() as stack:
        environment = own_environment(os.environ)
        secret: tuple[int, ...] = ()
        english = True
        if options is not None:
            environment, secret, english = stack.enter_context(_reaching(options, dbname, settings or {}))
        environment.update(extra_environment or {})
        target: int = subprocess.PIPE
        if stdout_path is not None:
            target = os.open(stdout_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            stack.callback(os.close, target)
        # While the output or the input is streamed nobody empties a pipe of errors: they go to a file.
        streamed = on_output is not None or feed is not None
        errors = stack.enter_context(tempfile.TemporaryFile()) if streamed else None
        command = [*(["nice", "-n", str(nice)] if nice else []), *arguments]
        child = _start(
            command, environment, target, errors or subprocess.PIPE, (*secret, *descriptors), feed is not None
        )
        out, err = _wait(child, meanwhile, on_tick, on_output, feed)
        if errors:
            errors.seek(0)
            err = errors.read()
    finished = Finished(_text(out), _text(err), child.returncode, english)
    if check and finished.returncode != 0:
        raise tool_error(arguments[0], finished)
    return finished


def run_command(arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> Finished:
    """Run somebody's own command and wait for it alone: what it leaves in the background goes on.

    After the timeout its process group is ended and `ToolFailed` raised; `ToolMissing` where it is not there. What it
    says on its standard output is not kept.
    """
    # A pipe would stay open for as long as anything in the background has it.
    with tempfile.TemporaryFile() as errors:
        child = _start(arguments, environment, subprocess.DEVNULL, errors, (), False, grouped=True)
        try:
            child.wait(timeout_s)
        except BaseException as error:
            _end_group(child)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolFailed(f"it did not end within {timeout_s:g} s.") from None
            raise
        errors.seek(0)
        return Finished("", _text(errors.read()), child.returncode)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that was started as a group of its own, and whatever of that group is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdout: int,
    stderr: int | IO[bytes],
    descriptors: tuple[int, ...],
    fed: bool,
    grouped: bool = False,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=descriptors,
            start_new_session=grouped,
            umask=0o077,  # what a tool writes is as private as what we write
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock of a thread of ours (a relay), and prctl is async-signal-safe
        )
    except OSError as error:
        raise ToolMissing(f"{command[0]} cannot be run: {error.strerror}.", "Set scannerdb_pg_bin_dir.") from error


def _wait(
    child: subprocess.Popen[bytes],
    meanwhile: Callable[[Callable[[], int | None]], object] | None,
    on_tick: Callable[[], object] | None,
    on_output: Callable[[bytes], object] | None,
    feed: Iterable[bytes] | None,
) -> tuple[bytes, bytes]:
    try:
        if feed is not None:
            _give(child, feed)
        if on_output and child.stdout:
            for piece in iter(lambda: child.stdout.read(PIECE), b""):  # type: ignore[union-attr]
                on_output(piece)
        if meanwhile:
            meanwhile(child.poll)
        while on_tick:
            try:
                return child.communicate(timeout=TICK_S)
            except subprocess.TimeoutExpired:
                on_tick()
        return child.communicate()
    except BaseException:
        child.terminate()
        try:
            child.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:  # it, or a child of it that holds its output, goes on
            child.kill()
            child.wait()
        raise


def _give(child: subprocess.Popen[bytes], feed: Iterable[bytes]) -> None:
    """Write the pieces to the child's input and close it; a child that ends before takes no more, and says why."""
    if child.stdin:
        with contextlib.suppress(BrokenPipeError):
            for piece in feed:
                child.stdin.write(piece)
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdin = None  # or communicate() would flush what is closed


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def tool_error(program: str, finished: Finished) -> ToolFailed:
    """The error for a program that failed: a cause that is known, with its hint, and its last error lines."""
    name = Path(program).name
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()] or lines
    hints = (
        (r"No space left on device", DISK_FULL),
        (r"permission denied for", "The role may not read everything: grant it pg_read_all_data."),
        (r"server version mismatch", "Install the client tools of the server's version."),
        (
            r"canceling statement due to lock timeout",
            "Somebody holds a strong lock on a table: try again when it is gone.",
        ),
    )
    known = ((line, hint) for pattern, hint in hints for line in lines if re.search(pattern, line))
    cause, hint = next(known, ("", ""))
    last = [line for line in telling[-3:] if line != cause]
    words = " ".join([cause, *last]).strip() or f"it ended with code {finished.returncode} and said nothing"
    if finished.returncode < 0:
        words = f"it was ended by signal {-finished.returncode}. {words}"
    return ToolFailed(f"{name} failed: {words.rstrip('.')}.", hint)


def machine_fault(text: str) -> str:
    """The first line of a log or a report in which the machine is to blame, not what was looked at; '' for none."""
    return next((line.strip() for line in text.splitlines() if MACHINE.search(line)), "")


def cores() -> int:
    """The processors that this process may use, at most MOST_JOBS."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, MOST_JOBS))


def checked_workers(jobs: int, nice: int) -> None:
    """Raise `InvalidInput` where a number of workers or a niceness makes no sense."""
    if not 0 <= jobs <= 64 or not 0 <= nice <= 19:
        raise InvalidInput(
            f"jobs is {jobs} and nice is {nice}.", "jobs goes from 0 (from the cores) to 64, nice to 19."
        )
