"""Other forms of a set: one file, with fingerprints, and one that an older version made."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from scannerdb import connection, process
from scannerdb.backup import make, snapshot
from scannerdb.connection import Connection, Query, text_of
from scannerdb.errors import InvalidInput, ToolMissing
from scannerdb.sets import offsite
from scannerdb.sets.checksums import hash_files
from scannerdb.sets.known_hashes import record_hash
from scannerdb.sets.locate import find_set
from scannerdb.sets.manifest import read_manifest
from scannerdb.sets.streamed_hashes import Growing

from tests.backup_sets import OLD_SET, SCHEMA
from tests.integration.backup.backup_support import ROWS, options_of, run, wrapper
from tests.integration.support import content, run_backup, run_restore, run_verify
from tests.needs import needs
from tests.servers import Database, Databases


def test_a_real_manifest_satisfies_the_published_schema(field_db: Database, tmp_path: Path) -> None:
    for more in ({}, {"fingerprints": True}, {"dump_format": "custom"}):
        path = Path(run(field_db, tmp_path, **more)["backup"]["path"])
        document = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        jsonschema.validate(document, SCHEMA)
        assert document["contract"]
        assert len({o["name"] for o in document["structure"] if o["kind"] == "table"}) == len(document["tables"])


def test_one_file_is_as_good_as_a_folder(field_db: Database, tmp_path: Path) -> None:
    before = content(field_db)
    result = run(field_db, tmp_path, dump_format="custom", jobs=4)
    path = Path(result["backup"]["path"])
    assert sorted(p.name for p in path.iterdir()) == [
        "dump.pgdump",
        "globals.sql",
        "manifest.json",
        "manifest.json.sig",
        "verification.jsonl",
    ]
    assert (path / "dump.pgdump").stat().st_mode & 0o077 == 0
    assert (result["backup"]["verified"], find_set(tmp_path / "b", "latest").name) == ("read", path.name)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    assert run_verify(options_of(field_db), **words)["verification"]["passed"]
    field_db.sql("DELETE FROM models")
    run_restore(options_of(field_db), source="latest", confirm=field_db.name, grace_s=0, **words)
    assert content(field_db) == before
    with pytest.raises(InvalidInput, match="dump_format"):
        run(field_db, tmp_path, dump_format="tar")


@pytest.mark.parametrize("dump_format", ["directory", "custom"])
def test_files_are_hashed_while_they_grow_unless_they_are_written_twice(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dump_format: str
) -> None:
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 200000) i")
    database.sql("SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'))")
    read: list[tuple[str, int]] = []
    before = Growing.read_on

    def read_on(self: Growing, path: Path) -> Any:
        read.append((path.name, path.stat().st_size))
        return before(self, path)

    monkeypatch.setattr(process, "TICK_S", 0.02)
    monkeypatch.setattr(Growing, "read_on", read_on)
    monkeypatch.setattr(make, "hash_files", lambda *a, **more: read.append(("", 0)) or hash_files(*a, **more))
    programs = wrapper(database, tmp_path / "bin", '"$REAL" "$@"; code=$?; sleep 0.3; exit $code')
    options = options_of(database, pg_bin_dir=programs)
    made = run_backup(options, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), dump_format=dump_format)[
        "backup"
    ]
    early = dict(read[: read.index(("", 0))])
    files = {Path(file.path).name: file for file in read_manifest(Path(made["path"]))[0].files}
    assert made["verified"] == "read"
    assert early == {
        name: file.size for name, file in files.items() if name.endswith((".gz", ".zst", ".lz4")) or "blobs" in name
    }
    assert bool(early) is (dump_format == "directory")
    for path in Path(made["path"]).rglob("*"):
        if path.name in files:
            assert files[path.name].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_harm_to_the_one_file_is_found(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 20000) i")
    path = Path(run(database, tmp_path, dump_format="custom")["backup"]["path"])
    data = (path / "dump.pgdump").read_bytes()
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "source": str(path)}
    for level in ("checksum", "read", "restore"):
        (path / "dump.pgdump").write_bytes(data[:-1])
        assert not run_verify(options_of(database), level=level, **words)["verification"]["passed"]
    (path / "dump.pgdump").write_bytes(data)
    assert run_verify(options_of(database), **words)["verification"]["passed"]


def test_fingerprints_do_not_depend_on_order_or_settings(
    database: Database, make_database: Databases, tmp_path: Path
) -> None:
    """Two databases with the same rows, stored the other way round under other settings; then one value differs."""
    other = make_database()
    columns = "(i int, f float8, at timestamptz, b bytea, span interval)"
    row = "i, i / 3.0, timestamptz '2025-04-18 12:00+00' + i * interval '1 h', decode('00ff', 'hex'), '1 mon 3 days'"
    for db, order in ((database, "i"), (other, "i DESC")):
        db.sql(f"CREATE TABLE t {columns}")
        db.sql(f"INSERT INTO t SELECT {row}::interval FROM generate_series(1, 500) i ORDER BY {order}")
    for setting in (
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
    ):
        other.sql(f"ALTER DATABASE {other.name} SET {setting}")
    other.sql(f"ALTER DATABASE {other.name} SET IntervalStyle = 'sql_standard'")
    prints = [print_of(db, tmp_path / db.name) for db in (database, other)]
    assert prints[0] == prints[1]
    assert prints[0].startswith("h2:")
    other.sql("UPDATE t SET f = f + 1e-12 WHERE i = 250")
    assert print_of(other, tmp_path / "changed") != prints[0]


def print_of(database: Database, folder: Path) -> str:
    result = run_backup(
        options_of(database), backup_dir=str(folder), state_dir=str(folder / "state"), fingerprints=True
    )
    (table,) = read_manifest(Path(result["backup"]["path"]))[0].tables
    return table.fingerprint


def test_a_set_of_an_older_version_can_still_be_drilled(make_database: Databases, tmp_path: Path) -> None:
    database = make_database("ollama_scanner")
    shutil.copytree(OLD_SET, tmp_path / OLD_SET.name)
    record_hash(str(tmp_path / "state"), OLD_SET.name, read_manifest(tmp_path / OLD_SET.name)[1])
    for level in ("checksum", "read", "restore"):
        result = run_verify(
            options_of(database),
            backup_dir=str(tmp_path),
            state_dir=str(tmp_path / "state"),
            source=OLD_SET.name,
            level=level,
        )
        assert result["verification"]["problems"] == []
    assert result["verification"]["compared"] == {"tables": 2, "fingerprints": 0, "objects": 0}
    run(database, tmp_path)
    assert [d["name"] for d in run(database, tmp_path, check_mode=True)["retention"]] != []


def test_counting_takes_no_more_than_one_processor(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    for cheap in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        database.sql(f'ALTER DATABASE "{database.name}" SET {cheap} = 0')
    plans: list[str] = []

    def execute(conn: Connection, query: Query, *more: Any) -> int:
        if text_of(query).startswith("DECLARE"):
            plans.append(str(connection.fetch(conn, f"EXPLAIN {text_of(query)}")))
        return connection.execute(conn, query, *more)

    monkeypatch.setattr(snapshot, "execute", execute)
    run(database, tmp_path)
    assert plans and "Gather" not in " ".join(plans)
    assert "Gather" in str(database.sql("EXPLAIN SELECT count(*) FROM t"))


def test_the_programs_are_nice(database: Database, tmp_path: Path) -> None:
    """What pg_dump is started with, its workers and its compression have too."""
    database.sql(ROWS)
    folder = wrapper(database, tmp_path / "bin", f'nice >> {tmp_path}/seen; exec "$REAL" "$@"')
    run_backup(
        options_of(database, pg_bin_dir=folder), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), nice=7
    )
    assert "7" in (tmp_path / "seen").read_text(encoding="ascii").split()


@needs("age", "rclone")
def test_encryption_and_copies_are_nice(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.sql(ROWS)
    (tmp_path / "bin").mkdir()
    for name in ("age", "rclone"):
        script = f'#!/bin/sh\necho "$(nice) $1" >> {tmp_path}/{name}.seen\nexec {shutil.which(name)} "$@"\n'
        (tmp_path / "bin" / name).write_text(script, encoding="ascii")
        (tmp_path / "bin" / name).chmod(0o755)
    subprocess.run(["age-keygen", "-o", str(tmp_path / "key")], check=True, capture_output=True)
    recipient = (tmp_path / "key").read_text(encoding="ascii").partition("public key: ")[2].split()[0]
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    run(database, tmp_path, nice=7, age_recipients=[recipient], offsite_remote=str(tmp_path / "away"))
    assert "7 --encrypt" in (tmp_path / "age.seen").read_text(encoding="ascii").splitlines()
    copies = (tmp_path / "rclone.seen").read_text(encoding="ascii").splitlines()
    assert {"7 copy", "7 check", "7 copyto"} <= set(copies)
    monkeypatch.setattr(offsite, "RCLONE", "/nonexistent/rclone")
    with pytest.raises(ToolMissing, match="Install rclone"):
        run(database, tmp_path, nice=7, offsite_remote=str(tmp_path / "away"))
