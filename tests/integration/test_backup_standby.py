"""A backup taken from a standby: nothing of it touches the primary."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.backup.sets import find_set
from scannerdb.errors import JobLocked
from scannerdb.joblock import job_lock
from scannerdb.jobs.backup import backup

from demo import user
from demo.server import Server
from tests.integration.test_backup_run import options_of
from tests.servers import Database


@pytest.fixture
def standby(database: Database) -> Iterator[Database]:
    """A streaming standby of the database's server, with the same database."""
    database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
    database.sql("CREATE UNLOGGED TABLE u AS SELECT i FROM generate_series(1, 10) i")
    home = user.make_short_folder("scannerdb-standby-")
    second = Server(home, database.server.bin_dir)
    try:
        # The programs as the server runs them: the server's user need not be able to read the venv.
        programs = second._programs()
        where = ["-h", str(database.server.socket_dir), "-p", str(database.server.port), "-U", "postgres"]
        command = [programs / "pg_basebackup", *where, "-D", second.data, "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, cwd=home, env=user.clean_env(), **user.drop_args())
        (home / "password").write_text("unused", encoding="ascii")
        second.start()
        yield Database(second, database.name)
    finally:
        second.remove()
        shutil.rmtree(home, ignore_errors=True)


def test_a_backup_from_a_standby(standby: Database, tmp_path: Path) -> None:
    options = options_of(standby)
    assert backup(options, backup_dir=str(tmp_path), check_mode=True)["plan"]["standby"]
    result = backup(options, backup_dir=str(tmp_path))
    assert result["backup"]["verified"] == "read"
    manifest = find_set(tmp_path, "latest").manifest
    assert manifest.server_is_standby
    assert {t.name: t.rows for t in manifest.tables} == {"t": 1000}, "unlogged tables are empty on a standby"
    held = job_lock(options, "backup", "20250418T120000Z-0a1b2c3d", allow_standby=True)
    with held, pytest.raises(JobLocked, match="20250418T120000Z-0a1b2c3d"):
        backup(options, backup_dir=str(tmp_path))
