"""The files of a set: recorded with size and SHA-256 when it is made, and compared with that record later."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import FileProblem
from ..files import file_errors, forget_cached, fsync_file, sha256
from .manifest import MANIFEST, VERIFICATIONS, FileRecord, Manifest

HASHING_THREADS = 4


def hash_files(folder: Path, threads: int = 2, *, flush: bool = False, forget: bool = False) -> tuple[FileRecord, ...]:
    """Size and SHA-256 of every file of a set, sorted by path, without the manifest and the verification record.

    Files are hashed side by side: hashlib lets go of the interpreter's lock. With `flush` each is flushed to disk, too,
    while others are hashed; with `forget` the system's cache lets go of it, so that who reads it next reads the disk.
    """
    paths = _files_below(folder)
    with ThreadPoolExecutor(max(1, min(threads, HASHING_THREADS))) as pool:
        return tuple(pool.map(lambda relative: _record(folder, relative, flush, forget), paths))


def _record(folder: Path, relative: str, flush: bool, forget: bool) -> FileRecord:
    path = folder / relative
    record = FileRecord(relative, path.stat().st_size, sha256(path))
    if flush:
        fsync_file(path)
    if forget:
        forget_cached(path)
    return record


def _files_below(folder: Path) -> list[str]:
    found = []
    with file_errors("Listing", folder):
        for base, folders, names in os.walk(folder, onerror=_raise):
            linked = [name for name in folders if Path(base, name).is_symlink()]
            found += [str(Path(base, name).relative_to(folder).as_posix()) for name in [*names, *linked]]
    return sorted(set(found) - {MANIFEST, VERIFICATIONS})


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
    checks: Sequence[FileRecord] = [expected[path] for path in sorted(present & set(expected))]
    compare: Callable[[FileRecord], str] = lambda record: _difference(folder, record)  # noqa: E731
    with ThreadPoolExecutor(max(1, min(threads, HASHING_THREADS))) as pool:
        problems += [problem for problem in pool.map(compare, checks) if problem]
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
