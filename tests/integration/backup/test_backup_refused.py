"""What stops a backup of a real server: each with its sentence, and with nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import (
    DatabaseMissing,
    FileProblem,
    InvalidInput,
    JobLocked,
    LockTimeout,
    PrivilegeMissing,
    ToolMissing,
)
from scannerdb.joblock import job_lock
from scannerdb.sets.locate import find_set

from tests import servers
from tests.integration.backup.backup_support import ROWS, children, options_of, run, visible, wrapper
from tests.integration.support import run_backup
from tests.needs import needs
from tests.servers import Database


def test_nonsense_is_refused(database: Database, tmp_path: Path) -> None:
    for wrong in (
        {"backup_dir": "relative"},
        {"jobs": -1},
        {"nice": 30},
        {"verify_level": "x"},
        {"retention_days": -1},
        {"bandwidth": 20 << 20},  # nothing limits pg_dump by the second any more
    ):
        with pytest.raises(InvalidInput):
            run_backup(
                options_of(database), **{"backup_dir": str(tmp_path), "state_dir": str(tmp_path / "state"), **wrong}
            )


def test_no_such_database(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match="has no database 'absent'"):
        run_backup(options_of(database, db="absent"), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    assert not (tmp_path / "b").exists()


def test_no_pg_dump(database: Database, tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"There is no pg_dump in /nowhere.*Install postgresql-client-"):
        run_backup(
            options_of(database, pg_bin_dir="/nowhere"), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")
        )


@needs("postgresql-15")
@pytest.mark.pg(17, 18, always=True)
def test_a_pg_dump_older_than_the_server(database: Database, tmp_path: Path) -> None:
    old = servers.find_bin_dir(15)
    with pytest.raises(ToolMissing, match=r"newest pg_dump in .* is 15\.\d+, but the server is PostgreSQL 1[78]"):
        run_backup(
            options_of(database, pg_bin_dir=str(old)), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")
        )


def test_a_table_that_may_not_be_read_is_named(field_db: Database, tmp_path: Path) -> None:
    field_db.sql("CREATE ROLE bk_poor LOGIN")
    field_db.sql("CREATE TABLE public.secret_table ()")
    field_db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO bk_poor")
    field_db.sql("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO bk_poor")
    field_db.sql("REVOKE SELECT ON public.secret_table FROM bk_poor")
    with pytest.raises(PrivilegeMissing, match=r"may not read public\.secret_table\. Grant it pg_read_all_data"):
        run_backup(options_of(field_db, user="bk_poor"), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    assert visible(tmp_path / "b") == set()
    field_db.sql("GRANT pg_read_all_data TO bk_poor")
    result = run_backup(
        options_of(field_db, user="bk_poor"), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")
    )
    assert result["backup"]["verified"] == "read"
    assert result["backup"]["globals"]


def test_row_level_security_is_said(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    database.sql("CREATE ROLE bk_rls LOGIN")
    database.sql("GRANT pg_read_all_data TO bk_rls")
    database.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    with pytest.raises(PrivilegeMissing, match=r"hides rows of public\.t"):
        run_backup(options_of(database, user="bk_rls"), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))


def test_globals_that_may_not_be_read_are_said_and_no_error(database: Database, tmp_path: Path) -> None:
    folder = wrapper(database, tmp_path / "bin", 'exec "$REAL" "$@"')
    (tmp_path / "bin" / "pg_dumpall").unlink()
    (tmp_path / "bin" / "pg_dumpall").write_text(
        "#!/bin/sh\necho 'pg_dumpall: error: query failed: permission denied' >&2\nexit 1\n", encoding="utf-8"
    )
    (tmp_path / "bin" / "pg_dumpall").chmod(0o755)
    result = run_backup(
        options_of(database, pg_bin_dir=folder), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s")
    )
    assert not result["backup"]["globals"]
    assert "permission denied" in find_set(tmp_path / "b", "latest").manifest.globals_missing
    assert not Path(result["backup"]["path"], "globals.sql").exists()


def test_two_at_once(database: Database, tmp_path: Path) -> None:
    with (
        job_lock(options_of(database), "vacuum", "20250418T120000Z-0a1b2c3d"),
        pytest.raises(JobLocked, match=r"'scannerdb vacuum 20250418T120000Z-0a1b2c3d' \(process \d+, role 'postgres'"),
    ):
        run(database, tmp_path)
    assert not (tmp_path / "b").exists() or visible(tmp_path / "b") == set()
    assert run(database, tmp_path)["changed"]


def test_a_strong_lock_is_waited_for_until_the_deadline(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    with database.connect(autocommit=False, application_name="the alterer") as holder:
        holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LockTimeout, match=r"could not get its locks within 1 s.*'the alterer'\) on 't'"):
            run(database, tmp_path, lock_deadline_s=1)
        assert visible(tmp_path / "b") == set()
        threading.Timer(1.0, holder.rollback).start()
        assert run(database, tmp_path, lock_deadline_s=30)["backup"]["rows"] == 1000


def test_pg_dump_does_not_wait_for_ever_at_an_altered_sequence(database: Database, tmp_path: Path) -> None:
    """Its --lock-wait-timeout holds for tables only, and it would keep every table locked meanwhile."""
    database.sql(ROWS)
    database.sql("CREATE SEQUENCE halting")
    with database.connect(autocommit=False, application_name="the alterer") as holder:
        holder.execute("ALTER SEQUENCE halting RENAME TO moved")
        with pytest.raises(LockTimeout, match=r"waited too long for a lock.*'the alterer'\) on"):
            run(database, tmp_path, lock_deadline_s=1)
    assert not children("pg_dump", tmp_path)
    assert visible(tmp_path / "b") == set()


def test_locked_roles_are_waited_for_until_the_deadline(database: Database, tmp_path: Path) -> None:
    """pg_dumpall has no limit of its own, and would hold the snapshot meanwhile."""
    database.sql(ROWS)
    with database.connect(autocommit=False, application_name="the vacuumer") as holder:
        holder.execute("LOCK TABLE pg_auth_members IN ACCESS EXCLUSIVE MODE")
        safety = threading.Timer(20.0, holder.rollback)
        safety.start()
        with pytest.raises(LockTimeout, match=r"could not get its locks within 1 s.*pg_dumpall failed.*lock timeout"):
            run(database, tmp_path, lock_deadline_s=1)
        safety.cancel()
        assert not children("pg_dump", tmp_path)
        assert visible(tmp_path / "b") == set()
        threading.Timer(4.0, holder.rollback).start()
        result = run(database, tmp_path, lock_deadline_s=30)
    assert result["backup"]["globals"]
    assert "Trying again" in Path(result["log"]).read_text(encoding="utf-8")


def test_a_table_dropped_between_list_and_lock_only_costs_an_attempt(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scannerdb.backup import snapshot

    database.sql(ROWS)
    database.sql("CREATE TABLE short_lived ()")
    original = snapshot._lock

    def drop_first(conn: Any, relations: Any) -> None:
        database.sql("DROP TABLE IF EXISTS short_lived")
        original(conn, relations)

    monkeypatch.setattr(snapshot, "_lock", drop_first)
    result = run(database, tmp_path)
    assert result["backup"]["tables"] == 1
    assert "Trying again" in Path(result["log"]).read_text(encoding="utf-8")


def test_something_else_in_the_place_of_latest(database: Database, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "latest.backup").write_text("precious", encoding="utf-8")
    with pytest.raises(FileProblem, match="is not a link"):
        run(database, tmp_path)
    assert visible(tmp_path / "b") == {"latest.backup"}
