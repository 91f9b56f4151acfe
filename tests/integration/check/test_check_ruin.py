"""What the check says of a server that is going to ruin: damaged pages, multixacts that run out, an open network."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from scannerdb.errors import ConnectionFailed
from scannerdb.jobs.check import check

from demo import field, user
from demo.server import Server
from tests import servers
from tests.integration.check.check_support import Looking, waiting
from tests.integration.support import findings, options, wait_until
from tests.servers import FAST, Database

SETTINGS = {
    **FAST,
    "wal_level": "logical",
    "autovacuum_multixact_freeze_max_age": "2000000000",  # or the server would freeze them at once
    "listen_addresses": "0.0.0.0",
}
FAR = 1_700_000_000  # multixacts: 79 % of what there are
SEGMENT_BYTES = 32 * 8192  # of pg_multixact/offsets


@pytest.fixture
def lone(server: Server) -> Iterator[Database]:
    """A server of one test, with a small database."""
    with servers.lone_server(server.bin_dir, SETTINGS) as database:
        with database.connect() as conn:
            field.missing_tables(conn)
        yield database


def run_tool(database: Database, name: str, *arguments: str) -> None:
    command = [str(database.server.programs() / name), *arguments, "-D", str(database.server.data)]
    subprocess.run(command, check=True, cwd=database.server.home, env=user.clean_env(), **user.drop_args())


def use_up_multixacts(database: Database) -> None:
    """Set the counter of a stopped server far ahead, with the segment that it then wants to find."""
    multixact_bytes = 8 if int((database.server.data / "PG_VERSION").read_text()) >= 19 else 4
    number = FAR * multixact_bytes // SEGMENT_BYTES
    segment = database.server.data / "pg_multixact" / "offsets" / f"{number:04X}"
    segment.write_bytes(bytes(SEGMENT_BYTES))
    user.give_away(segment)
    run_tool(database, "pg_resetwal", "-f", "-m", f"{FAR},1")


def damage_a_page(database: Database, path: str) -> None:
    file = database.server.data / path
    content = bytearray(file.read_bytes())
    content[5000:5004] = b"ruin"
    file.write_bytes(bytes(content))


def test_damaged_pages_and_multixacts_that_run_out(lone: Database) -> None:
    before = findings(lone)
    on = lone.value("SELECT current_setting('data_checksums')") == "on"
    assert ("server.checksums.off" in before) is not on
    assert "server.checksums.failed" not in before and "capacity.xid.exhaustion" not in before
    lone.sql("CREATE TABLE lost AS SELECT g, repeat('x', 100) AS x FROM generate_series(1, 500) g")
    lone.sql("CHECKPOINT")
    path = str(lone.value("SELECT pg_relation_filepath('lost')"))
    lone.server.stop()
    if not on:
        run_tool(lone, "pg_checksums", "--enable")
    use_up_multixacts(lone)
    damage_a_page(lone, path)
    lone.server.start()
    with pytest.raises(psycopg.errors.DataCorrupted):
        lone.sql("SELECT count(*) FROM lost")
    wait_until(lambda: lone.value("SELECT sum(checksum_failures) FROM pg_stat_database") > 0)
    found = findings(lone)
    assert [f["object"] for f in found["server.checksums.failed"]] == ["postgres"]
    assert "server.checksums.off" not in found
    (old,) = found["capacity.xid.exhaustion"]
    assert "multixacts" in old["message"] and old["evidence"]["multixacts"] > FAR - 10
    assert old["evidence"]["percent"] > 75 and old["fix"]["sql"] == ["VACUUM (FREEZE)"]
    assert "capacity.xid.age" not in found, "the more severe one is enough"
    assert "capacity.xid.age" in findings(lone, thresholds={"xid_critical_percent": 90})


def test_slots_that_hold_back_and_a_server_open_to_the_network(lone: Database) -> None:
    lone.sql("SELECT pg_create_logical_replication_slot('behind', 'pgoutput')")
    for number in range(5):
        lone.sql(f"CREATE TABLE t{number} (a int)")
    assert "vacuum.slot.holds_back" not in findings(lone)
    (slot,) = findings(lone, thresholds={"holding_transactions": 2})["vacuum.slot.holds_back"]
    assert slot["object"] == "behind" and slot["evidence"]["transactions"] >= 5
    assert slot["fix"]["sql"] == [
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'behind' AND NOT active"
    ]
    lone.sql(slot["fix"]["sql"][0])
    assert "vacuum.slot.holds_back" not in findings(lone, thresholds={"holding_transactions": 2})
    (tls,) = findings(lone)["security.tls.off"]
    assert "0.0.0.0" in tls["message"] and tls["evidence"]["plain_sessions"] == 0
    hba = lone.server.data / "pg_hba.conf"
    hba.write_text(hba.read_text() + "host replication all 10.0.0.0/8 trust\nhost sameuser all samehost trust\n")
    found = findings(lone)
    assert "copy of everything" in found["security.hba.trust"][0]["message"]
    assert "samehost" in found["security.hba.trust_loopback"][0]["message"]


def test_a_server_that_crashes_midway_is_a_sentence(lone: Database) -> None:
    with contextlib.suppress(psycopg.OperationalError), lone.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE endpoints IN ACCESS EXCLUSIVE MODE")
        looking = Looking(lone)
        looking.start()
        waiting(lone)
        os.kill(lone.server.pid, signal.SIGQUIT)  # every session ends at once, as after a crash
    looking.join(60)
    assert isinstance(looking.error, ConnectionFailed)
    assert "failed" in str(looking.error) and "\n" not in str(looking.error)
    wait_until(lambda: not lone.server.pid)
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        check(options(lone))
    lone.server.start()
    assert check(options(lone))["findings"], "once it is back, it is looked at as ever"
