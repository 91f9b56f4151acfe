"""The form of a set: names, manifest, verification record, listing, debris."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import fcntl
import json
import os
import pwd
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb import files
from scannerdb.errors import BackupInvalid, FileProblem, InvalidInput, ScannerDbError
from scannerdb.runs import Run
from scannerdb.sets import names
from scannerdb.sets.catalogue import latest_target, list_sets, load_set, newest, newest_at, newest_verified
from scannerdb.sets.checksums import check_files
from scannerdb.sets.known_hashes import forget_hash, record_hash, recorded_hash
from scannerdb.sets.locate import find_set
from scannerdb.sets.manifest import (
    BUNDLE_VERSION,
    TableCount,
    from_json,
    read_manifest,
    to_json,
)
from scannerdb.sets.signing import Trust
from scannerdb.sets.staging import claimed, debris, held, hidden, publish, sweep
from scannerdb.sets.verification_log import (
    UNREADABLE,
    Verification,
    append_history,
    append_record,
    read_records,
    standing,
)

from tests.backup_sets import NOON, facts, make_set, manifest

HOSTILE = [
    'we"ird; drop',
    "a=b",
    "../../etc/passwd",
    ".hidden",
    "-rf",
    "a b\nc",
    "Ünïcødé",
    "x" * 63,
    "%2F",
    "~root",
    "_1",
]


# Names


def test_a_plain_name_looks_like_the_seeds() -> None:
    assert names.set_name("ollama_scanner", NOON) == "ollama_scanner_20250418_120000.backup"


@pytest.mark.parametrize("dbname", HOSTILE)
def test_a_hostile_name_makes_a_safe_file_name_and_comes_back(dbname: str) -> None:
    name = names.set_name(dbname, NOON)
    assert re.fullmatch(r"[A-Za-z0-9_%][A-Za-z0-9_.%-]*", name)
    assert names.parse_set_name(name) == (dbname, NOON)


@given(st.text(min_size=1, max_size=63).filter(lambda t: "\0" not in t), st.text(min_size=1, max_size=63))
def test_slugs_are_reversible_so_they_never_collide(one: str, other: str) -> None:
    def utf8(text: str) -> bool:
        return text.encode("utf-8", "ignore").decode() == text

    if not (utf8(one) and utf8(other)):
        return
    assert names.unslug(names.slug(one)) == one
    assert (names.slug(one) == names.slug(other)) == (one == other)


def test_the_longest_name_fits_a_file_system() -> None:
    longest = names.set_name("\x01" * 63, NOON)
    assert len(f".{longest}.partial.sha256.xxxxxxxx") < 255


@pytest.mark.parametrize(
    "name",
    [
        "latest.backup",
        "ollama_scanner.backup",
        "ollama_scanner_20251301_120000.backup",  # no such month
        "ollama_scanner_20250418_120000.dump",
        "a b_20250418_120000.backup",  # not as we would write it
        "%61_20250418_120000.backup",
        ".x_20250418_120000.backup",
        "%FF_20250418_120000.backup",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert names.parse_set_name(name) is None


def test_log_names() -> None:
    assert names.log_name(NOON) == "backup_20250418_120000.log"
    assert names.parse_log_name("backup_20250418_120000.log") == NOON
    assert names.parse_log_name("backup_2025.log") is None


# Manifest


def test_a_manifest_comes_back_as_it_was_written() -> None:
    original = manifest(tables=(TableCount('we"ird', "Tä\nble", 7, "f00"),))
    assert from_json(to_json(original)) == original
    assert to_json(from_json(to_json(original))) == to_json(original)


def test_default_privileges_differ_from_none_at_all() -> None:
    default = dataclasses.replace(facts(), acl=None, acl_text=None)
    nobody = dataclasses.replace(facts(), acl=(), acl_text="{}")
    assert from_json(to_json(manifest(database=default))).database.acl is None
    assert from_json(to_json(manifest(database=nobody))).database.acl == ()


def test_unknown_keys_are_passed_over() -> None:
    document = json.loads(to_json(manifest()))
    document["something_later"] = {"a": 1}
    document["database"]["rules"] = "x"
    assert from_json(json.dumps(document)) == manifest()


@pytest.mark.parametrize("key", ["name", "database", "tables", "files", "created", "dump_path", "pg_dump_version"])
def test_a_missing_key_is_named(key: str) -> None:
    document = json.loads(to_json(manifest()))
    del document[key]
    with pytest.raises(BackupInvalid, match=key):
        from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("key", "value"),
    [("duration_s", "5"), ("jobs", True), ("tables", [{"schema": "public", "name": "x", "rows": "3"}]), ("files", 3)],
)
def test_a_value_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    document = {**json.loads(to_json(manifest())), key: value}
    with pytest.raises(BackupInvalid):
        from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "other"}', "null", '"x"'])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(BackupInvalid):
        from_json(text)


def test_a_later_format_is_refused_with_a_cure() -> None:
    document = {**json.loads(to_json(manifest())), "format_version": 99}
    with pytest.raises(BackupInvalid, match="newer version of the bundle"):
        from_json(json.dumps(document))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "dump/../../x", ""])
def test_a_path_outside_the_set_is_refused(path: str) -> None:
    for changed in ({"dump_path": path}, {"files": [{"path": path, "size": 1, "sha256": "0"}]}):
        with pytest.raises(BackupInvalid, match="outside"):
            from_json(json.dumps({**json.loads(to_json(manifest())), **changed}))


def test_the_bundles_version_is_the_projects() -> None:
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{BUNDLE_VERSION}"' in project


def test_the_major_version_of_the_dump() -> None:
    assert manifest(pg_dump_version="18beta1").dump_major == 18
    assert manifest(pg_dump_version="15.18 (Debian)").dump_major == 15


# Files against the manifest


def test_every_kind_of_damage_to_files_is_found(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    known, _ = read_manifest(path)
    assert check_files(path, known) == []
    toc = path / "dump" / "toc.dat"
    for data, word in ((b"contentz", "changed"), (b"content", "7 bytes"), (b"contents!", "9 bytes")):
        toc.write_bytes(data)
        assert word in check_files(path, known)[0]
    toc.unlink()
    assert check_files(path, known) == ["dump/toc.dat is missing."]
    toc.symlink_to("/etc/hostname")
    assert "not a plain file" in check_files(path, known)[0]
    toc.unlink()
    toc.write_bytes(b"contents")
    (path / "dump" / "more").symlink_to("/tmp")
    assert check_files(path, known) == ["dump/more was added after the backup."]


# Verification record


def seen(level: str, ok: bool, digest: str = "d") -> Verification:
    return Verification(level, ok, f"2025-04-18T12:00:0{len(level) % 10}Z", digest, problems=() if ok else ("broken",))


@pytest.mark.parametrize(
    ("records", "level", "damaged"),
    [
        ([], "none", False),
        ([seen("checksum", True)], "checksum", False),
        ([seen("read", True), seen("checksum", True)], "read", False),
        ([seen("checksum", True), seen("restore", True)], "restore", False),
        ([seen("restore", True), seen("checksum", False)], "none", True),
        ([seen("read", False), seen("checksum", True)], "none", True),  # too weak to lift it
        ([seen("checksum", False), seen("read", True)], "read", False),
        ([seen("read", True, "other")], "none", False),
    ],
)
def test_what_verifications_add_up_to(records: list[Verification], level: str, damaged: bool) -> None:
    now = standing(records, "d")
    assert (now.level, bool(now.problems)) == (level, damaged)


def test_a_torn_line_proves_nothing_and_swallows_nothing(tmp_path: Path) -> None:
    append_record(tmp_path, seen("restore", True))
    with (tmp_path / "verification.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"level": "restore", "ok"')
    assert standing(read_records(tmp_path), "d").problems
    append_record(tmp_path, seen("checksum", False))
    assert read_records(tmp_path) == [seen("restore", True), UNREADABLE, seen("checksum", False)]
    append_record(tmp_path, seen("read", True))
    assert standing(read_records(tmp_path), "d").level == "read"
    assert (tmp_path / "verification.jsonl").stat().st_mode & 0o777 == 0o600


def test_no_flipped_bit_of_a_record_lifts_a_failure(tmp_path: Path) -> None:
    append_record(tmp_path, seen("restore", True))
    append_record(tmp_path, dataclasses.replace(seen("read", False), problems=("a line\u2028of two", "ä")))
    path = tmp_path / "verification.jsonl"
    whole = path.read_bytes()
    assert read_records(tmp_path)[1].problems == ("a line\u2028of two", "ä")
    for position in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            now = standing(read_records(tmp_path), "d")
            assert (now.level, bool(now.problems)) == ("none", True), (position, bit)


def test_a_record_without_a_checksum_still_counts(tmp_path: Path) -> None:
    line = json.dumps({"level": "read", "ok": True, "at": "2025-04-18T12:00:00Z", "manifest_sha256": "d"})
    (tmp_path / "verification.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert standing(read_records(tmp_path), "d").level == "read"


@pytest.mark.parametrize(("ok", "error", "left"), [(True, FileProblem, [UNREADABLE]), (False, BackupInvalid, [])])
def test_half_a_line_on_a_full_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ok: bool, error: type[ScannerDbError], left: list[Verification]
) -> None:
    half = {**vars(os), "write": lambda handle, data: os.write(handle, data[:9])}
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", SimpleNamespace(**half))
        with pytest.raises(error, match=r"disk is full"):
            append_record(tmp_path, seen("read", ok))
    append_record(tmp_path, seen("read", False))
    assert read_records(tmp_path) == [*left, seen("read", False)]


def test_what_killed_runs_left_in_the_state_goes_once_it_is_surely_dead(tmp_path: Path) -> None:
    for folder in ("progress", "manifests"):
        (tmp_path / folder).mkdir()
        for name, age in ((".young.x.partial", 0), (".old.x.partial", 3600)):
            path = tmp_path / folder / name
            path.write_text("x")
            os.utime(path, (time.time() - age,) * 2)
    Run("backup", "db", state_dir=str(tmp_path)).progress("dump")
    record_hash(str(tmp_path), "x.backup", "abc")
    for folder in ("progress", "manifests"):
        assert [path.name for path in (tmp_path / folder).glob(".*")] == [".young.x.partial"]


def test_hashes_kept_in_the_state_directory(tmp_path: Path) -> None:
    record_hash(str(tmp_path), "x.backup", "abc")
    assert recorded_hash(str(tmp_path), "x.backup") == "abc"
    assert recorded_hash("", "x.backup") == recorded_hash(str(tmp_path), "y.backup") == ""
    forget_hash(str(tmp_path), "x.backup")
    assert recorded_hash(str(tmp_path), "x.backup") == ""


# Listing


def test_only_our_own_sets_are_listed(tmp_path: Path) -> None:
    mine = make_set(tmp_path)
    later = make_set(tmp_path, NOON + datetime.timedelta(hours=1))
    make_set(tmp_path, NOON, "other")
    (tmp_path / "ollama_scanner_20250101_000000.backup").write_bytes(b"PGDMP old script's file")
    (tmp_path / "foreign_20250101_000000.backup").mkdir()
    mine.rename(tmp_path / "renamed.backup")
    copy = tmp_path / "ollama_scanner_20200101_000000.backup"
    copy.symlink_to(later.name)
    (tmp_path / "latest.backup").symlink_to(later.name)
    listing = list_sets(tmp_path, "ollama_scanner")
    assert [item.path for item in listing.sets] == [later]
    assert {name for name, _ in listing.others} == {
        "ollama_scanner_20250101_000000.backup",
        "foreign_20250101_000000.backup",
        "renamed.backup",
        copy.name,
    }
    assert list_sets(tmp_path / "nowhere").sets == ()
    assert {item.manifest.database.name for item in list_sets(tmp_path).sets} == {"ollama_scanner", "other"}


def test_finding_a_set(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    (tmp_path / "latest.backup").symlink_to(path.name)
    for name in ("latest", "latest.backup", path.name, path.name[: -len(".backup")]):
        assert find_set(tmp_path, name).path == path
    for name in ("nothing", "..", "a/b"):
        with pytest.raises(BackupInvalid):
            find_set(tmp_path, name)
    with pytest.raises(InvalidInput, match="not said which backup"):
        find_set(tmp_path, "")
    same = ("2025-04-18T12:00:00Z", "2025-04-18 23:59", "2025-04-18", str(tmp_path / "latest.backup"), str(path))
    assert {find_set(tmp_path, word, database="ollama_scanner").path for word in same} == {path}
    (tmp_path / "other_20250418_120000.backup").write_bytes(b"PGDMP")
    with pytest.raises(BackupInvalid, match="is no backup set"):
        find_set(tmp_path, "other_20250418_120000")


@pytest.mark.parametrize("target", ["/etc", "../x_20250418_120000.backup", "elsewhere"])
def test_a_latest_that_leads_away_is_none(tmp_path: Path, target: str) -> None:
    (tmp_path / "latest.backup").symlink_to(target)
    assert latest_target(tmp_path) == ""


def test_newest_and_newest_verified(tmp_path: Path) -> None:
    hours = [0, 1, 2, 3]
    paths = [make_set(tmp_path, NOON + datetime.timedelta(hours=h)) for h in hours]
    paths.append(make_set(tmp_path, NOON + datetime.timedelta(hours=9), purpose="pre_restore"))
    for path, level in ((paths[0], "restore"), (paths[1], "read"), (paths[2], "checksum")):
        done = dataclasses.replace(seen(level, True), manifest_sha256=load_set(path).manifest_sha256)
        append_history(str(tmp_path / "s"), path.name, done)
    sets = list_sets(tmp_path, None, Trust(str(tmp_path / "s"))).sets
    now = NOON + datetime.timedelta(hours=10)
    day, hour = datetime.timedelta(days=1), datetime.timedelta(hours=1)

    def name(item: object) -> str:
        return getattr(item, "name", "")

    assert name(newest(sets)) == paths[3].name
    assert name(newest_at(sets, NOON + 1.5 * hour)) == paths[1].name
    assert name(newest_verified(sets, "checksum", day, now)) == paths[2].name
    assert name(newest_verified(sets, "read", day, now)) == paths[1].name
    assert name(newest_verified(sets, "restore", day, now)) == paths[0].name
    assert newest_verified(sets, "restore", 9 * hour, now) is None


# Making room


def test_two_backups_of_the_same_second_do_not_clash(tmp_path: Path) -> None:
    with claimed(tmp_path, "x", NOON) as (first, _), claimed(tmp_path, "x", NOON) as (second, folder):
        assert (first, second) == ("x_20250418_120000.backup", "x_20250418_120001.backup")
        assert folder.stat().st_mode & 0o777 == 0o700
        publish(tmp_path, first)
        with claimed(tmp_path, "x", NOON) as (third, _):
            assert third == "x_20250418_120002.backup"


def test_only_our_own_dead_debris_is_swept(tmp_path: Path) -> None:
    dead = hidden(tmp_path, "x_20250418_110000.backup")
    (dead / "dump").mkdir(parents=True)
    others = [hidden(tmp_path, "y_20250418_110000.backup"), tmp_path / ".precious.partial", tmp_path / "a.partial"]
    for path in others:
        path.mkdir()
    (tmp_path / ".latest.backup.123.partial").symlink_to("x")
    with claimed(tmp_path, "x", NOON) as (_, alive):
        assert [path.name for path in debris(tmp_path, "x")] == [".latest.backup.123.partial", dead.name]
        sweep(tmp_path, "x")
        assert not dead.exists()
        assert alive.exists()
    assert all(path.exists() for path in others)
    assert sweep(tmp_path, "x") == [alive.name]


def test_where_locks_cannot_be_had_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system without locks: what another host makes there looks like debris, and is no debris."""
    dead = hidden(tmp_path, "x_20250418_110000.backup")
    dead.mkdir()

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with claimed(tmp_path, "x", NOON) as (_, alive):
        assert sweep(tmp_path, "x") == []
        assert alive.exists()
    assert not held(dead), "it is not known to be in use: retention goes on"
    assert not held(tmp_path / "absent")
    monkeypatch.undo()
    assert sweep(tmp_path, "x") == [dead.name, alive.name]


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Root may do everything: become somebody else for the test."""
    if os.geteuid():
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("as_nobody")
def test_a_folder_that_may_not_be_written_or_entered() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "b")
        folder.mkdir()
        folder.chmod(0o500)
        with pytest.raises(FileProblem, match="may not write"), claimed(folder, "x", NOON):
            pass
        folder.chmod(0)
        for look in (list_sets, latest_target):
            with pytest.raises(FileProblem, match="Permission denied"):
                look(folder)
        with pytest.raises(FileProblem, match="Permission denied"):
            debris(folder / "below", "x")
        folder.chmod(0o700)


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    path = make_set(tmp_path)
    (path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ScannerDbError, match="not text"):
        load_set(path)
