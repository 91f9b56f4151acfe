"""What a plain SQL file may hold, and where psql would see a statement, a string or a command in it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import BackupInvalid, RestoreRefused
from scannerdb.load.sql_file import Terms, _pieces, scan
from scannerdb.load.sql_lexer import Lexer
from scannerdb.load.sql_script import Script, left_out, psql_guards
from scannerdb.load.target import target_from_script
from scannerdb.sets.archive import detect
from scannerdb.sets.manifest import TableCount
from scannerdb.sets.row_counts import rows_by_table

DUMP = r"""--
-- PostgreSQL database dump
--

\restrict uRx0gJx4V

-- Dumped from database version 17.10
-- Dumped by pg_dump version 18.1

SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA public;
COMMENT ON EXTENSION "uuid-ossp" IS 'it''s; \connect';
CREATE TABLE public.t (
    id integer DEFAULT 1.5e-3::integer,
    "odd;""name" text DEFAULT E'a\'; \\connect'
);
ALTER TABLE public.t OWNER TO "Odd, role";
GRANT SELECT ON TABLE public.t TO reader;
CREATE FUNCTION public.f() RETURNS integer
    LANGUAGE plpgsql
    AS $_$ BEGIN; DROP DATABASE x; -- it's $1
\! not a command
END $_$;
CREATE FUNCTION public.g(a integer) RETURNS integer
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN ($1 > 0) THEN 1 ELSE 2 END;
 SELECT 3;
END;
/* a /* nested */ \! remark; ' */
COPY public.t (id, "odd;""name") FROM stdin;
1	\\N
\N	DROP DATABASE x;
\connect	'
\.


\unrestrict uRx0gJx4V

--
-- PostgreSQL database dump complete
--
"""


def read(text: str | bytes) -> Script:
    script = Script("x.sql")
    for line in io.BytesIO(text if isinstance(text, bytes) else text.encode()):
        script.take(line)
    script.finish()
    return script


def test_a_whole_dump() -> None:
    script = read(DUMP)
    assert (script.tables, script.rows, script.encoding) == (1, 3, "UTF8")
    assert script.extensions == ["uuid-ossp"]
    assert script.owners | script.grantees == {"Odd, role", "reader"}
    assert (script.header().server_major, script.header().dump_major) == (17, 18)
    assert script.bytes == len(DUMP.encode())


def test_rows_of_each_table() -> None:
    """They are known where COPY alone brings them, in a file of pg_dump."""
    more = 'COPY "a ""b"."c.d" (x) FROM stdin;\n1\n\\.\nCOPY public.t (id) FROM stdin;\n8\n9\n\\.\n'
    split = 'COPY public."a\nb" (x) FROM stdin;\n1\n\\.\n'
    empty = "COPY public.none (x) FROM stdin;\n\\.\n"
    told = rows_by_table(read(DUMP.replace("/* a", more + split + empty + "/* a")).blocks())
    assert told == [TableCount('a "b', "c.d", 1), TableCount("public", "t", 5), TableCount("public", "none", 0)]
    for change in (
        "INSERT INTO public.t VALUES (1);",
        "DO 'BEGIN END';",
        "TRUNCATE public.t;",
        "SELECT 1; DELETE FROM t;",
    ):
        assert read(DUMP.replace("/* a", change + "\n/* a")).blocks() == []
    assert read(DUMP.replace("-- Dumped", "-- Written")).blocks() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("\\connect x", "connects to another database"),
        ("\\c x", "connects to another database"),
        ("\\! rm -rf /", "command of psql"),
        ("  \\i x.sql", "command of psql"),
        ("\\.", "command of psql"),
        ("\\restrict a \\! rm", "command of psql"),
        ("SELECT 1 \\! rm", "command of psql"),
        ("SELECT 1; \\g |rm", "command of psql"),
        ("SELECT $a$ $b$ $a$ \\! rm;", "command of psql"),
        ("SELECT E'\\\\' \\! rm;", "command of psql"),
        ("SELECT e'a'\n '\\' \\! rm;", "goes on after its end"),
        ("-- x\r\\! rm", "command of psql"),
        ("SELECT 1 -- x\r\\! rm", "command of psql"),
        ("COPY x FROM stdin;\n\\.\r\n\\! rm", "command of psql"),
        ("/* /* */ ' */ \\! rm", "command of psql"),
        ("SELECT 1a$x$ \\! rm $x$;", "is no SQL"),
        ("SELECT :DBNAME;", "variable of psql"),
        ("SELECT :'DBNAME';", "variable of psql"),
        ("DROP DATABASE x;", "drops or changes a database"),
        ("create /* x */ -- y\n  database x;", "drops or changes a database"),
        ("SELECT 1; ALTER DATABASE x SET a = 1;", "drops or changes a database"),
        ("CREATE ROLE x;", "drops or changes a role"),
        ("ALTER USER x SUPERUSER;", "drops or changes a role"),
        ("DROP GROUP x;", "drops or changes a role"),
        ("COMMENT ON DATABASE x IS 'y';", "all databases share"),
        ("GRANT CONNECT ON DATABASE x TO y;", "all databases share"),
        ("GRANT a TO b;", "member"),
        ('REVOKE "a" FROM "b";', "member"),
        ("ALTER SYSTEM SET a = 1;", "whole server"),
        ("DROP OWNED BY x;", "other databases"),
        ("PREPARE TRANSACTION 'x';", "prepared"),
        ("CREATE SUBSCRIPTION x CONNECTION 'y' PUBLICATION z;", "subscription"),
        ("COPY x FROM PROGRAM 'rm';", "COPY"),
        ("COPY x FROM '/etc/passwd';", "COPY"),
        ("COPY x TO stdout;", "COPY"),
        ("COPY x FROM stdin WITH (FORMAT csv);", "COPY"),
        ("COPY x FROM stdin; SELECT 1;", "COPY"),
        ("SET standard_conforming_strings = off;", "how text is read"),
        ("SELECT set_config('standard_conforming_strings', 'off', false);", "how text is read"),
        ("SET client_encoding = 'SJIS';", "how text is read"),
        # psql still is inside of the routine where COPY stands, so what follows would be commands to it.
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 1\n"
            "END;\nCOPY x FROM stdin;\n\\! rm\n",
            "command of psql",
        ),
        ("SELECT (1;\nCOPY x FROM stdin;\n\\! rm\n", "command of psql"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    with pytest.raises(RestoreRefused, match=words) as told:
        read(DUMP.replace("/* a /*", f"{line}\n/* a /*"))
    assert "x.sql is not restored: its line" in str(told.value)


OWN = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

DROP DATABASE IF EXISTS "a=b""c'";
CREATE DATABASE "a=b""c'" WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE_PROVIDER = icu LOCALE = 'C' \
ICU_LOCALE = 'de';
ALTER DATABASE "a=b""c'" OWNER TO "the owner";
\\encoding SQL_ASCII
\\connect -reuse-previous=on "dbname='a=b""c\\''"
COMMENT ON DATABASE "a=b""c'" IS 'it''s;
two lines';
ALTER DATABASE "a=b""c'" SET "x.y" TO E'it''s; \\\\';
ALTER ROLE someone IN DATABASE "a=b""c'" SET work_mem TO '1MB';
DROP VIEW public.v;
CREATE OR REPLACE VIEW public.w AS
SELECT
    NULL::integer AS a;
DROP SCHEMA public;
CREATE SCHEMA public;
DROP VIEW public.x;
GRANT CONNECT ON DATABASE "a=b""c'" TO someone;
--
-- PostgreSQL database dump complete
--
"""


def test_a_database_of_its_own(tmp_path: Path) -> None:
    """What asks for it is known, and nothing of it reaches a server; nor what drops before anything is there."""
    script = read(OWN)
    target = target_from_script(script.contents().database)
    assert (target.owner, target.encoding, target.locale_provider, target.locale) == (
        "the owner",
        "LATIN1",
        "icu",
        "de",
    )
    assert script.contents().properties == 4 and script.owners == {"the owner"} and not script.grantees
    (tmp_path / "x.sql").write_text(OWN)
    loaded = b"".join(_pieces(tmp_path / "x.sql", Terms(17, True), lambda _: None)).decode()
    lines = [line for line in loaded.splitlines() if line and not line.startswith("--")]
    assert lines[2:] == ["DROP SCHEMA public;", "CREATE SCHEMA public;", "DROP VIEW public.x;"]
    assert loaded.count("\n") == OWN.count("\n")  # psql's line numbers stay true


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("\\encoding", "\\encoding SJIS"),
        ("\\connect", "\\connect postgres"),
        ("\\connect", '\\connect -reuse-previous=on "dbname=\'a=b""c\\\'\' host=x"'),
        ("CREATE DATABASE", "CREATE DATABASE other WITH TEMPLATE = template0;"),
        ("DROP DATABASE", "SELECT 1; DROP DATABASE x;"),
        ("DROP DATABASE", "CREATE TABLE x();\nDROP DATABASE x;"),
        ("ALTER ROLE", "ALTER ROLE someone IN DATABASE other SET work_mem TO '1MB';"),
        ("ALTER ROLE", "ALTER ROLE someone SUPERUSER;"),
        ("GRANT", "GRANT CONNECT ON DATABASE other TO someone;"),
        ("GRANT", "ALTER DATABASE other RENAME TO x;"),
        ("COMMENT", 'ALTER DATABASE "a=b""c\'" RENAME TO x;\nSELECT \''),
    ],
)
def test_a_database_of_somebody_else(line: str, instead: str) -> None:
    found = next(one for one in OWN.splitlines() if one.startswith(line))
    with pytest.raises(RestoreRefused, match=r"x\.sql is not restored: its line"):
        read(OWN.replace(found, instead, 1))


def test_a_quote_in_an_escaped_string() -> None:
    read("COMMENT ON TABLE x IS E'it''s; \\\\';\n")


def test_user_mappings_are_no_roles() -> None:
    read("CREATE USER MAPPING FOR x SERVER y;\nALTER USER MAPPING FOR x SERVER y OPTIONS (a 'b');\n")


@pytest.mark.parametrize("end", ["END;\n\\.\n", "END;\nEND;\n"])
def test_a_routines_end_is_where_psql_sees_it(end: str) -> None:
    text = "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC\nSELECT CASE WHEN true THEN 1\n" + end
    if "\\" in end:
        with pytest.raises(RestoreRefused, match="command of psql"):
            read(text)
    else:
        read(text)


def test_every_cut_is_seen() -> None:
    lines = DUMP.encode().splitlines(keepends=True)
    tail = next(i for i, line in enumerate(lines) if b"complete" in line)
    head = next(i for i, line in enumerate(lines) if b"database dump" in line)
    for count in range(head + 1, tail + 1):
        with pytest.raises(BackupInvalid, match="breaks off after line"):
            read(b"".join(lines[:count]))
    with pytest.raises(BackupInvalid, match="in the middle of a table's rows"):
        read(DUMP.split("\\connect\t", maxsplit=1)[0])
    with pytest.raises(BackupInvalid, match="in the middle of a statement"):
        read("SELECT 1")
    with pytest.raises(BackupInvalid, match="empty"):
        read("")


def test_a_copy_that_ends_in_another_way() -> None:
    with pytest.raises(BackupInvalid, match="a table's rows"):
        read("COPY x FROM stdin;\n\\.\r\r\n\\! rm\n")


def test_a_binary_is_no_sql() -> None:
    for text in (b"SELECT 1;\n\0", b"COPY x FROM stdin;\na\0\n\\.\n"):
        with pytest.raises(BackupInvalid, match="no text has"):
            read(text)


NAMES = st.text(alphabet="ab;'\"\\$é -/*\n", min_size=1, max_size=12)


def _literal(kind: str, text: str) -> str:
    if kind == "plain":
        return "'" + text.replace("'", "''") + "'"
    if kind == "escaped":
        return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if kind == "name":
        return '"' + text.replace('"', '""') + '"'
    if kind == "comment":
        return "/*" + text.replace("*", "").replace("/", "") + "*/"
    return f"$q1${text.replace('$', '')}$q1$"


@given(st.lists(st.tuples(st.sampled_from(["plain", "escaped", "name", "comment", "dollar"]), NAMES), max_size=5))
def test_text_is_never_taken_for_code(parts: list[tuple[str, str]]) -> None:
    """Whatever stands in quotes of any kind neither ends a statement nor is a command, and what follows is seen."""
    quoted = "SELECT " + ", ".join(_literal(kind, text) for kind, text in parts) + ", 1;"
    lexer = Lexer()
    found = [s for line in f"{quoted}\nDROP DATABASE x;\n".encode().splitlines(keepends=True) for s in lexer.feed(line)]
    assert [statement.words for statement in found] == [["SELECT"], ["DROP", "DATABASE", "X"]]
    assert lexer.idle
    with pytest.raises(RestoreRefused, match="database"):
        read(f"{quoted}\nDROP DATABASE x;\n")


@given(st.lists(st.text(st.characters(blacklist_characters="\0\n\r", blacklist_categories=["Cs"]), max_size=20)))
def test_rows_are_never_read(rows: list[str]) -> None:
    rows = [row for row in rows if row != "\\."]
    script = read("COPY t FROM stdin;\n" + "".join(f"{row}\n" for row in rows) + "\\.\n")
    assert script.rows == len(rows)
    with pytest.raises(RestoreRefused, match="command of psql"):
        read("COPY t FROM stdin;\n" + "".join(f"{row}\n" for row in rows) + "\\.\n\\! rm\n")


@given(st.binary(max_size=200))
def test_anything_ends_in_an_answer(data: bytes) -> None:
    try:
        read(data)
    except (RestoreRefused, BackupInvalid) as error:
        assert "x.sql" in str(error)


@pytest.mark.parametrize(
    ("statement", "out"),
    [
        ("\\restrict abc", True),
        ("SET transaction_timeout = 0;", True),
        ("SET lock_timeout = 0;", False),
        ("COMMENT ON EXTENSION x IS 'y';", True),
        ("COMMENT ON TABLE x IS 'y';", False),
        ("ALTER TABLE public.t OWNER TO other;", False),
    ],
)
def test_what_is_left_out(statement: str, out: bool) -> None:
    assert left_out(statement, 15, superuser=False) is out
    if "transaction_timeout" in statement or "EXTENSION" in statement:
        assert not left_out(statement, 17, superuser=True)


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ("15.13", False),
        ("15.14", True),
        ("16.9", False),
        ("17.6", True),
        ("18.0", True),
        ("19beta1", True),
        ("", False),
    ],
)
def test_which_psql_has_guards(version: str, can: bool) -> None:
    assert psql_guards(version) is can


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    packed, marked = tmp_path / "a.backup", tmp_path / "b.dump"
    packed.write_bytes(gzip.compress(DUMP.encode()))
    marked.write_bytes(b"\xef\xbb\xbf" + DUMP.encode())
    assert [detect(packed), detect(marked)] == ["sql", "sql"]
    assert scan(packed).rows == scan(marked).rows == 3
    whole = packed.read_bytes()
    for data in (whole[:-9], whole + b"x", whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]):
        packed.write_bytes(data)
        with pytest.raises((BackupInvalid, RestoreRefused)):
            scan(packed)
