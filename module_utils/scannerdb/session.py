"""How every session is prepared: one list of settings, for the driver and for client tools alike. Pure.

A session's settings come from the server's file, from `ALTER DATABASE`, from `ALTER ROLE` and from the environment, and
each of them may change what a statement means, what a value looks like, or how long it may take. None of that is ours,
so each is set to what is written here as far as the server knows it and lets the role set it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Temporary objects come last: a path without pg_temp is searched there first for tables.
SEARCH_PATH = "pg_catalog, pg_temp"
STATEMENT_LIMIT_S = 24 * 3600  # where a job has no shorter one: longer than any statement of ours takes
SETTINGS = {
    # where names lead, and what statements mean
    "search_path": SEARCH_PATH,
    "standard_conforming_strings": "on",
    "escape_string_warning": "off",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "check_function_bodies": "on",
    "row_security": "on",
    "session_replication_role": "origin",
    "restrict_nonsystem_relation_kind": "",
    "exit_on_error": "off",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # how values and definitions are written
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "client_min_messages": "notice",
    "synchronize_seqscans": "off",
    # a client that is gone is noticed within a minute, whatever it was doing
    "client_connection_check_interval": "10s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "45s",
}
# Every other setting whose name ends so is switched off, whichever the server has.
TIMEOUT = "_timeout"
TOOLS_OWN = ("search_path", "client_encoding")
NOT_OURS = ("deadlock_timeout", "wal_sender_timeout", "wal_receiver_timeout")  # they end no session of ours
# libpq's side of the same: a server that is gone is noticed, too.
KEEPALIVES = {
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "6",
    "tcp_user_timeout": "45000",
}
KEPT = frozenset({"PGPASSFILE"})  # the one variable of libpq's that only holds a secret's place


def settings_for(names: Iterable[str], statement_timeout_s: int = 0) -> dict[str, str]:
    """The values of those settings that a server has: `names` as `pg_settings` writes them."""
    known = {name.lower(): value for name, value in SETTINGS.items()}
    wanted = {}
    for name in names:
        if name in NOT_OURS:
            continue
        if name.lower() in known:
            wanted[name] = known[name.lower()]
        elif name.endswith(TIMEOUT) and "." not in name:  # an extension's own is no session's
            wanted[name] = "0"
    if "statement_timeout" in wanted:
        wanted["statement_timeout"] = f"{statement_timeout_s}s"
    return wanted


def behind_catalog(path: str) -> str:
    """A search path with the catalog before all that is in it, and temporary objects after it."""
    return f"pg_catalog, {path}, pg_temp" if path.strip() else SEARCH_PATH


def speaks_english(lc_messages: str) -> bool:
    """Whether a server with that setting writes its messages in English."""
    return lc_messages in ("", "C", "POSIX") or lc_messages.startswith(("en", "C."))


def startup_options(settings: Mapping[str, str], encoding: str = "") -> str:
    """Settings as libpq's `options`, for client tools: the value of PGOPTIONS. `encoding` is the database's own.

    Without the search path, which the tools fix themselves, and which SQL of the user's own expects to be the role's;
    and without a limit for statements: a COPY takes as long as it takes.
    """
    unlimited = {"statement_timeout": "0"} if "statement_timeout" in settings else {}
    own = {"client_encoding": encoding} if encoding else {}  # or the role's would be a dump's, and lack letters
    kept = {name: value for name, value in settings.items() if name not in TOOLS_OWN}
    words = {name: value.replace(" ", "\\ ") for name, value in {**kept, **unlimited, **own}.items()}
    return " ".join(f"-c {name}={value}" for name, value in words.items())


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without libpq's variables: what is wanted of them is an option. Programs speak English in it."""
    kept = {name: value for name, value in environment.items() if not name.startswith("PG") or name in KEPT}
    return {**kept, "LC_MESSAGES": "C", "LANGUAGE": "C"}


def service_file(name: str, more: Mapping[str, str]) -> str:
    """A libpq service of that name, with what no environment variable can say, and `more`."""
    return f"[{name}]\n" + "".join(f"{word}={value}\n" for word, value in {**KEEPALIVES, **more}.items())
