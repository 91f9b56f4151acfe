"""A set that nobody vouches for is neither restored nor drilled, wherever it lies and however new it says it is."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import BackupInvalid, InvalidInput, RestoreRefused
from scannerdb.jobs.backup_info import backup_info
from scannerdb.runs import utc_now
from scannerdb.sets.catalogue import load_set, point_latest
from scannerdb.sets.checksums import hash_files
from scannerdb.sets.manifest import read_manifest, write_manifest
from scannerdb.sets.options import BackupInfoOptions
from scannerdb.sets.signature import sign
from scannerdb.sets.signing import public_key
from scannerdb.sets.verification_log import Verification, append_record

from tests.integration.restore.restore_support import databases, old_dump
from tests.integration.support import options, run_backup, run_restore, run_verify, wait_until
from tests.servers import Database

REFUSED = r"It was not made here: "


def words(folder: Path, **more: Any) -> dict[str, Any]:
    return {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), **more}


def made(database: Database, folder: Path, **more: Any) -> Path:
    return Path(run_backup(options(database), **words(folder, **more))["backup"]["path"])


def forged(path: Path, keep_signature: bool) -> Path:
    """A newer set than the one there, with right hashes of all its files, and a proof that somebody wrote."""
    name = f"{path.name[: -len('20260101_000000.backup')]}20991231_235959.backup"
    copy = shutil.copytree(path, path.with_name(name))
    if not keep_signature:
        (copy / "manifest.json.sig").unlink()
    (copy / "globals.sql").write_text("-- other roles\n", encoding="ascii")
    manifest = dataclasses.replace(read_manifest(copy)[0], name=name, created="2099-12-31T23:59:59Z")
    digest = write_manifest(copy, dataclasses.replace(manifest, files=hash_files(copy)))
    append_record(copy, Verification("restore", True, "2099-12-31T23:59:59Z", digest, 1.0))
    return copy


def refused(database: Database, folder: Path, **more: Any) -> None:
    before = databases(database)
    with pytest.raises(RestoreRefused, match=REFUSED):
        run_restore(options(database), confirm=database.name, grace_s=0, **words(folder, **more))
    assert databases(database) == before
    more.pop("trust", None)
    for check in (True, False):
        if not (check and str(more["source"]).startswith("offsite:")):
            with pytest.raises(RestoreRefused, match=REFUSED):
                run_verify(options(database), check_mode=check, **words(folder, **more))
    assert databases(database) == before


@pytest.mark.parametrize("keep_signature", [True, False])
def test_a_forged_newer_set(field_db: Database, tmp_path: Path, keep_signature: bool) -> None:
    path = made(field_db, tmp_path)
    copy = forged(path, keep_signature)
    point_latest(tmp_path / "b", copy.name)
    for source in ("latest", copy.name, str(copy)):
        refused(field_db, tmp_path, source=source)
    refused(field_db, tmp_path, source="latest", trust="0" * 64)
    told = {item["name"]: item for item in backup_info(BackupInfoOptions(**words(tmp_path)))["sets"]}
    assert (told[path.name]["made_here"], told[path.name]["origin"]) == (True, "")
    assert not told[copy.name]["made_here"]
    assert "It was not made here" in told[copy.name]["origin"]
    # Lower levels run nothing of it, and say the same.
    looked = run_verify(options(field_db), source=copy.name, level="read", **words(tmp_path))
    assert any("It was not made here" in warning for warning in looked["warnings"])
    _, digest = read_manifest(copy)
    login = options(field_db)
    assert run_restore(login, source="latest", confirm=field_db.name, grace_s=0, trust=digest, **words(tmp_path))[
        "changed"
    ]


def test_a_forged_copy_in_the_bucket(field_db: Database, tmp_path: Path) -> None:
    bucket = str(tmp_path / "bucket")
    path = made(field_db, tmp_path, offsite_remote=bucket)
    forged(tmp_path / "bucket" / path.name, keep_signature=True)
    refused(field_db, tmp_path, source="offsite:latest", offsite_remote=bucket)
    shown = run_verify(options(field_db), **words(tmp_path, source=f"offsite:{path.name}", offsite_remote=bucket))
    assert shown["verification"]["passed"]


def test_an_old_copy_under_a_new_name(field_db: Database, tmp_path: Path) -> None:
    """The name and the time are inside of what is signed."""
    bucket = tmp_path / "bucket"
    path = made(field_db, tmp_path, offsite_remote=str(bucket))
    (bucket / path.name).rename(bucket / f"{field_db.name}_20991231_235959.backup")
    with pytest.raises(BackupInvalid, match="has no such copy"):
        run_verify(options(field_db), **words(tmp_path, source="offsite:latest", offsite_remote=str(bucket)))


def test_a_set_of_another_host(field_db: Database, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    path = made(field_db, theirs)
    wait_until(lambda: utc_now() - load_set(path).created > datetime.timedelta(seconds=1))  # another name
    made(field_db, ours)
    key = public_key(str(theirs / "s"))
    assert key.startswith("ssh-ed25519 ")
    assert key == backup_info(BackupInfoOptions(**words(theirs)))["signing_key"]
    refused(field_db, ours, source=str(path))
    refused(field_db, ours, source=str(path), trusted_signers=[public_key(str(ours / "s"))])
    trusted = words(ours, source=str(path), trusted_signers=[key])
    assert run_verify(options(field_db), **trusted)["verification"]["passed"]
    assert run_restore(options(field_db), confirm=field_db.name, grace_s=0, **trusted)["changed"]
    (path / "manifest.json").write_text((path / "manifest.json").read_text().replace("0", "1", 1))
    with pytest.raises((RestoreRefused, BackupInvalid)):
        run_restore(options(field_db), confirm=field_db.name, grace_s=0, **trusted)


def test_a_set_from_before_there_were_signatures(field_db: Database, tmp_path: Path) -> None:
    """Its hash is in the state folder, which is enough; without that nobody knows it."""
    path = made(field_db, tmp_path)
    (path / "manifest.json.sig").unlink()
    assert run_verify(options(field_db), **words(tmp_path))["verification"]["passed"]
    shutil.rmtree(tmp_path / "s" / "manifests")
    refused(field_db, tmp_path, source="latest")
    assert sign(path, str(tmp_path / "s")) == ""
    assert run_verify(options(field_db), **words(tmp_path))["verification"]["passed"]


def test_a_file_that_nobody_named(field_db: Database, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    dump = old_dump(field_db, tmp_path / "b" / f"{field_db.name}_20250418_120000.backup")
    (tmp_path / "b" / "latest.backup").symlink_to(dump.name)
    login, common = options(field_db), words(tmp_path, confirm=field_db.name, grace_s=0, prebackup=False)
    for source in ("latest", "2025-04-19"):
        with pytest.raises(RestoreRefused, match="nobody has named it"):
            run_restore(login, source=source, **common)
    assert run_restore(login, source=dump.name, **common)["changed"]


def test_without_the_program_a_backup_is_made_all_the_same(
    field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scannerdb.sets.signing.SSH_KEYGEN", "ssh-keygen-that-is-not-there")
    path = made(field_db, tmp_path)
    assert not (path / "manifest.json.sig").exists()
    assert run_verify(options(field_db), **words(tmp_path))["verification"]["passed"]  # by the hash


@pytest.mark.parametrize("wrong", [{"trusted_signers": ["nonsense"]}, {"trusted_signers": ["ssh-ed25519 AA\nx *"]}])
def test_keys_that_are_none(field_db: Database, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="is no public key"):
        run_verify(options(field_db), **words(tmp_path, **wrong))
