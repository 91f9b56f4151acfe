"""A server that a test may crash, fill up and replicate from: nobody else's databases are on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import user
from demo.server import Server
from tests import servers
from tests.needs import lack
from tests.servers import Database, Databases

VERSION = 17


def wait_for(true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def own_server(pool: servers.Pool) -> Iterator[Server]:
    """Started for the tests of one file; its folder goes with the pool's, however the run ends."""
    bin_dir = servers.find_bin_dir(VERSION)
    assert bin_dir is not None
    server = Server(pool.base / "own", bin_dir, {**servers.FAST, "wal_level": "logical", "log_min_messages": "warning"})
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_databases(pool: servers.Pool, own_server: Server) -> Iterator[Databases]:
    """A factory of databases on it."""
    factory = Databases(pool, own_server)
    yield factory
    factory.clean()


@pytest.fixture
def own_db(own_databases: Databases) -> Database:
    """A small copy of the field's database on it."""
    return own_databases(filled=True)


def crash(server: Server) -> None:
    """End the server as a power cut would: no checkpoint, no farewell."""
    os.kill(server.pid, signal.SIGQUIT)
    wait_for(lambda: not server.pid)


@contextlib.contextmanager
def small_disk(folder: Path, size: int, inodes: int = 0) -> Iterator[Path]:
    """A filesystem of so many bytes (and inodes) on that folder, which the server's user may write to; needs root."""
    if os.geteuid() != 0:
        lack("mounting", "only root can")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lack("mounting", done.stderr.strip())
    try:
        user.give_away(folder)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
