"""Drills that are killed or fail midway, and drills on a disposable cluster: nothing of them is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scannerdb
from psycopg.sql import SQL, Identifier
from scannerdb.drill import restore_drill
from scannerdb.drill.cluster import PREFIX
from scannerdb.drill.scratch import ScratchMark, scratch_name
from scannerdb.errors import DatabaseMissing, ScannerDbError, ToolFailed
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.manifest import read_manifest
from scannerdb.sets.signing import Trust

from demo.server import wheel_bin_dir
from tests import servers
from tests.integration.backup.backup_support import ROWS, options_of
from tests.integration.drill.drill_support import databases, drill, make, more_rows, rewrite
from tests.integration.support import processes, run_backup, wait_until
from tests.needs import needs
from tests.servers import Database


@pytest.fixture
def cluster_dir() -> Iterator[Path]:
    """A folder that the disposable cluster's user can reach."""
    folder = servers.make_home("scannerdb-ct-")
    folder.chmod(0o755)
    os.chown(folder, os.geteuid(), os.getegid())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_check_mode_writes_nothing(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    for words in ({}, {"level": "read"}, {"place": "cluster", "cluster_dir": str(cluster_dir)}):
        result = drill(database, tmp_path, check_mode=True, log_path=str(tmp_path / "log"), **words)
        assert result["plan"]["set"] == path.name
        assert result["diff"]["after"]
    assert {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert not list(cluster_dir.iterdir())


# What is left when one is stopped


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from scannerdb.connection import Options
from scannerdb.drill.options import DrillOptions
from scannerdb.jobs.verify import verify
words = dict(zip(("backup_dir", "place", "cluster_dir", "state_dir"), sys.argv[3:]))
verify(Options(**eval(sys.argv[2])), DrillOptions(**words))
"""


def start(database: Database, tmp_path: Path, place: str, cluster_dir: Path) -> subprocess.Popen[bytes]:
    options = options_of(database)
    words = {k: getattr(options, k) for k in ("unix_socket", "port", "user", "db", "pg_bin_dir")}
    package = str(Path(scannerdb.__file__).parents[1])
    arguments = [package, repr(words), str(tmp_path / "b"), place, str(cluster_dir), str(tmp_path / "s")]
    return subprocess.Popen([sys.executable, "-c", KILLED, *arguments])


def slow_to_load(database: Database) -> None:
    """A table that takes half a minute to load: its check constraint sleeps."""
    database.sql("CREATE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    database.sql("CREATE TABLE slow (a int CHECK (public.sleepy(a)))")
    database.sql("INSERT INTO slow SELECT generate_series(1, 300)")
    database.sql(
        "CREATE OR REPLACE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(0.1) IS NOT NULL'"
    )


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_killed_on_the_server(database: Database, tmp_path: Path, kind: signal.Signals) -> None:
    slow_to_load(database)
    make(database, tmp_path)
    before = databases(database)
    child = start(database, tmp_path, "server", tmp_path)
    loading = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'scannerdb_drill_%' AND query LIKE 'COPY%'"
    wait_until(lambda: database.value(loading))
    (left,) = databases(database) - before
    child.send_signal(kind)
    child.wait()
    plan = drill(database, tmp_path, check_mode=True)
    assert left in plan["swept"]
    database.sql("CREATE OR REPLACE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    make(database, tmp_path)
    result = drill(database, tmp_path, lock_wait_s=20)
    assert (result["swept"], result["verification"]["passed"]) == ([left], True)
    assert databases(database) == before


def test_only_its_own_debris_is_swept(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    make(database, tmp_path)
    own = {
        "marked by a drill": ScratchMark(database.name, "run", "then", "a set").text(),
        scratch_name(database.name, "killed before its mark"): None,
    }
    others = {
        "another's drill": ScratchMark("another", "run", "then", "a set").text(),
        scratch_name("another", "x"): None,
        "scannerdb_drill_precious": None,
        scratch_name(database.name, "y"): "hands off",
        "restoring": json.dumps({"scannerdb": "side", "database": database.name, "run_id": "x"}),
    }
    with database.connect() as conn:
        for name, comment in {**own, **others}.items():
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
            conn.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), comment))
    assert set(drill(database, tmp_path)["swept"]) == set(own)
    assert set(others) <= databases(database)
    assert not set(own) & databases(database)


def test_a_failure_midway_leaves_nothing(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.sql(ROWS)
    make(database, tmp_path)
    before = databases(database)

    def fail(*_: object) -> None:
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'scannerdb v%'"
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_drill, "_compare", fail)
    with pytest.raises(KeyboardInterrupt):
        drill(database, tmp_path)
    assert databases(database) == before


def test_retention_leaves_a_set_alone_while_it_is_read(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    found: list[Any] = []

    def back_up(*_: object) -> None:
        options = options_of(database, maintenance_db="template1")  # another lock: as on another host
        found.append(
            run_backup(
                options,
                backup_dir=str(tmp_path / "b"),
                state_dir=str(tmp_path / "s"),
                retention_days=0,
                retention_min=0,
            )
        )

    monkeypatch.setattr(restore_drill, "_compare", back_up)
    drill(database, tmp_path)
    assert path.exists()
    assert any("is being read by another run" in warning for warning in found[0]["warnings"])


# On a disposable cluster


def test_a_drill_on_a_disposable_server(
    field_db: Database, tmp_path: Path, cluster_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/root" if os.access("/root", os.X_OK) else "/")  # where the server's user cannot be
    path = make(field_db, tmp_path, fingerprints=True)
    away = options_of(field_db, unix_socket="/nonexistent")
    result = drill(
        field_db, tmp_path, options=away, place="cluster", cluster_dir=str(cluster_dir), amcheck=True, source=path.name
    )
    found = result["verification"]
    assert (found["passed"], found["problems"], found["place"]) == (True, [], "cluster")
    assert found["compared"]["fingerprints"] > 5
    assert not [w for w in result["warnings"] if "amcheck" in w]
    assert list(cluster_dir.iterdir()) == []
    assert load_set(path, Trust(str(tmp_path / "s"))).verified == "restore"
    assert not processes(str(cluster_dir))


@needs("root")
@pytest.mark.pg(17, always=True)
def test_programs_that_the_servers_user_cannot_reach(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    """As in a checkout below root's own home."""
    database.sql(ROWS)
    make(database, tmp_path)
    wheel = wheel_bin_dir(servers.WHEELS[17])
    assert wheel is not None
    shutil.copytree(wheel.parent, tmp_path / "pg")
    (tmp_path / "pg").chmod(0o700)
    options = options_of(database, pg_bin_dir=str(tmp_path / "pg" / "bin"))
    words: dict[str, Any] = {"place": "cluster", "cluster_dir": str(cluster_dir), "amcheck": True}
    result = drill(database, tmp_path, options=options, **words)
    assert result["verification"]["passed"], result
    assert not [w for w in result["warnings"] if "amcheck" in w]
    assert list(cluster_dir.iterdir()) == []


def test_a_problem_is_found_there_too(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    database.sql(ROWS)
    path = make(database, tmp_path)
    rewrite(path, **more_rows(read_manifest(path)[0]))
    result = drill(database, tmp_path, place="cluster", cluster_dir=str(cluster_dir))
    assert "public.t has 1000 rows; the snapshot had 1001." in result["verification"]["problems"]
    assert list(cluster_dir.iterdir()) == []


def planting(database: Database, folder: Path, script: str) -> str:
    """Programs of a server whose initdb does more in the end; `$DATA` is the data folder."""
    folder.mkdir(mode=0o755)
    for program in ("postgres", "pg_restore", "pg_dump"):
        (folder / program).symlink_to(database.server.bin_dir / program)
    find = 'for word; do case "$word" in --pgdata=*) DATA="${word#*=}";; esac; done'
    text = f'#!/bin/sh\n{database.server.bin_dir}/initdb "$@" || exit 1\n{find}\n{script}\n'
    (folder / "initdb").write_text(text, encoding="ascii")
    (folder / "initdb").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("name", ["pg_hba.conf", "pg_ident.conf", "postgresql.conf"])
def test_a_link_that_the_servers_user_plants_is_not_written_through(
    database: Database, tmp_path: Path, cluster_dir: Path, name: str
) -> None:
    """The data folder is lent to another user where root drills: what we write must not lie there."""
    database.sql(ROWS)
    make(database, tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="ascii")
    victim.chmod(0o600)
    programs = planting(database, cluster_dir / "bin", f'ln -sf {victim} "$DATA/{name}"')
    options = options_of(database, pg_bin_dir=programs)
    result = drill(database, tmp_path, options=options, place="cluster", cluster_dir=str(cluster_dir))
    assert result["verification"]["passed"]
    assert victim.read_text(encoding="ascii") == "precious"
    assert [path.name for path in cluster_dir.iterdir()] == ["bin"]


def test_a_link_in_the_servers_log_is_not_read(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    database.sql(ROWS)
    make(database, tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("FATAL: a secret\n", encoding="ascii")
    victim.chmod(0o600)
    script = f'mkdir -p "$DATA/log"; for to in "$DATA/log" "$DATA/../log"; do ln -s {victim} "$to/a.log"; done\n'
    script += 'echo nonsense = 1 >> "$DATA/postgresql.auto.conf"; exit 0'
    options = options_of(database, pg_bin_dir=planting(database, cluster_dir / "bin", script))
    with pytest.raises(ToolFailed, match="postgres failed") as caught:
        drill(database, tmp_path, options=options, place="cluster", cluster_dir=str(cluster_dir))
    assert "secret" not in str(caught.value)
    assert "contains errors" in str(caught.value)


def test_killed_on_a_disposable_server(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    slow_to_load(database)
    make(database, tmp_path)
    child = start(database, tmp_path, "cluster", cluster_dir)
    wait_until(lambda: [p for p in cluster_dir.glob("*/data/postmaster.pid") if "ready" in p.read_text()])
    time.sleep(0.5)
    (left,) = cluster_dir.iterdir()
    child.send_signal(signal.SIGKILL)
    child.wait()
    stranger = cluster_dir / f"{PREFIX}link"
    stranger.symlink_to(tmp_path)
    database.sql("CREATE OR REPLACE FUNCTION sleepy(int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    make(database, tmp_path)
    result = drill(database, tmp_path, place="cluster", cluster_dir=str(cluster_dir))
    assert (result["swept"], result["verification"]["passed"]) == ([left.name], True)
    assert list(cluster_dir.iterdir()) == [stranger]
    assert not processes(str(left))


def test_no_programs_for_a_server(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    database.sql(ROWS)
    make(database, tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).symlink_to(database.server.bin_dir / name)
    with pytest.raises(ScannerDbError, match=r"needs the programs of a PostgreSQL \d+ server; there is none here"):
        drill(
            database,
            tmp_path,
            options=options_of(database, pg_bin_dir=str(folder)),
            place="cluster",
            cluster_dir=str(cluster_dir),
        )


def test_a_missing_server_is_said(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    make(database, tmp_path)
    with pytest.raises((ScannerDbError, DatabaseMissing), match="cannot be reached"):
        drill(database, tmp_path, options=options_of(database, unix_socket="/nonexistent"))
