"""Parts of a backup: tables beside the live ones, and clones under another name, masked before anybody sees them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.errors import BackupInvalid, FileProblem, InvalidInput, RestoreRefused, ScannerDbError, ValidationFailed
from scannerdb.restore import cloning
from scannerdb.restore.tables import table_name

from tests import servers
from tests.integration.restore.restore_support import (
    damage,
    databases,
    furnish,
    maintenance,
    oid,
    old_dump,
    options,
    state,
)
from tests.integration.support import run_backup, run_restore
from tests.servers import Database, Databases

MISSING = "SELECT * FROM {schema}.{table} EXCEPT SELECT * FROM public.{table}"


def run(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    values = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "source": "latest",
        "confirm": more.get("into_database", db.name),
    }
    return run_restore(options(db), **{**values, **more})


def without_schema(found: dict[str, Any], schema: str) -> dict[str, Any]:
    kept = {k: v for k, v in found.items() if f" {schema}." not in k}
    return {**kept, "relations": [r for r in found["relations"] if not r[0].startswith(f"{schema}.")]}


# --- tables


@pytest.mark.parametrize("kind", ["set", "file", "sql", "inserts"])
def test_rows_come_back_by_hand(field_db: Database, tmp_path: Path, kind: str) -> None:
    """As docs/restore.md says: bring the table, look at what is missing, insert it."""
    whole = state(field_db)
    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    forms = {"file": ["c"], "sql": ["p"], "inserts": ["p", "--column-inserts"]}
    source = "latest" if kind == "set" else str(old_dump(field_db, tmp_path / "x", *forms[kind]))
    field_db.sql("DELETE FROM benchmark_results WHERE id % 3 = 0")
    before, names = state(field_db), databases(field_db)
    with field_db.connect(application_name="the bot") as client:
        result = run(field_db, tmp_path, source=source, tables=["benchmark_results"], into_schema="yesterday")
        assert client.execute("SELECT 1").fetchone() == (1,), "nobody is disconnected"
    assert result["restore"]["schema"] == "yesterday"
    assert without_schema(state(field_db), "yesterday") == before
    assert databases(field_db) == names
    missing = field_db.sql(MISSING.format(schema="yesterday", table="benchmark_results"))
    assert missing
    field_db.sql(f"INSERT INTO benchmark_results {MISSING.format(schema='yesterday', table='benchmark_results')}")
    field_db.sql("DROP SCHEMA yesterday CASCADE")
    assert state(field_db) == whole


@pytest.mark.pg(15, 17, always=True)
def test_tables_by_tools_newer_than_the_server(field_db: Database, tmp_path: Path) -> None:
    """They emit settings that an older server refuses, on the way into the live database too."""
    newest = servers.find_bin_dir(18)
    newer = options(field_db, pg_bin_dir=str(newest))
    run_backup(newer, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before = state(field_db)
    more = {"source": "latest", "confirm": field_db.name, "tables": ["models"], "into_schema": "old"}
    run_restore(newer, backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), **more)
    assert without_schema(state(field_db), "old") == before
    assert field_db.sql(MISSING.format(schema="old", table="models")) == []
    assert field_db.value("SELECT count(*) FROM old.models") == field_db.value("SELECT count(*) FROM models") > 0


def test_what_inherits_or_is_parted_is_not_brought_alone(database: Database, tmp_path: Path) -> None:
    """It would come without rows, or become a part of the live table."""
    database.sql("CREATE TABLE days (day date) PARTITION BY RANGE (day)")
    database.sql("CREATE TABLE may PARTITION OF days FOR VALUES FROM ('2025-05-01') TO ('2025-06-01')")
    database.sql("INSERT INTO days VALUES ('2025-05-05')")
    run_backup(options(database), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(database), databases(database)
    for table in ("days", "may"):
        with pytest.raises(RestoreRefused, match="is a partition, has partitions, or inherits"):
            run(database, tmp_path, tables=[table])
    assert (state(database), databases(database)) == (before, names)


def test_a_table_out_of_plain_sql_comes_bare(make_database: Databases, tmp_path: Path) -> None:
    """As out of an archive: nothing that leads to the live tables, and no role that is missing or owns something."""
    db = make_database()
    for statement in (
        "CREATE ROLE gone",
        'CREATE SCHEMA "s; x"',
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "INSERT INTO parent VALUES (1)",
        'CREATE TABLE "s; x"."a b" (id serial PRIMARY KEY, of int REFERENCES parent, t text UNIQUE, x int DEFAULT 7)',
        """INSERT INTO "s; x"."a b" (of, t) VALUES (1, 'one'), (1, 'two')""",
        'ALTER TABLE "s; x"."a b" OWNER TO gone',
        'GRANT SELECT ON "s; x"."a b" TO gone',
        'CREATE INDEX odd ON "s; x"."a b" (lower(t))',
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        'CREATE TRIGGER tr BEFORE INSERT ON "s; x"."a b" FOR EACH ROW EXECUTE FUNCTION f()',
        'CREATE RULE ru AS ON DELETE TO "s; x"."a b" DO ALSO NOTHING',
        'CREATE POLICY po ON "s; x"."a b" TO gone USING (true)',
        'ALTER TABLE "s; x"."a b" ENABLE ROW LEVEL SECURITY',
        'ALTER TABLE "s; x"."a b" FORCE ROW LEVEL SECURITY',
        'CREATE VIEW v AS SELECT t FROM "s; x"."a b"',
    ):
        db.sql(statement)
    dump = old_dump(db, tmp_path / "x.sql", "p")
    db.sql('DROP SCHEMA "s; x" CASCADE')
    db.sql("DROP ROLE gone")
    before, names = state(db), databases(db)
    told = run(db, tmp_path, source=str(dump), tables=['"s; x"."a b"'], into_schema="old", check_mode=True)
    assert any("load all of it" in step for step in told["plan"]["steps"])
    run(db, tmp_path, source=str(dump), tables=['"s; x"."a b"'], into_schema="old")
    assert without_schema(state(db), "old") == before and databases(db) == names
    assert db.sql('SELECT id, of, t, x FROM old."a b" ORDER BY 1') == [(1, 1, "one", 7), (2, 1, "two", 7)]
    kinds = db.value("""SELECT string_agg(contype::text, '' ORDER BY contype) FROM pg_constraint
        WHERE conrelid = 'old."a b"'::regclass AND contype <> 'n'""")
    assert kinds == "pu", "its keys, and no foreign key"
    assert db.sql("""SELECT (SELECT count(*) FROM pg_index WHERE indrelid = c.oid), relhastriggers, relhasrules,
        relrowsecurity, relforcerowsecurity, relowner::regrole::text, relacl
        FROM pg_class c WHERE relname = 'a b'""") == [(2, False, False, False, False, "postgres", None)]
    db.sql("""INSERT INTO old."a b" (t) VALUES ('three')""")
    assert db.value('SELECT max(id) FROM old."a b"') == 3, "its sequence came along"


def test_an_undo_is_confirmed_by_the_live_databases_name(database: Database, tmp_path: Path) -> None:
    """Whatever else is set: the undo swaps that database."""
    with pytest.raises(RestoreRefused, match=f"database '{database.name}', and has to be confirmed by that name"):
        run(database, tmp_path, state="undone", into_database="another")


def test_hostile_names(database: Database, tmp_path: Path) -> None:
    database.sql('CREATE SCHEMA "s; x"')
    database.sql("""CREATE TABLE "s; x"."a ""b'.c" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text)""")
    database.sql("""INSERT INTO "s; x"."a ""b'.c" (t) VALUES ('one'), ('two')""")
    dump = old_dump(database, tmp_path / "x")
    wanted = '''"s; x"."a ""b'.c"'''
    told = run(database, tmp_path, source=str(dump), tables=[wanted], into_schema="we\"ird'; drop")
    assert told["changed"] is True
    assert database.sql("""SELECT t FROM "we""ird'; drop"."a ""b'.c" ORDER BY id""") == [("one",), ("two",)]


def test_table_names() -> None:
    assert table_name("endpoints") == ("public", "endpoints")
    assert table_name(' s."a.""b" ') == ("s", 'a."b')
    for text in ("", ".", "a.b.c", '"a', '"a"b', "a."):
        with pytest.raises(InvalidInput, match="not the name of a table"):
            table_name(text)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"tables": ["nothing"]}, BackupInvalid, "has no table public.nothing"),
        ({"tables": ["models"], "into_schema": "public"}, RestoreRefused, "has a schema 'public' already"),
        ({"tables": ["models", '"models"']}, InvalidInput, "Two tables named models"),
        ({"tables": ["models"], "into_database": "x"}, InvalidInput, "never into another database"),
        ({"tables": ["models"], "confirm": "x"}, RestoreRefused, "adds a schema to database"),
    ],
)
def test_tables_that_are_refused(
    field_db: Database, tmp_path: Path, more: dict[str, Any], kind: type[Exception], words: str
) -> None:
    form = "p" if "nothing" in more["tables"] else "c"
    dump = old_dump(field_db, tmp_path / "x", form)
    before, names = state(field_db), databases(field_db)
    for check in (True, False):
        with pytest.raises(kind, match=words):
            run(field_db, tmp_path, source=str(dump), check_mode=check, **more)
    assert (state(field_db), databases(field_db)) == (before, names)


def test_tables_in_check_mode_and_when_the_copy_fails(
    field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scannerdb.restore import tables

    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names, files = state(field_db), databases(field_db), sorted(tmp_path.rglob("*"))
    told = run(field_db, tmp_path, tables=["models"], check_mode=True)
    assert "Would put 1 tables" in told["msg"]
    assert (state(field_db), databases(field_db), sorted(tmp_path.rglob("*"))) == (before, names, files)

    honest = tables.load_script

    def fail(tools: Any, opts: Any, script: Path, *more: Any) -> str:
        end = b"-- PostgreSQL database dump complete"
        script.write_bytes(gzip.decompress(script.read_bytes()).replace(end, b"SELECT 1 / 0;\n" + end))
        return honest(tools, opts, script, *more)

    monkeypatch.setattr(tables, "load_script", fail)
    with pytest.raises(ScannerDbError, match="division by zero"):
        run(field_db, tmp_path, tables=["models"])
    assert (state(field_db), databases(field_db)) == (before, names)
    assert not list(tmp_path.glob(".*")), "no debris"


# --- clones

MASK = """
UPDATE endpoints SET ip = md5(ip);
UPDATE endpoints SET honeypot_reason = NULL, inactive_reason = NULL;
"""


def test_a_masked_clone(field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(field_db)
    run_backup(options(field_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    script = tmp_path / "mask.sql"
    script.write_text(MASK, encoding="utf-8")
    before, names, live = state(field_db), databases(field_db), oid(field_db)
    shut_out: list[str] = []
    honest = cloning.mask

    def mask(task: Any, tools: Any, side: str) -> None:
        for login in ("ollama", "grafana_ro", "scanner_owner"):
            try:
                field_db.connect(login, dbname=side).close()
            except psycopg.OperationalError:
                shut_out.append(login)
        honest(task, tools, side)

    monkeypatch.setattr(cloning, "mask", mask)
    told = run(field_db, tmp_path, into_database="dev; copy", masking_sql=str(script))
    assert told["restore"]["database"] == "dev; copy"
    assert shut_out == ["ollama", "grafana_ro", "scanner_owner"]
    assert (state(field_db), oid(field_db)) == (before, live)
    assert databases(field_db) == {*names, "dev; copy"}
    clone = Database(field_db.server, "dev; copy")
    assert clone.value("SELECT count(*) FROM endpoints WHERE ip ~ '^[0-9a-f]{32}$'") == field_db.value(
        "SELECT count(*) FROM endpoints"
    )
    unmasked = field_db.value("SELECT ip FROM endpoints ORDER BY id LIMIT 1")
    statistics = clone.value("SELECT string_agg(histogram_bounds::text || most_common_vals::text, ' ') FROM pg_stats")
    assert unmasked not in str(statistics)
    files = clone.value("SELECT pg_relation_filepath('endpoints')")
    clone.sql("CHECKPOINT")
    assert unmasked.encode() not in (field_db.server.data / files).read_bytes(), "not even on the disk"
    (owner, acl, limit, *_, comment, settings, _) = state(clone)["database"]
    assert (owner, acl, limit, settings) == tuple(before["database"][i] for i in (0, 1, 2, 7))
    assert comment.startswith("Clone of ")
    with clone.connect("ollama") as conn:
        assert conn.execute("SELECT count(*) FROM endpoints").fetchone()


def test_a_clone_of_a_plain_archive(field_db: Database, tmp_path: Path) -> None:
    dump = old_dump(field_db, tmp_path / "x")
    rows = {k: v for k, v in state(field_db).items() if k.startswith("rows")}
    damage(field_db)
    run(field_db, tmp_path, source=str(dump), into_database="dev")
    clone = Database(field_db.server, "dev")
    assert {k: v for k, v in state(clone).items() if k.startswith("rows")} == rows
    assert clone.value("SELECT has_database_privilege('ollama', 'dev', 'CONNECT')") is True


def test_clones_that_are_refused(field_db: Database, tmp_path: Path) -> None:
    dump = str(old_dump(field_db, tmp_path / "x"))
    wrong = tmp_path / "wrong.sql"
    wrong.write_text("UPDATE endpoints SET ip = 'x' || id; SELECT 1 / 0;", encoding="utf-8")
    before, names = state(field_db), databases(field_db)
    with maintenance(field_db) as conn:
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier("taken")))
    names.add("taken")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"into_database": "taken"}, RestoreRefused, "exists already"),
        ({"into_database": field_db.name}, InvalidInput, "another name"),
        ({"into_database": "x" * 64}, RestoreRefused, "too long"),
        ({"into_database": "dev", "confirm": field_db.name}, RestoreRefused, "creates database 'dev'"),
        ({"into_database": "dev", "masking_sql": str(tmp_path / "gone")}, FileProblem, "cannot be read"),
        ({"into_database": "dev", "masking_sql": str(wrong)}, ValidationFailed, "division by zero"),
        ({"masking_sql": str(wrong)}, InvalidInput, "Only a clone"),
    ]
    for more, kind, words in cases:
        with pytest.raises(kind, match=words):
            run(field_db, tmp_path, source=dump, **more)
        assert databases(field_db) == names, more
    assert state(field_db) == before
