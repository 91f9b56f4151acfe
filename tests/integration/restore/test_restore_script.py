"""Restores from plain SQL files of elsewhere: they come back whole; what is dangerous or damaged touches nothing."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import connect
from scannerdb.errors import BackupInvalid, RestoreRefused, ScannerDbError, ToolFailed, ValidationFailed
from scannerdb.load.sql_file import Terms, load_script
from scannerdb.load.sql_script import Script, psql_guards
from scannerdb.load.validation import plain_tables
from scannerdb.tools import find_tools

from tests.integration.restore.restore_support import damage, databases, furnish, old_dump, options, state
from tests.integration.support import run_restore
from tests.servers import Database, Databases


def run(db: Database, folder: Path, source: Path, **more: Any) -> dict[str, Any]:
    words = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "confirm": db.name,
        "grace_s": 0,
        "prebackup": False,
        **more,
    }
    return run_restore(options(db), source=str(source), **words)


def packed(path: Path) -> Path:
    target = path.with_suffix(".sql.gz")
    target.write_bytes(gzip.compress(path.read_bytes(), 1))
    return target


def untouched(db: Database, folder: Path, source: Path, error: type[ScannerDbError], words: str, **more: Any) -> None:
    """The restore fails with these words, and the live database and the server's list of databases stay the same."""
    before, names = state(db), databases(db)
    with pytest.raises(error, match=words):
        run(db, folder, source, **more)
    assert (state(db), databases(db)) == (before, names)


@pytest.mark.parametrize("form", ["sql", "sql.gz"])
@pytest.mark.parametrize("field_db", ["we\"ird; \\! a='b"], indirect=True)
def test_it_comes_back_whole(field_db: Database, tmp_path: Path, form: str) -> None:
    furnish(field_db)
    before = state(field_db)
    dump = old_dump(field_db, tmp_path / "odd name.sql", "p")
    source = packed(dump) if form == "sql.gz" else dump
    damage(field_db)
    damaged, names = state(field_db), databases(field_db)
    plan = run(field_db, tmp_path, source, check_mode=True)["plan"]
    assert (state(field_db), databases(field_db)) == (damaged, names)
    assert plan["tables"] == sum(1 for _, kind, *_ in before["relations"] if kind == "r")
    assert any("with psql" in step for step in plan["steps"])
    result = run(field_db, tmp_path, source)
    assert state(field_db) == before
    assert state(Database(field_db.server, result["restore"]["previous_database"])).keys() == damaged.keys()
    log = Path(result["log"]).read_text()
    rows = sum(value[0] for name, value in before.items() if name.startswith("rows"))
    assert f"{plan['tables']} tables, {rows} rows" in log


def test_rows_as_inserts_and_a_clone(field_db: Database, tmp_path: Path) -> None:
    before = state(field_db)
    dump = tmp_path / "x.sql"
    words = [str(field_db.server.bin_dir / "pg_dump"), "--inserts", "--clean", "--if-exists", "-f", str(dump)]
    where = {"PGHOST": str(field_db.server.socket_dir), "PGPORT": str(field_db.server.port), "PGUSER": "postgres"}
    subprocess.run(words, env={**where, "PGDATABASE": field_db.name}, check=True)
    name = f"{field_db.name}_clone"
    told = run(field_db, tmp_path, dump, into_database=name, confirm=name)
    assert any("no rows that could be counted" in warning for warning in told["warnings"])
    clone = Database(field_db.server, name)
    try:
        assert {k: v for k, v in state(clone).items() if k != "database"} == {
            k: v for k, v in before.items() if k != "database"
        }
    finally:
        with field_db.connect(dbname="postgres") as conn:
            conn.execute(f'DROP DATABASE "{name}"'.encode())


def test_rows_that_do_not_arrive_stop_it(field_db: Database, tmp_path: Path) -> None:
    """The rows that were counted in the file are there after the load, or nothing changes."""
    whole = old_dump(field_db, tmp_path / "x.sql", "p")
    swallow = (
        b"CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS"
        b" 'BEGIN IF NEW.id % 7 = 0 THEN RETURN NULL; END IF; RETURN NEW; END';\n"
        b"CREATE TRIGGER swallow BEFORE INSERT ON public.benchmark_results"
        b" FOR EACH ROW EXECUTE FUNCTION public.swallow();\n"
    )
    text = whole.read_bytes()
    where = text.index(b"COPY public.")
    bad = tmp_path / "bad.sql"
    bad.write_bytes(text[:where] + swallow + text[where:])
    untouched(field_db, tmp_path, bad, ValidationFailed, r"public\.benchmark_results has \d+ instead of \d+ rows")
    name = f"{field_db.name}_clone"
    untouched(field_db, tmp_path, bad, ValidationFailed, "instead of", into_database=name, confirm=name)
    result = run(field_db, tmp_path, whole)
    assert re.search(r"the rows of [1-9]\d* tables are as in x.sql", Path(result["log"]).read_text())
    assert not any("counted" in warning for warning in result["warnings"])


@pytest.mark.parametrize("form", ["p", "c"])
def test_rows_that_come_by_way_of_another_table(database: Database, tmp_path: Path, form: str) -> None:
    """Rows of partitions, loaded through the table that is divided, are no mismatch; those of other tables count."""
    database.sql("CREATE TABLE days (day date) PARTITION BY RANGE (day)")
    database.sql("CREATE TABLE may PARTITION OF days FOR VALUES FROM ('2025-05-01') TO ('2025-06-01')")
    database.sql("INSERT INTO days VALUES ('2025-05-05'), ('2025-05-06')")
    database.sql("CREATE TABLE other AS SELECT 1 AS a")
    before = state(database)
    dump = old_dump(database, tmp_path / "x", form, "--load-via-partition-root")
    result = run(database, tmp_path, dump)
    assert state(database) == before
    assert "the rows of 1 tables are as in x" in Path(result["log"]).read_text()


def test_what_an_extension_fills_is_not_counted(database: Database) -> None:
    database.sql("CREATE TABLE public.ours ()")
    database.sql("CREATE TABLE public.its ()")
    database.sql("ALTER EXTENSION plpgsql ADD TABLE public.its")
    with connect(options(database)) as conn:
        found = plain_tables(conn)
    database.sql("ALTER EXTENSION plpgsql DROP TABLE public.its")
    assert ("public", "ours") in found
    assert ("public", "its") not in found


def test_files_that_touch_more_than_one_database(field_db: Database, tmp_path: Path) -> None:
    dump = tmp_path / "x.sql"
    where = {"PGHOST": str(field_db.server.socket_dir), "PGPORT": str(field_db.server.port), "PGUSER": "postgres"}
    program = str(field_db.server.bin_dir / "pg_dumpall")
    for words in ([], ["--clean", "--if-exists"]):
        subprocess.run([program, *words, "-f", str(dump)], env={**where, "PGDATABASE": field_db.name}, check=True)
        untouched(field_db, tmp_path, dump, RestoreRefused, "as files of pg_dumpall|in a way in which no dump")
        untouched(field_db, tmp_path, packed(dump), RestoreRefused, "pg_dumpall|no dump of one", check_mode=True)


def test_hostile_and_damaged_files(field_db: Database, tmp_path: Path) -> None:
    text = old_dump(field_db, tmp_path / "x.sql", "p").read_bytes()
    proof = tmp_path / "proof"
    bad = tmp_path / "bad.sql"
    for line, words in (
        (f"\\! touch {proof}", "command of psql"),
        (f"SELECT 1 \\g |touch {proof}", "command of psql"),
        ("\\connect postgres", "connects to another database"),
        (f'DROP DATABASE IF EXISTS "{field_db.name}";', "drops or changes a database"),
    ):
        bad.write_bytes(text.replace(b"SET lock_timeout", f"{line}\nSET lock_timeout".encode(), 1))
        untouched(field_db, tmp_path, bad, RestoreRefused, words)
    assert not proof.exists()
    middle = text.index(b"\n", text.index(b"FROM stdin;\n") + 200)
    end = text.index(b"-- PostgreSQL database dump complete")
    for data, words in (
        (text[:middle], "middle of a table's rows"),
        (text[:end], "without the line"),
        (text[: len(text) // 2] + b"\0" + text[len(text) // 2 :], "no text has"),
    ):
        bad.write_bytes(data)
        untouched(field_db, tmp_path, bad, BackupInvalid, words)
    whole = gzip.compress(text)
    bad.write_bytes(whole[: len(whole) // 2])
    untouched(field_db, tmp_path, bad, BackupInvalid, "cannot be unpacked")


def test_psqls_own_line_is_told(field_db: Database, tmp_path: Path) -> None:
    text = old_dump(field_db, tmp_path / "x.sql", "p").read_bytes()
    bad = tmp_path / "bad.sql"
    lines = text.splitlines(keepends=True)
    where = next(i for i, line in enumerate(lines) if b"FROM stdin" in line)
    bad.write_bytes(b"".join([*lines[:where], b"SELECT nothing_of_the_kind;\n", *lines[where:]]))
    untouched(field_db, tmp_path, bad, ToolFailed, f'psql stopped at line {where + 1} of bad.sql: column "nothing')


def test_psql_itself_takes_no_commands(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What our reading of a file would let through, psql refuses where it can."""
    tools = find_tools(options(field_db).pg_bin_dir, 0, "psql")
    assert psql_guards(tools.version), "the test servers come with psql of this year"
    monkeypatch.setattr(Script, "take", lambda self, line: "")
    monkeypatch.setattr(Script, "finish", lambda self: None)
    proof, bad = tmp_path / "proof", tmp_path / "bad.sql"
    bad.write_text(f"SELECT 1;\n\\! touch {proof}\n")
    with pytest.raises(ToolFailed, match="restricted"):
        load_script(tools, options(field_db), bad, field_db.name, Terms(0, True))
    assert not proof.exists()


@pytest.mark.parametrize("policy", ["stop", "create", "ignore"])
def test_roles_that_are_missing(make_database: Databases, tmp_path: Path, policy: str) -> None:
    db = make_database(filled=True)
    db.sql('CREATE ROLE "Lost, role"')
    db.sql('ALTER TABLE user_selected_models OWNER TO "Lost, role"')
    db.sql('GRANT SELECT ON endpoints TO "Lost, role"')
    rows = {k: v for k, v in state(db).items() if k.startswith("rows")}
    dump = old_dump(db, tmp_path / "x.sql", "p")
    db.sql('REASSIGN OWNED BY "Lost, role" TO postgres')
    db.sql('DROP OWNED BY "Lost, role"')
    db.sql('DROP ROLE "Lost, role"')
    damage(db)
    if policy == "stop":
        untouched(db, tmp_path, dump, RestoreRefused, "does not have: Lost, role")
        return
    result = run(db, tmp_path, dump, missing_roles=policy)
    assert {k: v for k, v in state(db).items() if k.startswith("rows")} == rows
    owners = {name: owner for name, _, owner, _ in state(db)["relations"]}
    assert owners["public.user_selected_models"] == ("Lost, role" if policy == "create" else "postgres")
    if policy == "ignore":
        assert any("Lost, role" in warning for warning in result["warnings"])
    else:
        db.sql('REASSIGN OWNED BY "Lost, role" TO postgres')
        db.sql('DROP OWNED BY "Lost, role"')
        kept = Database(db.server, result["restore"]["previous_database"])
        kept.sql('DROP OWNED BY "Lost, role"')
        db.sql('DROP ROLE "Lost, role"')


def test_a_newer_dump_on_an_older_server(field_db: Database, tmp_path: Path) -> None:
    """The guards and the settings of newer versions of pg_dump come by every server."""
    before = state(field_db)
    text = old_dump(field_db, tmp_path / "x.sql", "p").read_bytes()
    if b"\\restrict " not in text:
        text = b"\\restrict abc\n" + text + b"\\unrestrict abc\n"
    if b"SET transaction_timeout" not in text:
        text = text.replace(b"SET lock_timeout", b"SET transaction_timeout = 0;\nSET lock_timeout", 1)
    newer = tmp_path / "newer.sql"
    newer.write_bytes(text)
    damage(field_db)
    run(field_db, tmp_path, newer)
    assert state(field_db) == before
