"""Reading gzip dumps in our own threads: which file is whose, and that no harm to a file passes."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.backup import gzdump
from scannerdb.backup.gzdump import data_files, read_files
from scannerdb.backup.manifest import TableCount

from tests.unit.test_backup_format import manifest

END = b"\\.\n\n\n"
LIST = """;
; Archive created at 2025-04-18 12:00:00 UTC
215; 1259 16385 TABLE public t owner
3360; 0 16385 TABLE DATA public t owner
3361; 0 16386 TABLE DATA public models an owner
3362; 0 16387 TABLE DATA S. x (y owner
"""


def of(*tables: tuple[str, str, int], **changed: str) -> gzdump.Manifest:
    counts = tuple(TableCount(*table) for table in tables)
    return dataclasses.replace(manifest(), **{"tables": counts, "compression": "gzip:1", **changed})


def test_the_files_of_tables() -> None:
    found = data_files(of(("public", "t", 1), ("S. x", "(y", 2)), LIST)
    assert found is not None
    assert {name: table.name for name, table in found.items()} == {"3360.dat.gz": "t", "3362.dat.gz": "(y"}


@pytest.mark.parametrize(
    ("described", "listing"),
    [
        (of(("public", "absent", 1)), LIST),
        (of(("public", "t", 1)), LIST + "3363; 0 1 TABLE DATA public t x owner\n"),  # t, or "t x"
        (of(("public", "t", 1), compression="zstd:1"), LIST),
        (of(("public", "t", 1), dump_format="custom"), LIST),
    ],
)
def test_what_cannot_be_told_is_left_to_pg_restore(described: gzdump.Manifest, listing: str) -> None:
    assert data_files(described, listing) is None


def lines(rows: int) -> bytes:
    """Rows as COPY writes them, which do not compress well, and their end."""
    words = (hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(rows))
    return b"".join(b"%d\t\\\\x%s\n" % (i, word) for i, word in enumerate(words)) + END


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_sound_files_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(gzdump, "PIECE", 1000)
    monkeypatch.setattr(gzdump, "MOST", 777)
    (tmp_path / "1.dat.gz").write_bytes(gzip.compress(lines(rows)))
    (tmp_path / "blob_2.dat.gz").write_bytes(gzip.compress(b"anything"))
    heard: list[int] = []
    assert read_files(tmp_path, {"1.dat.gz": TableCount("s", "t", rows)}, 2, heard.append) == []
    (problem,) = read_files(tmp_path, {"1.dat.gz": TableCount("s", "t", rows + 1)}, 2)
    assert problem == f"The dump holds {rows} rows of s.t; the snapshot had {rows + 1}."
    assert read_files(tmp_path, {"3.dat.gz": TableCount("s", "t", 0)}, 1) == ["The dump lacks the data of s.t."]


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_no_bit_of_the_data_can_change_and_no_byte_be_cut(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("gz")
    whole = gzip.compress(lines(40), mtime=0)
    at %= len(whole)
    table = {"1.dat.gz": TableCount("s", "t", 40)}
    (folder / "1.dat.gz").write_bytes(whole[:at])
    assert read_files(folder, table, 1)
    (folder / "1.dat.gz").write_bytes(whole + b"\0")
    assert read_files(folder, table, 1)
    if at >= 10:  # gzip's own head (time, operating system) is covered by the manifest's SHA-256
        changed = bytearray(whole)
        changed[at] ^= 1 << bit
        (folder / "1.dat.gz").write_bytes(changed)
        # A few bits, such as those that fill the last byte, mean nothing: then the rows are what they were.
        assert read_files(folder, table, 1) or gzip.decompress(changed) == lines(40)


@pytest.mark.parametrize("text", [b"", b"1\n", b"1\n\\.\n", b"1\\.\n\n\n"])
def test_data_that_do_not_end_as_copy_does(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "1.dat.gz").write_bytes(gzip.compress(text))
    assert read_files(tmp_path, {"1.dat.gz": TableCount("s", "t", 1)}, 1) == ["The data of s.t break off."]
