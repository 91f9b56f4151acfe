"""Indexes that only a standby's queries use, and settings that a standby has of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import Options
from scannerdb.errors import InvalidInput
from scannerdb.jobs.check import check

from demo.server import Server
from tests import servers
from tests.integration.support import options, wait_until
from tests.servers import FAST, Database, standby_of

pytestmark = pytest.mark.pg(17)  # the version of the server does not matter
AT_ONCE = {"min_statistics_days": 0}  # the tests' servers are young


def unused(database: Database, *standbys: str) -> dict[str, dict[str, Any]]:
    found = check(options(database), CheckOptions(standbys=standbys, thresholds=AT_ONCE))["findings"]
    return {f["object"]: f for f in found if f["id"] == "index.unused"}


def test_an_index_that_a_standby_uses_is_not_unused(database: Database) -> None:
    database.sql("CREATE TABLE t AS SELECT i, i AS j FROM generate_series(1, 5000) i")
    database.sql("CREATE INDEX there ON t (i)")
    database.sql("CREATE INDEX nowhere ON t (j)")
    database.sql("VACUUM ANALYZE t")
    assert set(unused(database)) == {"t.there", "t.nowhere"}
    with standby_of(database) as second:
        place = f"{second.server.socket_dir}:{second.server.port}"
        with second.connect() as reader:
            reader.execute("SET enable_seqscan = off")
            reader.execute("SELECT * FROM t WHERE i = 7")
        deadline = time.monotonic() + 60
        while "t.there" in unused(database, place):
            assert time.monotonic() < deadline, "the standby never counted the scan"
            time.sleep(0.1)
        (left,) = unused(database, place, "/nowhere:5432").values()
        assert left["object"] == "t.nowhere" and "this server or its standbys" in left["message"]
        assert list(left["evidence"]["standbys"]) == [place]
        assert list(left["evidence"]["standbys_not_seen"]) == ["/nowhere:5432"]
        # On the standby itself only its own use counts; and a primary is nobody's standby.
        assert set(unused(second, place)) == {"t.nowhere"}
        primary = f"{database.server.socket_dir}:{database.server.port}"
        assert "no standby" in unused(database, primary)["t.there"]["evidence"]["standbys_not_seen"][primary]


def test_a_standby_that_is_set_differently(database: Database) -> None:
    """Members are compared where they can be looked at; what is the same again is no finding any more."""
    with standby_of(database) as second:
        place = f"{second.server.socket_dir}:{second.server.port}"

        def differing() -> dict[str, dict[str, Any]]:
            found = check(options(database), CheckOptions(standbys=(place,)))["findings"]
            return {f["object"]: f for f in found if f["id"] == "server.member.setting_differs"}

        assert not differing()
        second.sql("ALTER SYSTEM SET max_locks_per_transaction = 128")
        second.server.stop()
        second.server.start()
        (found,) = differing().values()
        assert (found["object"], found["severity"]) == ("max_locks_per_transaction", "warning")
        assert f"is 128 on the standby {place} and 64 on its primary." in found["message"]
        second.sql("ALTER SYSTEM RESET max_locks_per_transaction")
        second.server.stop()
        second.server.start()
        assert not differing()


PRIMARY = "127.0.0.2"  # so that a standby can have 127.0.0.1, which connections within the machine come from


@pytest.fixture
def primary(server: Server) -> Iterator[Database]:
    """A server that listens on an address of its own, with a database `here`."""
    settings = {**FAST, "listen_addresses": PRIMARY}
    with servers.lone_server(server.bin_dir, settings, "host replication all 127.0.0.1/32 trust\n") as database:
        database.sql("CREATE DATABASE here")
        yield Database(database.server, "here")


def test_a_standby_that_streams_is_found_by_its_address(primary: Database) -> None:
    """It streams over TCP from 127.0.0.1 and listens there, on the primary's port: found without being named."""
    primary.sql("CREATE TABLE t AS SELECT i, i AS j FROM generate_series(1, 5000) i")
    primary.sql("CREATE INDEX there ON t (i)")
    primary.sql("CREATE INDEX nowhere ON t (j)")
    primary.sql("VACUUM ANALYZE t")
    where = Options(
        host=PRIMARY, port=primary.server.port, user="postgres", password=primary.server.password, db=primary.name
    )

    def seen() -> dict[str, dict[str, Any]]:
        return {
            f["object"]: f
            for f in check(where, CheckOptions(thresholds=AT_ONCE))["findings"]
            if f["id"] == "index.unused"
        }

    assert set(seen()) == {"t.there", "t.nowhere"}
    with standby_of(primary, host=PRIMARY, port=primary.server.port) as second:
        name = f"127.0.0.1:{second.server.port}"
        assert second.server.port == primary.server.port, "somebody else took the port meanwhile"
        wait_until(lambda: list(seen()["t.nowhere"]["evidence"].get("standbys", {})) == [name])
        with second.connect() as reader:
            reader.execute("SET enable_seqscan = off")
            reader.execute("SELECT * FROM t WHERE i = 7")
        wait_until(lambda: set(seen()) == {"t.nowhere"})
        # The login is refused there: said, with the standby's address.
        second.server.data.joinpath("pg_hba.conf").write_text("local all all trust\n")
        second.sql("SELECT pg_reload_conf()")
        wait_until(
            lambda: name in seen()["t.there"]["evidence"].get("standbys_not_seen", {}) if "t.there" in seen() else 0
        )


@pytest.mark.parametrize("name", ["", "db:", "db:x", ":5432", "db:70000"])
def test_a_name_that_is_no_address(database: Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="standby"):
        check(options(database), CheckOptions(standbys=[name]))
