"""Hashes files while another process appends to them, so that little is left to do at their end."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..files import file_errors

BLOCK = 1 << 20


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
