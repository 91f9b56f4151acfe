"""The roles that SQL names: found and replaced, in these statements only, whatever the names are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.load.role_mapping import RoleRules, about_roles, quoted, roles_in

RULES = RoleRules({"gone": 'né"w', 'Ro "le; TO x': "b"}, frozenset({"ignored"}))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("ALTER FUNCTION public.f(a integer) OWNER TO gone;", "ALTER FUNCTION public.f(a integer) OWNER TO {};"),
        ("ALTER TABLE t OWNER TO Gone;", "ALTER TABLE t OWNER TO {};"),
        ('ALTER TABLE t OWNER TO "Gone";', 'ALTER TABLE t OWNER TO "Gone";'),
        ('ALTER TABLE "a\n OWNER TO gone; b" OWNER TO "Ro ""le; TO x";',
         'ALTER TABLE "a\n OWNER TO gone; b" OWNER TO "b";'),
        (
            'GRANT SELECT("TO"),INSERT(x) ON TABLE "to ""x" TO gone WITH GRANT OPTION;',
            'GRANT SELECT("TO"),INSERT(x) ON TABLE "to ""x" TO {} WITH GRANT OPTION;',
        ),
        ("GRANT ALL ON SCHEMA s TO GROUP gone, other, PUBLIC;", "GRANT ALL ON SCHEMA s TO GROUP {}, other, PUBLIC;"),
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC;", "REVOKE ALL ON SCHEMA public FROM PUBLIC;"),
        ("GRANT ALL ON SCHEMA s TO gone, ignored;", "GRANT ALL ON SCHEMA s TO {};"),
        ("GRANT ALL\nON SCHEMA s TO ignored;", "\n"),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE gone IN SCHEMA s GRANT SELECT ON TABLES TO other;",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA s GRANT SELECT ON TABLES TO other;",
        ),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE other REVOKE ALL ON TABLES FROM ignored;", ""),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO gone;",
         "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {};"),
        ("SET SESSION AUTHORIZATION 'gone';", "SET SESSION AUTHORIZATION {};"),
        ("SET SESSION AUTHORIZATION DEFAULT;", "SET SESSION AUTHORIZATION DEFAULT;"),
        (
            "CREATE POLICY p ON t AS RESTRICTIVE FOR SELECT TO gone, ignored, app USING ((x = 'TO gone'::text));",
            "CREATE POLICY p ON t AS RESTRICTIVE FOR SELECT TO {}, app USING ((x = 'TO gone'::text));",
        ),
        ("CREATE POLICY p ON t FOR SELECT USING (true);", "CREATE POLICY p ON t FOR SELECT USING (true);"),
        ("CREATE USER MAPPING FOR gone SERVER s OPTIONS (u 'gone');",
         "CREATE USER MAPPING FOR {} SERVER s OPTIONS (u 'gone');"),
        ("INSERT INTO t VALUES ('x; ALTER TABLE t OWNER TO gone;');",
         "INSERT INTO t VALUES ('x; ALTER TABLE t OWNER TO gone;');"),
        ("SELECT E'\\'; GRANT ALL ON t TO gone;';", "SELECT E'\\'; GRANT ALL ON t TO gone;';"),
        ("-- ALTER TABLE t OWNER TO gone;\nSELECT 1;", "-- ALTER TABLE t OWNER TO gone;\nSELECT 1;"),
        ("/* ; GRANT ALL ON t TO gone; */", "/* ; GRANT ALL ON t TO gone; */"),
        ("/* /* */ ; GRANT ALL ON t TO gone; */", "/* /* */ ; GRANT ALL ON t TO gone; */"),
        ("/* /* */ ' */ GRANT ALL ON t TO gone; -- '", "/* /* */ ' */ GRANT ALL ON t TO {}; -- '"),
        ("SELECT E'a' -- more\n'\\'; GRANT ALL ON t TO gone;';",
         "SELECT E'a' -- more\n'\\'; GRANT ALL ON t TO gone;';"),
        ("SELECT $«$ ' $«$; GRANT ALL ON t TO gone; -- '", "SELECT $«$ ' $«$; GRANT ALL ON t TO {}; -- '"),
        ("GRANT ALL ON t TO\u00a0gone;", "GRANT ALL ON t TO\u00a0gone;"),
        ("DO $x$ BEGIN GRANT ALL ON t TO gone; $$; $x$;", "DO $x$ BEGIN GRANT ALL ON t TO gone; $$; $x$;"),
        ("COMMENT ON TABLE gone IS 'OWNER TO gone';", "COMMENT ON TABLE gone IS 'OWNER TO gone';"),
        ("ALTER TABLE gone OWNER TO other;", "ALTER TABLE gone OWNER TO other;"),
    ],
)  # fmt: skip
def test_roles_are_replaced_in_their_place_only(written: str, wanted: str) -> None:
    assert RULES.rewritten(written) == wanted.format('U&"n\\+0000e9""w"')


def test_roles_are_replaced_all_at_once() -> None:
    swap = RoleRules({"a": "b", "b": "a"})
    assert swap.rewritten("GRANT ALL ON t TO a;GRANT ALL ON t TO b;") == 'GRANT ALL ON t TO "b";GRANT ALL ON t TO "a";'
    assert RoleRules({"a": "b"}).rewritten('GRANT ALL ON t TO a, "b";') == 'GRANT ALL ON t TO "b";'


def test_owners_and_others() -> None:
    owners, others = roles_in(
        "ALTER TABLE t OWNER TO a; GRANT ALL ON t TO b, PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE c GRANT SELECT ON"
        " TABLES TO d; REVOKE ALL ON t FROM a; CREATE POLICY p ON t TO e; CREATE USER MAPPING FOR f SERVER s;"
    )
    assert (owners, others) == ({"a", "c"}, {"b", "d", "e", "f"})


def test_what_is_about_roles() -> None:
    script = """\\restrict abc
SET client_encoding = 'LATIN1';
SET statement_timeout = 0;
CREATE TABLE "x;" (a text DEFAULT 'GRANT; x');
ALTER TABLE "x;" OWNER TO a;
CREATE POLICY p ON "x;" USING (true);
COMMENT ON POLICY p ON "x;" IS 'it''s';
RESET SESSION AUTHORIZATION;
\\unrestrict abc
"""
    assert [statement.split(" ")[0] for statement in about_roles(script)] == [
        "SET",
        "ALTER",
        "CREATE",
        "COMMENT",
        "RESET",
    ]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.text(min_size=1))
def test_any_name_is_found_and_the_rest_stays(role: str, noise: str) -> None:
    """`noise` stands where data do: in a string, a name, a body and a comment."""
    written = '"' + role.replace('"', '""') + '"'
    text = "'" + noise.replace("'", "''") + "'"
    tail = f'COMMENT ON TABLE "{noise.replace(chr(34), chr(34) * 2)}" IS {text};GRANT ALL ON t TO '
    assert RoleRules({role: "new"}).rewritten(f"{tail}{written};") == f'{tail}"new";'
    assert roles_in(f"{tail}{written};") == (set(), {role})


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_names_are_written_in_plain_letters(role: str) -> None:
    text = quoted(role)
    assert text.isascii()
    if role.isascii():
        assert roles_in(f"ALTER TABLE t OWNER TO {text};")[0] == {role}
