"""The files of a set: recorded with size and SHA-256 when it is made, and compared with that record later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional, TypeVar

from ..errors import FileProblem
from ..files import file_errors, forget_cached, fsync_file, sha256
from .manifest import MANIFEST, SIGNATURE, VERIFICATIONS, FileRecord, Manifest
from .streamed_hashes import Growing

HASHING_THREADS = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


def hash_files(
    folder: Path, threads: int = 2, seen: Optional[Growing] = None, *, flush: bool = False, forget: bool = False
) -> tuple[FileRecord, ...]:
    """Size and SHA-256 of every file of a set, sorted by path, without the manifest, its signature and the record.

    Files are hashed side by side: hashlib lets go of the interpreter's lock. What was `seen` as they grew is not read
    again. With `flush` each is flushed to disk, too, while others are hashed; with `forget` the system's cache lets go
    of it, so that who reads it next reads the disk.
    """
    seen = seen or Growing()

    def record(relative: str) -> FileRecord:
        path = folder / relative
        made = FileRecord(relative, path.stat().st_size, seen.sha256(path))
        if flush:
            fsync_file(path)
        if forget:
            forget_cached(path)
        return made

    with file_errors("Looking at the files of", folder):
        sizes = {relative: (folder / relative).lstat().st_size for relative in _files_below(folder)}
    made = _side_by_side(record, sizes, sizes.__getitem__, threads)
    return tuple(sorted(made, key=lambda one: one.path))


def _side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], size: Callable[[Item], int], threads: int
) -> list[Result]:
    """Do something to every item, the largest first, so that no thread is left with that one at the end."""
    with ThreadPoolExecutor(max(1, min(threads, HASHING_THREADS))) as pool:
        return list(pool.map(work, sorted(items, key=size, reverse=True)))


def _files_below(folder: Path) -> list[str]:
    found = []
    with file_errors("Listing", folder):
        for base, folders, names in os.walk(folder, onerror=_raise):
            linked = [name for name in folders if Path(base, name).is_symlink()]
            found += [str(Path(base, name).relative_to(folder).as_posix()) for name in [*names, *linked]]
    return sorted(set(found) - {MANIFEST, SIGNATURE, VERIFICATIONS})


def _raise(error: OSError) -> None:
    raise error


def check_files(folder: Path, manifest: Manifest, threads: int = 2) -> list[str]:
    """Compare a set's files with its manifest, every byte: what is missing, added or different, as sentences.

    An empty list means that all is as recorded. A file that cannot be read is a problem of the set, not an error.
    """
    expected = {record.path: record for record in manifest.files}
    present = set(_files_below(folder))
    problems = [f"{path} is missing." for path in sorted(set(expected) - present)]
    problems += [f"{path} was added after the backup." for path in sorted(present - set(expected))]
    found = (expected[path] for path in present & set(expected))
    told = _side_by_side(lambda record: _difference(folder, record), found, lambda record: record.size, threads)
    problems += sorted(filter(None, told))
    return problems


def _difference(folder: Path, expected: FileRecord) -> str:
    path = folder / expected.path
    if path.is_symlink() or not path.is_file():
        return f"{expected.path} is not a plain file any more."
    try:
        size = path.stat().st_size
        if size != expected.size:
            return f"{expected.path} has {size} bytes, not {expected.size} as recorded."
        digest = sha256(path)
    except (OSError, FileProblem) as error:
        return f"{expected.path} cannot be read: {error}."
    return "" if digest == expected.sha256 else f"{expected.path} has changed: its SHA-256 is not the recorded one."
