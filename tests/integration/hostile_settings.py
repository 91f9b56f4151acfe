"""Settings for a login or a database that change what a session sees, writes or is told."""

from __future__ import annotations

from collections.abc import Mapping

HOSTILE = {
    "search_path": "hostile, pg_catalog, public",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "session_replication_role": "replica",
    "row_security": "off",
    "check_function_bodies": "off",
    "exit_on_error": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "escape_string_warning": "on",
    "backslash_quote": "off",
    "quote_all_identifiers": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Tokyo",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmlbinary": "hex",
    "xmloption": "document",
    "client_min_messages": "error",
    "synchronize_seqscans": "on",
}
GONE = {"standard_conforming_strings": 19, "escape_string_warning": 19}  # the version that has one no more


def known_to(major: int, settings: Mapping[str, str]) -> dict[str, str]:
    """Those of them that a version of PostgreSQL has."""
    return {name: value for name, value in settings.items() if major < GONE.get(name, major + 1)}
