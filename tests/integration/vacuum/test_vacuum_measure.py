"""The measure on real servers: the bloat estimate against the truth, and odd tables."""

from __future__ import annotations

import pytest
from scannerdb.connection import Options, connect
from scannerdb.vacuum.measure import TableMeasure, measure
from scannerdb.vacuum.thresholds import VacuumThresholds, is_bloated, is_dead_heavy

from tests.servers import Database

BAND = 0.10  # of the size before: as far as the estimate may be from what a rewrite really gives back

TABLES = {
    "integers": ("i int, j int", "i, i % 7"),
    "mixed": ("b bool, i bigint, c bool, t timestamptz", "true, i, false, now()"),
    "nulls": ("i int, a text, b timestamptz, c int", "i, CASE WHEN i % 3 = 0 THEN 'reason' END, NULL, i"),
    "texts": ("a text, i int, b text", "repeat('x', i % 40), i, md5(i::text)"),
    "many": (", ".join(f"c{n} numeric(10, 4)" for n in range(14)), ", ".join(f"i * 1.{n}" for n in range(14))),
    "wide": ("i int, t text", "i, repeat(md5(i::text), 8)"),
    "endpoints": (
        "id serial, ip text, port int DEFAULT 11434, at timestamptz DEFAULT now(), verified int, honeypot bool",
        None,
    ),
}
INDEXES = {
    "unique_int": ("i int", "i", "CREATE UNIQUE INDEX {} ON {} (i)"),
    "few_values": ("i int", "i % 3", "CREATE INDEX {} ON {} (i)"),
    "some_values": ("i int", "i % 3000", "CREATE INDEX {} ON {} (i)"),
    "two_columns": ("i int, b bool", "i % 3, i % 2 = 0", "CREATE INDEX {} ON {} (i, b)"),
    "text": ("t text", "md5(i::text)", "CREATE INDEX {} ON {} (t)"),
    "expression": ("t text", "md5(i::text)", "CREATE INDEX {} ON {} (upper(t))"),
    "partial": ("i int", "i", "CREATE INDEX {} ON {} (i) WHERE i % 5 = 0"),
    "included": ("i int, t text", "i, md5(i::text)", "CREATE INDEX {} ON {} (i) INCLUDE (t)"),
}


def measured(database: Database, user: str = "postgres") -> dict[str, TableMeasure]:
    args = database.kwargs
    conn = connect(Options(unix_socket=str(args["host"]), port=args["port"], user=user, db=database.name))
    try:
        return {table.name: table for table in measure(conn)}
    finally:
        conn.close()


def fill(database: Database, name: str, columns: str, values: str | None, rows: int = 30_000) -> None:
    database.sql(f"CREATE TABLE {name} ({columns})")
    if values is None:
        database.sql(
            f"INSERT INTO {name} (ip, verified, honeypot) "
            "SELECT concat_ws('.', 10, i / 65536, i / 256 % 256, i % 256), "
            f"i % 3, i % 9 = 0 FROM generate_series(1, {rows}) i"
        )
    else:
        database.sql(f"INSERT INTO {name} SELECT {values} FROM generate_series(1, {rows}) i")


@pytest.mark.parametrize("keep", [1.0, 0.6, 0.2])
def test_the_table_estimate_is_near_the_truth(database: Database, keep: float) -> None:
    for name, (columns, values) in TABLES.items():
        fill(database, name, columns, values)
        database.sql(f"SELECT setseed(0.5); DELETE FROM {name} WHERE random() > {keep}")
    database.sql("VACUUM ANALYZE")
    estimates = measured(database)
    for name in TABLES:
        before = database.value(f"SELECT pg_relation_size('{name}')")
        database.sql(f"VACUUM FULL {name}")
        truth = before - database.value(f"SELECT pg_relation_size('{name}')")
        guess = estimates[name]
        assert guess.bloat_known and guess.heap_bytes == before
        assert abs(guess.bloat_bytes - truth) <= BAND * before, f"{name}: {guess.bloat_bytes} for {truth} of {before}"


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_the_index_estimate_is_near_the_truth(database: Database, keep: float) -> None:
    for name, (columns, values, create) in INDEXES.items():
        fill(database, name, columns, values)
        database.sql(create.format(f"{name}_i", name))
        database.sql(f"SELECT setseed(0.5); DELETE FROM {name} WHERE random() > {keep}")
    database.sql("VACUUM ANALYZE")
    estimates = measured(database)
    for name in INDEXES:
        before = database.value(f"SELECT pg_relation_size('{name}_i')")
        database.sql(f"REINDEX INDEX {name}_i")
        truth = before - database.value(f"SELECT pg_relation_size('{name}_i')")
        (guess,) = estimates[name].indexes
        assert guess.bloat_known and guess.bytes == before
        # Never far above the truth, or a rebuild would be promised that gives nothing back.
        assert -0.25 * before <= guess.bloat_bytes - truth <= BAND * before, (
            f"{name}: {guess.bloat_bytes} for {truth} of {before}"
        )


def test_dead_rows_are_not_bloat_until_they_are_vacuumed(database: Database) -> None:
    fill(database, "t", *TABLES["endpoints"])
    database.sql("DELETE FROM t WHERE id % 4 <> 0")
    database.sql("ANALYZE t")
    limits = VacuumThresholds(bloat_bytes=100_000)
    before = measured(database)["t"]
    assert is_dead_heavy(before, limits) and not is_bloated(before, limits)
    assert before.waste_ratio > 0.7
    database.sql("VACUUM t")
    after = measured(database)["t"]
    assert not is_dead_heavy(after, limits) and is_bloated(after, limits)


def test_sizes_are_the_servers_own(field_db: Database) -> None:
    for name, table in measured(field_db).items():
        sizes = field_db.sql(
            "SELECT pg_total_relation_size(c), pg_indexes_size(c), pg_relation_size(c) "
            "FROM (SELECT %s::regclass) AS x(c)",
            f'"{name}"',
        )[0]
        assert (table.bytes, table.index_bytes, table.heap_bytes) == sizes
        assert table.live == field_db.value(f'SELECT count(*) FROM "{name}"')


def test_odd_tables_are_measured_without_a_crash(database: Database) -> None:
    database.sql('CREATE SCHEMA "o\'dd"')
    database.sql('CREATE TABLE "o\'dd"."we""ird; drop" ("a b" int, "%s" text)')
    database.sql("CREATE TABLE nothing ()")
    database.sql("INSERT INTO nothing SELECT FROM generate_series(1, 10)")
    database.sql("CREATE TABLE dropped (a int, b int)")
    database.sql("INSERT INTO dropped SELECT 1, i FROM generate_series(1, 1000) i")
    database.sql("ALTER TABLE dropped DROP COLUMN a")
    database.sql("CREATE TABLE off (i int) WITH (autovacuum_enabled = false, fillfactor = 50)")
    database.sql("CREATE UNLOGGED TABLE unlogged (i int)")
    database.sql("CREATE MATERIALIZED VIEW mat AS SELECT 1 AS i")
    database.sql("CREATE VIEW a_view AS SELECT 1 AS i")
    database.sql("CREATE TABLE whole (i int) PARTITION BY LIST (i)")
    database.sql("CREATE TABLE part PARTITION OF whole DEFAULT")
    database.sql("CREATE TABLE parent (i int)")
    database.sql("CREATE TABLE child () INHERITS (parent)")
    database.sql("CREATE INDEX ON dropped USING gin ((ARRAY[b]))")
    database.sql("CREATE INDEX ON dropped USING brin (b)")
    for _ in range(2):
        found = measured(database)
        database.sql("VACUUM ANALYZE")
    expected = {'we"ird; drop', "nothing", "dropped", "off", "unlogged", "mat", "part", "parent", "child"}
    assert set(found) == expected
    assert found["part"].parents == (("public", "whole"),)
    assert found["off"].autovacuum_off
    assert found["dropped"].bloat_known and not any(index.bloat_known for index in found["dropped"].indexes)


def test_a_role_that_sees_little_gets_what_it_may_see(field_db: Database) -> None:
    field_db.sql("CREATE ROLE nosy LOGIN")
    seen, whole = measured(field_db, "nosy"), measured(field_db)
    assert {n: (t.live, t.dead, t.bytes) for n, t in seen.items()} == {
        n: (t.live, t.dead, t.bytes) for n, t in whole.items()
    }
    assert not any(t.may_vacuum or t.may_rebuild for t in seen.values())
    assert not any(t.bloat_known or t.bloat_bytes for t in seen.values() if t.live)


def test_who_may_maintain(server: object, database: Database) -> None:
    database.sql("CREATE ROLE one LOGIN")
    database.sql("CREATE ROLE two LOGIN")
    database.sql("CREATE TABLE t (i int)")
    database.sql("ALTER TABLE t OWNER TO one")
    assert (measured(database, "one")["t"].may_vacuum, measured(database, "one")["t"].may_rebuild) == (True, True)
    assert (measured(database, "two")["t"].may_vacuum, measured(database, "two")["t"].may_rebuild) == (False, False)
    if int(database.value("SHOW server_version_num")) >= 170000:
        database.sql("GRANT pg_maintain TO two")
        assert (measured(database, "two")["t"].may_vacuum, measured(database, "two")["t"].may_rebuild) == (True, True)
    else:
        database.sql(f"ALTER DATABASE {database.name} OWNER TO two")
        assert (measured(database, "two")["t"].may_vacuum, measured(database, "two")["t"].may_rebuild) == (True, False)
        database.sql(f"ALTER DATABASE {database.name} OWNER TO postgres")
