"""Verification finds whatever happens to a set, on every file of it, with every compression the tools have."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scannerdb.backup import dump, plan
from scannerdb.errors import BackupInvalid, FileProblem, InvalidInput, ToolMissing
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.checksums import hash_files
from scannerdb.sets.manifest import SIGNATURE, read_manifest, write_manifest
from scannerdb.sets.signing import Trust
from scannerdb.sets.verification import read_dump, reading_tools, verify_set
from scannerdb.tools import find_tools

from tests import servers
from tests.integration.backup.backup_support import compressions, cut, empty, flip, grow, options_of, supports
from tests.integration.support import run_backup, tools_of
from tests.servers import Database


def made(database: Database, folder: Path, compression: str = "") -> Path:
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 20000) i")
    database.sql("CREATE TABLE empty (a int)")
    if compression:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "choose_compression", lambda *_, **__: compression)
            result = run_backup(options_of(database), backup_dir=str(folder), state_dir=str(folder / "state"))
    else:
        result = run_backup(options_of(database), backup_dir=str(folder), state_dir=str(folder / "state"))
    return Path(result["backup"]["path"])


@pytest.mark.parametrize("harm", [flip, cut, grow, empty, Path.unlink])
def test_harm_to_any_file_is_found(database: Database, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = made(database, tmp_path)
    copy = tmp_path / "copy"
    # What was verified, and who made it, are no part of what is verified.
    beside = ("verification.jsonl", SIGNATURE)
    files = [p.relative_to(path) for p in path.rglob("*") if p.is_file() and p.name not in beside]
    assert len(files) >= 5
    for relative in files:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        harm(copy / relative)
        if relative.name == "manifest.json":
            # One that cannot be read is found by an error; one that can, by its hash.
            with contextlib.suppress(BackupInvalid, FileProblem):
                assert not verify_set(copy, "checksum", state_dir=str(tmp_path / "state")).ok
        else:
            for level in ("checksum", "read"):
                assert not verify_set(copy, level, tools_of(database)).ok, relative


def test_a_sound_set_passes_and_remembers_it(database: Database, tmp_path: Path) -> None:
    path = made(database, tmp_path)
    before = len((path / "verification.jsonl").read_text(encoding="utf-8").splitlines())
    outcome = verify_set(path, "read", tools_of(database), state_dir=str(tmp_path / "state"))
    assert (outcome.ok, outcome.problems) == (True, ())
    assert len((path / "verification.jsonl").read_text(encoding="utf-8").splitlines()) == before + 1
    assert load_set(path, Trust(str(tmp_path / "state"))).verified == "read"
    flip(path / "dump" / "toc.dat")
    assert not verify_set(path, "checksum").ok
    now = load_set(path, Trust(str(tmp_path / "state")))
    assert (now.verified, now.damaged) == ("none", True)


def test_an_edited_manifest_is_found_by_the_state(database: Database, tmp_path: Path) -> None:
    path = made(database, tmp_path)
    manifest, _ = read_manifest(path)
    write_manifest(path, dataclasses.replace(manifest, contract="another"))
    assert verify_set(path, "checksum", record=False).ok
    outcome = verify_set(path, "checksum", state_dir=str(tmp_path / "state"))
    assert "manifest.json was changed" in outcome.problems[0]
    now = load_set(path, Trust(str(tmp_path / "state")))
    assert now.verified == "none"  # what was proven was proven of the manifest as it was


@pytest.mark.parametrize("compression", compressions(*dump.COMPRESSIONS))
def test_data_that_break_off_are_found_by_reading(database: Database, tmp_path: Path, compression: str) -> None:
    """Even when the hashes are of the broken file: pg_restore itself accepts some of these."""
    tools = tools_of(database)
    path = made(database, tmp_path, compression)
    manifest, _ = read_manifest(path)
    assert manifest.compression == compression
    big = max((path / "dump").glob("*.dat*"), key=lambda p: p.stat().st_size)
    data = big.read_bytes()
    for length in (0, 1, 20, len(data) // 2, len(data) - 2000):
        big.write_bytes(data[:length])
        broken = dataclasses.replace(manifest, files=hash_files(path))
        write_manifest(path, broken)
        outcome = verify_set(path, "read", tools, record=False)
        assert not outcome.ok, f"{length} of {len(data)} bytes passed"
        assert verify_set(path, "checksum", record=False).ok
    big.write_bytes(data)
    assert read_dump(path, manifest, tools) == []


def test_the_choice_of_compression_is_what_the_build_has(database: Database) -> None:
    tools = tools_of(database)
    chosen = dump.choose_compression(tools)
    expected = next((c for c in dump.COMPRESSIONS[:-1] if tools.major >= 16 and supports(tools, c)), "gzip:1")
    assert chosen == expected
    assert {15: "gzip:1", 17: "zstd:1"}.get(tools.major, chosen) == chosen


def test_tools_that_cannot_read_the_set_are_no_damage(database: Database, tmp_path: Path) -> None:
    path = made(database, tmp_path)
    manifest, _ = read_manifest(path)
    later = dataclasses.replace(manifest, pg_dump_version="99.1")
    with pytest.raises(ToolMissing, match=r"made by pg_dump 99\.1"):
        reading_tools(later)
    old = servers.find_bin_dir(15)
    if old and tools_of(database).major > 15:
        with pytest.raises(ToolMissing, match="cannot read backup"):
            read_dump(path, manifest, find_tools(str(old), 0))
    with pytest.raises(InvalidInput):
        verify_set(path, "wishful")


def test_the_recorded_hashes_are_those_of_the_files(database: Database, tmp_path: Path) -> None:
    path = made(database, tmp_path)
    document = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert [f["path"] for f in document["files"]] == sorted(f["path"] for f in document["files"])
    for record in document["files"]:
        data = (path / record["path"]).read_bytes()
        assert (record["size"], record["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
