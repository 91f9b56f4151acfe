"""The manifest's form as published, sets that older versions made, and harm to any byte of a set."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import BackupInvalid
from scannerdb.sets.catalogue import list_sets, load_set
from scannerdb.sets.known_hashes import record_hash
from scannerdb.sets.manifest import (
    FORMAT_VERSION,
    DatabaseFacts,
    FileRecord,
    Manifest,
    ObjectPrint,
    TableCount,
    from_json,
    read_manifest,
    to_json,
)
from scannerdb.sets.names import LATEST
from scannerdb.sets.signing import Trust
from scannerdb.sets.verification import verify_set

from tests.backup_sets import (
    OLD_SET,
    OLD_SETS,
    SCHEMA,
    add_file,
    add_hidden_file,
    add_link,
    manifest,
    replace_by_folder,
    replace_by_link,
)


def valid(document: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["format_version"]["maximum"] == FORMAT_VERSION


def test_the_schema_has_every_field_of_the_code() -> None:
    """Whoever adds a field to the manifest describes it too."""
    properties = SCHEMA["properties"]
    for kind, described in (
        (Manifest, properties),
        (DatabaseFacts, properties["database"]["properties"]),
        (TableCount, properties["tables"]["items"]["properties"]),
        (FileRecord, properties["files"]["items"]["properties"]),
        (ObjectPrint, properties["structure"]["items"]["properties"]),
    ):
        assert {f.name for f in dataclasses.fields(kind)} == set(described) - {"format"}, kind.__name__


def test_a_manifest_satisfies_it() -> None:
    full = manifest(structure=(ObjectPrint("table", "public.t", "0" * 16),), files=(FileRecord("dump/1", 1, "a" * 64),))
    jsonschema.validate(json.loads(to_json(full)), SCHEMA)
    assert from_json(to_json(full)) == full


@pytest.mark.parametrize(
    "harm",
    [
        lambda d: d.pop("tables"),
        lambda d: d.update(format="another"),
        lambda d: d.update(format_version=99),
        lambda d: d.update(purpose="fun"),
        lambda d: d.update(dump_format="tar"),
        lambda d: d.update(dump_path="../../etc"),
        lambda d: d.update(files=[{"path": "/etc/passwd", "size": 1, "sha256": "a" * 64}]),
        lambda d: d.update(jobs="two"),
        lambda d: d["database"].pop("owner"),
        lambda d: d["tables"][0].update(rows="many"),
    ],
)
def test_schema_and_reader_refuse_the_same(harm: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(to_json(manifest()))
    assert valid(document)
    harm(document)
    assert not valid(document)
    with pytest.raises(BackupInvalid):
        from_json(json.dumps(document))


# Sets of older versions


def made_here(folder: Path) -> Trust:
    """The state folder of the host that made the old set with an old release: it has the manifest's hash only."""
    (folder / "s" / "manifests").mkdir(parents=True)
    known = {"set": OLD_SET.name, "manifest_sha256": read_manifest(OLD_SET)[1]}
    (folder / "s" / "manifests" / f"{OLD_SET.name}.sha256").write_text(json.dumps(known), encoding="ascii")
    return Trust(str(folder / "s"))


def test_an_old_set_is_read(tmp_path: Path) -> None:
    """One from before manifests had the structure."""
    found = load_set(OLD_SET, made_here(tmp_path))
    assert (found.verified, found.manifest.structure, found.manifest.rows) == ("read", (), 40)
    assert [s.name for s in list_sets(OLD_SETS, "ollama_scanner").sets] == [OLD_SET.name]
    jsonschema.validate(json.loads((OLD_SET / "manifest.json").read_text(encoding="utf-8")), SCHEMA)
    assert verify_set(OLD_SET, "checksum", record=False).ok


def test_keys_of_newer_versions_are_passed_over() -> None:
    document = json.loads(to_json(manifest()))
    document["news"] = {"a": 1}
    document["database"]["news"] = document["tables"][0]["news"] = 1
    assert valid(document)
    assert from_json(json.dumps(document)) == manifest()


# Harm to any byte


@pytest.fixture
def a_set(tmp_path: Path) -> Path:
    path = tmp_path / OLD_SET.name
    shutil.copytree(OLD_SET, path)
    return path


def sound(path: Path, state: str = "") -> bool:
    try:
        return verify_set(path, "checksum", state_dir=state, jobs=1, record=False).ok
    except BackupInvalid:
        return False


FILES = [p.relative_to(OLD_SET).as_posix() for p in OLD_SET.rglob("*.*") if p.is_file()]


@pytest.mark.parametrize("name", [name for name in FILES if name != "verification.jsonl"])  # see the next test for that
def test_no_byte_can_change(a_set: Path, tmp_path: Path, name: str) -> None:
    """One bit of every byte, another one each time; and the file cut at every length in turn."""
    state = str(tmp_path / "state")
    record_hash(state, a_set.name, read_manifest(a_set)[1])
    assert sound(a_set, state)
    file = a_set / name
    data = file.read_bytes()
    step = max(1, len(data) // 700)  # of a large file not all: each costs a verification
    for place in range(0, len(data), step):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        assert not sound(a_set, state), f"a flipped bit in byte {place} of {name} was not found"
    for length in range(0, len(data), step * 10):
        file.write_bytes(data[:length])
        assert not sound(a_set, state), f"{name} cut to {length} bytes was not found"
    file.write_bytes(data)
    assert sound(a_set, state)


def test_a_record_counts_only_for_the_manifest_it_names(a_set: Path, tmp_path: Path) -> None:
    """Who rewrites manifest and hashes does not inherit what was proven of the set as it was."""
    trust = made_here(tmp_path)
    assert load_set(a_set, trust).verified == "read"
    text = (a_set / "manifest.json").read_text(encoding="utf-8")
    (a_set / "manifest.json").write_text(text.replace('"rows": 20', '"rows": 21'), encoding="utf-8")
    assert load_set(a_set, trust).verified == "none"


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(document, dict):
        return [leaf for key, value in document.items() for leaf in leaves(value, (*path, key))]
    if isinstance(document, list):
        return [leaf for key, value in enumerate(document) for leaf in leaves(value, (*path, key))]
    return [path]


DOCUMENT = json.loads((OLD_SET / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", leaves(DOCUMENT), ids=lambda p: ".".join(map(str, p)))
def test_no_value_of_the_manifest_can_be_edited(a_set: Path, tmp_path: Path, path: tuple[Any, ...]) -> None:
    state = str(tmp_path / "state")
    record_hash(state, a_set.name, read_manifest(a_set)[1])
    document = copy.deepcopy(DOCUMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    place[path[-1]] = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else "x"
    (a_set / "manifest.json").write_text(json.dumps(document, sort_keys=True, indent=2) + "\n", encoding="utf-8")
    assert not sound(a_set, state)


def add_linked_folder(path: Path) -> None:
    (path / "more").symlink_to(path / "dump")


def swap(path: Path) -> None:
    one, two = sorted((path / "dump").glob("*.gz"))
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def rename(path: Path) -> None:
    (path / "globals.sql").rename(path / "global.sql")


def lose_folder(path: Path) -> None:
    shutil.rmtree(path / "dump")


@pytest.mark.parametrize(
    "harm",
    [
        add_file,
        add_hidden_file,
        add_link,
        add_linked_folder,
        replace_by_link,
        replace_by_folder,
        swap,
        rename,
        lose_folder,
    ],
)
def test_files_that_come_go_or_change_places(a_set: Path, harm: Callable[[Path], None]) -> None:
    assert sound(a_set)
    harm(a_set)
    assert not sound(a_set)


@given(st.binary(max_size=200))
def test_a_manifest_of_any_bytes_is_refused_or_read(data: bytes) -> None:
    try:
        from_json(data.decode("utf-8", "replace"))
    except BackupInvalid:
        return
    raise AssertionError("random bytes made a manifest")


def test_the_link_is_no_set(a_set: Path) -> None:
    (a_set.parent / LATEST).symlink_to(a_set.name)
    assert [s.name for s in list_sets(a_set.parent).sets] == [a_set.name]
