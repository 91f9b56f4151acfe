"""The info job on real servers."""

from __future__ import annotations

import pytest
from scannerdb.connection import Options
from scannerdb.errors import DatabaseMissing
from scannerdb.jobs.info import info

from tests.servers import Database


def options(database: Database, user: str = "postgres", db: str = "") -> Options:
    args = database.kwargs
    return Options(unix_socket=str(args["host"]), port=args["port"], user=user, db=db or database.name)


def test_sizes_as_the_seed_asks_for_them(field_db: Database) -> None:
    result = info(options(field_db))
    assert result["changed"] is False
    expected = field_db.sql(
        "SELECT relname, pg_size_pretty(pg_total_relation_size(relid)), pg_size_pretty(pg_relation_size(relid)), "
        "pg_size_pretty(pg_indexes_size(relid)) FROM pg_catalog.pg_statio_user_tables "
        "ORDER BY pg_total_relation_size(relid) DESC, relname"
    )
    told = [(t["name"], t["total_pretty"], t["table_pretty"], t["index_pretty"]) for t in result["tables"]]
    assert told == expected
    size = field_db.value("SELECT pg_database_size(current_database())")
    assert abs(result["database"]["size_bytes"] - size) < 1 << 20
    assert result["database"]["name"] == field_db.name and result["server"]["superuser"]
    assert result["server"]["version_num"] == int(field_db.value("SHOW server_version_num"))
    assert result["settings"]["autovacuum"] == "off"


def test_our_own_sessions_settings_are_not_told_as_the_servers(database: Database) -> None:
    assert info(options(database))["settings"]["lock_timeout"] == "0ms"


def test_an_empty_database_and_a_missing_one(database: Database) -> None:
    assert info(options(database))["tables"] == []
    with pytest.raises(DatabaseMissing):
        info(options(database, db="there is none"))


def test_a_role_that_may_only_connect(field_db: Database) -> None:
    field_db.sql("CREATE ROLE nosy LOGIN")
    field_db.sql("REVOKE ALL ON SCHEMA public FROM public")
    result = info(options(field_db, user="nosy"))
    assert result["tables"][0]["total_bytes"] > 0 and not result["server"]["superuser"]


def test_an_exclusively_locked_table_is_told_without_waiting(database: Database) -> None:
    database.sql("CREATE TABLE shut (i int)")
    database.sql("CREATE TABLE open (i int)")
    with database.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE shut IN ACCESS EXCLUSIVE MODE")
        sizes = {t["name"]: t["total_bytes"] for t in info(options(database))["tables"]}
    assert sizes == {"shut": None, "open": 0}


def test_the_database_that_a_restore_kept(database: Database) -> None:
    from scannerdb.restore.marks import KEPT, DatabaseMark

    mark = DatabaseMark(KEPT, database.name, "20250101T000000Z-00000000", "2025-01-01T00:00:00Z")
    database.sql('CREATE DATABASE "kept one" TEMPLATE template0')
    with database.connect() as conn:
        conn.execute(b'COMMENT ON DATABASE "kept one" IS \'' + mark.text().encode() + b"'")
    (kept,) = info(options(database))["kept_databases"]
    assert (kept["name"], kept["kept_at"]) == ("kept one", "2025-01-01T00:00:00Z") and kept["size_bytes"] > 0
