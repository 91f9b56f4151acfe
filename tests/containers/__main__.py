"""`make molecule`: the container scenarios from nothing to a clean machine, or a plain word on why they cannot be run.

python -m tests.containers [run [SCENARIO …]]   probe, build, test, clean up
python -m tests.containers image                only make the images, and name them
python -m tests.containers remove               remove the containers of this checkout
python -m tests.containers clean                remove its images, too
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.containers import engine, image
from tests.system import absences
from tests.system.needs import required

LIMIT_S = int(os.environ.get("SCANNERDB_CONTAINER_LIMIT_S", "1800"))
RULE = "=" * 100


def prefix() -> str:
    """What the names of this checkout's containers begin with, so that two checkouts do not meet."""
    given = os.environ.get("SCANNERDB_CONTAINERS", "")
    return given or f"scannerdb-{hashlib.sha256(str(engine.ROOT).encode()).hexdigest()[:6]}"


def not_run(reason: engine.Unavailable) -> int:
    """Say that nothing was tested and why; a failure only where everything is required."""
    absences.note("containers", f"{reason}")
    consequence = "They are required here" if required() else "SCANNERDB_REQUIRE_ALL=1 makes this a failure"
    print(f"\n{RULE}\nTHE CONTAINER SCENARIOS WERE NOT RUN\n\n  Why:  {reason}\n  Hint: {reason.hint}")
    print(f"\n  {consequence}.\n{RULE}", flush=True)
    return 1 if required() else 0


@contextmanager
def alone() -> Iterator[None]:
    """One run at a time for a checkout: a second one would remove the first one's containers."""
    with (Path(tempfile.gettempdir()) / f"{prefix()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("The container scenarios of this checkout are being run already.") from None
        yield


@contextmanager
def cleaned_up(environment: Mapping[str, str]) -> Iterator[None]:
    """No container of ours before and after, whatever happens in between, short of a SIGKILL."""
    engine.remove(prefix(), environment)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        engine.remove(prefix(), environment)


def molecule(scenarios: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the scenarios (all where none is named) within the time limit; the exit code."""
    chosen = [word for name in scenarios for word in ("--scenario-name", name)] or ["--all"]
    command = [sys.executable, "-m", "molecule", "test", *chosen]
    settings = {**os.environ, **environment, "SCANNERDB_CONTAINERS": prefix()}
    if not sys.stdout.isatty():
        command.append("--no-command-borders")
        settings.update(NO_COLOR="1", PY_COLORS="0", ANSIBLE_FORCE_COLOR="0")
    # Molecule would believe what a run that was killed, or that of another checkout, wrote down of its containers.
    forget = [sys.executable, "-m", "molecule", "reset", "--all"]
    engine.run(forget, 120, settings)
    child = subprocess.Popen(command, cwd=engine.ROOT, env=settings, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return child.wait(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"\nThe container scenarios did not end within {LIMIT_S} s.", file=sys.stderr)
        return 1
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def run(scenarios: Sequence[str]) -> int:
    """From nothing to a clean machine; the exit code."""
    started = time.monotonic()
    try:
        engine.check_installed()
        environment = engine.usable_environment()
        with alone(), cleaned_up(environment):
            image.ensure(environment)
            code = molecule(scenarios, environment)
    except engine.Unavailable as reason:
        return not_run(reason)
    print(f"The container scenarios took {time.monotonic() - started:.0f} s.")
    return code


def main(words: Sequence[str]) -> int:
    """One word, one job."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    word, *rest = words or ["run"]
    if word == "run":
        return run(rest)
    try:
        environment = engine.usable_environment()
        if word == "image":
            image.ensure(environment)
            print("\n".join(image.name(suite, stage) for suite, stage in image.IMAGES))
        elif word in ("remove", "clean"):
            engine.remove(prefix(), environment)
            if word == "clean":
                image.remove_all(environment)
        else:
            print(__doc__)
            return 2
    except engine.Unavailable as reason:
        print(f"{reason} {reason.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
