"""The list of settings, the environment without libpq's variables, and what a refused connection means."""

from __future__ import annotations

import pytest
from scannerdb.argspec import passed_on
from scannerdb.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    DatabaseMissing,
    InvalidInput,
    PrivilegeMissing,
    quoted,
)
from scannerdb.login import Options, tool_environment
from scannerdb.refusals import refusal_state, refused
from scannerdb.session import (
    behind_catalog,
    own_environment,
    service_file,
    settings_for,
    speaks_english,
    startup_options,
)

TRACE = (
    b'F\t36\tStartupMessage\t 3 0 "user" "C "28P01"" "database" "nix"\n'
    b'B\t88\tErrorResponse\t S "FATAL" V "FATAL" C "3D000" M "database "S "x" V "FATAL" C "28P01""'
    b' F "postinit.c" \\x00\n'
)


def test_only_what_the_server_has_is_set() -> None:
    """Its own spelling counts, and every timeout is off, also one that nobody knows yet."""
    wanted = settings_for(["DateStyle", "future_timeout", "statement_timeout", "deadlock_timeout", "work_mem"], 7)
    assert wanted == {"DateStyle": "ISO, MDY", "future_timeout": "0", "statement_timeout": "7s"}


def test_tools_get_the_same_without_path_and_limit() -> None:
    text = startup_options({"search_path": "x, y", "DateStyle": "ISO, MDY", "statement_timeout": "7s"})
    assert text == "-c DateStyle=ISO,\\ MDY -c statement_timeout=0"


def test_the_catalog_comes_first_and_temporary_objects_last() -> None:
    assert behind_catalog('"$user", public') == 'pg_catalog, "$user", public, pg_temp'
    assert behind_catalog("") == "pg_catalog, pg_temp"


def test_an_extensions_timeout_is_its_own() -> None:
    assert settings_for(["lock_timeout", "citus.node_connection_timeout"]) == {"lock_timeout": "0"}


def test_of_libpqs_variables_one_is_kept() -> None:
    given = {"PGHOST": "x", "PGSERVICE": "y", "PGPASSFILE": "/p", "PATH": "/bin"}
    assert {"PATH": "/bin", "PGPASSFILE": "/p"}.items() <= own_environment(given).items()
    made = tool_environment(Options(ssl_cert="/c", ssl_key="/k", channel_binding="require"), "a=b", given)
    assert (made["PGSSLCERT"], made["PGSSLKEY"], made["PGCHANNELBINDING"]) == ("/c", "/k", "require")
    assert (made["PGDATABASE"], "PGSERVICE" in made, "PGHOST" in made) == ("a=b", False, False)


def test_parameters_that_have_no_option_reach_driver_and_tools() -> None:
    given = Options(connect_params=passed_on({"sslsni": 1, "requirepeer": "x y"}))
    assert {"sslsni": "1", "requirepeer": "x y"}.items() <= given.libpq().items()
    assert "requirepeer=x y\n" in service_file("s", dict(given.connect_params))
    assert "PGSSLSNI" not in tool_environment(given, "db", {})
    for name, words in (
        ("host", "login_host"),
        ("options", "fixed"),
        ("client_encoding", "fixed"),
        ("sslpassword", "secret"),
    ):
        with pytest.raises(InvalidInput, match=words):
            passed_on({name: "x"})
    with pytest.raises(InvalidInput, match="line end"):
        passed_on({"sslcrl": "/x\nhost=elsewhere"})


@pytest.mark.parametrize(
    ("setting", "english"), [("C", True), ("en_US.UTF-8", True), ("es_ES.UTF-8", False), ("", True)]
)
def test_whether_messages_can_be_read(setting: str, english: bool) -> None:
    assert speaks_english(setting) == english


def test_the_code_is_the_servers_own_and_not_in_a_name() -> None:
    assert refusal_state(TRACE) == "3D000"
    assert refusal_state(TRACE.splitlines()[0]) == ""


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("3D000", DatabaseMissing),
        ("28P01", AuthenticationFailed),
        ("28000", AuthenticationFailed),
        ("42501", PrivilegeMissing),
        ("53300", ConnectionFailed),
        ("55000", ConnectionFailed),
        ("XX000", ConnectionFailed),
    ],
)
def test_the_code_decides_whatever_the_text_says(state: str, kind: type[Exception]) -> None:
    for text in ("FATAL:  データベース", 'FATAL:  database "x" does not exist', 'role "x" does not exist'):
        assert type(refused(text, state, "here", "h", "u", "x")) is kind


def test_a_name_from_outside_is_quoted_bounded_and_printable() -> None:
    assert quoted("psql\x1b[2J\n") == "'psql?[2J?'"
    assert len(quoted("x" * 1000)) == 67
