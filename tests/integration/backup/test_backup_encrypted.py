"""Encrypted sets, with the real age: made without the private key, checked without it, drilled and restored with it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from scannerdb.drill import restore_drill
from scannerdb.errors import BackupInvalid, InvalidInput, ToolFailed, ToolMissing
from scannerdb.sets import encryption
from scannerdb.sets.catalogue import list_sets, load_set
from scannerdb.sets.checksums import hash_files
from scannerdb.sets.locate import find_set
from scannerdb.sets.manifest import read_manifest, write_manifest
from scannerdb.sets.signature import sign
from scannerdb.sets.signing import Trust

from tests.backup_sets import SCHEMA
from tests.integration.backup.backup_support import ROWS, options_of, run, visible, wrapper
from tests.integration.playbooks import Site, site
from tests.integration.support import content, run_backup, run_restore, run_verify
from tests.needs import needs
from tests.servers import Database

__all__ = ["site"]
pytestmark = [needs("age"), pytest.mark.pg(17)]  # the version of the server does not matter


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """Three key pairs: the public key, and the file with the private one."""
    folder = tmp_path_factory.mktemp("keys")
    made = []
    for number in range(3):
        path = folder / f"key{number}"
        subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
        told = subprocess.run(["age-keygen", "-y", str(path)], check=True, capture_output=True, text=True)
        made.append((told.stdout.strip(), path))
    return made


def check(database: Database, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return run_verify(options_of(database), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **more)


def test_the_life_of_an_encrypted_set(field_db: Database, tmp_path: Path, keys: list[tuple[str, Path]]) -> None:
    field_db.sql("CREATE TABLE secrets AS SELECT 'scannerdb-secret-' || i AS word FROM generate_series(1, 50) i")
    plan = run(field_db, tmp_path, age_recipients=[keys[0][0]], check_mode=True)
    assert plan["changed"]
    result = run(field_db, tmp_path, age_recipients=[keys[0][0], keys[1][0]], fingerprints=True)
    path = Path(result["backup"]["path"])
    assert (result["backup"]["encrypted"], result["backup"]["verified"]) == (True, "read")
    document = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, SCHEMA)
    assert document["format_version"] == 2
    for file in path.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0
        if file.is_file() and file.name not in ("manifest.json", "manifest.json.sig", "verification.jsonl"):
            assert file.read_bytes().startswith(b"age-encryption.org/v1"), file
    assert find_set(tmp_path / "b", "latest").name == path.name
    # Without a key: the files are compared, and what would need it says so.
    assert check(field_db, tmp_path, level="checksum")["verification"]["passed"]
    for level in ("read", "restore"):
        for check_mode in (True, False):
            with pytest.raises(InvalidInput, match="is encrypted"):
                check(field_db, tmp_path, level=level, check_mode=check_mode)
    with pytest.raises(InvalidInput, match="does not open the backup"):
        check(field_db, tmp_path, identity=str(keys[2][1]))
    assert not load_set(path, Trust(str(tmp_path / "s"))).damaged, "a wrong key is no mark against the set"
    # With either key.
    for number, level in ((0, "read"), (1, "restore")):
        shown = check(field_db, tmp_path, level=level, identity=str(keys[number][1]))
        assert shown["verification"]["problems"] == []
        assert shown["verification"]["passed"]
    assert load_set(path, Trust(str(tmp_path / "s"))).verified == "restore"
    assert visible(tmp_path / "b") == {path.name, "latest.backup"}


def times(folder: Path) -> dict[Path, int]:
    return {p: p.lstat().st_mtime_ns for p in [folder, *folder.rglob("*")]}


def test_check_mode_writes_and_removes_nothing(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]]
) -> None:
    """Not even for a moment: the folder's own time stays. What would be swept is told, and swept by the real run."""
    database.sql(ROWS)
    path = Path(run(database, tmp_path, age_recipients=[keys[0][0]])["backup"]["path"])
    left = tmp_path / "b" / f".{database.name}_20250418_120000.backup.partial"
    (left / "dump").mkdir(parents=True)
    before = times(tmp_path)
    for words in ({"level": "read"}, {"level": "restore"}, {"place": "cluster", "cluster_dir": str(tmp_path)}):
        plan = check(database, tmp_path, identity=str(keys[0][1]), check_mode=True, **words)
        assert (plan["plan"]["set"], plan["swept"]) == (path.name, [left.name])
        assert "decrypt" in plan["diff"]["after"]
    assert check(database, tmp_path, level="checksum", check_mode=True)["swept"] == []
    assert times(tmp_path) == before
    # A restore reads the set for its plan, and removes nothing of others.
    words = {
        "backup_dir": str(tmp_path / "b"),
        "state_dir": str(tmp_path / "s"),
        "source": "latest",
        "confirm": database.name,
    }
    run_restore(options_of(database), **words, identity=str(keys[0][1]), check_mode=True)
    assert times(left) == {p: t for p, t in before.items() if p == left or left in p.parents}
    assert check(database, tmp_path, identity=str(keys[0][1]))["swept"] == [left.name]
    assert not left.exists()


@needs("rclone")
def test_check_mode_fetches_no_copy(database: Database, tmp_path: Path, keys: list[tuple[str, Path]]) -> None:
    database.sql(ROWS)
    away = {"offsite_remote": str(tmp_path / "away")}
    for recipients in ([], [keys[0][0]]):
        name = run(database, tmp_path, age_recipients=recipients, **away)["backup"]["name"]
        words = {**away, "identity": str(keys[0][1]), "source": "offsite:latest"}
        left = tmp_path / "b" / f".{database.name}_20250418_120000.backup.partial"
        left.mkdir()
        before = times(tmp_path)
        for level in ("checksum", "read", "restore"):
            plan = check(database, tmp_path, level=level, check_mode=True, **words)
            assert (plan["plan"]["set"], plan["swept"]) == (name, [left.name])
            assert f"fetch {tmp_path}/away/{name}" in plan["diff"]["after"]
        assert times(tmp_path) == before
        with pytest.raises(BackupInvalid, match="has no such copy"):
            check(database, tmp_path, check_mode=True, **{**words, "source": "offsite:2001-01-01"})
        assert check(database, tmp_path, level="read", **words)["swept"] == [left.name]
    shutil.rmtree(tmp_path / "b")
    check(database, tmp_path, check_mode=True, **words)
    run_restore(
        options_of(database),
        backup_dir=str(tmp_path / "b"),
        state_dir=str(tmp_path / "s"),
        confirm=database.name,
        check_mode=True,
        **words,
    )
    assert not (tmp_path / "b").exists()


def test_an_encrypted_set_is_restored(field_db: Database, tmp_path: Path, keys: list[tuple[str, Path]]) -> None:
    """With the key's file or its text; the backup before it is encrypted too, and nothing plain is left."""
    before = content(field_db)
    (public, secret), (_, stranger) = keys[0], keys[2]
    path = Path(run(field_db, tmp_path, age_recipients=[public])["backup"]["path"])
    text = secret.read_text(encoding="ascii")
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "source": "latest", "grace_s": 0}
    words = {**words, "confirm": field_db.name, "age_recipients": [public]}
    for wrong, why in (
        ({}, r"is encrypted.*scannerdb_backup_identity"),
        ({"identity": str(tmp_path / "absent")}, "there is no file"),
        ({"identity": str(stranger)}, f"The key in {stranger} does not open"),
        ({"identity_key": stranger.read_text(encoding="ascii")}, "The key that was given does not open"),
    ):
        for check_mode in (True, False):
            with pytest.raises(InvalidInput, match=why) as caught:
                run_restore(options_of(field_db), **words, **wrong, check_mode=check_mode)
            assert "SECRET-KEY" not in str(caught.value)
    assert visible(tmp_path / "b") == {path.name, "latest.backup"}
    field_db.sql("DELETE FROM models")
    plan = run_restore(options_of(field_db), **words, identity=str(secret), check_mode=True)
    assert plan["plan"]["source"] == str(path)
    done = run_restore(options_of(field_db), **words, identity_key=text)
    assert done["restore"]["source"] == str(path)
    assert content(field_db) == before
    assert load_set(Path(done["restore"]["backup"])).manifest.encryption
    assert not [name for name in visible(tmp_path / "b") if name.startswith(".")]
    told = [p.read_text(encoding="utf-8") for p in [*tmp_path.rglob("*.log"), *tmp_path.rglob("*.json")]]
    assert not [t for t in [*told, json.dumps(done)] if "SECRET-KEY" in t]
    with pytest.raises(BackupInvalid, match="failed its verification"):
        flip(path / "dump" / "toc.dat.age")
        run_restore(options_of(field_db), **words, identity=str(secret))


@needs("rclone")
def test_the_playbooks_with_a_key_from_the_controller(
    field_db: Database, site: Site, keys: list[tuple[str, Path]]
) -> None:
    site.add("one", field_db)
    site.group = {
        "scannerdb_backup_offsite_remote": f"{site.folder}/away",
        "scannerdb_backup_age_recipients": keys[0][0],
    }
    before = content(field_db)
    site.run("playbooks/backup.yml").ok()
    (made,) = site.backups("one")
    shutil.rmtree(made)
    field_db.sql("DELETE FROM models")
    words = {"scannerdb_restore_source": "offsite:latest", "scannerdb_restore_confirm": field_db.name}
    words["scannerdb_backup_identity_key"] = f"{{{{ lookup('ansible.builtin.file', '{keys[0][1]}') }}}}"
    told = site.run("playbooks/restore.yml", "-vvvv", **words, scannerdb_restore_grace_s=0).ok()
    assert "SECRET-KEY" not in told.output
    assert f"{site.folder}/away/{made.name}" in told.output
    assert content(field_db) == before


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


def test_harm_to_an_encrypted_set_is_found(database: Database, tmp_path: Path, keys: list[tuple[str, Path]]) -> None:
    database.sql(ROWS)
    path = Path(run(database, tmp_path, age_recipients=[keys[0][0]])["backup"]["path"])
    names = [record.path for record in read_manifest(path)[0].files]
    assert {"manifest.json.age", "globals.sql.age", "dump/toc.dat.age"} < set(names)
    for name in [*names, "manifest.json"]:
        data = (path / name).read_bytes()
        flip(path / name)
        try:
            assert not check(database, tmp_path, level="checksum")["verification"]["passed"], name
        except BackupInvalid:
            assert name == "manifest.json"
        (path / name).write_bytes(data)
    assert check(database, tmp_path, level="checksum")["verification"]["passed"]


def test_a_set_whose_inside_was_exchanged_is_found(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]]
) -> None:
    """Whoever has the public key can encrypt something else; hashes of the outside, rewritten too, do not help."""
    database.sql(ROWS)
    path = Path(run(database, tmp_path, age_recipients=[keys[0][0]])["backup"]["path"])
    (tmp_path / "fake").write_text("-- nothing", encoding="ascii")
    target = str(path / "globals.sql.age")
    subprocess.run(["age", "-e", "-r", keys[0][0], "-o", target, str(tmp_path / "fake")], check=True)
    write_manifest(path, dataclasses.replace(read_manifest(path)[0], files=hash_files(path)))
    assert "manifest.json was changed" in check(database, tmp_path, level="checksum")["msg"]
    shutil.rmtree(tmp_path / "s" / "manifests")
    assert sign(path, str(tmp_path / "s")) == ""
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "identity": str(keys[0][1])}
    shown = run_verify(options_of(database), **words)
    assert not shown["verification"]["passed"]
    assert "What is inside" in shown["msg"]


def test_a_killed_drill_leaves_nothing_plain_for_long(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    path = Path(run(database, tmp_path, age_recipients=[keys[0][0]])["backup"]["path"])
    left = tmp_path / "b" / f".{database.name}_20250418_120000.backup.partial"
    (left / "dump").mkdir(parents=True)
    assert check(database, tmp_path, identity=str(keys[0][1]))["verification"]["passed"]
    assert not left.exists()

    def fail(*_: object) -> None:
        (plain,) = [p for p in (tmp_path / "b").iterdir() if p.name.endswith(".partial")]
        assert (plain / "dump" / "toc.dat").exists()
        assert plain.stat().st_mode & 0o077 == 0
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_drill, "_compare", fail)
    with pytest.raises(KeyboardInterrupt):
        check(database, tmp_path, identity=str(keys[0][1]))
    assert visible(tmp_path / "b") == {path.name, "latest.backup"}


def test_what_stops_encryption_is_said_before_the_backup(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    secret = next(line for line in keys[0][1].read_text(encoding="ascii").splitlines() if line.startswith("AGE-SECRET"))
    for wrong, words in ((secret, "is a private key"), ("age1nonsense", "does not take the recipients")):
        for check_mode in (True, False):
            with pytest.raises(InvalidInput, match=words) as caught:
                run(database, tmp_path, age_recipients=[wrong], check_mode=check_mode)
            assert secret not in str(caught.value)
    monkeypatch.setattr(encryption, "AGE", "/nonexistent/age")
    with pytest.raises(ToolMissing, match="Install age"):
        run(database, tmp_path, age_recipients=[keys[0][0]])
    assert not (tmp_path / "b").exists()


def test_a_set_that_fails_its_proof_is_not_left_plain(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]]
) -> None:
    database.sql(ROWS)
    script = '"$REAL" "$@" && for word in "$@"; do case $word in --file=*) rm "${word#--file=}"/*.dat*;; esac; done'
    broken = options_of(database, pg_bin_dir=wrapper(database, tmp_path / "bin", script))
    with pytest.raises(BackupInvalid, match=r"failed its verification.*was removed: it was plain"):
        run_backup(broken, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), age_recipients=[keys[0][0]])
    assert visible(tmp_path / "b") == set()


def test_a_failure_while_encrypting_leaves_nothing(
    database: Database, tmp_path: Path, keys: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    first = run(database, tmp_path)["backup"]["name"]
    script = tmp_path / "age"
    real = shutil.which("age")
    script.write_text(f'#!/bin/sh\ncase "$*" in *manifest.json) exit 1;; esac\nexec {real} "$@"\n', encoding="ascii")
    script.chmod(0o755)
    monkeypatch.setattr(encryption, "AGE", str(script))
    with pytest.raises(ToolFailed, match="age failed"):
        run(database, tmp_path, age_recipients=[keys[0][0]])
    assert visible(tmp_path / "b") == {first, "latest.backup"}
    assert [s.name for s in list_sets(tmp_path / "b").sets] == [first]
