"""What of an archive's structure a load would run, and whose it is."""

from __future__ import annotations

import pytest
from scannerdb.errors import RestoreRefused
from scannerdb.load.foreign_code import code_in, untrusted_calls
from scannerdb.load.sql_script import Script, left_out

HEAD = """
CREATE FUNCTION public.f(a integer) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
ALTER FUNCTION public.f(a integer) OWNER TO app;
CREATE FUNCTION public.ours(a integer) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
ALTER FUNCTION public.ours(a integer) OWNER TO postgres;
CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
ALTER FUNCTION public.fire() OWNER TO app;
CREATE OPERATOR public.=== (FUNCTION = public.f, LEFTARG = integer, RIGHTARG = integer);
"""


def told(statement: str) -> list[str]:
    return untrusted_calls(code_in(HEAD + statement), {"postgres"}, {"query_to_xml", "lo_export"})


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.t (\n    a integer,\n    CONSTRAINT c CHECK (public.f(a))\n);",
        'CREATE TABLE public."CHECK (" (a integer, CONSTRAINT "x)" CHECK (((a > 0) AND public.f(a))));',
        "CREATE TABLE public.t (a integer, /* /* */ ' */ CHECK (public.f(a)) /* ' */);",
        "CREATE TABLE public.t (a integer, b boolean GENERATED ALWAYS AS (public.f(a)) STORED);",
        "CREATE TABLE public.t (a integer) PARTITION BY RANGE (public.f(a));",
        "CREATE TABLE public.t (a integer, CHECK ((a OPERATOR(public.===) 1)));",
        "CREATE DOMAIN public.d AS integer CONSTRAINT c CHECK (public.f(VALUE));",
        "ALTER DOMAIN public.d ADD CONSTRAINT c CHECK (public.f(VALUE)) NOT VALID;",
        "ALTER TABLE public.t ADD CONSTRAINT c CHECK (public.f(a)) NOT VALID;",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT c EXCLUDE USING gist (public.f(a) WITH =);",
        "CREATE UNIQUE INDEX i ON public.t USING btree (a) WHERE public.f(1);",
        "CREATE STATISTICS public.s ON (public.f(a)), b FROM public.t;",
        "CREATE CAST (public.mood AS text) WITH FUNCTION public.f(public.mood) AS IMPLICIT;",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();",
        "CREATE TABLE public.t (a text, CHECK ((query_to_xml(a, true, true, ''::text) IS NOT NULL)));",
        "CREATE TABLE public.t (a text, CHECK ((public.dblink_exec(a) IS NOT NULL)));",
    ],
)
def test_it_would_run(statement: str) -> None:
    assert len(told(statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.t (a integer DEFAULT public.f(1), CHECK (((a > 0) AND (length(b) < 5))));",
        "CREATE TABLE public.t (a integer, CHECK (public.ours(a)));",
        "CREATE TABLE public.t (b text DEFAULT 'CHECK (public.f(1))'::text, CHECK ((b <> 'public.f(1)'::text)));",
        "CREATE TRIGGER z BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.fire();",
        "CREATE VIEW public.v AS SELECT public.f(1) AS f;",
        "CREATE INDEX i ON public.t USING btree (lower(b) public.text_ops) WHERE (a > 0);",
        "CREATE TABLE public.t (g public.geometry(Point,4326), CHECK ((public.st_srid(g) = 4326)));",
    ],
)
def test_it_would_not(statement: str) -> None:
    assert told(statement) == []


@pytest.mark.parametrize("word", ["END;", "COMMIT;", "begin;", "START TRANSACTION;", "END WORK;"])
def test_a_script_stays_one_transaction(word: str) -> None:
    script = Script("x.sql")
    statement = script.take(f"{word}\n".encode())
    assert left_out(statement, 17, superuser=True)


@pytest.mark.parametrize(
    "line", ["END; SELECT 1;", "SELECT 1; COMMIT;", "ROLLBACK;", "ABORT;", "SAVEPOINT a;", "COMMIT AND CHAIN;"]
)
def test_what_cannot_be_left_out_is_refused(line: str) -> None:
    with pytest.raises(RestoreRefused, match="begins or ends a transaction"):
        Script("x.sql").take(f"{line}\n".encode())
