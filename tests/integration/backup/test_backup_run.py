"""Backups of real servers: what is in a set, what stops one, what is left when one is stopped."""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import scannerdb
from psycopg.sql import SQL, Identifier
from scannerdb.errors import BackupInvalid, ScannerDbError
from scannerdb.jobs.backup_info import backup_info
from scannerdb.runs import utc_now
from scannerdb.sets.catalogue import list_sets
from scannerdb.sets.locate import find_set
from scannerdb.sets.manifest import read_manifest
from scannerdb.sets.options import BackupInfoOptions

from tests.backup_sets import make_set
from tests.integration.backup.backup_support import HOSTILE, ROWS, children, options_of, run, sessions, visible, wrapper
from tests.integration.support import run_backup, wait_until
from tests.servers import DISTRIBUTION, Database, Databases


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.lstat().st_mtime_ns for p in sorted(folder.rglob("*"))}


# What is in a set


def test_a_set_has_all_it_should(field_db: Database, tmp_path: Path) -> None:
    field_db.sql("CREATE EXTENSION IF NOT EXISTS plpgsql")
    result = run(field_db, tmp_path, contract_fingerprint="c0ffee")
    path = Path(result["backup"]["path"])
    assert result["changed"]
    assert result["backup"]["verified"] == "read"
    assert sorted(p.name for p in path.iterdir()) == [
        "dump",
        "globals.sql",
        "manifest.json",
        "manifest.json.sig",
        "verification.jsonl",
    ]
    assert (tmp_path / "b" / "latest.backup").readlink() == Path(path.name)
    assert b"CREATE ROLE ollama" in (path / "globals.sql").read_bytes()
    assert b"PASSWORD" not in (path / "globals.sql").read_bytes()
    for found in [path, *path.rglob("*"), Path(result["log"])]:
        assert found.stat().st_mode & 0o077 == 0, found
    manifest, digest = read_manifest(path)
    counts = {(t.schema, t.name): t.rows for t in manifest.tables}
    tables = field_db.sql("SELECT schemaname::text, tablename::text FROM pg_tables WHERE schemaname !~ '^pg_|^info'")
    assert set(counts) == set(tables)
    assert all(rows == field_db.value(f'SELECT count(*) FROM {s}."{n}"') for (s, n), rows in counts.items())
    assert manifest.contract == "c0ffee"
    assert manifest.size_bytes == result["backup"]["size_bytes"]
    state = json.loads((tmp_path / "s" / "manifests" / f"{path.name}.sha256").read_text(encoding="utf-8"))
    assert state["manifest_sha256"] == digest
    assert f"made {path.name}" in Path(result["log"]).read_text(encoding="utf-8")
    progress = json.loads((tmp_path / "s" / "progress" / f"{result['run_id']}.json").read_text(encoding="utf-8"))
    assert progress["step"] == "done"


def test_a_set_can_be_restored_by_hand(field_db: Database, make_database: Databases, tmp_path: Path) -> None:
    path = run(field_db, tmp_path)["backup"]["path"]
    target = make_database()
    tool = str(field_db.server.bin_dir / "pg_restore")
    where = ["-h", str(field_db.server.socket_dir), "-p", str(field_db.server.port), "-U", "postgres"]
    subprocess.run([tool, *where, "-d", target.name, "-j2", "--exit-on-error", f"{path}/dump"], check=True)
    for table in read_manifest(Path(path))[0].tables:
        assert target.value(f'SELECT count(*) FROM {table.schema}."{table.name}"') == table.rows


@pytest.mark.parametrize("database", HOSTILE, indirect=True)
def test_hostile_database_names(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    database.sql('CREATE TABLE "we""ird; t\nCOPY x FROM stdin;" AS SELECT 1 AS "a ""b"')
    result = run(database, tmp_path)
    assert Path(result["backup"]["path"]).parent == tmp_path / "b"
    again = run(database, tmp_path, check_mode=True)
    assert [d["name"] for d in again["retention"]] == [result["backup"]["name"]]
    (only,) = list_sets(tmp_path / "b", database.name).sets
    assert only.manifest.database.name == database.name
    assert only.manifest.rows == 1001


def test_what_a_restore_needs_when_no_original_is_left(database: Database, tmp_path: Path) -> None:
    name = Identifier(database.name)
    with database.connect() as conn:
        for statement in (
            'CREATE ROLE "bk own;er"',
            'CREATE ROLE "bk=reader" LOGIN',
            "COMMENT ON DATABASE {} IS 'the scanner''s'",
            "ALTER DATABASE {} CONNECTION LIMIT 40",
            "ALTER DATABASE {} SET work_mem = '9MB'",
            "ALTER DATABASE {} SET search_path = \"$user\", public, 'a=b'",
            "ALTER ROLE \"bk=reader\" IN DATABASE {} SET statement_timeout = '5s'",
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            'GRANT CONNECT, TEMPORARY ON DATABASE {} TO "bk=reader" WITH GRANT OPTION',
            'ALTER DATABASE {} OWNER TO "bk own;er"',
        ):
            conn.execute(SQL(statement).format(name))
    run(database, tmp_path)
    facts = find_set(tmp_path / "b", "latest").manifest.database
    assert (facts.owner, facts.comment, facts.connection_limit) == ("bk own;er", "the scanner's", 40)
    assert [(s.role, s.name, s.value) for s in facts.settings] == [
        ("", "work_mem", "9MB"),
        ("", "search_path", '"$user", public, "a=b"'),
        ("bk=reader", "statement_timeout", "5s"),
    ]
    assert {(g.grantee, g.privilege, g.grantable) for g in facts.grants} == {
        ("bk own;er", "CREATE", False),
        ("bk own;er", "CONNECT", False),
        ("bk own;er", "TEMPORARY", False),
        ("bk=reader", "CONNECT", True),
        ("bk=reader", "TEMPORARY", True),
    }
    assert facts.acl_text == database.value("SELECT datacl::text FROM pg_database WHERE datname = current_database()")
    assert (facts.encoding, facts.lc_collate, facts.lc_ctype) == ("UTF8", "C", "C")
    assert (facts.locale_provider, facts.tablespace) == ("libc", "pg_default")
    assert [e.name for e in facts.extensions] == ["plpgsql"]


@pytest.mark.pg(DISTRIBUTION, always=True)  # the wheels are made without ICU
def test_an_icu_locale_is_recorded(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE DATABASE bk_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LOCALE 'C'")
    run_backup(options_of(database, db="bk_icu"), backup_dir=str(tmp_path))
    facts = find_set(tmp_path, "latest").manifest.database
    assert (facts.locale_provider, facts.locale) == ("icu", "de-AT")
    assert facts.collation_version


def test_an_empty_database(database: Database, tmp_path: Path) -> None:
    result = run(database, tmp_path)
    assert (result["backup"]["tables"], result["backup"]["rows"], result["backup"]["verified"]) == (0, 0, "read")


def test_odd_tables(database: Database, tmp_path: Path) -> None:
    """Partitions, inheritance, no columns at all, unlogged, foreign-looking names: each counted as dumped."""
    for statement in (
        "CREATE TABLE p (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "INSERT INTO p SELECT generate_series(0, 9)",
        "CREATE TABLE parent (a int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO child VALUES (1), (2)",
        "INSERT INTO parent VALUES (3)",
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing DEFAULT VALUES",
        "CREATE UNLOGGED TABLE u AS SELECT 1 AS a",
        "CREATE MATERIALIZED VIEW mv AS SELECT * FROM p",
        r"CREATE TABLE texts AS SELECT E'a\nb\\.\n\\.' AS t, E'\\.' AS u",
        "CREATE TABLE generated (a int GENERATED ALWAYS AS IDENTITY, b int GENERATED ALWAYS AS (1) STORED)",
        "INSERT INTO generated DEFAULT VALUES",
        'CREATE SCHEMA "S. x"',
        'CREATE TABLE "S. x"."(y" AS SELECT 1 AS a',
    ):
        database.sql(statement)
    run(database, tmp_path)
    tables = find_set(tmp_path / "b", "latest").manifest.tables
    assert {t.name: t.rows for t in tables} == {
        "p1": 10,
        "parent": 1,
        "child": 2,
        "nothing": 1,
        "u": 1,
        "texts": 1,
        "generated": 1,
        "(y": 1,
    }


def test_counts_and_dump_agree_while_others_write(database: Database, tmp_path: Path) -> None:
    """`read` compares every row of the dump with the counts: any difference in snapshot would fail the backup."""
    database.sql(ROWS)
    stop = threading.Event()

    def write() -> None:
        with database.connect() as conn:
            while not stop.is_set():
                conn.execute("INSERT INTO t SELECT i, 'new' FROM generate_series(1, 50) i")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        results = [run(database, tmp_path) for _ in range(4)]
    finally:
        stop.set()
        writer.join()
    assert all(r["backup"]["verified"] == "read" for r in results)
    assert results[0]["backup"]["rows"] < results[-1]["backup"]["rows"]
    assert len({r["backup"]["name"] for r in results}) == 4


# Check mode, retention, information


def test_check_mode_tells_the_plan_and_writes_nothing(database: Database, tmp_path: Path) -> None:
    fresh = run(database, tmp_path, check_mode=True)
    assert fresh["changed"]
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "s").exists()
    run(database, tmp_path)
    before = tree(tmp_path)
    plan = run(database, tmp_path, check_mode=True)
    assert tree(tmp_path) == before
    assert plan["plan"]["pg_dump_version"].startswith(str(database.value("SHOW server_version_num"))[:2])
    assert plan["diff"]["before"] != plan["diff"]["after"]


def test_retention_removes_only_old_sets_of_its_own(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    now = utc_now()
    day = datetime.timedelta(days=1)
    ours = [make_set(folder, now - age * day, database.name) for age in (10, 40, 50)]
    other = make_set(folder, now - 90 * day, "other_db")
    script = folder / f"{database.name}_20200101_000000.backup"
    script.write_bytes(b"PGDMP")
    stranger = folder / f"{database.name}_20200102_000000.backup"
    stranger.mkdir()
    (stranger / "manifest.json").write_text("{}", encoding="utf-8")
    log = folder / "backup_20200101_000000.log"
    log.write_text("2020-01-01T00:00:00Z 20200101T000000Z-0a1b2c3d backup: made\n", encoding="utf-8")
    planned = run(database, tmp_path, retention_min=2, check_mode=True)
    result = run(database, tmp_path, retention_min=2)
    assert result["removed"] == planned["removed"] == [ours[1].name, ours[2].name]
    assert visible(folder) == {
        "latest.backup",
        result["backup"]["name"],
        ours[0].name,
        other.name,
        script.name,
        stranger.name,
    }
    assert not log.exists()
    assert result["warnings"] == []


def test_a_pre_restore_set_never_becomes_latest(database: Database, tmp_path: Path) -> None:
    first = run(database, tmp_path)
    second = run(database, tmp_path, purpose="pre_restore")
    assert second["backup"]["purpose"] == "pre_restore"
    assert second["latest"] == first["backup"]["name"]
    info = backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")))
    assert [(s["name"], s["latest"], s["verified"]) for s in info["sets"]] == [
        (second["backup"]["name"], False, "read"),
        (first["backup"]["name"], True, "read"),
    ]
    assert not info["changed"]


@pytest.mark.parametrize("level", ["none", "checksum"])
def test_lower_levels(database: Database, tmp_path: Path, level: str) -> None:
    assert run(database, tmp_path, verify_level=level)["backup"]["verified"] == level


def test_rows_are_counted_without_trust_in_an_index(database: Database, tmp_path: Path) -> None:
    """An index that lacks rows, as CREATE INDEX CONCURRENTLY of PostgreSQL 14.0 to 14.3 could make it."""
    database.sql("CREATE TABLE t AS SELECT i, repeat('x', 500) AS x FROM generate_series(1, 20000) i")
    database.sql("CREATE INDEX t_i ON t (i)")
    database.sql("UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = 't_i'::regclass")
    database.sql("INSERT INTO t SELECT -i FROM generate_series(1, 100) i")
    database.sql("UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = 't_i'::regclass")
    database.sql("VACUUM ANALYZE t")
    assert "Index Only" in str(database.sql("EXPLAIN SELECT FROM t"))
    assert database.value("SELECT count(*) FROM t") == 20000
    made = run(database, tmp_path)
    assert made["backup"]["verified"] == "read"
    assert read_manifest(Path(made["backup"]["path"]))[0].rows == 20100


def test_a_table_that_cannot_be_held_still_is_counted_without_a_plan(field_db: Database, tmp_path: Path) -> None:
    """Its owner could give it code; somebody's DDL or vacuum is waited for no longer than anybody."""
    with field_db.connect(autocommit=False) as conn:
        conn.execute("LOCK TABLE models IN SHARE UPDATE EXCLUSIVE MODE")
        made = run(field_db, tmp_path, fingerprints=True)
    tables = {table.name: table for table in read_manifest(Path(made["backup"]["path"]))[0].tables}
    assert tables["models"].rows == field_db.value("SELECT count(*) FROM models")
    assert (tables["models"].fingerprint, bool(tables["endpoints"].fingerprint)) == ("", True)
    assert [line for line in made["warnings"] if line.startswith("No fingerprint of public.models: others could")]


# What is left when one is stopped


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from scannerdb.backup.options import BackupOptions
from scannerdb.connection import Options
from scannerdb.jobs.backup import backup
backup(Options(**eval(sys.argv[2])), BackupOptions(backup_dir=sys.argv[3]))
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_killed_midway(database: Database, tmp_path: Path, kind: signal.Signals) -> None:
    database.sql("CREATE SEQUENCE halting")
    database.sql(ROWS)
    folder = tmp_path / "b"
    first = run(database, tmp_path)["backup"]["name"]
    with database.connect(autocommit=False) as holder:
        holder.execute("ALTER SEQUENCE halting RENAME TO moved")  # pg_dump stops at it, in the middle of its work
        options = options_of(database)
        words = {k: getattr(options, k) for k in ("unix_socket", "port", "user", "db", "pg_bin_dir")}
        package = str(Path(scannerdb.__file__).parents[1])
        child = subprocess.Popen([sys.executable, "-c", KILLED, package, repr(words), str(folder)])
        wait_until(lambda: children("pg_dump", folder))
        debris = [p for p in folder.iterdir() if p.name.endswith(".partial")]
        assert len(debris) == 1
        child.send_signal(kind)
        child.wait()
        wait_until(lambda: not children("pg_dump", folder))
        wait_until(lambda: not sessions(database))
    assert find_set(folder, "latest").name == first
    result = run(database, tmp_path)
    assert result["swept"] == [debris[0].name]
    assert visible(folder) == {"latest.backup", first, result["backup"]["name"]}


@pytest.mark.parametrize("whose", ["scannerdb pg_dump", "scannerdb backup 2"])
def test_sessions_ended_midway(database: Database, tmp_path: Path, whose: str) -> None:
    """pg_dump's own, or the one that holds the snapshot: as when a server goes down."""
    database.sql("CREATE SEQUENCE halting")
    database.sql(ROWS)
    end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE %s || '%%'"
    with database.connect(autocommit=False) as holder:
        holder.execute("ALTER SEQUENCE halting RENAME TO moved")  # pg_dump stops at it

        def end_them() -> None:
            wait_until(lambda: children("pg_dump", tmp_path))
            wait_until(lambda: database.value(end, whose))

        killer = threading.Thread(target=end_them)
        killer.start()
        with pytest.raises(ScannerDbError, match="connection"):
            run(database, tmp_path)
        killer.join()
    assert not children("pg_dump", tmp_path)
    assert visible(tmp_path / "b") == set()


def test_a_set_that_fails_its_proof_does_not_count(database: Database, tmp_path: Path) -> None:
    """The disk swallows half of a file after pg_dump has written it: the hashes are right, the data are not."""
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 20000) i")
    first = run(database, tmp_path)["backup"]["name"]
    script = """
"$REAL" "$@" || exit $?
for word in "$@"; do case $word in --file=*)
  big=$(ls -S "${word#--file=}"/*.dat* | head -n 1); truncate -s 60000 "$big";;
esac; done
"""
    broken = options_of(database, pg_bin_dir=wrapper(database, tmp_path / "bin", script))
    with pytest.raises(BackupInvalid, match=r"failed its verification \(read\)"):
        run_backup(broken, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    assert find_set(tmp_path / "b", "latest").name == first
    assert [s.name for s in list_sets(tmp_path / "b").sets] == [first]
    evidence = [name for name in visible(tmp_path / "b") if name.endswith(".partial")]
    assert len(evidence) == 1
    assert run(database, tmp_path)["swept"] == evidence


# Secrets


def test_the_password_shows_nowhere(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 200000) i")
    password = database.server.password
    options = options_of(database, unix_socket="", host="127.0.0.1", password=password)
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    if b"pg_dump" in command or b"pg_restore" in command:
                        text = command + (entry / "environ").read_bytes()
                        seen.add("leak" if password.encode() in text else command.split(b"\0")[0].decode())
            time.sleep(0.005)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        result = run_backup(options, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    finally:
        stop.set()
        watcher.join()
    assert any(program.endswith("pg_dump") for program in seen)
    assert "leak" not in seen
    assert password not in json.dumps(result) + repr(options)
    for path in tmp_path.rglob("*"):
        if path.is_file() and "dump" not in path.parts:
            assert password not in path.read_text(encoding="utf-8", errors="replace"), path
