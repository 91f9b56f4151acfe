"""Where a checkout's demo server lives, and one command at a time on it.

`.demo/server` is the server's folder itself, or (as root, or where the path is too long for a socket) a link to a short
folder. The short folder remembers the checkout that made it, so that a copied checkout does not take its server.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from demo import user

OWNER_FILE = "checkout"


def home_of(demo: Path) -> Path:
    """The existing or new folder for the server of that `.demo` folder."""
    link = demo.resolve() / "server"
    known = existing_home(demo)
    if known is not None:
        return known
    if link.is_symlink():
        link.unlink()
    elif link.is_dir():
        shutil.rmtree(link)  # made by an ordinary user; now root needs it elsewhere
    if user.suits_a_server(link):
        link.mkdir(mode=0o700)
        return link
    short = user.make_short_folder("scannerdb-demo-")
    (short / OWNER_FILE).write_text(str(link), encoding="utf-8")
    link.symlink_to(short)
    return short


def existing_home(demo: Path) -> Path | None:
    """The server's folder if there is one that belongs to this checkout and can be used, else None."""
    link = demo.resolve() / "server"
    if not link.is_symlink():
        return link if link.is_dir() and user.suits_a_server(link) else None
    home = link.resolve()
    mark = home / OWNER_FILE
    if not mark.is_file():
        return None
    maker = Path(mark.read_text(encoding="utf-8"))
    if maker != link:
        if maker.is_symlink() and maker.resolve() == home:
            return None  # this checkout is a copy, and the original still uses it
        mark.write_text(str(link), encoding="utf-8")  # the checkout was moved
    return home


@contextlib.contextmanager
def only_one(demo: Path) -> Iterator[None]:
    """Keep two commands from working on the same server at once; the second waits."""
    demo.mkdir(exist_ok=True)
    with (demo / "lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
