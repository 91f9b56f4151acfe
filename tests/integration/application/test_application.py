"""The application works on a database that was deployed, adopted or restored: its kinds of statements, as its role."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import yaml
from scannerdb.jobs.schema import schema

from tests import servers
from tests.integration.playbooks import ROOT, Site, over_tcp, site
from tests.integration.support import findings, options
from tests.servers import Database, Databases

__all__ = ["site"]

MAINT, MAINT_PASSWORD = "scannerdb_maint", "maintenance of tests"
SECRETS = {"scannerdb_maintenance_role_password": MAINT_PASSWORD}
# What the scanner, the pruner, the bot, the benchmark and the history feature run, in this order.
STATEMENTS = (
    "INSERT INTO servers (ip, port) VALUES ('203.0.113.77', 11434)",
    "INSERT INTO endpoints (ip, port) VALUES ('203.0.113.78', 11434) ON CONFLICT (ip, port) DO NOTHING",
    "UPDATE endpoints SET verified = 2, last_check_date = now() WHERE ip = '203.0.113.78'",
    "INSERT INTO models (endpoint_id, name) SELECT id, 'm:7b' FROM servers WHERE ip = '203.0.113.77'",
    "INSERT INTO metadata (key, value) VALUES ('last_scan_start', now()::text)"
    " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
    "CREATE TABLE IF NOT EXISTS user_selected_models"
    " (user_id TEXT PRIMARY KEY, model_id INTEGER REFERENCES models (id), selection_date TEXT)",
    "CREATE TABLE IF NOT EXISTS chat_history (id SERIAL PRIMARY KEY, user_id TEXT,"
    " model_id INTEGER REFERENCES models (id), prompt TEXT, system_prompt TEXT, response TEXT, temperature REAL,"
    " max_tokens INTEGER, timestamp TEXT, eval_count INTEGER, eval_duration REAL)",
    "INSERT INTO chat_history (user_id, prompt, response) VALUES ('u', 'p', 'r')",
    "CREATE TABLE IF NOT EXISTS benchmark_results"
    " (id SERIAL PRIMARY KEY, endpoint_id INTEGER REFERENCES endpoints (id), model_id INTEGER REFERENCES models (id))",
    "INSERT INTO benchmark_results (endpoint_id, model_id) SELECT endpoint_id, id FROM models WHERE name = 'm:7b'",
    "CREATE TABLE IF NOT EXISTS endpoint_verifications (id SERIAL PRIMARY KEY,"
    " endpoint_id INTEGER REFERENCES endpoints (id) ON DELETE CASCADE, verified_at TIMESTAMPTZ DEFAULT now())",
    "CREATE INDEX IF NOT EXISTS its_index ON endpoint_verifications (endpoint_id)",
    "INSERT INTO endpoint_verifications (endpoint_id) SELECT id FROM servers WHERE ip = '203.0.113.77'",
    "CREATE TABLE IF NOT EXISTS honeypot_classifications"
    " (id SERIAL PRIMARY KEY, endpoint_id INTEGER REFERENCES endpoints (id) ON DELETE CASCADE, verdict TEXT)",
    "DELETE FROM servers WHERE ip = '203.0.113.77'",
    "DELETE FROM endpoints WHERE ip = '203.0.113.78'",
)
# What the LocalAI migration runs: an owner's work.
MIGRATION = (
    "ALTER TABLE endpoints ADD COLUMN IF NOT EXISTS api_type VARCHAR(10) DEFAULT 'ollama'",
    "ALTER TABLE endpoints ADD COLUMN IF NOT EXISTS api_version VARCHAR(20)",
    "ALTER TABLE endpoints ADD COLUMN IF NOT EXISTS auth_required BOOLEAN DEFAULT false",
    "ALTER TABLE endpoints ADD CONSTRAINT its_check CHECK (api_type IN ('ollama', 'localai'))",
    "ALTER TABLE models ADD COLUMN IF NOT EXISTS model_type VARCHAR(20)",
    "ALTER TABLE models ADD COLUMN IF NOT EXISTS capabilities JSONB",
    "CREATE INDEX IF NOT EXISTS its_api_type ON endpoints (api_type)",
)
GROUP = """
    CREATE ROLE its_owner NOLOGIN;
    GRANT its_owner TO ollama, scannerdb_maint;
    GRANT USAGE, CREATE ON SCHEMA public TO its_owner;
    DO $$
    DECLARE statement text;
    BEGIN
        FOR statement IN
            SELECT format('ALTER TABLE %s OWNER TO its_owner', oid::regclass) FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
            UNION ALL
            SELECT format('ALTER ROUTINE %s OWNER TO its_owner', oid::regprocedure) FROM pg_proc
             WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'scannerdb\\_%'
        LOOP
            EXECUTE statement;
        END LOOP;
    END $$;
"""


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[Databases]:
    """A factory of databases on one server only."""
    version = servers.asked_version(request.config, 18)
    factory = Databases(pool, pool.server(version))
    yield factory
    factory.clean()


def refused(database: Database, *statements: str) -> list[str]:
    """What goes wrong with the application's statements, as its role; all is rolled back."""
    errors = []
    with database.connect("ollama", autocommit=False) as conn:
        conn.execute("SELECT")  # the transaction around all of them
        for statement in statements:
            try:
                with conn.transaction():
                    conn.execute(statement.encode())
            except psycopg.Error as error:
                errors.append(f"{statement[:60]}: {error}")
        conn.rollback()
    return errors


def test_the_application_works_on_a_database_that_was_deployed(site: Site, one: Databases) -> None:
    database = Database(one.server, "fresh")
    site.add("db", database).run("playbooks/deploy.yml").ok()
    assert refused(database, *STATEMENTS) == []
    assert site.run("playbooks/deploy.yml").ok().changed["db"] == 0


def test_the_application_works_on_a_database_that_was_adopted_and_restored(site: Site, one: Databases) -> None:
    database = one(filled=True)
    database.sql("REVOKE ALL ON SCHEMA public FROM ollama")
    database.sql("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM ollama")
    lacking = {f["object"]: f["message"] for f in findings(database)["schema.privilege.missing"]}
    assert lacking["public"] == "Role ollama lacks CREATE on schema public."  # USAGE it has by PUBLIC
    assert "REFERENCES" in lacking["models"]
    assert refused(database, *STATEMENTS)
    site.add("db", database, **SECRETS).run("playbooks/deploy.yml").ok()
    # The bot's foreign keys of the generated tables have rules already; its rows of it are the application's own.
    assert [e for e in refused(database, *STATEMENTS) if "chat_history" not in e] == []
    site.run("playbooks/backup.yml").ok()
    restore = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": database.name}
    site.run("playbooks/restore.yml", **restore).ok()
    assert [e for e in refused(database, *STATEMENTS) if "chat_history" not in e] == []


def test_a_site_that_wants_less_gets_less(site: Site, one: Databases) -> None:
    database = Database(one.server, "strict")
    site.add("db", database, scannerdb_deploy_app_creates=False).run("playbooks/deploy.yml").ok()
    assert not database.value("SELECT has_schema_privilege('ollama', 'public', 'CREATE')")
    assert not database.value("SELECT has_table_privilege('ollama', 'models', 'REFERENCES')")
    assert "schema.privilege.missing" not in findings(database, overlay={"application_creates": False})
    assert "schema.privilege.missing" in findings(database)


def test_a_group_that_owns_the_tables_lets_the_application_alter_them(site: Site, one: Databases) -> None:
    database = Database(one.server, "shared")
    site.add("db", database, **SECRETS).run("playbooks/deploy.yml").ok()
    assert refused(database, *MIGRATION)
    database.sql(GROUP)
    assert refused(database, *STATEMENTS, *MIGRATION) == []
    database.sql("DROP TRIGGER scannerdb_servers_delete ON servers")
    database.sql("ALTER TABLE endpoints ALTER port DROP DEFAULT")
    site.add("db", database, **over_tcp(MAINT, MAINT_PASSWORD))
    site.run("maintain.yml").ok()
    assert findings(database).get("schema.view.trigger") is None
    assert refused(database, *STATEMENTS, *MIGRATION) == []


@pytest.mark.parametrize("part", ["chat", "localai", "verifications", "honeypots"])
def test_the_overlays_of_the_example_fit_what_the_application_makes(one: Databases, part: str) -> None:
    """On the tables as its programs make them, an overlay finds nothing wrong but the rules it is there for."""
    one.pool.damage(one.server)  # makes the field's roles, too
    database = one()
    schema(options(database))
    with database.connect() as conn:
        for statement in (*STATEMENTS, *MIGRATION):
            conn.execute(statement.encode())
    path = ROOT / "inventories" / "example" / "group_vars" / "scannerdb" / "overlays.yml"
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))[f"overlay_{part}"]
    normal = {"schema.index.missing", "schema.foreign_key.on_delete", "schema.privilege.missing"}
    wrong = {
        f["id"] for group in findings(database, overlay=overlay).values() for f in group if f["severity"] != "info"
    }
    bystanders = (
        set() if part == "chat" else {"schema.foreign_key.blocks_delete"}
    )  # the chat's tables, not this overlay's
    assert {i for i in wrong if i.startswith("schema.")} <= normal | bystanders
    schema(options(database), overlay=overlay)
    assert not [f for i, g in findings(database, overlay=overlay).items() if i in normal for f in g]
