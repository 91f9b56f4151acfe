"""What a set's files leave in memory: who verifies them has to read the disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scannerdb.sets.checksums import hash_files

from tests.needs import lack, needs

PAGES = 64
PAGE = 4096
pytestmark = needs("fincore")


def cached(path: Path) -> int:
    """Pages of a file in the system's cache."""
    command = ["fincore", "--noheadings", "--output", "PAGES", str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write(path: Path) -> Path:
    path.write_bytes(b"x" * PAGES * PAGE)
    if subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout == "tmpfs\n":
        lack("disk", "the tests' folder is in memory itself")
    return path


def test_hashed_files_are_read_from_the_disk_afterwards(tmp_path: Path) -> None:
    path = write(tmp_path / "data")
    (flushed,) = hash_files(tmp_path, flush=True)
    assert cached(path) == PAGES
    assert hash_files(tmp_path, flush=True, forget=True) == (flushed,)
    assert cached(path) == 0
