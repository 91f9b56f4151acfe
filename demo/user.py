"""Whom a server runs as, and folders that this user can reach.

PostgreSQL refuses to run as root. Root therefore lends the server to `nobody`, a user that every system has: nothing is
added to the machine. That user can't see into /root, so folders and programs it needs may have to move to a short,
open place.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

UNPRIVILEGED = "nobody"
PLAIN = re.compile(r"[\w/.@+-]+", re.ASCII)  # PostgreSQL's own tools put paths into shell lines
LONGEST_HOME = 80  # leaves room for "/run/.s.PGSQL.65535.lock" below the 107 bytes of a socket address


def is_root() -> bool:
    """True when this process would have to give up its rights to start a server."""
    return os.geteuid() == 0


def drop_args() -> dict[str, Any]:
    """Arguments for subprocess that start the child as the server's user."""
    if not is_root():
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_away(path: Path) -> None:
    """Make the server's user the owner of a file or folder."""
    if is_root():
        entry = pwd.getpwnam(UNPRIVILEGED)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def clean_env() -> dict[str, str]:
    """The environment without PG* variables, which would steer the tools elsewhere, and in plain English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def suits_a_server(folder: Path) -> bool:
    """True when a server can live right in that folder: not as root, and with a short, plain path."""
    path = str(folder)
    return not is_root() and len(os.fsencode(path)) <= LONGEST_HOME and PLAIN.fullmatch(path) is not None


def make_short_folder(prefix: str, first: str = "") -> Path:
    """A new private folder with a short path that the server's user owns and can reach, in `first` if that is given."""
    usual = ("/var/tmp", "/tmp", tempfile.gettempdir())  # noqa: S108 - mkdtemp's name can't be guessed
    for parent in (first, *usual) if first else usual:
        if os.access(parent, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            give_away(folder)
            return folder
    raise OSError("No folder for the server's files: none of /var/tmp, /tmp and $TMPDIR can be written.")


def runnable(bin_dir: Path) -> bool:
    """True when the server's user can run the programs in that folder."""
    if PLAIN.fullmatch(str(bin_dir)) is None:
        return False
    try:
        done = subprocess.run(
            [bin_dir / "postgres", "--version"],
            cwd="/",
            env=clean_env(),
            capture_output=True,
            check=False,
            **drop_args(),
        )
    except OSError:
        return False
    return done.returncode == 0


def copy_programs(bin_dir: Path, target: Path) -> Path:
    """Copy a wheel's programs to where the server's user can run them; returns the new bin folder.

    The libraries beside or in the package come along at the same relative place, where the programs look for them.
    """
    install = bin_dir.parent
    package = install.parent
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
    for place in (package.with_name(package.name + ".libs"), *package.glob("*.libs")):
        if place.is_dir():
            shutil.copytree(place, fresh / place.relative_to(package.parent), symlinks=True)
    for path in [fresh, *fresh.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | (0o055 if mode & 0o100 or path.is_dir() else 0o044))
    fresh.rename(target)
    return target / package.name / install.name / bin_dir.name
