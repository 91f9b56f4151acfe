"""Flushes and hashes a dump's files while pg_dump writes them, so that little is left to do at their end."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..files import file_errors, fsync_file
from ..process import give_way

BLOCK = 1 << 20
TOC = "toc.dat"  # written again and again, as is the one file of the custom format; the others are appended to


class Growing:
    """The SHA-256 of files as far as they have been read; only for files of which nothing written is changed."""

    def __init__(self) -> None:
        self._digests: dict[Path, tuple[hashlib._Hash, int]] = {}

    def sha256(self, path: Path) -> str:
        """The SHA-256 of the whole file, as hex; read from where it was left, or from its beginning."""
        return self.read_on(path).hexdigest()

    def read_on(self, path: Path) -> hashlib._Hash:
        """Read what has been added to the file since, and return the digest of all of it so far."""
        digest, start = self._digests.get(path, (hashlib.sha256(), 0))
        with file_errors("Reading", path), path.open("rb", buffering=0) as stream:
            stream.seek(start)
            for block in iter(lambda: stream.read(BLOCK), b""):
                digest.update(block)
            self._digests[path] = (digest, stream.tell())
        return digest

    @contextlib.contextmanager
    def following(self, target: Path) -> Iterator[Callable[[], int]]:
        """For the block, look after what is written of the dump `target`, in a thread that gives way to everybody.

        Gives a function to call now and then: it begins another round when the last one is over, raises what went wrong
        in that, and returns the bytes that there are. A disk's error must not be lost: the kernel tells it once.
        """
        rounds: list[Future[None]] = []

        def look() -> int:
            if rounds and rounds[0].done():
                rounds.pop().result()
            if not rounds:
                rounds.append(pool.submit(self._flush_and_read, target))
            return sum(path.stat().st_size for path in _files(target))

        with ThreadPoolExecutor(1, initializer=give_way) as pool:
            yield look
        for last in rounds:
            last.result()

    def _flush_and_read(self, target: Path) -> None:
        for path in _files(target):
            fsync_file(path)
            if path.parent == target and path.name != TOC:
                self.read_on(path)


def _files(target: Path) -> list[Path]:
    return [path for path in [target, *target.glob("*")] if path.is_file()]
