"""Reads gzip dumps of the directory format without pg_restore: several threads decompress every byte and count rows.

Each table's data are one file there, named after the entry's number in the table of contents: what COPY wrote, then
`\\.` on a line of its own and two empty lines. zlib compares the length and checksum that gzip keeps.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Optional

from .manifest import Manifest, TableCount

PIECE, MOST = 1 << 20, 1 << 22
TICK_S = 0.5
END = b"\\.\n\n\n"
_DATA = re.compile(r"^(\d+); \d+ \d+ TABLE DATA (.*)$", re.MULTILINE)


def data_files(manifest: Manifest, listing: str) -> Optional[dict[str, TableCount]]:
    """Which file has which table, out of `pg_restore --list`; None where pg_restore itself has to read. Pure.

    The list does not mark where a name ends: with names such as `t` and `t x` it cannot be told apart.
    """
    if manifest.dump_format != "directory" or not manifest.compression.startswith("gzip"):
        return None
    entries = _DATA.findall(listing)
    found = {}
    for table in manifest.tables:
        words = " ".join(f"{table.schema} {table.name} ".splitlines())
        numbers = [number for number, rest in entries if rest.startswith(words)]
        if len(numbers) != 1 or f"{numbers[0]}.dat.gz" in found:
            return None
        found[f"{numbers[0]}.dat.gz"] = table
    return found


def read_files(
    dump: Path, files: Mapping[str, TableCount], threads: int, on_bytes: Optional[Callable[[int], object]] = None
) -> list[str]:
    """Decompress every file of a dump and compare the rows of its tables, as sentences; empty where all agree."""
    sizes = {path.name: path.stat().st_size for path in dump.glob("*.gz")}
    lost = [table for name, table in files.items() if name not in sizes]
    done = [0]

    def read(name: str) -> str:
        return _problem(dump / name, files.get(name), done)

    names = sorted(sizes, key=lambda name: sizes[name], reverse=True)
    with ThreadPoolExecutor(max(1, threads)) as pool:
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
        for piece in _pieces(path):
            rows += piece.count(b"\n")
            last = (last + piece[-len(END) - 1 :])[-len(END) - 1 :]
            done[0] += len(piece)
    except (OSError, zlib.error) as error:
        return f"{path.name} of the dump cannot be read: {error}."
    if table is None:
        return ""
    if last != END and not last.endswith(b"\n" + END):
        return f"The data of {table.schema}.{table.name} break off."
    rows -= END.count(b"\n")
    if rows != table.rows:
        return f"The dump holds {rows} rows of {table.schema}.{table.name}; the snapshot had {table.rows}."
    return ""


def _pieces(path: Path) -> Iterator[bytes]:
    """The content of a gzip file, piece by piece; `zlib.error` where it is damaged, cut, or has more behind its end."""
    unpacker = zlib.decompressobj(wbits=31)
    with path.open("rb") as stream:
        data = stream.read(PIECE)
        while data and not unpacker.eof:
            yield unpacker.decompress(data, MOST)
            data = unpacker.unconsumed_tail or (b"" if unpacker.eof else stream.read(PIECE))
        yield unpacker.flush()
        if not unpacker.eof:
            raise zlib.error("it breaks off")
        if unpacker.unused_data or stream.read(1):
            raise zlib.error("there is more behind its end")
