"""Files that are hashed while they grow: the same digest as of the whole, and a change afterwards is seen."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.backup.growing import Growing
from scannerdb.backup.inventory import check_files, hash_files
from scannerdb.errors import FileProblem

from tests.unit.test_backup_format import manifest


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
