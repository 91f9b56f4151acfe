"""A backup taken from a standby: nothing of it touches the primary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.backup.sets import find_set
from scannerdb.errors import JobLocked
from scannerdb.joblock import job_lock
from scannerdb.jobs.backup import backup

from tests.integration.test_backup_run import options_of
from tests.servers import Database, standby_of


@pytest.fixture
def standby(database: Database) -> Iterator[Database]:
    """A streaming standby of the database's server, with the same database."""
    database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
    database.sql("CREATE UNLOGGED TABLE u AS SELECT i FROM generate_series(1, 10) i")
    with standby_of(database) as second:
        yield second


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
