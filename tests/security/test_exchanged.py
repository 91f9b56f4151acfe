"""A file that is exchanged between its check and its load is not loaded, or not believed, though it is put back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import BackupInvalid
from scannerdb.restore import fetch
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.held import PREFIX, held, private_dump
from scannerdb.sets.manifest import read_manifest
from scannerdb.sets.signing import Trust

from tests.integration.restore.restore_support import databases
from tests.integration.support import content, options, run_backup, run_restore, run_verify
from tests.servers import Database

Exchange = tuple[Callable[[Path], None], Callable[[Path], None]]


def rows_of(path: Path) -> Path:
    """The largest file with rows."""
    return max((path / "dump").glob("*.dat*"), key=lambda one: (one.name != "toc.dat", one.stat().st_size))


def exchange(one: Path) -> None:
    one.rename(f"{one}.mine")
    one.write_bytes(b"PGDMP, or so it seems")


def put_back(one: Path) -> None:
    Path(f"{one}.mine").replace(one)


def write_over(one: Path) -> None:
    before = one.stat()
    data = one.read_bytes()
    with one.open("r+b") as stream:
        stream.write(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    with one.open("r+b") as stream:
        stream.write(data)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))


def two_folders(path: Path) -> None:
    (path / "dump").rename(path / "mine")
    shutil.copytree(path / "mine", path / "dump")


def one_folder(path: Path) -> None:
    shutil.rmtree(path / "dump")
    (path / "mine").rename(path / "dump")


EXCHANGES: dict[str, Exchange] = {
    "contents": (lambda path: exchange(path / "dump" / "toc.dat"), lambda path: put_back(path / "dump" / "toc.dat")),
    "rows": (
        lambda path: exchange(rows_of(path)),
        lambda path: put_back(next((path / "dump").glob("*.mine")).with_suffix("")),
    ),
    "in place": (lambda path: write_over(rows_of(path)), lambda _: None),
    "dump": (two_folders, one_folder),
}


@pytest.fixture
def made(field_db: Database, tmp_path: Path) -> Path:
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    path = Path(run_backup(options(field_db), **words)["backup"]["path"])
    for one in (path / "dump").iterdir():
        one.chmod(0o660)  # or nobody else could exchange anything
    return path


def during(monkeypatch: pytest.MonkeyPatch, place: str, path: Path, how: Exchange) -> list[str]:
    """Let somebody exchange something just before the load, and put it back just after it."""
    module = f"scannerdb.{place}"
    whole = __import__(module, fromlist=["load_archive"]).load_archive
    done = []

    def load(*words: Any, **more: Any) -> Any:
        how[0](path)
        try:
            return whole(*words, **more)
        finally:
            how[1](path)
            done.append(place)

    monkeypatch.setattr(f"{module}.load_archive", load)
    return done


@pytest.mark.pg(17)
@pytest.mark.parametrize("kind", EXCHANGES)
def test_what_was_exchanged_is_not_restored(
    field_db: Database, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before, names = content(field_db), databases(field_db)
    done = during(monkeypatch, "restore.build", made, EXCHANGES[kind])
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "source": "latest", "grace_s": 0}
    with pytest.raises(BackupInvalid, match=f"{made} was changed while it was read"):
        run_restore(options(field_db), confirm=field_db.name, prebackup=False, **words)
    assert done == ["restore.build"]
    assert (content(field_db), databases(field_db)) == (before, names)


@pytest.mark.pg(17)
def test_a_folder_in_the_place_of_the_set_is_not_met(
    field_db: Database, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(field_db)

    def replaced(path: Path) -> None:
        path.rename(f"{path}.mine")
        shutil.copytree(f"{path}.mine", path)
        for one in (path / "dump").iterdir():
            one.write_bytes(b"other rows, other code")

    def back(path: Path) -> None:
        shutil.rmtree(path)
        Path(f"{path}.mine").rename(path)

    done = during(monkeypatch, "restore.build", made, (replaced, back))
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "source": "latest", "grace_s": 0}
    assert run_restore(options(field_db), confirm=field_db.name, prebackup=False, **words)["changed"]
    assert done == ["restore.build"]
    assert content(field_db) == before


@pytest.mark.pg(17)
@pytest.mark.parametrize("kind", ["contents", "rows"])
def test_what_was_exchanged_is_not_proven(
    field_db: Database, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done = during(monkeypatch, "drill.restore_drill", made, EXCHANGES[kind])
    result = run_verify(
        options(field_db), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), source="latest"
    )
    assert result["failed"] and done == ["drill.restore_drill"]
    assert f"{made} was changed while it was read" in " ".join(result["verification"]["problems"])
    assert load_set(made, Trust(str(tmp_path / "s"))).damaged


def test_a_dump_that_others_may_write_is_a_copy_and_goes(tmp_path: Path) -> None:
    (tmp_path / "set" / "dump").mkdir(parents=True)
    for name in ("toc.dat", "blobs_1.toc", "1.dat.gz"):
        (tmp_path / "set" / "dump" / name).write_text(name, encoding="ascii")
    with held(tmp_path / "set") as kept, private_dump(kept, "dump") as dump:
        assert dump == kept.path / "dump"
    (tmp_path / "set" / "dump" / "1.dat.gz").chmod(0o660)
    with held(tmp_path / "set") as kept:
        with private_dump(kept, "dump") as dump:
            assert dump.parent.name.startswith(PREFIX)
            assert sorted(one.name for one in dump.iterdir()) == ["1.dat.gz", "blobs_1.toc", "toc.dat"]
            assert not any(one.is_symlink() for one in dump.iterdir())
            (tmp_path / "set" / "dump" / "toc.dat").write_text("other statements", encoding="ascii")
            assert (dump / "toc.dat").read_text(encoding="ascii") == "toc.dat"
        assert not dump.parent.exists()
        with pytest.raises(BackupInvalid, match=r"dump/toc\.dat"):
            kept.require_unchanged()
        with (
            pytest.raises(BackupInvalid, match="its SHA-256 is not the recorded one"),
            private_dump(kept, "dump", {"dump/toc.dat": "0" * 64}),
        ):
            pass


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_single_file_is_copied_where_others_may_write(tmp_path: Path, mode: int) -> None:
    archive = tmp_path / "old.backup"
    archive.write_bytes(b"PGDMP")
    archive.chmod(mode)
    with held(archive) as kept, private_dump(kept, "") as dump:
        with archive.open("r+b") as stream:
            stream.write(b"OTHER")
        assert dump.read_bytes() == (b"OTHER" if mode == 0o600 else b"PGDMP")
        with pytest.raises(BackupInvalid, match=f"{archive} was changed"):
            kept.require_unchanged()


def test_a_manifest_that_becomes_another_is_not_the_one_that_was_judged(
    field_db: Database, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanged after its maker was found to be known, with files that are as it says."""
    text = (made / "manifest.json").read_text(encoding="utf-8")

    other = text.replace(read_manifest(made)[0].finished, "2001-01-01T00:00:00Z")

    def known(*words: Any) -> Any:
        (made / "manifest.json").write_text(other, encoding="utf-8")
        return origin

    origin = fetch.require_known(load_set(made), Trust(str(tmp_path / "s")))
    monkeypatch.setattr(fetch, "require_known", known)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "source": "latest", "grace_s": 0}
    with pytest.raises(BackupInvalid, match="became another while it was read"):
        run_restore(options(field_db), confirm=field_db.name, prebackup=False, **words)
