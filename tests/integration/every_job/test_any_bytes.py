"""A database without an encoding (SQL_ASCII), whose names and values are any bytes, goes through every job."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import fix
from scannerdb.jobs.info import info
from scannerdb.jobs.undo import undo

from tests.integration.matrix.matrix_support import back_up, bring_back, lose
from tests.integration.support import NO_BACKUP, options, run_restore, run_vacuum, run_verify
from tests.servers import Database, make_home

STATEMENTS = [
    b'CREATE TABLE "caf\xe9" (a int PRIMARY KEY, "pri\xe8re" text, CONSTRAINT "vrai\xe9" CHECK (a > 0))',
    b"INSERT INTO \"caf\xe9\" SELECT i, '\xe9\xff ' || i FROM generate_series(1, 50) i",
    b'CREATE INDEX "idx\xe9" ON "caf\xe9" ("pri\xe8re")',
    b'CREATE INDEX "idx2\xe9" ON "caf\xe9" ("pri\xe8re")',
    b'CREATE TABLE "Gr\xc3\xbc\xc3\x9fe" (a int)',
    b'INSERT INTO "Gr\xc3\xbc\xc3\x9fe" VALUES (1), (2)',
    b'CREATE VIEW "vue\xe9" AS SELECT * FROM "caf\xe9"',
    b"CREATE FUNCTION \"f\xe9\"() RETURNS text LANGUAGE sql AS 'SELECT ''\xe9''::text'",
    b'CREATE SCHEMA "sch\xe9ma"',
    b'CREATE TABLE "sch\xe9ma"."t\xe9" (s serial, e text)',
    b"COMMENT ON TABLE \"caf\xe9\" IS '\xe9t\xe9'",
    b"UPDATE endpoints SET honeypot_reason = 'caf\xe9', verified = 1 WHERE id < 9",
]


@pytest.fixture
def raw(field_db: Database) -> Iterator[Database]:
    """The field's database without an encoding, with names in Latin-1."""
    name = f"{field_db.name}_raw"
    field_db.sql(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    made = Database(field_db.server, name)
    words = {"PGHOST": str(field_db.server.socket_dir), "PGPORT": str(field_db.server.port), "PGUSER": "postgres"}
    dump, load = (str(field_db.server.bin_dir / tool) for tool in ("pg_dump", "pg_restore"))
    text = subprocess.run([dump, "-Fc", field_db.name], env=words, check=True, capture_output=True).stdout
    subprocess.run([load, "-d", name], env=words, input=text, check=True)
    with made.connect(client_encoding="LATIN1") as conn:
        for statement in STATEMENTS:
            conn.execute(statement)
    yield made
    field_db.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def content(db: Database) -> list[Any]:
    """The names of all relations and columns, and the rows of one table, as bytes."""
    with db.connect(client_encoding="LATIN1") as conn:
        names = "SELECT relname::text, relkind::text, attname::text FROM pg_class c JOIN pg_attribute a ON"
        names += " attrelid = c.oid AND attnum > 0 WHERE relnamespace >= 2200 ORDER BY 1, 3"
        rows = conn.execute(b'SELECT a, "pri\xe8re", convert_to("pri\xe8re", \'SQL_ASCII\') FROM "caf\xe9" ORDER BY 1')
        return [*rows.fetchall(), *conn.execute(names).fetchall()]


@pytest.fixture
def cluster_dir() -> Iterator[Path]:
    folder = make_home("scannerdb-ab-")
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_every_job_takes_it(raw: Database, tmp_path: Path, cluster_dir: Path) -> None:
    folder = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    before = content(raw)
    found = check(options(raw), CheckOptions(report_dir=str(tmp_path)))["findings"]
    assert any("caf\\udce9" in f["object"] for f in found)  # as text that Ansible takes
    assert not [f["message"] for f in found if f["id"].startswith("check.")], (
        "there is nothing that could not be looked at"
    )
    assert "server.setting.dangerous" in {f["id"] for f in found}
    assert info(options(raw))
    back_up(raw, tmp_path)
    for level, place in (("read", "server"), ("restore", "server"), ("restore", "cluster")):
        drilled = run_verify(options(raw), level=level, place=place, cluster_dir=str(cluster_dir), **folder)
        assert drilled["verification"]["problems"] == [], (level, place)
    fixed = fix(options(raw), safety=NO_BACKUP, state_dir=str(tmp_path / "s"))
    assert fixed["fixed"]
    assert undo(options(raw), run_id=fixed["run_id"], state_dir=str(tmp_path / "s"))["changed"]
    assert run_vacuum(options(raw))
    lose(raw)
    bring_back(raw, tmp_path)
    assert content(raw) == before
    bring_back(raw, tmp_path)
    assert run_restore(options(raw), state="undone", confirm=raw.name, grace_s=0, **folder)["changed"]
    assert content(raw) == before
