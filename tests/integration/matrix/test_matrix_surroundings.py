"""Names, settings and environments: backup, drop, restore give the same text of pg_dump and the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Composed, Identifier, Literal

from tests.integration.hostile_settings import known_to
from tests.integration.matrix.matrix_kinds import ENVIRONMENT, NAMES, SETTINGS, kinds_of
from tests.integration.matrix.matrix_support import (
    after_a_restore,
    back_up,
    bring_back,
    differing,
    furnished,
    lose,
    picture,
    problems_of_a_drill,
)
from tests.integration.restore.restore_support import maintenance
from tests.servers import Database

ROLE = "mx_login"
# Kinds of objects under one name {n}; others begin with it, {l} is the name as a string and {r} that of a role.
NAMED = """
CREATE ROLE {r};
CREATE SCHEMA {n} AUTHORIZATION {r};
CREATE TYPE {n}.{e} AS ENUM ({l}, 'another');
CREATE DOMAIN {n}.{d} AS text CONSTRAINT {n} CHECK (VALUE <> {l});
CREATE TABLE {n}.{n} ({n} {n}.{e} CONSTRAINT {k} PRIMARY KEY, {d} {n}.{d} DEFAULT {l} || '!', span int UNIQUE);
INSERT INTO {n}.{n} VALUES ({l}, 'x', 1), ('another', 'y' || {l}, 2);
CREATE TABLE {n}.{t} (a int REFERENCES {n}.{n} (span), {n} int CONSTRAINT {n} CHECK ({n} > 0));
CREATE TABLE {n}.{p} (a int, {n} text) PARTITION BY RANGE (a);
CREATE TABLE {n}.{q} PARTITION OF {n}.{p} DEFAULT;
INSERT INTO {n}.{p} VALUES (1, {l});
CREATE INDEX {i} ON {n}.{t} ({n});
CREATE SEQUENCE {n}.{s} START 7;
CREATE VIEW {n}.{v} AS SELECT {n}, {l}::text AS text FROM {n}.{n};
CREATE MATERIALIZED VIEW {n}.{m} AS SELECT {n} FROM {n}.{t};
CREATE FUNCTION {n}.{n}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION {n}.{f}({n} int) RETURNS text LANGUAGE sql AS 'SELECT ''x''::text';
CREATE TRIGGER {n} BEFORE UPDATE ON {n}.{n} FOR EACH ROW EXECUTE FUNCTION {n}.{n}();
CREATE POLICY {n} ON {n}.{n} TO {r} USING (true);
CREATE RULE {n} AS ON DELETE TO {n}.{t} DO ALSO NOTHING;
CREATE STATISTICS {n}.{x} ON a, {n} FROM {n}.{t};
CREATE PUBLICATION {n} FOR TABLE {n}.{n};
COMMENT ON TABLE {n}.{n} IS {l};
COMMENT ON COLUMN {n}.{n}.{n} IS {l};
COMMENT ON POLICY {n} ON {n}.{n} IS {l};
ALTER TABLE {n}.{n} OWNER TO {r};
GRANT SELECT ({n}) ON {n}.{n} TO {r};
GRANT ALL ON {n}.{t}, {n}.{v} TO {r} WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE {r} IN SCHEMA {n} GRANT SELECT ON TABLES TO {r};
"""


def named(name: str) -> list[Composed]:
    """The statements that make all of these, of that name."""
    short = name.encode()[:55].decode("utf-8", "ignore")
    words = {letter: Identifier(f"{short} {letter}") for letter in "edktpqisvmfx"}
    values = {"l": Literal(name), "n": Identifier(name), "r": Identifier(f"mx {short}"), **words}
    statements = NAMED.strip().split(";\n")
    return [SQL(one.strip().rstrip(";")).format(**values) for one in statements]  # type: ignore[arg-type]


@pytest.mark.parametrize("drilled", ["server", "cluster"])
def test_names_come_back(database: Database, tmp_path: Path, drilled: str) -> None:
    """Half of them in each case: a drill in both places for all would double the time."""
    chosen = NAMES[drilled == "cluster" :: 2]
    if int(database.value("SHOW server_version_num")) >= 190000:  # no role's name has a line's end any more
        chosen = [name for name in chosen if not {"\n", "\r"} & set(name)]
    with database.connect(autocommit=True) as conn:
        for name in chosen:
            if name == "public":
                conn.execute("DROP SCHEMA public")
            for statement in named(name):
                try:
                    conn.execute(statement)
                except psycopg.Error as error:
                    raise AssertionError(f"{name!r}: {error}: {statement.as_string(conn)}") from error
    before, after = after_a_restore(database, tmp_path)
    assert differing(before, after) == ""
    assert problems_of_a_drill(database, tmp_path, drilled) == []


def hostile(database: Database, level: str, settings: Mapping[str, str]) -> None:
    """Set all of them that this version has for the login or for the database."""
    settings = known_to(int(database.value("SHOW server_version_num")) // 10000, settings)
    whom = SQL("ROLE {}").format(Identifier(ROLE))
    if level == "database":
        whom = SQL("DATABASE {}").format(Identifier(database.name))
    with maintenance(database, autocommit=True) as conn:
        for name, value in settings.items():
            parts = [SQL(part.strip()) for part in value.split(",")] if name == "search_path" else [Literal(value)]
            conn.execute(SQL("ALTER {} SET {} = {}").format(whom, Identifier(name), SQL(", ").join(parts)))


@pytest.mark.parametrize("level", ["role", "database"])
def test_settings_change_nothing(database: Database, tmp_path: Path, level: str) -> None:
    """All at once, for a login or for the database, which keeps them, with every kind of value."""
    database.sql(f"CREATE ROLE {ROLE} SUPERUSER LOGIN")
    furnished(database, kinds_of("constraints"))
    database.sql("CREATE TABLE words AS SELECT 'Grüße 表 €'::text AS w, 1234.5::money AS m, '1 day'::interval AS i")
    database.sql("CREATE TABLE other (b bytea, c float8)")
    database.sql(r"INSERT INTO other VALUES ('\x00ff5c', 0.1::float8 + 0.2)")
    database.sql("""CREATE FUNCTION escaped() RETURNS text LANGUAGE sql AS $$SELECT 'a\\b''c'::text$$""")
    login = {"user": ROLE} if level == "role" else {}
    hostile(database, level, {name: value for name, value in SETTINGS.items() if value != "heap2"})
    back_up(database, tmp_path, login=dict(login))
    assert problems_of_a_drill(database, tmp_path, "cluster", **login) == []
    # Access methods are a superuser's, whom a disposable cluster has none of for a backup.
    with database.connect(options="-c default_transaction_read_only=off", autocommit=True) as conn:
        conn.execute("CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler")
        conn.execute("CREATE TABLE public.methodical USING heap2 AS SELECT 1 AS a")
    hostile(database, level, SETTINGS)
    before, after = after_a_restore(database, tmp_path, login=login)
    assert differing(before, after) == ""
    assert problems_of_a_drill(database, tmp_path, "server", **login) == []


@pytest.mark.pg(17)
def test_the_environment_changes_nothing(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnished(database, kinds_of("constraints"))
    database.sql("CREATE TABLE words AS SELECT 'Grüße 表'::text AS w, now() AS at")
    before = picture(database)

    def in_it(job: Callable[[], Any]) -> Any:
        """Do a job in that environment, of which it leaves nothing to the test's own connections."""
        with monkeypatch.context() as patch:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            return job()

    in_it(lambda: back_up(database, tmp_path))
    lose(database)
    in_it(lambda: bring_back(database, tmp_path))
    assert differing(before, picture(database)) == ""
    for place in ("server", "cluster"):
        assert in_it(lambda place=place: problems_of_a_drill(database, tmp_path, place)) == []
