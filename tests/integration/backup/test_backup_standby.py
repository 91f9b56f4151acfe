"""Backups beside standbys: which server the dump is taken from, and what a standby that stands in the way changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.backup import make
from scannerdb.backup.snapshot import passing
from scannerdb.connection import Options, connect, member_of, scalar
from scannerdb.errors import ConnectionFailed, JobLocked, ScannerDbError, ServerUnsupported
from scannerdb.joblock import job_lock
from scannerdb.sets.locate import find_set

from tests.integration.backup.backup_support import options_of
from tests.integration.support import run_backup, wait_until
from tests.servers import Database, standby_of


@pytest.fixture
def standby(database: Database) -> Iterator[Database]:
    """A streaming standby of the database's server, with the same database."""
    database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
    database.sql("CREATE UNLOGGED TABLE u AS SELECT i FROM generate_series(1, 10) i")
    with standby_of(database) as second:
        yield second


def both(*databases: Database) -> Options:
    """The options of an inventory that lists several servers, in whatever order."""
    places = [f"{d.server.socket_dir}:{d.server.port}" for d in databases]
    return options_of(databases[0], unix_socket="", host=",".join(places))


def caught_up(primary: Database, standby: Database) -> None:
    """Wait until the standby has replayed all that is written so far."""
    position = primary.value("SELECT pg_current_wal_lsn()::text")
    wait_until(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position))


def test_a_backup_from_a_standby(standby: Database, tmp_path: Path) -> None:
    options = options_of(standby)
    assert run_backup(options, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), check_mode=True)["plan"][
        "standby"
    ]
    result = run_backup(options, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    assert result["backup"]["verified"] == "read"
    manifest = find_set(tmp_path, "latest").manifest
    assert manifest.server_is_standby
    assert {t.name: t.rows for t in manifest.tables} == {"t": 1000}, "unlogged tables are empty on a standby"
    held = job_lock(options, "backup", "20250418T120000Z-0a1b2c3d", allow_standby=True)
    with held, pytest.raises(JobLocked, match="20250418T120000Z-0a1b2c3d"):
        run_backup(options, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    with pytest.raises(ServerUnsupported, match="There is no primary to dump from"):
        run_backup(options, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), dump_from="primary")


def test_the_servers_are_asked(database: Database, standby: Database, tmp_path: Path) -> None:
    """Whatever their order: a standby that keeps up, else the primary; after a failover, too."""
    words: dict[str, Any] = {"backup_dir": str(tmp_path), "state_dir": str(tmp_path / "state")}
    caught_up(database, standby)
    for options in (both(database, standby), both(standby, database)):
        plan = run_backup(options, **words, check_mode=True)["plan"]
        assert (plan["standby"], str(standby.server.port) in plan["server"]) == (True, True)
        assert connect(options).info.port == database.server.port, "who has to write, finds the primary"
    assert member_of(both(standby, database)).port == database.server.port, "and so do tools"
    result = run_backup(options, **words)
    assert (result["backup"]["standby"], result["warnings"]) == (True, [])
    with job_lock(options_of(database), "fix", "20250418T120000Z-0a1b2c3d"), pytest.raises(JobLocked, match="fix 2025"):
        run_backup(options, **words)  # the lock is the primary's, wherever the dump comes from
    result = run_backup(options, **words, dump_from="primary")
    assert not result["backup"]["standby"]
    # A standby that does not keep up.
    standby.sql("SELECT pg_wal_replay_pause()")
    database.sql("INSERT INTO t SELECT i FROM generate_series(1, 40000) i")
    result = run_backup(options, **words, max_lag_mb=1)
    assert (result["backup"]["standby"], result["backup"]["rows"]) == (False, 41010)
    assert "MiB behind" in result["warnings"][0]
    with pytest.raises(ServerUnsupported, match=r"There is no standby to dump from.*MiB behind"):
        run_backup(options, **words, max_lag_mb=1, dump_from="standby")
    standby.sql("SELECT pg_wal_replay_resume()")
    caught_up(database, standby)
    # The primary is gone: there is still a backup, and then a failover.
    database.server.stop()
    try:
        result = run_backup(options, **words)
        assert result["backup"]["standby"]
        assert "No primary answered" in " ".join(result["warnings"])
        with pytest.raises(ServerUnsupported, match="is a primary that can be reached"):
            connect(options)
        standby.sql("SELECT pg_promote()")
        result = run_backup(options, **words)
        assert not result["backup"]["standby"]
        assert scalar(connect(options), "SELECT count(*) FROM public.t") == 41000
        standby.server.stop()
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            run_backup(options, **words)
    finally:
        database.server.start()


def test_a_standby_that_ends_the_dump_is_given_up_for_the_primary(
    database: Database, standby: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vacuum on the primary removes rows that the dump's snapshot still sees, and replay does not wait."""
    standby.sql("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    standby.sql("SELECT pg_reload_conf()")
    caught_up(database, standby)
    real = make._count
    met = []

    def beside_a_vacuum(snapshot: Any, *more: Any) -> Any:
        if snapshot.conn.info.port == standby.server.port:
            database.sql("DELETE FROM t WHERE i = (SELECT min(i) FROM t)")
            database.sql("VACUUM t")
            deadline = time.monotonic() + 60
            try:
                with passing("Counting"):
                    while time.monotonic() < deadline:
                        scalar(snapshot.conn, "SELECT pg_sleep(0.01)")
            except ScannerDbError as error:
                met.append(str(error))
                raise
        return real(snapshot, *more)

    monkeypatch.setattr(make, "_count", beside_a_vacuum)
    with pytest.raises(ScannerDbError, match=r"ended the dump 2 times.*hot_standby_feedback"):
        run_backup(both(standby), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), dump_from="standby")
    assert len(met) == 2, met
    result = run_backup(both(database, standby), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    assert len(met) == 4, met
    assert not result["backup"]["standby"]
    assert "The dump was taken from the primary" in result["warnings"][0]
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".log")) == sorted(
        [result["backup"]["name"], "latest.backup", "state"]
    )
