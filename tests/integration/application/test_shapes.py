"""Every shape that databases were met in: nothing crashes, nothing is made worse, and what can be repaired is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import connect
from scannerdb.contract.overlay import contract_with
from scannerdb.contract.probe import write_probe
from scannerdb.jobs.check import check
from scannerdb.jobs.schema import schema
from scannerdb.jobs.undo import undo

from demo import __main__ as demo_command
from demo.shapes import SHAPES
from tests.integration.application.shape_support import made
from tests.integration.restore.restore_support import state
from tests.integration.support import (
    content,
    findings,
    options,
    run_backup,
    run_fix,
    run_offered,
    run_restore,
    run_verify,
)
from tests.servers import Database, Databases

BOTH = ("sqlite", "mixed", "older", "older-endpoint-id", "incomplete", "chatted", "empty")


def left_of(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["id"], one["object"]): one["why"] for one in result["left_undone"]}


def test_the_command_knows_every_shape() -> None:
    assert set(demo_command.SHAPES) == set(SHAPES)


@pytest.mark.parametrize("shape", BOTH)
def test_a_second_fix_changes_nothing_and_none_fails(make_database: Databases, shape: str) -> None:
    database = made(make_database, shape)
    assert run_fix(database, check_mode=True)["failures"] == []
    first = run_fix(database)
    assert first["failures"] == []
    second = run_fix(database)
    assert (second["changed"], second["failures"]) == (False, [])
    assert check(options(database), CheckOptions(fail_on="never"))["failed"] is False


def test_sequences_move_before_anything_is_inserted(make_database: Databases) -> None:
    """With the baseline's types, so that nothing but the sequences stands in the way."""
    database = make_database(filled=True)
    move = (
        "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S' AND relnamespace = %s::regnamespace"
    )
    database.sql(move, "public")
    behind = {f["object"] for f in findings(database)["data.sequence.behind"]}
    assert {"endpoints.id", "verified_endpoints.id", "models.id", "chat_history.id"} <= behind
    result = run_fix(database)
    assert result["failures"] == [] and result["probe"]["passed"]
    assert {f["object"] for f in result["fixed"] if f["id"] == "data.sequence.behind"} == behind
    assert "data.sequence.behind" not in findings(database)
    with database.connect("ollama") as conn:
        conn.execute("INSERT INTO endpoints (ip, port) VALUES ('203.0.113.5', 1)")


def test_deploy_moves_sequences_before_its_probe(make_database: Databases) -> None:
    database = make_database(filled=True)
    database.sql("ALTER SEQUENCE endpoints_id_seq RESTART WITH 1")
    result = schema(options(database))
    assert "data.sequence.behind" in {f["id"] for f in result["fixed"]}
    assert result["probe"]["passed"]
    assert not schema(options(database))["changed"]


def test_a_sequence_never_moves_back_beside_writers(make_database: Databases) -> None:
    database = make_database(filled=True)
    highest = database.value("SELECT max(id) FROM endpoints")
    database.sql("ALTER SEQUENCE endpoints_id_seq RESTART WITH 1")
    (finding,) = findings(database)["data.sequence.behind"]
    ids: list[int] = []
    stop = threading.Event()

    def take() -> None:
        with database.connect("ollama") as conn:
            while not stop.is_set():
                row = conn.execute("SELECT nextval('endpoints_id_seq')").fetchone()
                ids.append(row[0] if row else 0)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(30):
            with database.connect() as conn:
                conn.execute(";\n".join(finding["fix"]["sql"]).encode())
    finally:
        stop.set()
        thread.join()
    assert len(ids) == len(set(ids))  # no number was handed out twice
    assert ids[-1] > highest


def test_a_sequence_that_was_restarted_and_never_called_is_judged(make_database: Databases) -> None:
    database = make_database(filled=True)
    database.sql("ALTER SEQUENCE models_id_seq RESTART WITH 2100000000")
    assert database.value("SELECT last_value FROM pg_sequences WHERE sequencename = 'models_id_seq'") is None
    assert [f["object"] for f in findings(database)["capacity.sequence.exhausted"]] == ["models_id_seq"]


def test_over_text_dates_no_trigger_is_installed(make_database: Databases) -> None:
    database = made(make_database, "sqlite")
    planned, result = run_fix(database, check_mode=True), run_fix(database)
    for one in (planned, result):
        why = left_of(one)["schema.view.trigger", "servers"]
        assert "schema.column.type on endpoints.scan_date" in why
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'servers'::regclass") == 0
    assert {f["id"] for f in result["fixed"]} >= {"data.sequence.behind"}
    with database.connect("ollama") as conn:  # what worked before works now
        conn.execute("INSERT INTO endpoints (ip, port) VALUES ('203.0.113.5', 1)")
        assert conn.execute("SELECT count(*) FROM servers").fetchone()
    deployed = schema(options(database))
    assert "schema.view.trigger" in {one["id"] for one in deployed["left_undone"]}


def test_without_its_unique_key_no_trigger_is_installed(make_database: Databases) -> None:
    database = make_database(filled=True)
    database.sql("ALTER TABLE endpoints DROP CONSTRAINT endpoints_ip_port_key")
    database.sql("INSERT INTO endpoints (ip, port) SELECT ip, port FROM endpoints WHERE id = 1")
    result = run_fix(database)
    assert ("schema.unique.missing", "endpoints(ip, port)") in left_of(result)
    assert "schema.unique.missing" in left_of(result)["schema.view.trigger", "servers"]
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'servers'::regclass") == 0


def test_another_spelling_of_text_and_dates_is_worked_with(make_database: Databases) -> None:
    database = made(make_database, "mixed")
    types = {f["object"] for f in findings(database)["schema.column.type"]}
    assert not types & {"endpoints.ip", "models.name", "endpoints.honeypot_reason"}
    result = run_fix(database)
    assert result["failures"] == [] and result["probe"]["passed"]
    with database.connect("ollama") as conn:
        assert conn.execute("INSERT INTO servers (ip) VALUES ('203.0.113.5') RETURNING id").fetchone()


@pytest.mark.parametrize("shape", ["sqlite", "mixed", "chatted"])
def test_what_fix_did_is_taken_back(make_database: Databases, shape: str, tmp_path: Path) -> None:
    database, state = made(make_database, shape), str(tmp_path)
    before = content(database)
    result = run_fix(database, state_dir=state)
    if any(f["id"].startswith(("data.endpoints", "data.verified")) for f in result["fixed"]):
        assert content(database) != before
        undone = undo(options(database), run_id=result["run_id"], state_dir=state)
        assert undone["conflicts"] == []
    assert content(database) == before


def test_the_plan_says_how_many_leave_servers(field_db: Database) -> None:
    shown = field_db.value("SELECT count(*) FROM servers")
    inactive = field_db.value("SELECT count(*) FROM servers JOIN endpoints e USING (id) WHERE NOT e.is_active")
    assert inactive
    planned = run_fix(field_db, check_mode=True)
    run_fix(field_db)
    made_new = field_db.value("SELECT count(*) FROM servers")
    evidence = [f["evidence"].get("leave_servers", 0) for f in findings(field_db).get("data.verified.inactive", [])]
    assert sum(evidence) == 0
    assert "endpoints would leave servers." in planned["msg"]
    assert made_new != shown


@pytest.mark.parametrize("shape", ["older", "older-endpoint-id"])
def test_an_older_layout_is_left_alone_and_named(make_database: Databases, shape: str) -> None:
    database = made(make_database, shape)
    catalog = (
        "SELECT array_agg(relname::text ORDER BY 1) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT array_agg(conname::text ORDER BY 1) FROM pg_constraint"
        " UNION ALL SELECT array_agg(relacl::text ORDER BY oid) FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace"
    )
    before = (database.sql(catalog), content(database))
    for result in (run_fix(database), schema(options(database))):
        assert (result["changed"], result["fixed"], result["failures"]) == (False, [], [])
        assert any("older layout" in one["why"] for one in result["left_undone"])
    assert (database.sql(catalog), content(database)) == before


def test_a_counter_is_refreshed_by_a_statement_that_counts(make_database: Databases) -> None:
    database = make_database(filled=True)
    database.sql("UPDATE metadata SET value = '0' WHERE key = 'server_count'")
    database.sql("INSERT INTO metadata (key, value) VALUES ('failed_count', '0'), ('scanned_count', '7')")
    (finding,) = findings(database)["data.metadata.counter"]
    assert "server_count" not in finding["evidence"]  # its program has not run yet
    assert finding["evidence"]["scanned_count"]["actual"] == database.value("SELECT count(*) FROM endpoints")
    database.sql("UPDATE metadata SET value = '5' WHERE key = 'server_count'")
    (finding,) = findings(database)["data.metadata.counter"]
    database.sql("DELETE FROM models WHERE id < 5")
    database.sql("DELETE FROM verified_endpoints WHERE endpoint_id < 60")
    run_offered(database, finding)
    shown = database.value("SELECT count(*) FROM servers")
    assert database.value("SELECT value FROM metadata WHERE key = 'server_count'") == str(shown)
    assert database.value("SELECT value FROM metadata WHERE key = 'failed_count'") == "0"


def chatted_with(database: Database) -> int:
    """An endpoint in servers whose model somebody has chatted with."""
    query = "SELECT s.id FROM servers s JOIN models m ON m.endpoint_id = s.id JOIN chat_history c ON c.model_id = m.id"
    return int(database.value(query + " LIMIT 1"))


@pytest.mark.parametrize("policy", ["cascade", "set_null"])
def test_an_endpoint_with_chat_lines_can_be_deleted(make_database: Databases, policy: str, tmp_path: Path) -> None:
    database, state = made(make_database, "chatted"), str(tmp_path)
    run_fix(database)
    keys = {"chat_history(model_id)", "user_selected_models(model_id)"}
    found = findings(database)["schema.foreign_key.blocks_delete"]
    assert {f["object"] for f in found} == keys
    assert all(f["fix"]["sql"] for f in found)
    endpoint, lines = chatted_with(database), database.value("SELECT count(*) FROM chat_history")
    delete = f"DELETE FROM servers WHERE id = {endpoint}"
    with database.connect("ollama") as conn, pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(delete.encode())
    result = run_fix(database, overlay={"foreign_keys_of_others": policy}, state_dir=state)
    assert {f["object"] for f in result["fixed"] if f["id"] == "schema.foreign_key.blocks_delete"} == keys
    assert not run_fix(database, overlay={"foreign_keys_of_others": policy})["changed"]
    with database.connect("ollama", autocommit=False) as conn:
        conn.execute(delete.encode())
        after = conn.execute("SELECT count(*) FROM chat_history").fetchone()
        assert after == (lines,) if policy == "set_null" else after is not None and after[0] < lines
        conn.rollback()
    undo(options(database), run_id=result["run_id"], state_dir=state)
    with database.connect("ollama") as conn, pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(delete.encode())


def test_the_probe_deletes_an_endpoint_with_chat_lines(make_database: Databases) -> None:
    database = made(make_database, "chatted")
    steps = [f"delete with rows in {table}(model_id)" for table in ("chat_history", "user_selected_models")]
    probe = run_fix(database)["probe"]
    assert [note.split(" fails: ")[0] for note in probe["notes"]] == steps
    assert "delete with rows in benchmark_results(model_id)" in probe["passed"]
    probe = run_fix(database, overlay={"foreign_keys_of_others": "cascade"})["probe"]
    assert probe["notes"] == [] and set(steps) <= set(probe["passed"])


CHILDREN = """
CREATE DOMAIN mark AS varchar(3) CHECK (value <> '');
CREATE TYPE mood AS ENUM ('well', 'ill');
CREATE TABLE visits (
    endpoint_id integer NOT NULL REFERENCES endpoints ON DELETE CASCADE, at timestamptz NOT NULL, note mark NOT NULL,
    mood mood NOT NULL, share numeric(5, 4) NOT NULL, tags text[] NOT NULL, more jsonb NOT NULL, token uuid NOT NULL,
    open boolean NOT NULL, code char(2) NOT NULL, lasted interval NOT NULL, PRIMARY KEY (token));
CREATE TABLE spots (ip text, port integer, place point NOT NULL,
    FOREIGN KEY (ip, port) REFERENCES endpoints (ip, port) ON DELETE CASCADE);
CREATE TABLE mine (link_id integer REFERENCES verified_endpoints ON DELETE SET NULL);
CREATE TABLE kept (endpoint_id integer REFERENCES endpoints ON DELETE CASCADE);
GRANT ALL ON visits, spots, kept TO ollama;
CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''this row stays''; END';
CREATE TRIGGER stay BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION stay();
"""


@pytest.mark.pg(17)
def test_the_probe_makes_rows_in_any_table(make_database: Databases) -> None:
    database = make_database(filled=True)
    run_fix(database)
    with database.connect() as conn:
        conn.execute(CHILDREN.encode())
    with connect(options(database)) as session:
        result = write_probe(session, contract_with({}))
    assert "delete with rows in visits(endpoint_id)" in result.passed
    assert result.failures == ["delete with rows in kept(endpoint_id): this row stays"]
    told = " ".join(result.notes)
    assert "spots(ip, port) could not be tried: column place of type point wants a value" in told
    assert "mine(link_id) could not be tried: permission denied" in told
    assert [database.value(f"SELECT count(*) FROM {table}") for table in ("visits", "spots", "mine", "kept")] == [0] * 4


def test_the_offered_foreign_keys_let_an_endpoint_go(make_database: Databases) -> None:
    database = made(make_database, "chatted")
    run_fix(database)
    for finding in findings(database)["schema.foreign_key.blocks_delete"]:
        run_offered(database, finding)
    assert "schema.foreign_key.blocks_delete" not in findings(database)
    database.sql(f"DELETE FROM servers WHERE id = {chatted_with(database)}")


@pytest.mark.pg(17)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_backed_up_drilled_restored_and_swapped_back(
    make_database: Databases, shape: str, tmp_path: Path
) -> None:
    """Whatever is wrong with it: what people have is what they get back."""
    database = made(make_database, shape)
    places = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    whole = state(database)
    made_set = run_backup(options(database), storage="persistent", fingerprints=True, **places)
    assert made_set["backup"]["verified"] == "read"
    drilled = run_verify(options(database), **places)
    assert (drilled["failed"], drilled["verification"]["problems"]) == (False, [])
    database.sql("CREATE TABLE made_since (n integer)")
    database.sql("DROP TABLE IF EXISTS models CASCADE")
    damaged = state(database)
    words = {"confirm": database.name, "grace_s": 0, **places}
    restored = run_restore(options(database), source="latest", prebackup=False, **words)
    assert (restored["changed"], state(database)) == (True, whole)
    run_restore(options(database), state="undone", **words)
    assert state(database) == damaged


@pytest.mark.pg(17)
def test_an_older_layout_comes_back_where_nothing_is_left(make_database: Databases, tmp_path: Path) -> None:
    database = made(make_database, "older")
    places = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    whole = state(database)
    run_backup(options(database), storage="persistent", **places)
    with database.connect(dbname="postgres") as conn:
        conn.execute(f"DROP DATABASE {database.name}".encode())
    restored = run_restore(options(database), source="latest", confirm=database.name, **places)
    assert state(database) == whole
    assert "critical findings, as the backup had" in " ".join(restored["warnings"])
