"""What a point in time shows of the live tables runs no code, though their owner changes them meanwhile."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from scannerdb.backup import then_and_now
from scannerdb.backup.then_and_now import TABLES, TableFacts, table_facts

from tests.integration.support import options
from tests.security.attacks import ATTACKS, OWNER, Attack, Canary

VIEW = """
ALTER TABLE public.metadata RENAME TO metadata_2;
CREATE VIEW public.metadata AS SELECT evil.code() AS key, pg_catalog.now() AS updated_at;
"""
POLICY = """
ALTER TABLE public.metadata ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY zz ON public.metadata USING (evil.truth(1));
"""
MEANWHILE = {
    "a view in its place": VIEW,
    "an index's predicate": ATTACKS["index predicate"].planted,
    "statistics": ATTACKS["extended statistics"].planted,
    "a policy": POLICY,
}


@pytest.mark.pg(17)
@pytest.mark.parametrize("kind", MEANWHILE)
def test_tables_that_change_between_the_list_and_the_look_run_nothing(
    canary: Canary, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    canary.plant(Attack("functions", "SELECT 1", ""))
    whole = then_and_now.fetch

    def listed(conn: Any, query: Any, *more: Any) -> Any:
        found = whole(conn, query, *more)
        if query == TABLES:
            with contextlib.closing(canary.database.connect()) as theirs:
                theirs.execute(f"SET ROLE {OWNER}; {MEANWHILE[kind]}".encode())
            canary.reset()
        return found

    monkeypatch.setattr(then_and_now, "fetch", listed)
    found = {one.name: one for one in table_facts(options(canary.database))}
    assert not canary.fired
    assert ("public.metadata" in found) == (kind != "a view in its place")
    assert "public.endpoints" in found


@pytest.mark.pg(17)
def test_rows_and_the_newest_time_are_counted_as_a_query_does(canary: Canary) -> None:
    sql = canary.database.sql
    sql("CREATE TABLE odd (at timestamptz, other timestamp, day date, said text)")
    sql("INSERT INTO odd VALUES ('2026-01-01 00:00:00.25+00', NULL, '2025-12-31', E'a\\nb'), (NULL, NULL, NULL, '')")
    sql("CREATE TABLE bare ()")
    sql("INSERT INTO bare DEFAULT VALUES")
    sql("CREATE TABLE said (one text)")
    sql("INSERT INTO said VALUES (E'two\\nlines'), (NULL), ('')")
    sql("CREATE TABLE child () INHERITS (said)")
    sql("INSERT INTO child VALUES ('not the parent''s own')")
    found = {one.name: one for one in table_facts(options(canary.database))}
    assert found["public.odd"] == TableFacts("public.odd", 2, "2026-01-01 00:00:00.25+00")
    assert found["public.bare"] == TableFacts("public.bare", 1)
    assert found["public.said"] == TableFacts("public.said", 3)
    assert found["public.endpoints"].rows == canary.database.value("SELECT count(*) FROM endpoints")
    newest = (
        "SELECT (max(greatest(scan_date, verification_date, last_check_date)) AT TIME ZONE 'UTC')::text FROM endpoints"
    )
    assert found["public.endpoints"].newest == f"{canary.database.value(newest)}+00"
