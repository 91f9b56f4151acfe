"""What a dump file is, told by its first bytes and never by its name."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackupInvalid, RestoreRefused
from ..files import file_errors

MAGIC = b"PGDMP"
SQL_FILE = "sql"  # the kind of a plain SQL file, packed with gzip or not
HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"
COMPRESSED = {
    GZIP: "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
NOT_COMPLETE = "The file is damaged or incomplete: use another backup."


@dataclass(frozen=True)
class Header:
    """What the head of an archive says: the versions that made it, and the database it was made of."""

    database: str = ""
    server_version: str = ""
    dump_version: str = ""

    @property
    def dump_major(self) -> int:
        """Major version of the pg_dump that wrote it; 0 where it does not say."""
        return _major(self.dump_version)

    @property
    def server_major(self) -> int:
        """Major version of the server it was dumped from; 0 where it does not say."""
        return _major(self.server_version)


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


def detect(path: Path) -> str:
    """The kind of a dump: `custom`, `directory`, `tar`, or `sql` for plain SQL, packed with gzip or not.

    Raises `RestoreRefused` for a file that has to be unpacked first, `BackupInvalid` for all else.
    """
    if not path.exists():
        raise BackupInvalid(f"{path} is missing.", NOT_COMPLETE)
    if path.is_dir():
        if (path / "toc.dat").is_file():
            return "directory"
        raise BackupInvalid(f"{path} is a folder, but neither a backup set nor a pg_dump directory.")
    with file_errors("Reading", path), path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise BackupInvalid(f"{path} is empty.", NOT_COMPLETE)
    if head.startswith(MAGIC):
        return "custom"
    if head[257:262] == b"ustar":
        return "tar"
    if _is_sql(_unpacked(path, head)):
        return SQL_FILE
    for magic, program in COMPRESSED.items():
        if head.startswith(magic):
            raise RestoreRefused(f"{path} is compressed with {program} as a whole.", "Unpack it and name the result.")
    raise BackupInvalid(f"{path} is not an archive of pg_dump.", NOT_COMPLETE)


def is_gzip(path: Path) -> bool:
    """True for a file that is packed with gzip."""
    with path.open("rb") as stream:
        return stream.read(len(GZIP)) == GZIP


def _unpacked(path: Path, head: bytes) -> bytes:
    """The head of what a gzip file holds, as far as it can be read; any other head as it is."""
    if not head.startswith(GZIP):
        return head
    try:
        with gzip.open(path) as stream:
            return stream.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_sql(head: bytes) -> bool:
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    return bool(re.match(r"--|/\*|\\|(?i:set|select|create|drop|begin|alter|insert|copy)\b", text))


def read_header(path: Path, kind: str) -> Header:
    """The head of an archive of a known kind; raises `BackupInvalid` where it is damaged. Plain SQL has none here."""
    if kind == SQL_FILE:
        return Header()
    with file_errors("Reading", path):
        if kind == "tar":
            data = _tar_head(path)
        else:
            with (path / "toc.dat" if kind == "directory" else path).open("rb") as stream:
                data = stream.read(HEAD_BYTES)
    try:
        return parse_header(data)
    except (IndexError, ValueError):
        raise BackupInvalid(f"The head of {path} cannot be read.", NOT_COMPLETE) from None


def _tar_head(path: Path) -> bytes:
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.extractfile("toc.dat")
            return member.read(HEAD_BYTES) if member else b""
    except (tarfile.TarError, KeyError):
        raise BackupInvalid(f"{path} is a tar file, but not one of pg_dump.", NOT_COMPLETE) from None


def parse_header(data: bytes) -> Header:
    """The head of a table of contents, as pg_dump has written it since format 1.10. Pure; ValueError, IndexError."""
    if not data.startswith(MAGIC):
        raise ValueError("no archive")
    reader = _Reader(data, position=11, width=data[8])
    version = (data[5], data[6])
    if version < (1, 10) or not 1 <= reader.width <= 8:
        raise ValueError(version)
    if version >= (1, 15):
        reader.position += 1  # the compression's algorithm
    else:
        reader.integer()  # its level
    for _ in range(7):  # the time, as seconds, minutes, hours, day, month, year, daylight saving
        reader.integer()
    return Header(reader.text(), reader.text(), reader.text())


@dataclass
class _Reader:
    """Reads the numbers and strings of an archive's head: a sign byte, then little-endian bytes."""

    data: bytes
    position: int
    width: int

    def integer(self) -> int:
        negative = self.data[self.position]
        start = self.position + 1
        self.position = start + self.width
        if self.position > len(self.data):
            raise ValueError("cut off")
        value = int.from_bytes(self.data[start : self.position], "little")
        return -value if negative else value

    def text(self) -> str:
        length = self.integer()
        if length < 0:
            return ""
        piece = self.data[self.position : self.position + length]
        if len(piece) < length:
            raise ValueError("cut off")
        self.position += length
        return piece.decode("utf-8", "replace")
