"""What a restore means for replication: real slots, publications, subscriptions, standbys; before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Literal
from scannerdb.connection import connect
from scannerdb.errors import RestoreRefused
from scannerdb.jobs import restore as restore_job
from scannerdb.restore import switch

from tests.integration.own_server import own_databases, own_db, own_server, wait_for
from tests.integration.restore.restore_support import age, databases, maintenance, options, state
from tests.integration.support import run_backup, run_restore, run_sweep
from tests.servers import Database, Databases, standby_of

__all__ = ["own_databases", "own_db", "own_server"]


def run(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    values = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "source": "latest",
        "confirm": db.name,
        "grace_s": 0,
        "prebackup": False,
    }
    return run_restore(options(db), **{**values, **more})


def test_a_slot_stops_it_until_somebody_consents(own_db: Database, tmp_path: Path) -> None:
    own_db.sql("CREATE PUBLICATION feed FOR TABLE endpoints")
    own_db.sql("SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')")
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(own_db), databases(own_db)
    try:
        planned = run(own_db, tmp_path, check_mode=True)
        told = " ".join(planned["warnings"])
        for words in ("slots warehouse stay", "Publications feed stay", "would stop the restore"):
            assert words in told
        with pytest.raises(RestoreRefused, match=r"slots warehouse stay .* hold back WAL .*restore_replication to cut"):
            run(own_db, tmp_path)
        assert (state(own_db), databases(own_db)) == (before, names)
        result = run(own_db, tmp_path, replication="cut")
        log = Path(result["log"]).read_text()
        assert log.index("slots warehouse stay") < log.index("cutover: "), "it is said before it happens"
        kept = result["restore"]["previous_database"]
        with maintenance(own_db) as conn:
            where = conn.execute("SELECT database FROM pg_replication_slots WHERE slot_name = 'warehouse'").fetchone()
        assert where == (kept,)
        assert own_db.value("SELECT count(*) FROM pg_publication") == 1  # the backup's own
        age(own_db, kept, 2)
        left = run_sweep(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), keep_hours=1)[
            "left_undone"
        ]
        assert left == [{"name": kept, "why": "it has the logical replication slots warehouse"}]
    finally:
        own_db.sql("SELECT pg_drop_replication_slot('warehouse')")
    assert (
        run_sweep(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), keep_hours=1)["changed"]
        is True
    )


def test_a_subscription_goes_on_in_the_replaced_database(
    own_db: Database, own_databases: Databases, tmp_path: Path
) -> None:
    """A real one: rows flow into the live database, and after the restore into the one that was replaced."""
    source = own_databases("source")
    for db in (source, own_db):
        db.sql("CREATE TABLE flow (id int PRIMARY KEY)")
    source.sql("CREATE PUBLICATION flow FOR TABLE flow")
    source.sql("SELECT pg_create_logical_replication_slot('flow', 'pgoutput')")
    place = f"host={source.server.socket_dir} port={source.server.port} user=postgres dbname=source"
    with own_db.connect() as conn:
        subscribe = SQL("CREATE SUBSCRIPTION flow CONNECTION {} PUBLICATION flow WITH (create_slot = false)")
        conn.execute(subscribe.format(Literal(place)))
    kept = own_db
    try:
        source.sql("INSERT INTO flow VALUES (1)")
        wait_for(lambda: own_db.sql("SELECT id FROM flow") == [(1,)])
        run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
        with pytest.raises(RestoreRefused, match="Subscriptions flow stay with the replaced database"):
            run(own_db, tmp_path, terminate=True)
        result = run(own_db, tmp_path, terminate=True, replication="cut")
        assert any("Subscriptions flow stay" in warning for warning in result["warnings"])
        kept = Database(own_db.server, result["restore"]["previous_database"])
        assert (
            own_db.value(
                "SELECT count(*) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database"
                " WHERE datname = current_database())"
            )
            == 0
        )
        source.sql("INSERT INTO flow VALUES (2)")
        wait_for(lambda: kept.value("SELECT count(*) FROM flow") == 2)
        assert own_db.sql("SELECT id FROM flow") == [(1,)]
    finally:
        kept.sql("ALTER SUBSCRIPTION flow DISABLE")
        kept.sql("ALTER SUBSCRIPTION flow SET (slot_name = NONE)")
        kept.sql("DROP SUBSCRIPTION flow")
        wait_for(lambda: not source.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'flow' AND active"))
        source.sql("SELECT pg_drop_replication_slot('flow')")


def test_a_standby_follows(own_db: Database, tmp_path: Path) -> None:
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    whole = state(own_db)
    with standby_of(own_db) as standby:
        wait_for(lambda: own_db.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1)
        own_db.sql("DELETE FROM models")
        told = " ".join(run(own_db, tmp_path, check_mode=True)["warnings"])
        assert "replay the whole restore" in told
        result = run(own_db, tmp_path)
        assert any("replay the whole restore" in warning for warning in result["warnings"])

        def same() -> bool:
            with maintenance(own_db) as primary, maintenance(standby) as replica:
                wanted = primary.execute("SELECT pg_current_wal_flush_lsn()").fetchone()[0]
                behind = replica.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", [wanted]).fetchone()[0]
            return not behind

        wait_for(same)
        assert state(standby) == whole
        assert result["restore"]["previous_database"] in databases(standby)
        age(own_db, result["restore"]["previous_database"], 2)
        wait_for(same)
        there = run_sweep(options(standby), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), keep_hours=1)
        assert there["changed"] is False, "its primary drops it"


def test_an_ordinary_role_sees_them_too(own_db: Database) -> None:
    """Slots and subscriptions are told to whoever may restore, superuser or not."""
    from scannerdb.load.preflight import replication_dependents

    own_db.sql("CREATE ROLE plain LOGIN")
    own_db.sql("SELECT pg_create_logical_replication_slot('seen', 'pgoutput')")
    with own_db.connect() as conn:
        conn.execute("CREATE SUBSCRIPTION seen CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
    try:
        with connect(options(own_db, user="plain"), dbname="postgres") as conn:
            found = replication_dependents(conn, own_db.name)
        assert (found.slots, found.subscriptions) == (("seen",), ("seen",))
    finally:
        own_db.sql("ALTER SUBSCRIPTION seen SET (slot_name = NONE)")
        own_db.sql("DROP SUBSCRIPTION seen")
        own_db.sql("SELECT pg_drop_replication_slot('seen')")


def test_a_slot_that_is_made_meanwhile_stops_the_cutover(
    own_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything was looked at, and just before the database would be renamed."""
    run_backup(options(own_db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"))
    before, names = state(own_db), databases(own_db)
    for place in ("give_properties", "replication_dependents"):
        room = restore_job if place == "give_properties" else switch
        usual = getattr(room, place)

        def late(*words: Any, usual: Any = usual) -> Any:
            found = usual(*words)
            own_db.sql("SELECT pg_create_logical_replication_slot('late', 'pgoutput')")
            return found

        with monkeypatch.context() as patched:
            patched.setattr(room, place, late)
            with pytest.raises(RestoreRefused, match="late"):
                run(own_db, tmp_path)
        own_db.sql("SELECT pg_drop_replication_slot('late')")
        assert (state(own_db), databases(own_db)) == (before, names)
