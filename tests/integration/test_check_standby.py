"""Indexes that only a standby's queries use."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scannerdb.errors import InvalidInput
from scannerdb.jobs.check import check

from tests.integration.support import options
from tests.servers import Database, standby_of


@pytest.fixture(autouse=True)
def once(request: pytest.FixtureRequest) -> None:
    """One version of the server is enough for these, unless one was asked for."""
    if request.node.callspec.params["server"] != 17 and not request.config.getoption("--pg"):
        pytest.skip("the server's version does not matter here: tested on 17")


def unused(database: Database, *standbys: str) -> dict[str, dict[str, Any]]:
    found = check(options(database), standbys=standbys)["findings"]
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


def test_a_standby_that_streams_is_found_by_its_address(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walsender's address is what the server tells; nothing listens there here, and that is said."""
    from scannerdb.jobs import standbys

    database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i")
    database.sql("CREATE INDEX there ON t (i)")
    fetch = standbys.fetch

    def streaming(conn: Any, query: Any, *rest: Any) -> Any:
        return [{"host": "127.0.0.1"}, {"host": None}] if "pg_stat_replication" in str(query) else fetch(conn, query)

    monkeypatch.setattr(standbys, "fetch", streaming)
    evidence = unused(database)["t.there"]["evidence"]
    assert list(evidence["standbys_not_seen"]) == [f"127.0.0.1:{database.server.port}"]


@pytest.mark.parametrize("name", ["", "db:", "db:x", ":5432", "db:70000"])
def test_a_name_that_is_no_address(database: Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="standby"):
        check(options(database), standbys=[name])
