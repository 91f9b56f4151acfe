"""Reading gzip and zstd dumps in our own threads: which file is whose, and that no harm to a file passes."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.sets import dump_data
from scannerdb.sets.dump_data import data_files, read_files
from scannerdb.sets.manifest import Manifest, TableCount
from scannerdb.sets.row_counts import line_feeds

from tests.backup_sets import manifest
from tests.needs import needs

END = b"\\.\n\n\n"
LIST = """;
; Archive created at 2025-04-18 12:00:00 UTC
215; 1259 16385 TABLE public t owner
3360; 0 16385 TABLE DATA public t owner
3361; 0 16386 TABLE DATA public models an owner
3362; 0 16387 TABLE DATA S. x (y owner
"""


def of(*tables: tuple[str, str, int], **changed: str) -> Manifest:
    counts = tuple(TableCount(*table) for table in tables)
    return dataclasses.replace(manifest(), **{"tables": counts, "compression": "gzip:1", **changed})


def pack(data: bytes, ending: str) -> bytes:
    """Data as pg_dump compresses them: as a stream whose length nobody knew before."""
    if ending == ".gz":
        return gzip.compress(data, mtime=0)
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return packer.compress(data) + packer.flush()


both = pytest.mark.parametrize("ending", [".gz", ".zst"])


@pytest.mark.parametrize(("compression", "ending"), [("gzip:1", "gz"), ("zstd:1", "zst")])
def test_the_files_of_tables(compression: str, ending: str) -> None:
    found = data_files(of(("public", "t", 1), ("S. x", "(y", 2), compression=compression), LIST)
    assert found is not None
    assert {name: table.name for name, table in found.items()} == {
        f"3360.dat.{ending}": "t",
        f"3362.dat.{ending}": "(y",
    }


def test_without_its_library_zstd_is_left_to_pg_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_data, "zstandard", None)
    assert data_files(of(("public", "t", 1), compression="zstd:1"), LIST) is None


@pytest.mark.parametrize(
    ("described", "listing"),
    [
        (of(("public", "absent", 1)), LIST),
        (of(("public", "t", 1)), LIST + "3363; 0 1 TABLE DATA public t x owner\n"),  # t, or "t x"
        (of(("public", "t", 1), compression="lz4:1"), LIST),
        (of(("public", "t", 1), dump_format="custom"), LIST),
    ],
)
def test_what_cannot_be_told_is_left_to_pg_restore(described: Manifest, listing: str) -> None:
    assert data_files(described, listing) is None


def lines(rows: int) -> bytes:
    """Rows as COPY writes them, which do not compress well, and their end."""
    words = (hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(rows))
    return b"".join(b"%d\t\\\\x%s\n" % (i, word) for i, word in enumerate(words)) + END


@both
@pytest.mark.parametrize("piece", [1, 1000, 1 << 17])
@pytest.mark.parametrize("rows", [0, 1, 3000])
def test_sound_files_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, piece: int, ending: str) -> None:
    monkeypatch.setattr(dump_data, "PIECE", piece)
    name = f"1.dat{ending}"
    rows = rows if piece > 1 else rows % 50
    (tmp_path / name).write_bytes(pack(lines(rows), ending))
    (tmp_path / f"blob_2.dat{ending}").write_bytes(pack(b"anything", ending))
    heard: list[int] = []
    assert read_files(tmp_path, {name: TableCount("s", "t", rows)}, 2, heard.append) == []
    (problem,) = read_files(tmp_path, {name: TableCount("s", "t", rows + 1)}, 2)
    assert problem == f"The dump holds {rows} rows of s.t; the snapshot had {rows + 1}."
    assert read_files(tmp_path, {f"3.dat{ending}": TableCount("s", "t", 0)}, 1) == ["The dump lacks the data of s.t."]


@both
@given(st.integers(min_value=0))
def test_no_byte_can_be_cut_or_added(tmp_path_factory: pytest.TempPathFactory, ending: str, at: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = pack(lines(40), ending)
    file, table = folder / f"1.dat{ending}", {f"1.dat{ending}": TableCount("s", "t", 40)}
    file.write_bytes(whole)
    assert not read_files(folder, table, 1)
    file.write_bytes(whole[: at % len(whole)])
    assert read_files(folder, table, 1)
    file.write_bytes(whole + b"\0" * (1 + at % 300))
    assert read_files(folder, table, 1)


@both
def test_a_cut_large_object_is_seen(tmp_path: Path, ending: str) -> None:
    whole = pack(hashlib.sha256().digest() * 5000, ending)
    (tmp_path / f"blob_2.dat{ending}").write_bytes(whole[:-1])
    (problem,) = read_files(tmp_path, {}, 1)
    assert problem == f"blob_2.dat{ending} of the dump cannot be read: it breaks off."


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_no_bit_of_gzip_data_can_change(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("gz")
    changed = bytearray(pack(lines(40), ".gz"))
    # gzip's own head (time, operating system) is covered by the manifest's SHA-256, as is every bit of zstd.
    changed[10 + at % (len(changed) - 10)] ^= 1 << bit
    (folder / "1.dat.gz").write_bytes(changed)
    # A few bits, such as those that fill the last byte, mean nothing: then the rows are what they were.
    assert read_files(folder, {"1.dat.gz": TableCount("s", "t", 40)}, 1) or gzip.decompress(changed) == lines(40)


def test_a_checksum_that_zstd_was_asked_for_is_compared(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    whole = packer.compress(lines(40)) + packer.flush()
    table = {"1.dat.zst": TableCount("s", "t", 40)}
    for data, sound in [(whole, True), (whole[:-1], False), (whole[:-1] + bytes([whole[-1] ^ 1]), False)]:
        (tmp_path / "1.dat.zst").write_bytes(data)
        assert (read_files(tmp_path, table, 1) == []) is sound


@both
def test_what_is_no_compressed_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"1.dat{ending}").write_bytes(b"plain text\n" * 50)
    (problem,) = read_files(tmp_path, {f"1.dat{ending}": TableCount("s", "t", 50)}, 1)
    assert problem.startswith(f"1.dat{ending} of the dump cannot be read: ")


def test_data_that_unpack_to_very_much_take_little_memory(tmp_path: Path) -> None:
    rows = 300_000
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    block = (b"0" * 999 + b"\n") * 1000
    text = b"".join(packer.compress(block) for _ in range(rows // 1000)) + packer.compress(END) + packer.flush()
    assert len(text) < 500_000  # of 300 MB
    (tmp_path / "1.dat.zst").write_bytes(text)
    tracemalloc.start()
    try:
        assert read_files(tmp_path, {"1.dat.zst": TableCount("s", "t", rows)}, 1) == []
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@both
@pytest.mark.parametrize("text", [b"", b"1\n", b"1\n\\.\n", b"1\\.\n\n\n"])
def test_data_that_do_not_end_as_copy_does(tmp_path: Path, text: bytes, ending: str) -> None:
    (tmp_path / f"1.dat{ending}").write_bytes(pack(text, ending))
    table = {f"1.dat{ending}": TableCount("s", "t", 1)}
    assert read_files(tmp_path, table, 1) == ["The data of s.t break off."]


@given(st.binary())
def test_line_feeds_are_counted(data: bytes) -> None:
    assert line_feeds(data) == data.count(b"\n")


@needs("linux")
def test_who_reads_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(piece: bytes) -> int:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return line_feeds(piece)

    monkeypatch.setattr(dump_data, "line_feeds", spy)
    (tmp_path / "1.dat.gz").write_bytes(pack(lines(1), ".gz"))
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert read_files(tmp_path, {"1.dat.gz": TableCount("s", "t", 1)}, 2, nice=3) == []
    assert set(seen) == {min(19, mine + 3)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
