"""What the report offers about roles locks out nobody: not the last superuser, not the application, not the reader."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.jobs.check import check

from demo import field
from demo.server import Server
from tests.integration.support import findings, options
from tests.servers import Database, Databases, compose_server

SUPERUSERS = "SELECT rolname::text FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY 1"


@pytest.fixture
def compose(server: Server) -> Iterator[Database]:
    """The docker-compose shape, with the field's schema owned by the application."""
    with compose_server(server.bin_dir) as database:
        with database.connect() as conn:
            field.missing_tables(conn)
            for table in ("endpoints", "models"):
                conn.execute(f"ALTER TABLE {table} OWNER TO ollama".encode())
        yield database


def offered(database: Database, finding_id: str, **more: object) -> list[str]:
    """The statements that a check offers for its only finding of an id."""
    (finding,) = findings(database, **more)[finding_id]
    statements: list[str] = finding["fix"]["sql"]
    return statements


def works(database: Database) -> None:
    """The application reads, writes, and makes its tables."""
    with database.connect(field.APP_ROLE) as conn:
        conn.execute("INSERT INTO endpoints (ip, port) VALUES ('203.0.113.9', 11434)")
        conn.execute("CREATE TABLE IF NOT EXISTS its_own (a integer)")
        assert conn.execute("SELECT count(*) FROM models").fetchone() is not None


def test_the_last_superuser_keeps_its_power(compose: Database) -> None:
    """Pasted as a whole where the report was made: a second superuser is made, and nothing is taken."""
    statements = offered(compose, "security.role.superuser")
    assert "the only one that can log in" in findings(compose)["security.role.superuser"][0]["message"]
    with compose.connect() as conn:
        for statement in statements:  # psql goes on after an error, too
            try:
                conn.execute(statement.encode())
            except psycopg.errors.RaiseException as error:
                assert "Log in as another superuser than ollama" in str(error)
    assert compose.sql(SUPERUSERS) == [("ollama",), ("postgres",)]


def test_the_whole_way_takes_the_power_and_leaves_the_application_at_work(compose: Database) -> None:
    secret = compose.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'ollama'")
    first, *rest = offered(compose, "security.role.superuser")
    compose.sql(first)
    with compose.connect("postgres") as conn:
        for statement in rest:
            conn.execute(statement.encode())
        assert conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'ollama'").fetchone() == (False,)
        assert conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'ollama'").fetchone() == (secret,)
        assert ("postgres",) in conn.execute(SUPERUSERS).fetchall()
    works(compose)
    after = check(options(compose, user="postgres"))["findings"]
    assert not [f for f in after if f["id"].startswith("security.role.")]


def test_an_ordinary_superuser_role_is_demoted_with_its_grants(field_db: Database) -> None:
    field_db.sql("CREATE ROLE app LOGIN SUPERUSER")
    statements = offered(field_db, "security.role.superuser", overlay={"application_role": "app"})
    with field_db.connect("app") as conn, pytest.raises(psycopg.errors.RaiseException):
        conn.execute(";\n".join(statements).encode())
    assert field_db.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'")
    with field_db.connect() as conn:
        conn.execute(";\n".join(statements).encode())
    assert not field_db.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'")
    with field_db.connect("app") as conn:
        conn.execute("UPDATE endpoints SET port = port WHERE id = 1")


def test_a_membership_in_the_only_superuser_is_not_taken_before_there_is_another(compose: Database) -> None:
    compose.sql("CREATE ROLE app LOGIN")
    compose.sql("GRANT ollama TO app")
    compose.sql("ALTER ROLE ollama NOLOGIN")  # from now on app is the only way to a superuser's rights
    try:
        with compose.connect("app") as conn:
            conn.execute("SET ROLE ollama")
            result = check(options(compose, user="app"), CheckOptions(contract_overlay={"application_role": "app"}))
            (found,) = [f for f in result["findings"] if f["id"] == "security.role.superuser"]
            for statement in found["fix"]["sql"]:
                try:
                    conn.execute(statement.encode())
                except psycopg.errors.RaiseException as error:
                    assert "another superuser" in str(error)
            assert conn.execute("SELECT pg_has_role('app', 'ollama', 'MEMBER')").fetchone() == (True,)
            assert conn.execute(SUPERUSERS).fetchall() == [("postgres",)]
    finally:
        with compose.connect("app") as conn:
            conn.execute("SET ROLE ollama")
            conn.execute("ALTER ROLE ollama LOGIN")


def test_who_creates_by_the_grant_to_everybody_gets_one_of_its_own(field_db: Database) -> None:
    field_db.sql("CREATE ROLE keeper LOGIN IN ROLE pg_monitor")
    field_db.sql("REVOKE ALL ON SCHEMA public FROM ollama")
    field_db.sql("GRANT ALL ON SCHEMA public TO PUBLIC")
    found = [
        f for f in check(options(field_db, user="keeper"))["findings"] if f["id"] == "security.schema.public_create"
    ]
    assert found[0]["evidence"]["depend"] == ["keeper", "ollama"]
    with field_db.connect() as conn:
        conn.execute(";\n".join(found[0]["fix"]["sql"]).encode())
    for role, may in (("ollama", True), ("keeper", True), ("grafana_ro", False)):
        assert field_db.value(f"SELECT has_schema_privilege('{role}', 'public', 'CREATE')") is may


def test_a_reader_loses_what_the_application_keeps(field_db: Database) -> None:
    field_db.sql("REVOKE UPDATE ON models FROM ollama")
    field_db.sql("GRANT UPDATE ON models TO PUBLIC")
    overlay = {"read_only_roles": ["grafana_ro"]}
    statements = offered(field_db, "security.role.not_read_only", overlay=overlay)
    with field_db.connect() as conn:
        conn.execute(";\n".join(statements).encode())
    assert field_db.value("SELECT has_table_privilege('ollama', 'models', 'UPDATE')")
    assert not field_db.value("SELECT has_table_privilege('grafana_ro', 'models', 'UPDATE')")


def test_policies_are_not_left_alone_with_the_application(make_database: Databases) -> None:
    database = make_database(filled=True)
    database.sql("CREATE ROLE guarded LOGIN BYPASSRLS")
    overlay = {"application_role": "guarded"}
    assert offered(database, "security.role.bypassrls", overlay=overlay)
    database.sql("ALTER TABLE models ENABLE ROW LEVEL SECURITY")
    (found,) = findings(database, overlay=overlay)["security.role.bypassrls"]
    assert found["fix"] is None
    assert found["evidence"]["tables"] == ["models"]
