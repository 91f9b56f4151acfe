"""A disk that is full, or seems to be."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.errors import BackupInvalid, FileProblem, ScannerDbError
from scannerdb.jobs import backup as job
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.locate import find_set
from scannerdb.sets.signing import Trust

from tests.integration.backup.backup_support import ROWS, options_of, visible
from tests.integration.own_server import small_disk
from tests.integration.support import run_backup, run_verify
from tests.servers import Database


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 2 << 20) as folder:
        yield folder


def test_a_full_disk(database: Database, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, state = options_of(database), str(tmp_path / "state")
    first = run_backup(options, backup_dir=str(disk), state_dir=state)["backup"]["name"]
    database.sql("CREATE TABLE big AS SELECT md5(i::text) || md5((-i)::text) AS m FROM generate_series(1, 150000) i")
    with monkeypatch.context() as patch:
        patch.setattr(job, "ensure_room", lambda *_: None)  # the estimate cannot know how badly this compresses
        with pytest.raises(ScannerDbError, match=r"(?s)No space left on device.*disk is full"):
            run_backup(options, backup_dir=str(disk), state_dir=state)
    assert visible(disk) == {"latest.backup", first}
    assert find_set(disk, "latest").name == first
    assert "failed" in next(iter(sorted(disk.glob("*.log"), reverse=True))).read_text(encoding="utf-8")
    (disk / "ballast").write_bytes(b"x" * (1 << 20))
    with pytest.raises(FileProblem, match=r"MiB free; the backup needs about"):
        run_backup(options, backup_dir=str(disk), state_dir=state)
    assert visible(disk) == {"latest.backup", first, "ballast"}


def test_room_that_a_sweep_frees_is_room(database: Database, disk: Path) -> None:
    """What a killed run left fills the disk; the same run that removes it must not say that there is no room."""
    database.sql(ROWS)
    left = disk / ".scanner_20250101_000000.backup.partial".replace("scanner", database.name)
    left.mkdir()
    (left / "x").write_bytes(b"x" * shutil.disk_usage(disk).free)
    planned = run_backup(options_of(database), backup_dir=str(disk), state_dir=str(disk / "state"), check_mode=True)
    assert planned["swept"] == [left.name] and left.exists()
    made = run_backup(options_of(database), backup_dir=str(disk), state_dir=str(disk / "state"))
    assert made["swept"] == [left.name] and made["backup"]["verified"] == "read"


def test_a_failure_that_cannot_be_recorded_counts(database: Database, tmp_path: Path, disk: Path) -> None:
    database.sql(ROWS)
    made = Path(run_backup(options_of(database), backup_dir=str(disk), state_dir=str(disk / "state"))["backup"]["path"])
    with next((made / "dump").glob("*.dat*")).open("r+b") as stream:
        stream.write(b"?")
    with (made / "verification.jsonl").open("a", encoding="ascii") as stream:
        stream.write("\n" * (4096 - stream.tell() - 20))  # a page of this file system that has no room for a record
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    with pytest.raises(BackupInvalid, match=r"failed its verification \(checksum\).*could not be recorded.*is full"):
        run_verify(options_of(database), backup_dir=str(disk), state_dir=str(disk / "state"), level="checksum")
    assert load_set(made, Trust(str(disk / "state"))).verified == "none"
