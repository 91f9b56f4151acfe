"""Databases in other encodings than UTF-8: names outside of ASCII come back, also where roles are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier, Literal
from scannerdb.jobs.check import check

from tests.integration.matrix.matrix_support import back_up, bring_back, lose, problems_of_a_drill
from tests.integration.restore.restore_support import maintenance, options
from tests.servers import Database

WORDS = {"LATIN1": "Grüße Müller", "LATIN2": "Zażółć", "WIN1251": "Привет", "EUC_JP": "表の名前"}


@pytest.mark.pg(17)
@pytest.mark.parametrize("encoding", WORDS)
def test_names_in_another_encoding(database: Database, tmp_path: Path, encoding: str) -> None:
    made, word = Database(database.server, f"{database.name}_coded"), WORDS[encoding]
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
    with maintenance(database, autocommit=True) as conn:
        conn.execute(SQL(create).format(Identifier(made.name), Literal(encoding)))
    with made.connect(client_encoding="UTF8", autocommit=True) as conn:
        name, other = Identifier(word), Identifier(f"{word} 2")
        for statement in (
            "CREATE ROLE mx_app",
            "CREATE ROLE mx_new",
            "CREATE SCHEMA {n} AUTHORIZATION mx_app",
            "CREATE TABLE {n}.{n} ({n} text DEFAULT {l})",
            "INSERT INTO {n}.{n} DEFAULT VALUES",
            "ALTER TABLE {n}.{n} OWNER TO mx_app",
            "COMMENT ON TABLE {n}.{n} IS {l}",
            "ALTER TABLE {n}.{n} ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY {n} ON {n}.{n} TO mx_app USING ({n} = {l})",
            "CREATE MATERIALIZED VIEW {n}.{o} AS SELECT * FROM {n}.{n}",
            "GRANT SELECT ON {n}.{o} TO mx_app",
        ):
            conn.execute(SQL(statement).format(n=name, o=other, l=Literal(word)))
    back_up(made, tmp_path)
    for place in ("server", "cluster"):
        assert problems_of_a_drill(made, tmp_path, place) == []
    lose(made)
    for role_map in ({}, {"mx_app": "mx_new"}):
        bring_back(made, tmp_path, role_map=role_map)
        with made.connect(client_encoding="UTF8") as conn:
            rows = conn.execute(
                SQL("SELECT {n}::text, tableoid::regclass::text FROM {n}.{n}").format(n=name)
            ).fetchall()
            assert rows == [(word, rows[0][1])] and word in rows[0][1]
            owner = conn.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = %s", [word]).fetchone()
            assert owner == (role_map.get("mx_app", "mx_app"),)
            policy = conn.execute("SELECT pg_get_expr(polqual, polrelid) FROM pg_policy").fetchone()
            assert policy and word in policy[0]


@pytest.mark.pg(17)
def test_a_role_whose_name_is_no_utf8_stops_nobody(database: Database, tmp_path: Path) -> None:
    """Roles are the server's, and have the bytes of the database in which they were made."""
    coded = Database(database.server, f"{database.name}_coded")
    with maintenance(database, autocommit=True) as conn:
        create = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        conn.execute(SQL(create).format(Identifier(coded.name)))
    with coded.connect(client_encoding="UTF8", autocommit=True) as made:
        made.execute('CREATE ROLE "Müller"')
        try:
            database.sql("CREATE TABLE t (a int)")
            back_up(database, tmp_path)
            assert problems_of_a_drill(database, tmp_path, "server") == []
            lose(database)
            bring_back(database, tmp_path)
            assert check(options(database))["summary"]
        finally:
            made.execute('DROP ROLE "Müller"')
