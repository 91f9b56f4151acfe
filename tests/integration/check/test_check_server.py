"""What the check says of the server and of rights, on servers of its own: set up badly, and a standby."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.checks.options import CheckOptions
from scannerdb.jobs.check import check

from demo import field
from demo.server import Server
from tests import servers
from tests.integration.support import findings, options, wait_until
from tests.servers import Database, standby_of

BAD = {
    "max_prepared_transactions": "5",
    "wal_level": "logical",
    "archive_mode": "on",
    "archive_command": "false",
    "autovacuum": "off",
    "track_counts": "off",
    "password_encryption": "md5",
}


@pytest.fixture
def bad_server(server: Server) -> Iterator[Database]:
    """A server whose owner did everything wrong, with a small database."""
    with servers.lone_server(server.bin_dir, BAD) as database:
        with database.connect() as conn:
            field.missing_tables(conn)
        yield database


def test_a_server_set_up_badly(bad_server: Database) -> None:
    bad_server.sql("ALTER ROLE ollama SUPERUSER BYPASSRLS")
    bad_server.sql("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    bad_server.sql("SELECT pg_create_physical_replication_slot('forgotten', true)")
    hba = bad_server.server.data / "pg_hba.conf"
    hba.write_text(hba.read_text() + "host all all 10.0.0.0/8 trust\nhost all all 127.0.0.1/32 trust\n")
    bad_server.sql("CREATE TABLE t (a int)")
    bad_server.sql("SELECT pg_switch_wal()")
    wait_until(lambda: bad_server.value("SELECT failed_count FROM pg_stat_archiver"))
    with bad_server.connect() as first, bad_server.connect(autocommit=False) as second:
        first.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s forgotten'")
        second.execute("INSERT INTO t VALUES (2)")
        pid = second.info.backend_pid
        found = findings(bad_server, thresholds={"holding_minutes": 0, "slot_wal_mb": "0", "connections_percent": 1})
    places = {i: [f["object"] for f in group] for i, group in found.items()}
    assert places["vacuum.prepared.holds_back"] == ["it's forgotten"]
    assert places["vacuum.session.holds_back"] == [f"pid {pid}"]
    session = found["vacuum.session.holds_back"][0]
    assert session["evidence"]["state"] == "idle in transaction"
    assert session["evidence"]["query"] == "INSERT INTO t VALUES (2)"
    (statement,) = session["fix"]["sql"]
    assert statement.startswith("SELECT pg_terminate_backend(pid)") and f"pid = {pid} AND backend_start = " in statement
    assert places["server.slot.inactive"] == ["forgotten"]
    assert places["server.archive.failing"] == ["archive_command"]
    assert {"autovacuum", "track_counts"} <= set(places["server.setting.dangerous"])
    assert "role weak" in places["security.password.weak"]
    assert "md5" not in str([f["evidence"] for f in found["security.password.weak"]])
    assert places["security.role.superuser"] == ["role ollama"]
    assert "10.0.0.0" in found["security.hba.trust"][0]["message"]
    assert len(found["security.hba.trust"]) == 1 and len(found["security.hba.trust_loopback"]) == 1
    assert places["capacity.connections.high"] == ["max_connections"]
    assert found["vacuum.prepared.holds_back"][0]["fix"]["sql"] == ["ROLLBACK PREPARED 'it''s forgotten'"]
    bad_server.sql("ROLLBACK PREPARED 'it''s forgotten'")
    bad_server.sql("ALTER ROLE ollama NOSUPERUSER")
    assert "security.role.bypassrls" in findings(bad_server)


def test_a_member_of_a_superuser_is_one(field_db: Database) -> None:
    field_db.sql("CREATE ROLE boss SUPERUSER")
    assert "security.role.superuser" not in findings(field_db)
    field_db.sql("GRANT boss TO ollama")
    found = findings(field_db)["security.role.superuser"]
    assert found[0]["evidence"]["member_of"] == ["boss"]
    (statement,) = found[0]["fix"]["sql"]
    assert 'REVOKE "boss" FROM "ollama"' in statement and "another superuser" in statement


@pytest.fixture
def standby(field_db: Database) -> Iterator[Database]:
    """A streaming standby of the test's server."""
    with standby_of(field_db) as second:
        yield second


def test_on_a_standby_it_looks_just_the_same(field_db: Database, standby: Database) -> None:
    def seen(result: dict[str, Any]) -> set[tuple[str, str]]:
        own = ("index.unused", "server.", "table.", "capacity.", "vacuum.")  # what each server knows of itself only
        return {(f["id"], f["object"]) for f in result["findings"] if not f["id"].startswith(own)}

    field_db.sql("CREATE ROLE looker LOGIN IN ROLE pg_read_all_data, pg_monitor")
    wait_until(lambda: standby.value("SELECT count(*) FROM pg_roles WHERE rolname = 'looker'"))
    primary, other = (
        check(options(where, user="looker"), CheckOptions(cross_table=True)) for where in (field_db, standby)
    )
    assert (primary["server"]["in_recovery"], other["server"]["in_recovery"]) == (False, True)
    assert seen(other) == seen(primary)
    assert "check.run.failed" not in {f["id"] for f in other["findings"]}


def test_on_a_standby_a_superuser_reads_no_table_of_a_lesser_role(field_db: Database, standby: Database) -> None:
    """Its owner could give it code in between, and no lock of a standby's holds the primary."""
    unseen = [f for f in check(options(standby), CheckOptions())["findings"] if f["id"] == "check.run.failed"]
    assert unseen and all("nothing holds that off here" in f["message"] for f in unseen)
    field_db.sql("ALTER ROLE scanner_owner SUPERUSER")
    try:
        wait_until(lambda: standby.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'scanner_owner'"))
        unseen = [
            f["message"] for f in check(options(standby), CheckOptions())["findings"] if f["id"] == "check.run.failed"
        ]
        assert not unseen
    finally:
        field_db.sql("ALTER ROLE scanner_owner NOSUPERUSER")


def test_a_query_on_a_standby_that_holds_back_vacuum(field_db: Database, standby: Database) -> None:
    for setting in ("hot_standby_feedback = on", "wal_receiver_status_interval = '1s'"):
        standby.sql(f"ALTER SYSTEM SET {setting}")
    standby.sql("SELECT pg_reload_conf()")

    def held() -> list[dict[str, Any]]:
        # More than a look makes itself, between two reports of the standby.
        return findings(field_db, thresholds={"holding_transactions": 500}).get("vacuum.standby.holds_back", [])

    with standby.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM endpoints")
        wait_until(lambda: field_db.value("SELECT count(*) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"))
        with field_db.connect() as writer:
            for _ in range(600):
                writer.execute("SELECT txid_current()")
        wait_until(held)
        assert "the local socket" in held()[0]["message"]
        assert "vacuum.standby.holds_back" not in findings(field_db), "a million transactions is the limit"
    wait_until(lambda: not held())


def test_a_role_with_only_connect_hears_it_once(field_db: Database) -> None:
    field_db.sql("CREATE ROLE nobody_special LOGIN")
    result = check(options(field_db, user="nobody_special"), CheckOptions(cross_table=True))
    unseen = [f for f in result["findings"] if f["id"].startswith("check.")]
    assert sorted(f["id"] for f in unseen) == ["check.run.failed", "check.run.not_allowed"]
    assert "permission denied" in unseen[0]["message"] and "data rules of endpoints" in unseen[0]["message"]
    assert "old transactions" in str(unseen[1]["evidence"]) and "password hashes" in str(unseen[1]["evidence"])
    field_db.sql("GRANT pg_monitor, pg_read_all_data TO nobody_special")
    result = check(options(field_db, user="nobody_special"), CheckOptions(cross_table=True))
    unseen = [f for f in result["findings"] if f["id"].startswith("check.")]
    assert [f["id"] for f in unseen] == ["check.run.not_allowed"], "only what needs a superuser is left"
    assert set(unseen[0]["evidence"]["why"]) == {"pg_hba.conf"}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_foreign_encoding(field_db: Database, encoding: str) -> None:
    create = SQL("CREATE DATABASE other TEMPLATE template0 ENCODING {} LOCALE 'C'").format(Identifier(encoding))
    with field_db.connect() as conn:
        conn.execute(create)
    other = Database(field_db.server, "other")
    with other.connect(client_encoding="UTF8") as conn:
        field.generate(conn, 0.002)
        conn.execute('CREATE TABLE "Größe" (a int)')
    result = check(options(other))
    assert result["server"]["encoding"] == encoding
    assert not [f for f in result["findings"] if f["id"].startswith("check.")]
    assert "Größe" in [f["object"] for f in result["findings"]]
