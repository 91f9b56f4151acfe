"""Podman for the tests: proven to start a container, never waited for endlessly."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.system.needs import BY_NAME, release

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAMS = ("podman", "mmdebstrap")
SYMLINKS = ("bin", "sbin", "lib", "lib64")
PROBE_S = 60


class Unavailable(Exception):
    """No container can be had here; `hint` says what would change that."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


def run(
    arguments: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, at most `timeout_s` seconds; its output is kept, its exit code left to the caller.

    Raises `Unavailable` where it took longer.
    """
    try:
        return subprocess.run(
            arguments,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"'{' '.join(arguments[:3])} …' did not end within {timeout_s:.0f} s.", "Run it by hand."
        ) from None


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The line in which a program said why it failed."""
    lines = (done.stderr + done.stdout).decode("utf-8", "replace").strip().splitlines()
    telling = [line for line in lines if line.lower().startswith(("error", "e: "))]
    return ((telling or lines)[-1:] or [f"exit code {done.returncode}"])[0]


def check_installed() -> None:
    """Raises `Unavailable` where podman or what makes an image is absent; `make system` installs them."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        said = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed."
        raise Unavailable(said, f"sudo {BY_NAME['containers'].remedy(release())}")


@contextmanager
def smallest_root() -> Iterator[Path]:
    """A root folder for a container, made of nothing but links into a mounted /usr."""
    with tempfile.TemporaryDirectory(prefix="scannerdb-probe-") as folder:
        for name in ("usr", "proc", "sys", "dev", "tmp", "etc", "run"):
            (Path(folder) / name).mkdir()
        for name in SYMLINKS:
            (Path(folder) / name).symlink_to(f"usr/{name}")
        yield Path(folder)


def why_not(environment: Mapping[str, str]) -> str:
    """Start the smallest possible container, without image and network; why that failed, empty where it did not."""
    with smallest_root() as folder:
        mount = ("--volume", "/usr:/usr:ro", "--rootfs", str(folder))
        done = run(("podman", "run", "--rm", "--network=none", *mount, "/usr/bin/true"), PROBE_S, environment)
    return "" if done.returncode == 0 else last_words(done)


def usable_environment() -> dict[str, str]:
    """What podman needs in its environment here: nothing, or our own settings where the machine's do not work.

    Raises `Unavailable` where a container starts with neither.
    """
    reason = why_not({})
    if not reason:
        return {}
    ours = {"CONTAINERS_CONF": str(HERE / "containers.conf")}
    if shutil.which("runc") and not why_not(ours):
        return ours
    raise Unavailable(f"podman cannot start a container here: {reason}", "podman run --rm debian:12 true must work.")


def remove(prefix: str, environment: Mapping[str, str]) -> None:
    """Remove every container and network whose name begins with `prefix` and a dash."""
    podman = partial(run, timeout_s=120, environment=environment)
    for listing, removal in (
        (("ps", "--all"), ("rm", "--force", "--time=0", "--volumes")),
        (("network", "ls"), ("network", "rm", "--force")),
    ):
        names = podman(("podman", *listing, "--format", "{{.Names}}" if listing[0] == "ps" else "{{.Name}}"))
        ours = [name for name in names.stdout.decode().split() if name.startswith(f"{prefix}-")]
        if ours:
            podman(("podman", *removal, *ours))
