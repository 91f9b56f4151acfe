"""Files that are hashed while they grow: the same digest as of the whole, and a change afterwards is seen."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import FileProblem
from scannerdb.sets import streamed_hashes
from scannerdb.sets.checksums import check_files, hash_files
from scannerdb.sets.streamed_hashes import Growing

from tests.backup_sets import manifest


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_piece_by_piece_is_as_good_as_at_once(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("growing") / "1.dat.zst"
    path.touch()
    seen = Growing()
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        seen.read_on(path)
    assert seen.sha256(path) == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_what_was_seen_is_not_read_again_and_so_harm_done_meanwhile_is_found(tmp_path: Path) -> None:
    path, seen = tmp_path / "1.dat.zst", Growing()
    path.write_bytes(b"as it was written")
    seen.read_on(path)
    path.write_bytes(b"AS it was written, and more")
    files = hash_files(tmp_path, seen=seen)
    assert files[0].sha256 == hashlib.sha256(b"as it was written, and more").hexdigest()
    described = dataclasses.replace(manifest(), files=files)
    assert check_files(tmp_path, described) == ["1.dat.zst has changed: its SHA-256 is not the recorded one."]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="Reading"):
        Growing().read_on(tmp_path / "gone")


class Counted(Growing):
    """Counts its rounds, and notes how nice the thread was that did them."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self.nice = 0

    def _flush_and_read(self, target: Path) -> None:
        super()._flush_and_read(target)
        self.nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.rounds += 1


def test_a_dump_is_followed_by_a_thread_that_gives_way(tmp_path: Path) -> None:
    for name, data in {"1.dat.zst": b"12345", "blobs_2.toc": b"123", "toc.dat": b"1"}.items():
        (tmp_path / name).write_bytes(data)
    seen = Counted()
    with seen.following(tmp_path) as look:
        while seen.rounds < 2:
            assert look() == 9
    assert {path.name for path in seen._digests} == {"1.dat.zst", "blobs_2.toc"}
    assert seen.nice == 19 or sys.platform != "linux"
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_one_file_is_flushed_but_not_hashed_before_its_end(tmp_path: Path) -> None:
    (tmp_path / "dump.pgdump").write_bytes(b"12345")
    seen = Counted()
    with seen.following(tmp_path / "dump.pgdump") as look:
        assert look() == 5
    assert (seen.rounds, seen._digests) == (1, {})


@pytest.mark.parametrize("looks", [1, 2])
def test_what_goes_wrong_in_the_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    def broken(path: Path) -> None:
        raise FileProblem(f"Flushing {path} failed: Input/output error.")

    (tmp_path / "1.dat.zst").write_bytes(b"12345")
    monkeypatch.setattr(streamed_hashes, "fsync_file", broken)
    with pytest.raises(FileProblem, match="Input/output error"), Growing().following(tmp_path) as look:
        for _ in range(looks):  # the second one may tell it; after the first, the end does
            look()
            time.sleep(0.05)
