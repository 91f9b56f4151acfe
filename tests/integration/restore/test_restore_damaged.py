"""What a restore refuses: sources that are damaged, that lack something, or differ from what was written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import BackupInvalid, RestoreRefused, ValidationFailed
from scannerdb.jobs import restore_before
from scannerdb.load import validation

from tests.integration.backup.backup_support import compressions
from tests.integration.restore.restore_support import databases, old_dump, options, state
from tests.integration.support import run_backup, run_restore
from tests.servers import Database, Databases


def run(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    return run_restore(
        options(db),
        **{"backup_dir": str(folder), "state_dir": str(folder / "state"), "confirm": db.name, "grace_s": 0, **more},
    )


def _spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) * 2 // 3])
    elif how == "flip":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "head":
        path.write_bytes(b"X" + data[1:])


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "head", "gone"])
@pytest.mark.parametrize("kind", ["set", "file"])
def test_a_damaged_source_changes_nothing(field_db: Database, tmp_path: Path, how: str, kind: str) -> None:
    if kind == "set":
        made = run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))["backup"]
        victim = max((p for p in Path(made["path"], "dump").iterdir()), key=lambda p: p.stat().st_size)
        source = "latest"
    else:
        victim = old_dump(field_db, tmp_path / "x.backup")
        source = str(victim)
    victim.unlink() if how == "gone" else _spoil(victim, how)
    before, names = state(field_db), databases(field_db)
    with pytest.raises(BackupInvalid):
        run(field_db, tmp_path, source=source)
    assert state(field_db) == before
    assert databases(field_db) == names


@pytest.mark.parametrize("compression", compressions("gzip:1", "zstd:3", "lz4:1"))
def test_a_bare_dump_whose_data_break_off_changes_nothing(field_db: Database, tmp_path: Path, compression: str) -> None:
    """pg_restore itself reads broken zstd and lz4 data to their end, and is content."""
    folder = old_dump(field_db, tmp_path / "x", "d", f"--compress={compression.replace('gzip:', '')}")
    big = max(folder.glob("*.dat*"), key=lambda path: path.stat().st_size)
    whole, before, names = big.read_bytes(), state(field_db), databases(field_db)
    for length in (len(whole) // 2, len(whole) - 10):
        big.write_bytes(whole[:length])
        with pytest.raises(BackupInvalid):
            run(field_db, tmp_path, source=str(folder))
        assert (state(field_db), databases(field_db)) == (before, names)
    big.write_bytes(whole)
    run(field_db, tmp_path, source=str(folder))


def test_a_backup_that_lacks_tables_is_refused(field_db: Database, make_database: Databases, tmp_path: Path) -> None:
    other = make_database(filled=True)
    other.sql("DROP TABLE metadata")
    dump = old_dump(other, tmp_path / "x")
    before, names = state(field_db), databases(field_db)
    with pytest.raises(ValidationFailed, match=r"schema.table.missing \(.*metadata"):
        run(field_db, tmp_path, source=str(dump), prebackup=False)
    assert (state(field_db), databases(field_db)) == (before, names)
    run(field_db, tmp_path, source=str(dump), prebackup=False, accept=["schema.table.*"])
    assert state(field_db)["relations"] == state(other)["relations"]


@pytest.mark.parametrize("kind", ["set", "file"])
def test_counts_that_differ_stop_it(
    field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    source = "latest" if kind == "set" else str(old_dump(field_db, tmp_path / "x"))
    before, names = state(field_db), databases(field_db)
    honest = validation.count_rows
    monkeypatch.setattr(validation, "count_rows", lambda *a: {name: rows - 1 for name, rows in honest(*a).items()})
    with pytest.raises(ValidationFailed, match="instead of"):
        run(field_db, tmp_path, source=source, prebackup=False)
    assert (state(field_db), databases(field_db)) == (before, names)


def test_a_failing_backup_stops_it(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = old_dump(field_db, tmp_path / "x")
    before, names = state(field_db), databases(field_db)

    def fail(*_: Any) -> None:
        raise BackupInvalid("The disk is full.")

    monkeypatch.setattr(restore_before, "make_backup", fail)
    with pytest.raises(RestoreRefused, match="nothing was restored: The disk is full"):
        run(field_db, tmp_path, source=str(dump))
    assert (state(field_db), databases(field_db)) == (before, names)
