"""What a database has on top of the contract: listed once each, and nothing of it that the contract itself needs."""

from __future__ import annotations

import pytest
from scannerdb.jobs.schema import schema

from tests.integration.support import findings, options
from tests.servers import Database


def extras(database: Database) -> dict[str, str]:
    """The objects of the findings about extras, each with its kind."""
    return {
        f["object"]: f["evidence"].get("kind", finding_id.split(".")[1])
        for finding_id, group in findings(database).items()
        if finding_id.endswith(".unexpected")
        for f in group
    }


IDS = {
    *("schema.object.unexpected", "schema.index.unexpected"),
    *("schema.constraint.unexpected", "schema.relation.unexpected"),
}
EXTRAS = [
    ("CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'", {"twice(n integer)": "function"}),
    ("CREATE PROCEDURE tidy() LANGUAGE sql AS 'SELECT 1'", {"tidy()": "procedure"}),
    ("CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)", {"total(integer)": "aggregate"}),
    ("CREATE SEQUENCE tickets", {"tickets": "sequence"}),
    ("CREATE TYPE mood AS ENUM ('sad', 'ok')", {"mood": "type"}),
    ("CREATE TYPE pair AS (a int, b int)", {"pair": "type"}),
    ("CREATE TYPE span AS RANGE (SUBTYPE = float8)", {"span": "type"}),
    ("CREATE DOMAIN port AS int CHECK (VALUE > 0)", {"port": "domain"}),
    ("CREATE VIEW totals AS SELECT count(*) FROM models", {"totals": "view"}),
    ("CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM models", {"sums": "materialized view"}),
    ("CREATE RULE quiet AS ON DELETE TO models DO INSTEAD NOTHING", {"models.quiet": "rule"}),
    ("CREATE POLICY mine ON models USING (true)", {"models.mine": "policy"}),
    ("ALTER TABLE models ADD CONSTRAINT big CHECK (size_mb > 0)", {"models.big": "CHECK constraint"}),
    ("ALTER TABLE models ADD CONSTRAINT one UNIQUE (name, size_mb)", {"models.one": "UNIQUE constraint"}),
    (
        "ALTER TABLE models ADD CONSTRAINT apart EXCLUDE USING btree (size_mb WITH =)",
        {"models.apart": "exclusion constraint"},
    ),
    (
        "ALTER TABLE models ADD CONSTRAINT v FOREIGN KEY (id) REFERENCES schema_version (id)",
        {"models.v": "foreign key"},
    ),
    ("CREATE UNIQUE INDEX extra ON models (size_mb)", {"models.extra": "index"}),
    ("CREATE INDEX idle ON models (size_mb, name)", {"models.idle": "index"}),  # unused so far, for less than 14 days
    # what is said elsewhere, or belongs to something
    ("CREATE INDEX twin ON models (name)", {}),  # index.duplicate
    ("CREATE SEQUENCE loose; ALTER TABLE models ALTER id SET DEFAULT nextval('loose')", {}),  # not_owned
    ("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION hstore", {}),
]


@pytest.fixture
def baseline(database: Database) -> Database:
    """A database made by the bundle: nothing in it is extra."""
    schema(options(database))
    assert extras(database) == {}
    return database


def test_each_extra_object_is_listed_once(baseline: Database) -> None:
    said: dict[str, str] = {}
    for statement, expected in EXTRAS:
        baseline.sql(statement)
        said |= expected
        assert extras(baseline) == said, statement
    assert {i for i in findings(baseline) if i.endswith(".unexpected")} == IDS


def test_the_functions_of_the_contracts_triggers_are_not_extra(field_db: Database) -> None:
    assert "function" not in extras(field_db).values()
    field_db.sql("DROP TRIGGER endpoint_scan_date ON endpoints")
    assert extras(field_db)["update_endpoint_scan_date()"] == "function"
