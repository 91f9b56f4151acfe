"""PostgreSQL 19, which no Debian release and no wheel has yet: its packages, unpacked into a folder of their own.

mmdebstrap resolves and unpacks them, with all libraries that they need, from the Debian mirror that this machine uses;
nothing is installed, here or there. The programs are told to take the loader and the libraries of that folder, so they
run on any older system. The folder is outside the checkout, and is made once for all checkouts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.system.needs import NEXT, NEXT_ROOT, NEXT_SERVER

# Unstable, and experimental for what is built of PostgreSQL's own source. The suites may lie still for long.
PINNED = f"Package: src:postgresql-{NEXT}\nPin: release a=experimental\nPin-Priority: 990\n"
SUITES = ("sid", "experimental")
OPTIONS = (
    "--quiet",
    "--variant=extract",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=APT::Install-Recommends "false"',
    f"--include=postgresql-{NEXT},postgresql-client-{NEXT},libpq5",
)
MIRROR = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
FETCH_S = 600


class Unavailable(Exception):
    """It cannot be had here; the message says why."""


def fetch_next_server() -> None:
    """Make the folder, unless it is there; raises `Unavailable`."""
    if NEXT_SERVER.is_dir():
        return
    if os.geteuid() != 0:
        raise Unavailable("only root can unpack it")
    for program in ("mmdebstrap", "patchelf"):
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed")
    NEXT_ROOT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetched-", dir=NEXT_ROOT.parent) as folder:
        fresh = Path(folder, "root")
        _unpack(fresh, _mirror())
        _bind(fresh)
        fresh.chmod(0o755)
        shutil.rmtree(NEXT_ROOT, ignore_errors=True)
        fresh.rename(NEXT_ROOT)


def _mirror() -> str:
    """The address that this machine has its own packages of Debian from."""
    listed = subprocess.run(MIRROR, capture_output=True, text=True, check=False).stdout.splitlines()
    for origin, component, address in (line.split(maxsplit=2) for line in listed if line.count(" ") >= 2):
        if (origin, component) == ("Debian", "main") and "security" not in address:
            return address
    raise Unavailable("apt knows no mirror of Debian")


def _unpack(root: Path, mirror: str) -> None:
    pin = f'printf %s "{PINNED}" > "$1/etc/apt/preferences.d/next"'.replace("\n", "\\n").replace("%s", "%b")
    lines = [f"deb {mirror} {suite} main" for suite in SUITES]
    command = ["mmdebstrap", *OPTIONS, f"--setup-hook={pin}", SUITES[0], str(root), *lines]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"mmdebstrap did not end within {FETCH_S} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["it says nothing"]
        raise Unavailable(f"mmdebstrap failed: {said[0]}")


def _bind(root: Path) -> None:
    """Tell every program where its loader and its libraries will be."""
    loader = next(root.glob("usr/lib/*/ld-linux*.so.*"), None)
    if loader is None:
        raise Unavailable("its C library has no loader that is known here")
    place = NEXT_ROOT / loader.relative_to(root)
    # --force-rpath: it holds for the libraries of libraries, too.
    command = ["patchelf", "--set-interpreter", str(place), "--force-rpath", "--set-rpath", str(place.parent)]
    programs = (root / NEXT_SERVER.relative_to(NEXT_ROOT)).iterdir()
    binaries = [program for program in programs if program.read_bytes()[:4] == b"\x7fELF"]
    done = subprocess.run([*command, *map(str, binaries)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"patchelf failed: {done.stderr.strip()}")
