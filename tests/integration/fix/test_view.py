"""The `servers` view as the contract says it, written through as the application does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from scannerdb.connection import connect
from scannerdb.contract.overlay import contract_with
from scannerdb.contract.probe import write_probe
from scannerdb.jobs.schema import schema

from demo import field
from tests.integration.support import content, findings, options, schema_damage
from tests.servers import Database

OLD_SCRIPT = """
CREATE FUNCTION servers_insert_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO endpoints (ip, port, verified) VALUES (NEW.ip, NEW.port, 1)
    ON CONFLICT (ip, port) DO UPDATE SET verified = 1;
    RETURN NEW;
END $$;
CREATE TRIGGER servers_insert_instead INSTEAD OF INSERT ON servers
FOR EACH ROW EXECUTE FUNCTION servers_insert_trigger();
"""
FOREIGN = """
CREATE FUNCTION my_own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER my_own INSTEAD OF INSERT ON servers FOR EACH ROW EXECUTE FUNCTION my_own();
"""


@pytest.fixture
def app(field_db: Database) -> Iterator[psycopg.Connection[Any]]:
    """The application's own session, after the schema job ran."""
    schema(options(field_db))
    with field_db.connect(login=field.APP_ROLE) as conn:
        yield conn


def one(conn: psycopg.Connection[Any], query: str, *params: Any) -> Any:
    row = conn.execute(query.encode(), params).fetchone()
    assert row is not None
    return row if len(row) > 1 else row[0]


def test_insert_gives_the_real_id_and_the_defaults(app: psycopg.Connection[Any]) -> None:
    identity, port, scanned = one(app, "INSERT INTO servers (ip) VALUES ('192.0.2.1') RETURNING id, port, scan_date")
    assert port == 11434
    assert scanned is not None
    row = one(app, "SELECT ip, port, verified, verification_date IS NOT NULL FROM endpoints WHERE id = %s", identity)
    assert row == ("192.0.2.1", 11434, 1, True)
    assert one(app, "SELECT count(*) FROM verified_endpoints WHERE endpoint_id = %s", identity) == 1
    assert one(app, "SELECT count(*) FROM servers WHERE id = %s", identity) == 1


def test_a_duplicate_is_graceful_and_revives(app: psycopg.Connection[Any]) -> None:
    first = one(app, "INSERT INTO servers (ip, port) VALUES ('192.0.2.2', 80) RETURNING id")
    app.execute("UPDATE endpoints SET verified = 2 WHERE id = %s", [first])
    app.execute("DELETE FROM verified_endpoints WHERE endpoint_id = %s", [first])
    second = one(app, "INSERT INTO servers (ip, port) VALUES ('192.0.2.2', 80) RETURNING id")
    assert second == first
    assert one(app, "SELECT verified FROM endpoints WHERE id = %s", first) == 1
    assert one(app, "SELECT count(*) FROM servers WHERE id = %s", first) == 1


def test_on_conflict_do_nothing_works(app: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        app.execute("INSERT INTO servers (ip) VALUES ('192.0.2.3') ON CONFLICT DO NOTHING")
    assert one(app, "SELECT count(*) FROM servers WHERE ip = '192.0.2.3'") == 1


def test_many_rows_in_one_insert(app: psycopg.Connection[Any]) -> None:
    rows = app.execute(
        "INSERT INTO servers (ip, port) SELECT '198.51.100.' || n, 11434 FROM generate_series(1, 50) n RETURNING id"
    ).fetchall()
    assert len({identity for (identity,) in rows}) == 50


def test_update_writes_through_and_keeps_the_link(app: psycopg.Connection[Any]) -> None:
    identity = one(app, "INSERT INTO servers (ip) VALUES ('192.0.2.4') RETURNING id")
    app.execute("DELETE FROM verified_endpoints WHERE endpoint_id = %s", [identity])
    app.execute("INSERT INTO verified_endpoints (endpoint_id) VALUES (%s)", [identity])
    assert one(app, "UPDATE servers SET port = 99 WHERE id = %s RETURNING port", identity) == 99
    assert one(app, "SELECT port FROM endpoints WHERE id = %s", identity) == 99
    assert one(app, "SELECT count(*) FROM verified_endpoints WHERE endpoint_id = %s", identity) == 1


def test_a_change_of_id_is_refused(app: psycopg.Connection[Any]) -> None:
    identity = one(app, "INSERT INTO servers (ip) VALUES ('192.0.2.5') RETURNING id")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="id of a server cannot be changed"):
        app.execute("UPDATE servers SET id = id + 1000000 WHERE id = %s", [identity])


def test_a_duplicate_in_an_update_is_a_unique_violation(app: psycopg.Connection[Any]) -> None:
    app.execute("INSERT INTO servers (ip) VALUES ('192.0.2.6')")
    identity = one(app, "INSERT INTO servers (ip) VALUES ('192.0.2.7') RETURNING id")
    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute("UPDATE servers SET ip = '192.0.2.6' WHERE id = %s", [identity])


def test_delete_cascades(app: psycopg.Connection[Any]) -> None:
    identity = one(
        app, "SELECT s.id FROM servers s JOIN models m ON m.endpoint_id = s.id GROUP BY s.id ORDER BY s.id LIMIT 1"
    )
    assert app.execute("DELETE FROM servers WHERE id = %s", [identity]).rowcount == 1
    for table in ("verified_endpoints", "models", "benchmark_results"):
        assert one(app, f"SELECT count(*) FROM {table} WHERE endpoint_id = %s", identity) == 0
    assert one(app, "SELECT count(*) FROM endpoints WHERE id = %s", identity) == 0


def test_grants_and_dependent_views_survive(field_db: Database) -> None:
    grants = "SELECT relacl::text FROM pg_class WHERE relname = 'servers'"
    depending = (
        "SELECT count(DISTINCT w.ev_class) FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid"
        " WHERE d.refobjid = 'servers'::regclass AND w.ev_class <> 'servers'::regclass"
    )
    oid, acl, views = (field_db.value(q) for q in ("SELECT 'servers'::regclass::oid", grants, depending))
    assert views > 0
    schema(options(field_db))
    assert [field_db.value(q) for q in ("SELECT 'servers'::regclass::oid", grants, depending)] == [oid, acl, views]


def test_the_second_run_changes_nothing(field_db: Database) -> None:
    assert schema(options(field_db))["changed"]
    again = schema(options(field_db))
    assert not again["changed"]
    assert again["fixed"] == []
    assert schema_damage(field_db) == []


def test_check_mode_says_the_same_and_writes_nothing(field_db: Database) -> None:
    def catalog() -> Any:
        query = "SELECT md5(string_agg(c::text, '' ORDER BY oid)) FROM pg_{} c"
        return [field_db.value(query.format(name)) for name in ("proc", "trigger", "class", "attrdef", "constraint")]

    before = catalog()
    planned = schema(options(field_db), check_mode=True)
    assert catalog() == before
    real = schema(options(field_db))
    assert [(f["id"], f["object"]) for f in planned["fixed"]] == [(f["id"], f["object"]) for f in real["fixed"]]
    assert planned["statements"] == real["statements"]
    assert "INSTEAD OF INSERT" in planned["diff"]["after"]


def test_the_probe_runs_as_the_application_and_leaves_no_row(field_db: Database) -> None:
    before = content(field_db)
    result = schema(options(field_db))
    assert result["probe"]["role"] == field.APP_ROLE
    assert set(result["probe"]["passed"]) >= {"insert", "duplicate insert", "update", "update of id", "delete"}
    assert content(field_db) == before


@pytest.mark.parametrize(
    ("sabotage", "what"),
    [
        (
            "CREATE OR REPLACE FUNCTION scannerdb_servers_delete() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN OLD; END'",
            "delete",
        ),
        (
            "CREATE OR REPLACE FUNCTION scannerdb_servers_insert() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "insert",
        ),
        ("REVOKE DELETE ON endpoints FROM ollama", "delete"),
    ],
)
def test_the_probe_can_fail(field_db: Database, sabotage: str, what: str) -> None:
    schema(options(field_db))
    field_db.sql(sabotage)
    with connect(options(field_db)) as conn:
        result = write_probe(conn, contract_with({}))
    assert any(failure.startswith(f"{what}: ") for failure in result.failures)


def test_a_failing_probe_fails_the_job(field_db: Database) -> None:
    field_db.sql("ALTER TABLE endpoints ADD CONSTRAINT no_probe CHECK (ip NOT LIKE 'fd%') NOT VALID")
    result = schema(options(field_db))
    assert "write probe on servers failed" in result["failures"][0]
    assert result["changed"]
    assert result["fixed"]


def test_the_old_scripts_triggers_are_replaced(field_db: Database) -> None:
    field_db.sql(OLD_SCRIPT)
    assert "servers_insert_trigger" in findings(field_db)["schema.view.trigger"][0]["message"]
    schema(options(field_db))
    names = field_db.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'servers'::regclass ORDER BY 1")
    assert [n for (n,) in names] == ["scannerdb_servers_delete", "scannerdb_servers_insert", "scannerdb_servers_update"]


def test_foreign_triggers_need_consent(field_db: Database) -> None:
    field_db.sql(FOREIGN)
    left = schema(options(field_db))
    assert [s["why"] for s in left["left_undone"] if s["id"] == "schema.view.trigger_foreign"] == [
        "it needs consent: scannerdb_fix_replace_foreign=true"
    ]
    assert field_db.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'my_own'") == 1
    schema(options(field_db), replace_foreign=True)
    assert field_db.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'my_own'") == 0
    assert "schema.view.trigger_foreign" not in findings(field_db)


def test_an_empty_database_becomes_the_baseline(database: Database) -> None:
    result = schema(options(database))
    assert not result["failures"]
    assert schema_damage(database) == []
    assert not schema(options(database))["changed"]


def test_missing_tables_come_back(database: Database) -> None:
    with database.connect() as conn:
        field.missing_tables(conn)
    schema(options(database))
    assert schema_damage(database) == []


def test_the_older_layout_is_never_touched(database: Database) -> None:
    with database.connect() as conn:
        field.older_layout(conn)
    before = database.sql("SELECT * FROM servers ORDER BY id")
    schema(options(database))
    assert database.sql("SELECT * FROM servers ORDER BY id") == before
    assert database.value("SELECT relkind FROM pg_class WHERE relname = 'servers'") == "r"


def test_new_objects_belong_to_the_owner_of_the_others(field_db: Database) -> None:
    field_db.sql("DROP TABLE metadata, schema_version")
    field_db.sql("DROP VIEW servers CASCADE")
    schema(options(field_db))
    owners = field_db.sql(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
        " WHERE relname IN ('metadata', 'schema_version', 'servers', 'schema_version_id_seq')"
    )
    assert owners == [(field.OWNER,)]


def test_an_index_of_the_site_is_three_lines(field_db: Database) -> None:
    overlay = {"tables": {"endpoints": {"indexes": [["last_check_date"]]}}}
    schema(options(field_db), overlay=overlay)
    assert field_db.value("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%(last_check_date)'") == 1
    assert not schema(options(field_db), overlay=overlay)["changed"]


def test_an_overlay_with_tables_columns_and_keys(field_db: Database) -> None:
    overlay = {
        "read_only_roles": ["grafana_ro"],
        "tables": {
            "endpoints": {"columns": {"country": {"type": "varchar(2)", "default": "xx", "nullable": False}}},
            "notes": {
                "columns": {
                    "id": {"type": "int", "nullable": False, "default": "sequence"},
                    "endpoint_id": {"type": "int"},
                    "text": "text",
                },
                "primary_key": ["id"],
                "foreign_keys": [{"columns": ["endpoint_id"], "table": "endpoints", "on_delete": "CASCADE"}],
                "indexes": [["endpoint_id"]],
            },
        },
    }
    schema(options(field_db), overlay=overlay)
    assert field_db.value("SELECT DISTINCT country FROM endpoints") == "xx"
    assert field_db.value("SELECT has_table_privilege('grafana_ro', 'notes', 'SELECT')")
    assert field_db.value("SELECT has_table_privilege('ollama', 'notes', 'INSERT')")
    again = schema(options(field_db), overlay=overlay)
    assert not again["changed"], again["fixed"]
