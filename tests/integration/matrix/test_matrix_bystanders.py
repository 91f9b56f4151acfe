"""Objects that pg_restore cannot make by itself: all that depends on nothing but the data still comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.errors import InvalidInput, RestoreRefused, ToolFailed

from tests.integration.matrix.matrix_support import (
    after_a_restore,
    back_up,
    bring_back,
    differing,
    lose,
    picture,
    problems_of_a_drill,
)
from tests.integration.support import findings
from tests.servers import Database

TABLES = ["CREATE TABLE zz (a int PRIMARY KEY)", "INSERT INTO zz SELECT generate_series(1, 9)"]
COUNTS = "CREATE FUNCTION counts() RETURNS bigint LANGUAGE {} AS $$ {} $$"
IN_SQL = COUNTS.format("sql STABLE", "SELECT count(*) FROM zz")
IN_PLPGSQL = COUNTS.format("plpgsql STABLE", "BEGIN RETURN (SELECT count(*) FROM zz); END")
KNOWN = "CREATE FUNCTION known(int) RETURNS bool LANGUAGE {} AS $$ {} $$"
# What needs the original's search_path, or all tables, and gets it in the second attempt.
SECOND = {
    "a check that reads a table loaded later": [
        KNOWN.format("sql", "SELECT EXISTS (SELECT FROM public.zz WHERE a = $1)"),
        "CREATE TABLE aa (a int CHECK (known(a)))",
        "INSERT INTO aa VALUES (1), (2)",
    ],
    "a check that reads a table without its schema": [
        KNOWN.format("plpgsql", "BEGIN RETURN EXISTS (SELECT FROM zz WHERE a = $1); END"),
        "CREATE TABLE aa (a int CHECK (known(a)))",
        "INSERT INTO aa VALUES (1), (2)",
    ],
    "a domain whose check reads a table": [
        KNOWN.format("plpgsql", "BEGIN RETURN EXISTS (SELECT FROM zz WHERE a = $1); END"),
        "CREATE DOMAIN d AS int CHECK (known(VALUE))",
        "CREATE TABLE aa (a d)",
        "INSERT INTO aa VALUES (1), (2)",
    ],
    "a generated column by a function that calls another": [
        "CREATE FUNCTION inner_f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'",
        "CREATE FUNCTION outer_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_f($1); END'",
        "CREATE TABLE aa (a int, b int GENERATED ALWAYS AS (outer_f(a)) STORED)",
        "INSERT INTO aa VALUES (1), (2)",
    ],
}
# Until version 17 an index and a refresh ran with the search_path of the session; since then no session can make them.
BEFORE_17 = {
    "a materialized view over a function": [IN_PLPGSQL, "CREATE MATERIALIZED VIEW mv AS SELECT counts() AS n"],
    "a materialized view over another": [
        IN_SQL,
        "CREATE MATERIALIZED VIEW mv AS SELECT counts() AS n",
        "CREATE MATERIALIZED VIEW a_mv AS SELECT n + 1 AS m FROM mv",
        "CREATE UNIQUE INDEX ON a_mv (m)",
    ],
    "an index on a function": [
        "CREATE FUNCTION inner_f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'",
        "CREATE FUNCTION outer_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_f($1); END'",
        "CREATE INDEX outer_idx ON zz (outer_f(a))",
        "COMMENT ON INDEX outer_idx IS 'an index'",
    ],
}
BROKEN = [
    *TABLES,
    IN_PLPGSQL,
    'CREATE MATERIALIZED VIEW "a mv" AS SELECT counts() AS n WITH NO DATA',
    "ALTER FUNCTION counts() SET search_path = public",
    'REFRESH MATERIALIZED VIEW "a mv"',
    'CREATE INDEX mv_idx ON "a mv" (n)',
    "CREATE FUNCTION small(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'",
    'CREATE TABLE aa (a int, CONSTRAINT "is small" CHECK (public.small(a)))',
    "COMMENT ON CONSTRAINT \"is small\" ON aa IS 'it is'",
    "INSERT INTO aa VALUES (1), (200)",
    "CREATE FUNCTION low(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'",
    "CREATE INDEX low_idx ON aa (low(a))",
    "COMMENT ON INDEX low_idx IS 'an index'",
    # Then somebody changes what they rest on.
    "CREATE OR REPLACE FUNCTION counts() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT 1 FROM gone); END'",
    "CREATE OR REPLACE FUNCTION small(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100'",
    "CREATE OR REPLACE FUNCTION low(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    " $$BEGIN RAISE EXCEPTION 'not today'; END$$",
]
LEAVE_OUT = ['public."a mv"', 'public.aa."is small"', "public.low_idx"]


def made(database: Database, *statements: str) -> None:
    for statement in statements:
        database.sql(statement)


@pytest.mark.parametrize("kind", SECOND)
def test_a_second_attempt_makes_it(database: Database, tmp_path: Path, kind: str) -> None:
    made(database, *TABLES, *SECOND[kind])
    if "loaded later" in kind:
        assert findings(database)["restore.check.other_table"]
    before, after = after_a_restore(database, tmp_path)
    assert differing(before, after) == ""
    assert problems_of_a_drill(database, tmp_path, "server") == []


@pytest.mark.parametrize("kind", BEFORE_17)
def test_what_a_search_path_made_before_17(database: Database, tmp_path: Path, kind: str) -> None:
    if int(database.value("SHOW server_version_num")) >= 170000:
        with pytest.raises(Exception, match="does not exist"):
            made(database, *TABLES, *BEFORE_17[kind])
        return
    made(database, *TABLES, *BEFORE_17[kind])
    assert findings(database)["restore.function.search_path"]
    before, after = after_a_restore(database, tmp_path)
    assert differing(before, after) == ""
    assert problems_of_a_drill(database, tmp_path, "server") == []


def test_broken_objects_cost_no_data(database: Database, tmp_path: Path) -> None:
    """Named, they are left out; without that the error says which they are, and how to go on."""
    made(database, *BROKEN)
    before = picture(database)
    back_up(database, tmp_path)
    lose(database)
    with pytest.raises(ToolFailed) as refused:
        bring_back(database, tmp_path)
    for name in LEAVE_OUT[::2]:
        assert name in str(refused.value), name
    for words in ("gone", "REFRESH MATERIALIZED VIEW", "not today", "CONTEXT", "scannerdb_restore_leave_out"):
        assert words in str(refused.value), words
    for wrong, error in (("public.nothing", RestoreRefused), ("a.b.c.d", InvalidInput), ('"', InvalidInput)):
        with pytest.raises(error, match="scannerdb_restore_leave_out"):
            bring_back(database, tmp_path, leave_out=[wrong])
    result = bring_back(database, tmp_path, leave_out=LEAVE_OUT)
    assert set(result["restore"]["left_out"]) == set(LEAVE_OUT)
    after = picture(database)
    assert after["rows of aa"] == before["rows of aa"] and after["rows of zz"] == before["rows of zz"]
    gone = [line for line in differing(before, after).splitlines() if line.startswith(("-", "+")) and line[1:2] != "-"]
    assert "low_idx" in "".join(gone) and "NOT VALID" in "".join(gone)
    assert database.value("SELECT NOT relispopulated FROM pg_class WHERE relname = 'a mv'")
    assert database.value("SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'is small'")


def test_a_drill_names_what_cannot_be_made(database: Database, tmp_path: Path) -> None:
    made(database, *BROKEN)
    result = back_up(database, tmp_path, verify_level="restore")
    assert result["backup"]["verified"] == "read"
    told = " ".join(result["warnings"])
    assert "All rows of its 2 tables came back" in told and 'public."a mv"' in told
    (first, *_) = problems_of_a_drill(database, tmp_path, "server")
    assert "public.low_idx" in first and "not today" in first
