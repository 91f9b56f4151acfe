"""Restores on real servers: what comes back, from what, under which names, and what stops them untouched."""

from __future__ import annotations

import hashlib
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.connection import connect
from scannerdb.contract.probe import ProbeResult
from scannerdb.errors import (
    InvalidInput,
    JobLocked,
    PrivilegeMissing,
    RestoreRefused,
    ScannerDbError,
    ToolMissing,
    ValidationFailed,
)
from scannerdb.joblock import job_lock
from scannerdb.restore import build

from demo import field
from tests import servers
from tests.integration.restore.restore_support import (
    ansible_module,
    damage,
    databases,
    furnish,
    maintenance,
    oid,
    old_dump,
    options,
    state,
)
from tests.integration.support import run_backup, run_fix, run_restore
from tests.servers import Database, Databases

HOSTILE = ['we"ird; drop', "a=b", "ü" + "x" * 61, "dbname='x' \\ é"]


def run(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    login = more.pop("login", {})
    return run_restore(
        options(db, **login),
        **{"backup_dir": str(folder), "state_dir": str(folder / "state"), "confirm": db.name, "grace_s": 0, **more},
    )


@pytest.mark.parametrize("field_db", [None, *HOSTILE], indirect=True)
def test_a_set_comes_back_whole(field_db: Database, tmp_path: Path) -> None:
    furnish(field_db)
    before = state(field_db)
    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    damage(field_db)
    damaged = state(field_db)
    begun = time.monotonic()
    result = run(field_db, tmp_path, source="latest", state_dir=str(tmp_path / "state"))
    took_ms = 1000 * (time.monotonic() - begun)
    assert state(field_db) == before
    told = result["restore"]
    kept = Database(field_db.server, told["previous_database"])
    assert {k: v for k, v in state(kept).items() if k != "database"} == {
        k: v for k, v in damaged.items() if k != "database"
    }
    assert told["database"] == field_db.name
    assert 0 < told["cutover_ms"] < took_ms / 2
    assert Path(told["backup"]).name != Path(told["source"]).name
    assert (tmp_path / "latest.backup").resolve() == Path(told["source"])
    assert result["changed"] is True
    assert Path(result["log"]).name.startswith("restore_")
    assert stat.S_IMODE(Path(result["log"]).stat().st_mode) == 0o600
    assert not [name for name in databases(field_db) if "__restore_" in name]


@pytest.mark.parametrize("form", ["c", "d", "t"])
def test_an_archive_of_pg_dump(field_db: Database, tmp_path: Path, form: str) -> None:
    before = state(field_db)
    dump = old_dump(field_db, tmp_path / "odd name.bin", form)
    damage(field_db)
    result = run(field_db, tmp_path, source=str(dump), prebackup=False)
    assert state(field_db) == before
    assert result["restore"]["backup"] is None


@pytest.mark.parametrize(
    "source", ["latest", "x_20250418_120000.backup", "x_20250418_120000", "2025-04-18 12:00", "2026-01-01"]
)
def test_an_old_scripts_file_by_name(field_db: Database, tmp_path: Path, source: str) -> None:
    before = state(field_db)
    dump = old_dump(field_db, tmp_path / "x_20250418_120000.backup")
    (tmp_path / "latest.backup").symlink_to(dump.name)
    damage(field_db)
    named = source.startswith("x_")  # else nobody has named this very file, and its hash has to be spelled out
    trust = "" if named else hashlib.sha256(dump.read_bytes()).hexdigest()
    result = run(field_db, tmp_path, source=source, prebackup=False, trust=trust)
    assert state(field_db) == before
    assert result["restore"]["source"] == str(dump)


def test_undo_and_redo(field_db: Database, tmp_path: Path) -> None:
    furnish(field_db)
    whole = state(field_db)
    dump = old_dump(field_db, tmp_path / "x.backup")
    damage(field_db)
    damaged = state(field_db)
    first = run(field_db, tmp_path, source=str(dump), prebackup=False)
    undone = run(field_db, tmp_path, state="undone")
    assert state(field_db) == damaged
    assert undone["restore"]["previous_database"] != first["restore"]["previous_database"]
    run(field_db, tmp_path, state="undone")
    assert state(field_db) == whole
    with pytest.raises(RestoreRefused, match="no database kept by run"):
        run(field_db, tmp_path, state="undone", undo_run_id="20250101T000000Z-00000000")


@pytest.mark.parametrize("kind", ["set", "file"])
def test_where_no_database_is_left(field_db: Database, tmp_path: Path, kind: str) -> None:
    furnish(field_db)
    before = state(field_db)
    if kind == "set":
        run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    source = "latest" if kind == "set" else str(old_dump(field_db, tmp_path / "x"))
    with maintenance(field_db) as conn:
        conn.execute(SQL("DROP DATABASE {}").format(Identifier(field_db.name)))
    result = run(field_db, tmp_path, source=source)
    assert "nothing to back up" in result["msg"]
    assert result["restore"]["previous_database"] is None
    assert result["restore"]["cutover_ms"] is None
    after = state(field_db)
    if kind == "file":  # an archive knows the owner and the locale, the rest is the manifest's
        for whole in (before, after):
            owner, _acl, _limit, *locale = whole["database"][:6]
            whole["database"] = (owner, *locale)
    assert after == before


def without_role_settings(found: dict[str, Any]) -> dict[str, Any]:
    *others, settings, is_open = found["database"]
    return {**found, "database": (*others, [s for s in settings if s.startswith("-")], is_open)}


@pytest.mark.parametrize("confirm", ["", "ollama", "TEST_1"])
def test_it_wants_the_name(field_db: Database, tmp_path: Path, confirm: str) -> None:
    with pytest.raises(RestoreRefused, match="spelled out"):
        run(field_db, tmp_path, source="latest", confirm=confirm)


def test_a_locked_job_waits_outside(field_db: Database, tmp_path: Path) -> None:
    with job_lock(options(field_db), "backup", "x"), pytest.raises(JobLocked, match="Another run"):
        run(field_db, tmp_path, source="latest")


def test_a_session_stops_it_or_ends(field_db: Database, tmp_path: Path) -> None:
    dump = old_dump(field_db, tmp_path / "x")
    before, names = state(field_db), databases(field_db)
    with field_db.connect(application_name="the bot") as client:
        with pytest.raises(RestoreRefused, match=r"in use: 'postgres' .'the bot'."):
            run(field_db, tmp_path, source=str(dump))
        assert client.execute("SELECT 1").fetchone() == (1,)
        assert (state(field_db), databases(field_db)) == (before, names)
        result = run(field_db, tmp_path, source=str(dump), terminate=True, prebackup=False)
        assert result["restore"]["sessions_ended"] >= 1
        with pytest.raises(Exception, match=r"terminating connection|closed"):
            client.execute("SELECT 1")


def test_check_mode_writes_nothing(field_db: Database, tmp_path: Path) -> None:
    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names, files = state(field_db), databases(field_db), sorted(tmp_path.rglob("*"))
    record = {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    with field_db.connect(application_name="the bot"):
        result = run(field_db, tmp_path, source="latest", check_mode=True)
    assert result["changed"] is True
    assert any("the bot" in warning for warning in result["warnings"])
    assert len(result["plan"]["steps"]) >= 6
    assert result["restore"]["previous_database"]
    plan = result["plan"]
    assert plan["free_bytes"] > plan["needed_bytes"] >= plan["source_bytes"] > 0
    assert plan["estimate_s"] > 0
    assert plan["estimate_measured"] is False
    assert (state(field_db), databases(field_db), sorted(tmp_path.rglob("*"))) == (before, names, files)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")} == record


@pytest.mark.parametrize("policy", ["stop", "create", "ignore"])
def test_roles_that_are_missing(make_database: Databases, tmp_path: Path, policy: str) -> None:
    db = make_database(filled=True)
    db.sql('CREATE ROLE "Gone, role"')
    db.sql("CREATE ROLE gone_reader")
    db.sql('ALTER TABLE user_selected_models OWNER TO "Gone, role"')
    db.sql("GRANT SELECT ON endpoints TO gone_reader")
    rows = {k: v for k, v in state(db).items() if k.startswith("rows")}
    dump = old_dump(db, tmp_path / "x")
    for statement in (
        "ALTER TABLE user_selected_models OWNER TO postgres",
        "REVOKE ALL ON endpoints FROM gone_reader",
        'DROP OWNED BY "Gone, role", gone_reader',
        'DROP ROLE "Gone, role", gone_reader',
    ):
        db.sql(statement)
    before = state(db)
    if policy == "stop":
        with pytest.raises(RestoreRefused, match=r"does not have: .*gone_reader"):
            run(db, tmp_path, source=str(dump))
        assert state(db) == before
        return
    result = run(db, tmp_path, source=str(dump), missing_roles=policy, prebackup=False)
    assert {k: v for k, v in state(db).items() if k.startswith("rows")} == rows
    owner = db.value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'user_selected_models'")
    assert owner == ("Gone, role" if policy == "create" else "postgres")
    assert bool(result["warnings"]) or policy == "create"


def test_without_a_superuser(field_db: Database, tmp_path: Path) -> None:
    """CREATEDB, membership in the owners, pg_signal_backend: nothing else is needed."""
    furnish(field_db)
    field_db.sql("CREATE ROLE maint LOGIN")
    field_db.sql("GRANT SET ON PARAMETER scannerdb_test.note TO maint")
    with maintenance(field_db) as conn:
        conn.execute(SQL("GRANT CONNECT ON DATABASE {} TO maint").format(Identifier(field_db.name)))
    before = state(field_db)
    dump = old_dump(field_db, tmp_path / "x")
    damage(field_db)
    login = {"user": "maint"}
    with pytest.raises(PrivilegeMissing, match="CREATEDB"):
        run(field_db, tmp_path, source=str(dump), login=login)
    field_db.sql("ALTER ROLE maint CREATEDB")
    with pytest.raises(PrivilegeMissing, match="no member of 'scanner_owner'"):
        run(field_db, tmp_path, source=str(dump), login=login)
    field_db.sql("GRANT scanner_owner TO maint")
    names = databases(field_db)
    with pytest.raises(PrivilegeMissing, match="settings, privileges and limits"):
        run(field_db, tmp_path, source=str(dump), login=login)  # only who manages role ollama may set its settings
    assert databases(field_db) == names
    with maintenance(field_db) as conn:
        conn.execute(SQL("ALTER ROLE ollama IN DATABASE {} RESET ALL").format(Identifier(field_db.name)))
    before = without_role_settings(before)
    with field_db.connect("ollama"):
        with pytest.raises(RestoreRefused, match="may not end these sessions"):
            run(field_db, tmp_path, source=str(dump), login=login, terminate=True)
        field_db.sql("GRANT pg_signal_backend TO maint")
        run(field_db, tmp_path, source=str(dump), login=login, terminate=True, prebackup=False)
    assert state(field_db) == before
    assert oid(field_db) > 0


def test_a_maintenance_database_of_its_own(field_db: Database, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="itself"):
        run(field_db, tmp_path, source="latest", login={"maintenance_db": field_db.name})


def test_prepared_transactions_are_said(field_db: Database, tmp_path: Path) -> None:
    dump = old_dump(field_db, tmp_path / "x")
    with field_db.connect() as conn:
        conn.execute("BEGIN")
        conn.execute("PREPARE TRANSACTION 'half'")
    try:
        with pytest.raises(RestoreRefused, match="half"):
            run(field_db, tmp_path, source=str(dump))
    finally:
        field_db.sql("ROLLBACK PREPARED 'half'")


def test_every_error_is_ours(field_db: Database, tmp_path: Path) -> None:
    for source in ("", "nothing", "../etc", str(tmp_path), "2001-01-01", "2025-99-99", "latest"):
        with pytest.raises(ScannerDbError) as caught:
            run(field_db, tmp_path, source=source)
        assert str(caught.value).endswith(".")
    with connect(options(field_db)) as conn:
        assert conn.execute("SELECT 1 AS one").fetchone()["one"] == 1


@pytest.mark.pg(15, 17, always=True)
def test_tools_newer_than_the_server(field_db: Database, tmp_path: Path) -> None:
    """An archive of pg_dump 18 needs pg_restore 18, which emits settings that older servers refuse."""
    newest = servers.find_bin_dir(18)
    before = state(field_db)
    run_backup(options(field_db, pg_bin_dir=str(newest)), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    damage(field_db)
    with pytest.raises(ToolMissing, match="made by pg_dump 18"):
        run(field_db, tmp_path, source="latest")
    run(field_db, tmp_path, source="latest", login={"pg_bin_dir": str(newest)})
    assert state(field_db) == before


def test_a_repaired_database_passes_its_write_probe(field_db: Database, tmp_path: Path) -> None:
    run_fix(field_db)
    with maintenance(field_db) as conn:
        locked = SQL("ALTER DATABASE {} SET default_transaction_read_only TO on").format(Identifier(field_db.name))
        conn.execute(locked)
    before = state(field_db)
    dump = old_dump(field_db, tmp_path / "x")
    result = run(field_db, tmp_path, source=str(dump), prebackup=False)
    assert state(field_db) == before, "the probe leaves not even a number of a sequence behind"
    assert "write probe: passed" in Path(result["log"]).read_text()


def test_a_failing_probe_stops_it(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_fix(field_db)
    dump = old_dump(field_db, tmp_path / "x")
    before, names = state(field_db), databases(field_db)
    monkeypatch.setattr(build, "write_probe", lambda *_: ProbeResult(failures=["insert: it broke"]))
    with pytest.raises(ValidationFailed, match="insert: it broke"):
        run(field_db, tmp_path, source=str(dump), prebackup=False)
    assert (state(field_db), databases(field_db)) == (before, names)


@pytest.mark.parametrize("check", [False, True])
def test_the_module(field_db: Database, tmp_path: Path, check: bool) -> None:
    """Through Ansible, options and results included."""
    dump = old_dump(field_db, tmp_path / "x")
    before = oid(field_db)
    values = {
        **field_db.login,
        "backup_dir": str(tmp_path),
        "state_dir": str(tmp_path / "state"),
        "source": str(dump),
        "confirm": field_db.name,
    }
    told = ansible_module("scannerdb_restore", values, check)
    assert told["changed"] is True, told
    assert told["restore"]["database"] == field_db.name
    assert (oid(field_db) == before) is check
    assert ("plan" in told) is check
    refused = ansible_module("scannerdb_restore", {**values, "confirm": "x"}, check)
    assert "spelled out" in refused["msg"]
    assert refused["failed"] is True


@pytest.mark.parametrize("layout", ["older", "missing tables", "empty"])
def test_other_layouts_come_back_as_they_were(database: Database, tmp_path: Path, layout: str) -> None:
    """What the live database lacks as well is no loss."""
    with database.connect() as conn:
        if layout == "older":
            field.older_layout(conn)
        elif layout == "missing tables":
            field.missing_tables(conn)
    before = state(database)
    run_backup(options(database), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    result = run(database, tmp_path, source="latest")
    assert state(database) == before
    assert any("critical findings" in warning for warning in result["warnings"])
