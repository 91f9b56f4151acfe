"""The exports that people have: with --create, --clean, and without owners or privileges; whole or not at all."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.errors import RestoreRefused, ValidationFailed

from tests.integration.restore.restore_support import damage, databases, furnish, maintenance, options, state
from tests.integration.support import run_restore
from tests.servers import Database, Databases

FIELD = ("--format=plain", "--clean", "--if-exists", "--create", "--no-owner", "--no-privileges")


def export(db: Database, path: Path, *words: str) -> Path:
    """What pg_dump writes with these words."""
    where = {"PGHOST": str(db.server.socket_dir), "PGPORT": str(db.server.port), "PGUSER": "postgres"}
    program = str(db.server.bin_dir / "pg_dump")
    subprocess.run([program, *words, "-f", str(path)], env={**where, "PGDATABASE": db.name}, check=True)
    return path


def run(db: Database, folder: Path, source: Path, **more: Any) -> dict[str, Any]:
    words = {"backup_dir": str(folder), "state_dir": str(folder / "state"), "confirm": db.name, "grace_s": 0}
    return run_restore(options(db), source=str(source), **{**words, "prebackup": False, **more})


@pytest.mark.parametrize("field_db", ["we\"ird; \\! a='b"], indirect=True)
@pytest.mark.parametrize(
    "words",
    [
        ("--clean", "--if-exists", "--create"),
        ("--create",),
        ("--clean",),
        ("--clean", "--create", "--no-owner", "--no-privileges"),
        FIELD[1:],
        ("-Fc", "--create", "--clean", "--no-owner"),
        ("-Fc", "--no-owner", "--no-privileges"),
    ],
    ids=" ".join,
)
def test_an_export_comes_back_whole(field_db: Database, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Rows, owners and privileges; without any in the file, as the live database has them."""
    furnish(field_db)
    field_db.sql("SELECT lo_create(4711)")
    field_db.sql("GRANT UPDATE (value) ON metadata TO grafana_ro")
    field_db.sql(
        "ALTER DEFAULT PRIVILEGES FOR ROLE scanner_owner IN SCHEMA public GRANT SELECT ON TABLES TO grafana_ro"
    )
    field_db.sql("ALTER DEFAULT PRIVILEGES FOR ROLE scanner_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    defaults = (
        "SELECT defaclrole, defaclnamespace::regnamespace::text, defaclobjtype, defaclacl::text FROM pg_default_acl"
    )
    given = sorted(field_db.sql(defaults))
    before = state(field_db)
    dump = export(field_db, tmp_path / "x.sql", *words)
    field_db.sql("DELETE FROM models")
    names = databases(field_db)
    plan = run(field_db, tmp_path, dump, check_mode=True)
    bare = "--no-privileges" in words
    assert any("names no" in warning and "privileges" in warning for warning in plan["warnings"]) == bare
    assert databases(field_db) == names
    result = run(field_db, tmp_path, dump)
    assert state(field_db) == before and sorted(field_db.sql(defaults)) == given
    assert field_db.value("SELECT count(*) FROM pg_largeobject_metadata") == 1
    with field_db.connect() as conn:
        query = "SELECT attacl::text FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'metadata'::regclass"
        granted = conn.execute(query).fetchall()
    assert [("grafana_ro" in text) for (text,) in granted] == [True]
    assert databases(field_db) == names | {result["restore"]["previous_database"]}


@pytest.mark.pg(17)
def test_what_the_live_database_lost_gets_what_the_contract_says(field_db: Database, tmp_path: Path) -> None:
    """Tables that are gone from it, known to the contract or not, are the application's to read again."""
    dump = export(field_db, tmp_path / "x.sql", *FIELD)
    damage(field_db)  # drops chat_history
    field_db.sql("DROP TABLE benchmark_results CASCADE")
    run(field_db, tmp_path, dump)
    for table in ("chat_history", "benchmark_results", "endpoints", "servers", "user_selected_models"):
        assert field_db.value("SELECT has_table_privilege('ollama', %s, 'SELECT, INSERT')", table), table
    owners = field_db.sql("SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [("scanner_owner",)]


@pytest.mark.pg(17)
def test_without_a_live_database(make_database: Databases, tmp_path: Path) -> None:
    """Encoding and locale are those that the file asks for, privileges the contract's."""
    db = make_database(filled=True)
    with maintenance(db) as conn:
        conn.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(f"{db.name}_c")))
        conn.execute(
            SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'").format(
                Identifier(f"{db.name}_c")
            )
        )
    other = Database(db.server, f"{db.name}_c")
    try:
        run(other, tmp_path, export(db, tmp_path / "y.sql", "--no-owner", "--no-privileges"), terminate=True)
        dump = export(other, tmp_path / "x.sql", *FIELD)
        with maintenance(db) as conn:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(other.name)))
        run(other, tmp_path, dump)
        located = "SELECT datlocprovider::text, datcollate, datctype FROM pg_database WHERE datname = %s"
        assert other.sql(located, other.name) == [("c", "C", "C")]
        assert other.value("SELECT has_table_privilege('ollama', 'endpoints', 'SELECT, INSERT')")
    finally:
        with maintenance(db) as conn:
            for name in databases(db):
                if name.startswith(other.name):
                    conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.mark.pg(17)
def test_a_locale_that_the_server_does_not_know(field_db: Database, tmp_path: Path) -> None:
    """The worst day is no day for a refusal: the live database's is taken, and it is said."""
    dump = export(field_db, tmp_path / "x.sql", *FIELD)
    text = dump.read_text()
    line = next(line for line in text.splitlines() if line.startswith("CREATE DATABASE"))
    dump.write_text(text.replace(line, line.partition(" ENCODING")[0] + " ENCODING = 'UTF8' LOCALE = 'xx_XX.utf8';"))
    before = state(field_db)
    warnings = run(field_db, tmp_path, dump)["warnings"]
    assert any("xx_XX.utf8" in warning and "live database" in warning for warning in warnings)
    assert state(field_db) == before


@pytest.mark.pg(17)
def test_an_application_that_could_not_read_stops_it(field_db: Database, tmp_path: Path) -> None:
    """Whether the live database's application could or not; unless that is accepted by its name."""
    field_db.sql("REVOKE ALL ON endpoints FROM ollama, PUBLIC")
    dump = export(field_db, tmp_path / "x.dump", "-Fc")
    before, names = state(field_db), databases(field_db)
    with pytest.raises(ValidationFailed, match="Role ollama may not read endpoints"):
        run(field_db, tmp_path, dump)
    assert (state(field_db), databases(field_db)) == (before, names)
    run(field_db, tmp_path, dump, accept=["schema.privilege.missing"])
    with field_db.connect() as conn:
        conn.execute("ALTER ROLE ollama RENAME TO ollama_away")
    try:
        bare = export(field_db, tmp_path / "y.sql", *FIELD)
        with pytest.raises(ValidationFailed, match="Role ollama does not exist"):
            run(field_db, tmp_path, bare)
    finally:
        with field_db.connect() as conn:
            conn.execute("ALTER ROLE ollama_away RENAME TO ollama")


@pytest.mark.pg(17)
def test_what_leaves_the_side_database_is_refused(field_db: Database, tmp_path: Path) -> None:
    text = export(field_db, tmp_path / "x.sql", "--create", "--clean", "--if-exists").read_text()
    create = next(line for line in text.splitlines() if line.startswith("CREATE DATABASE"))
    connect = next(line for line in text.splitlines() if line.startswith("\\connect"))
    before, names = state(field_db), databases(field_db)
    cases = {
        "another": text.replace(connect, "\\connect postgres", 1),
        "connection string": text.replace(connect, '\\connect -reuse-previous=on "dbname=postgres host=x"', 1),
        "drops another": text.replace("DROP DATABASE IF EXISTS ", "DROP DATABASE IF EXISTS postgres; -- ", 1),
        "drops later": text.replace("CREATE TABLE", f"DROP DATABASE {field_db.name};\nCREATE TABLE", 1),
        "a second one": text.replace(create, f"{create}\nCREATE DATABASE other WITH TEMPLATE = template0;", 1),
        "alters another": text.replace(create, f"{create}\nALTER DATABASE postgres SET work_mem TO '1MB';", 1),
        "hides behind": text.replace(create, f"SELECT 1; {create}", 1),
        "a role": text.replace(create, f"{create}\nCREATE ROLE evil SUPERUSER;", 1),
        "grants on another": text.replace(create, f"{create}\nGRANT ALL ON DATABASE postgres TO ollama;", 1),
    }
    for name, changed in cases.items():
        assert changed != text, name
        bad = tmp_path / "bad.sql"
        bad.write_text(changed)
        with pytest.raises(RestoreRefused, match="is not restored: its line"):
            run(field_db, tmp_path, bad)
        assert (state(field_db), databases(field_db)) == (before, names), name


@pytest.mark.pg(17)
def test_a_maintenance_role_restores_it(field_db: Database, tmp_path: Path) -> None:
    """Without a superuser, too: a member of the owner gives things to it."""
    with maintenance(field_db) as conn:
        conn.execute(SQL("ALTER DATABASE {} OWNER TO scanner_owner").format(Identifier(field_db.name)))
    before = state(field_db)
    dump = export(field_db, tmp_path / "x.sql", *FIELD)
    with maintenance(field_db) as conn:
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            conn.execute("CREATE ROLE test_restorer LOGIN CREATEDB")
        conn.execute("GRANT scanner_owner, pg_signal_backend TO test_restorer")
    run_restore(
        options(field_db, user="test_restorer"),
        source=str(dump),
        backup_dir=str(tmp_path),
        state_dir=str(tmp_path / "s"),
        confirm=field_db.name,
        grace_s=0,
        prebackup=False,
    )
    assert state(field_db) == before
