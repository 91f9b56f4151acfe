"""Restore drills on real servers: what they prove, what they find, and that nothing of them is left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.drill import restore_drill
from scannerdb.errors import BackupInvalid, InvalidInput, JobLocked, PrivilegeMissing, RestoreRefused, ToolFailed
from scannerdb.joblock import job_lock
from scannerdb.jobs.backup_info import backup_info
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.manifest import Manifest, ObjectPrint, TableCount, read_manifest
from scannerdb.sets.options import BackupInfoOptions
from scannerdb.sets.signing import Trust

from tests import servers
from tests.integration.backup.backup_support import HOSTILE, ROWS, options_of
from tests.integration.drill.drill_support import databases, drill, make, more_rows, rewrite
from tests.integration.support import run_backup
from tests.servers import Database

# What is proven


def test_a_drill_proves_a_set_and_leaves_nothing(field_db: Database, tmp_path: Path) -> None:
    path = make(field_db, tmp_path, fingerprints=True)
    assert backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")))["proven"] == {}
    before = databases(field_db)
    log = tmp_path / "verify.log"
    result = drill(field_db, tmp_path, log_path=str(log))
    found = result["verification"]
    assert (result["failed"], result["changed"], found["problems"]) == (False, True, [])
    assert (found["set"], found["level"], found["passed"], found["place"]) == (path.name, "restore", True, "server")
    assert 0 < found["restore_s"] <= found["duration_s"]
    assert found["compared"]["tables"] == found["compared"]["fingerprints"] > 5
    assert found["compared"]["objects"] > found["compared"]["tables"]
    assert databases(field_db) == before
    assert load_set(path, Trust(str(tmp_path / "s"))).verified == "restore"
    lines = (path / "verification.jsonl").read_text(encoding="utf-8").splitlines()
    history = (tmp_path / "s" / "verification.jsonl").read_text(encoding="utf-8").splitlines()
    beside, remembered = json.loads(lines[-1]), json.loads(history[-1])
    assert beside.pop("signature").startswith("-----BEGIN SSH SIGNATURE-----")
    assert {**remembered, "crc32": ""} == {"set": path.name, **beside, "crc32": ""}
    assert json.loads(lines[-1])["restore_s"] == found["restore_s"]
    info = backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")))
    assert info["proven"]["name"] == result["proven"]["name"] == path.name
    assert info["proven"]["restore_s"] == found["restore_s"]
    assert info["proven"]["proven_at"] == found["at"]
    assert (info["sets"][0]["verified"], info["sets"][0]["restore_s"]) == ("restore", found["restore_s"])
    assert "passed" in log.read_text(encoding="utf-8")
    # A younger set that was only read does not take the older one's place.
    make(field_db, tmp_path)
    assert (
        backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")))["proven"]["name"]
        == path.name
    )


def test_the_contract_is_held_against_what_was_backed_up(field_db: Database, tmp_path: Path) -> None:
    """The database's own faults are told, and do not make the backup of it a bad one."""
    make(field_db, tmp_path)
    result = drill(field_db, tmp_path)
    assert result["verification"]["passed"]
    assert {"schema.view.trigger"} <= {f["id"] for f in result["verification"]["findings"]}
    assert "critical findings against the contract" in result["warnings"][0]


@pytest.mark.parametrize("database", [HOSTILE[0], HOSTILE[-1]], indirect=True)
def test_hostile_names(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    database.sql('CREATE TABLE "we""ird; t" AS SELECT 1 AS "content", 2 AS "t"')
    make(database, tmp_path, fingerprints=True)
    before = databases(database)
    assert drill(database, tmp_path)["verification"]["passed"]
    assert databases(database) == before


def test_odd_objects_come_back_as_they_were(database: Database, tmp_path: Path) -> None:
    """Everything whose print or fingerprint could differ after an honest restore."""
    for statement in (
        "CREATE TABLE p (a int, b text) PARTITION BY RANGE (a)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "CREATE INDEX ON p (b)",
        "INSERT INTO p SELECT i, 'x' FROM generate_series(0, 9) i",
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing DEFAULT VALUES",
        "CREATE TABLE odd (a float8, b timestamptz, c interval, d bytea, e money, f json, g float4)",
        "ALTER TABLE odd ADD h tstzrange, ADD i jsonb",
        "INSERT INTO odd VALUES (0.1 + 0.2, now(), '1 mon 2 days', '\\x00ff', 12.5, '[1, 2]', 1e-7, '[now,)', '[1]')",
        "INSERT INTO odd VALUES ('NaN', 'infinity', null, null, null, null, 'Infinity', 'empty', null)",
        "ALTER TABLE odd DROP COLUMN i",
        "CREATE TABLE generated (a int GENERATED ALWAYS AS IDENTITY, b int GENERATED ALWAYS AS (1) STORED)",
        "INSERT INTO generated DEFAULT VALUES",
        "CREATE MATERIALIZED VIEW mv AS SELECT * FROM p",
        "CREATE UNLOGGED TABLE u AS SELECT 1 AS a",
        "CREATE TABLE parent (a int CHECK (a > 0))",
        "CREATE TABLE child (b int) INHERITS (parent)",
        "CREATE FUNCTION f(int, b text DEFAULT 'x') RETURNS int LANGUAGE sql SET search_path = public AS 'SELECT 1'",
        "REVOKE EXECUTE ON FUNCTION f FROM PUBLIC",
        "CREATE ROLE vf_reader",
        "GRANT SELECT ON odd TO vf_reader WITH GRANT OPTION",
        "GRANT ALL ON generated TO vf_reader",
        'CREATE SCHEMA "S. x"',
        'GRANT USAGE ON SCHEMA "S. x" TO vf_reader',
        'CREATE TABLE "S. x"."(y" AS SELECT 1 AS a',
        "CREATE SEQUENCE s OWNED BY parent.a",
    ):
        database.sql(statement)
    database.sql(f"ALTER DATABASE \"{database.name}\" SET TimeZone = 'Asia/Tokyo'")
    database.sql(f"ALTER DATABASE \"{database.name}\" SET DateStyle = 'German'")
    database.sql(f'ALTER DATABASE "{database.name}" SET extra_float_digits = -5')
    make(database, tmp_path, fingerprints=True)
    assert drill(database, tmp_path)["verification"]["problems"] == []


def test_amcheck(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(field_db, tmp_path)
    result = drill(field_db, tmp_path, amcheck=True)
    assert result["verification"]["passed"]
    assert not [w for w in result["warnings"] if "amcheck" in w]
    monkeypatch.setattr(restore_drill, "why_not", lambda *_: "it is not installed")
    assert "amcheck was left out: it is not installed." in drill(field_db, tmp_path, amcheck=True)["warnings"]


def test_lower_levels_prove_less_and_change_nothing(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path, verify_level="none")
    for level in ("checksum", "read"):
        result = drill(database, tmp_path, level=level)
        assert (
            result["changed"],
            result["verification"]["passed"],
            load_set(path, Trust(str(tmp_path / "s"))).verified,
        ) == (False, True, level)
    # Neither asks the server: it may be down, and the database gone.
    away = options_of(database, unix_socket="/nonexistent")
    assert drill(database, tmp_path, level="read", options=away, source=path.name)["verification"]["passed"]
    assert drill(database, tmp_path, level="read", options=away, source=str(path))["verification"]["passed"]


# What is found


def other_content(m: Manifest) -> dict[str, Any]:
    return {"tables": tuple(TableCount(t.schema, t.name, t.rows, "h1:1") for t in m.tables)}


def another_table(m: Manifest) -> dict[str, Any]:
    return {"tables": (*m.tables, TableCount("public", "gone", 0))}


def other_structure(m: Manifest) -> dict[str, Any]:
    return {"structure": tuple(ObjectPrint(o.kind, o.name, "0" * 16) for o in m.structure)}


def another_object(m: Manifest) -> dict[str, Any]:
    return {"structure": (*m.structure, ObjectPrint("view", "public.lost", "0" * 16))}


def one_object_less(m: Manifest) -> dict[str, Any]:
    return {"structure": tuple(o for o in m.structure if o.kind != "table")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (more_rows, "public.t has 1000 rows; the snapshot had 1001."),
        (other_content, "The content of public.t differs from what was backed up."),
        (another_table, "public.gone is missing"),
        (other_structure, "The table public.t was restored otherwise"),
        (another_object, "The view public.lost is missing after the restore."),
        (one_object_less, "The restore made a table public.t, which was not backed up."),
    ],
)
def test_a_difference_is_found(
    database: Database, tmp_path: Path, change: Callable[[Manifest], dict[str, Any]], words: str
) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path, fingerprints=True)
    rewrite(path, **change(read_manifest(path)[0]))
    before = databases(database)
    result = drill(database, tmp_path)
    assert result["failed"]
    assert any(words in problem for problem in result["verification"]["problems"]), result["verification"]["problems"]
    assert path.name in result["msg"]
    assert databases(database) == before
    assert load_set(path, Trust(str(tmp_path / "s"))).damaged
    assert result["proven"] == {}


def test_damaged_files_are_not_restored(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    (path / "dump" / "toc.dat").write_bytes(b"PGDMP")
    result = drill(database, tmp_path)
    assert "toc.dat has 5 bytes" in result["verification"]["problems"][0]
    assert result["verification"]["restore_s"] == 0
    assert result["failed"]
    assert "Nothing was restored" in result["warnings"][0]


@pytest.mark.parametrize(
    "child",
    [
        "b",
        "signal_log",
        "out of memory",
        "disk full",
        "could not connect",
        "No space left on device",
        "terminating connection",
        "server closed the connection unexpectedly",
        "ERROR:  out of memory",
        "pg_restore: error: connection to server",
        "x\npg_restore: error: out of memory",
    ],
)
def test_an_archive_that_does_not_load_is_a_problem_of_the_set(database: Database, tmp_path: Path, child: str) -> None:
    """A foreign key that the data break: pg_dump saves it without a word, and no restore can make it."""
    database.sql("CREATE TABLE a (id int PRIMARY KEY)")
    with database.connect() as conn:
        conn.execute(SQL("CREATE TABLE {} (id int CONSTRAINT broken_fkey REFERENCES a)").format(Identifier(child)))
        conn.execute("SET session_replication_role = replica")
        conn.execute(SQL("INSERT INTO {} VALUES (1)").format(Identifier(child)))
    path = make(database, tmp_path)
    assert load_set(path, Trust(str(tmp_path / "s"))).verified == "read"
    before = databases(database)
    result = drill(database, tmp_path)
    assert result["failed"]
    assert "It cannot be restored" in result["verification"]["problems"][0]
    assert "broken_fkey" in result["verification"]["problems"][0]
    assert load_set(path, Trust(str(tmp_path / "s"))).damaged
    assert databases(database) == before


def test_a_server_that_ends_the_load_is_no_problem_of_the_set(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads, every session of the scratch database is ended."""
    database.sql("CREATE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    database.sql("CREATE TABLE slow AS SELECT generate_series(1, 300) AS a")
    database.sql("ALTER TABLE slow ADD CHECK (public.sleepy(a))")
    asleep = "'SELECT pg_sleep(0.1) IS NOT NULL'"
    database.sql(f"CREATE OR REPLACE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS {asleep}")
    path = make(database, tmp_path)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'scannerdb_drill_%'"
    monkeypatch.setattr(restore_drill, "scalar", lambda *_: database.sql(f"{ended} AND query LIKE 'COPY%'") and 0)
    with pytest.raises(ToolFailed, match="terminating connection due to administrator command"):
        drill(database, tmp_path)
    assert not load_set(path, Trust(str(tmp_path / "s"))).damaged


def test_circumstances_are_no_mark_against_the_set(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    with pytest.raises(BackupInvalid, match="There is no backup 'absent'"):
        drill(database, tmp_path, source="absent")
    with pytest.raises(InvalidInput, match="is of database"):
        drill(database, tmp_path, options=options_of(database, db="postgres"))
    for words in ({"level": "x"}, {"place": "x"}, {"jobs": -1}, {"cluster_dir": "x"}):
        with pytest.raises(InvalidInput):
            drill(database, tmp_path, **words)
    held = job_lock(options_of(database), "vacuum", "20250418T120000Z-0a1b2c3d")
    with held, pytest.raises(JobLocked, match="scannerdb vacuum 20250418T120000Z-0a1b2c3d"):
        drill(database, tmp_path)
    database.sql("CREATE ROLE vf_poor LOGIN")
    with pytest.raises(PrivilegeMissing, match="may not create databases"):
        drill(database, tmp_path, options=options_of(database, user="vf_poor"))
    rewrite(path, database=dataclasses.replace(read_manifest(path)[0].database, owner="nobody here"))
    with pytest.raises(RestoreRefused, match="roles that this server does not have: nobody here"):
        drill(database, tmp_path)
    assert not load_set(path, Trust(str(tmp_path / "s"))).damaged


def test_a_role_with_createdb_can_drill(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE ROLE vf_owner LOGIN")
    database.sql("CREATE ROLE vf_maint LOGIN CREATEDB IN ROLE vf_owner, pg_read_all_data")
    name = Identifier(database.name)
    with database.connect() as conn:
        conn.execute(SQL("ALTER DATABASE {} OWNER TO vf_owner").format(name))
    database.sql(ROWS)
    database.sql("ALTER TABLE t OWNER TO vf_owner")
    make(database, tmp_path)
    before = databases(database)
    result = drill(database, tmp_path, options=options_of(database, user="vf_maint"), amcheck=True)
    assert result["verification"]["passed"]
    assert any("only a superuser" in w for w in result["warnings"])
    assert databases(database) == before


@pytest.mark.pg(15, always=True)
def test_tools_newer_than_the_server(database: Database, tmp_path: Path) -> None:
    """They set timeouts that the server does not know; a drill and a drilled backup pass over exactly these errors."""
    newer = servers.find_bin_dir(17)
    database.sql(ROWS)
    options = options_of(database, pg_bin_dir=str(newer))
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    made = run_backup(options, **words, verify_level="restore")
    assert (made["backup"]["verified"], made["warnings"][1:]) == ("restore", [])
    assert read_manifest(Path(made["backup"]["path"]))[0].dump_major == 17
    assert drill(database, tmp_path, options=options)["verification"]["passed"]
