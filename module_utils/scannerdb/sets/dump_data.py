"""Reads dumps of the directory format without pg_restore: several threads decompress every byte and count rows.

Each table's data are one file there, named after the entry's number in the table of contents: what COPY wrote, then
`\\.` on a line of its own and two empty lines. gzip keeps a length and a checksum, which zlib compares; of zstd data
the blocks, the end and the number of rows tell.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, Optional

from ..process import give_way
from .manifest import Manifest, TableCount
from .row_counts import line_feeds

try:
    import zstandard
except ImportError:  # on a database host, where pg_restore does as well
    zstandard = None  # type: ignore[assignment]

PIECE = 1 << 17  # what the processor's cache holds is counted at once
ZSTD_HEAD = 18  # the longest head of a frame
TICK_S = 0.5
END = b"\\.\n\n\n"
_DATA = re.compile(r"^(\d+); \d+ \d+ TABLE DATA (.*)$", re.MULTILINE)


class Damaged(Exception):
    """A file that cannot be decompressed, breaks off, or goes on behind its end."""


def data_files(manifest: Manifest, listing: str) -> Optional[dict[str, TableCount]]:
    """Which file has which table, out of `pg_restore --list`; None where pg_restore itself has to read. Pure.

    The list does not mark where a name ends: with names such as `t` and `t x` it cannot be told apart.
    """
    ending = _ending(manifest.compression)
    if manifest.dump_format != "directory" or not ending:
        return None
    entries = _DATA.findall(listing)
    found = {}
    for table in manifest.tables:
        words = " ".join(f"{table.schema} {table.name} ".splitlines())
        numbers = [number for number, rest in entries if rest.startswith(words)]
        if len(numbers) != 1 or f"{numbers[0]}.dat{ending}" in found:
            return None
        found[f"{numbers[0]}.dat{ending}"] = table
    return found


def _ending(compression: str) -> str:
    """How files of a compression end that can be read here; empty for others."""
    method = compression.partition(":")[0]
    return {"gzip": ".gz", "zstd": ".zst" if zstandard else ""}.get(method, "")


def read_files(
    dump: Path,
    files: Mapping[str, TableCount],
    threads: int,
    on_bytes: Optional[Callable[[int], object]] = None,
    nice: int = 0,
) -> list[str]:
    """Decompress every file of a dump and compare the rows of its tables, as sentences; empty where all agree."""
    readable = {".gz", ".zst"} if zstandard else {".gz"}
    sizes = {path.name: path.stat().st_size for path in dump.iterdir() if path.suffix in readable}
    lost = [table for name, table in files.items() if name not in sizes]
    done = [0]

    def read(name: str) -> str:
        return _problem(dump / name, files.get(name), done)

    names = sorted(sizes, key=lambda name: sizes[name], reverse=True)
    with ThreadPoolExecutor(max(1, threads), initializer=give_way, initargs=(nice,)) as pool:
        running = [pool.submit(read, name) for name in names]
        while wait(running, timeout=TICK_S).not_done:
            if on_bytes:
                on_bytes(done[0])
    missing = [f"The dump lacks the data of {table.schema}.{table.name}." for table in lost]
    return missing + [problem for future in running if (problem := future.result())]


def _problem(path: Path, table: Optional[TableCount], done: list[int]) -> str:
    """What is wrong with one file, as a sentence."""
    rows, last = 0, b""
    try:
        if table is None and not path.stat().st_size:  # pg_dump writes so what an empty large object has
            return ""
        with path.open("rb", buffering=0) as stream:
            for piece in _PIECES[path.suffix](stream):
                rows += line_feeds(piece)
                last = (last + piece[-len(END) - 1 :])[-len(END) - 1 :]
                done[0] += len(piece)
    except (OSError, Damaged) as error:
        return f"{path.name} of the dump cannot be read: {error}."
    if table is None:
        return ""
    if last != END and not last.endswith(b"\n" + END):
        return f"The data of {table.schema}.{table.name} break off."
    rows -= END.count(b"\n")
    if rows != table.rows:
        return f"The dump holds {rows} rows of {table.schema}.{table.name}; the snapshot had {table.rows}."
    return ""


def _gzip_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """The content of a gzip file, piece by piece; `Damaged` where it is not sound."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = stream.read(PIECE)
        while data and not unpacker.eof:
            yield unpacker.decompress(data, PIECE)
            data = unpacker.unconsumed_tail or (b"" if unpacker.eof else stream.read(PIECE))
        yield unpacker.flush()
    except zlib.error as error:
        raise Damaged(str(error)) from error
    if not unpacker.eof:
        raise Damaged("it breaks off")
    if unpacker.unused_data or stream.read(1):
        raise Damaged("there is more behind its end")


def _zstd_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """The content of a zstd file, which pg_dump writes as one frame, block by block; `Damaged` where it is not sound.

    A block unpacks to 128 KiB at most, however little it takes in the file (RFC 8878, 3.1.1.2).
    """
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        head = stream.read(ZSTD_HEAD)
        stream.seek(zstandard.frame_header_size(head))
        unpacker.decompress(head[: stream.tell()])
        last = False
        while not last:
            head = _exactly(stream, 3)
            field = int.from_bytes(head, "little")
            last, repeated, size = bool(field & 1), field >> 1 & 3 == 1, field >> 3
            yield unpacker.decompress(head + _exactly(stream, 1 if repeated else size))
        if not unpacker.eof:  # its checksum, which pg_dump does not ask for
            unpacker.decompress(_exactly(stream, 4))
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from error
    if stream.read(1):
        raise Damaged("there is more behind its end")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Damaged("it breaks off")
    return data


_PIECES: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {".gz": _gzip_pieces, ".zst": _zstd_pieces}
