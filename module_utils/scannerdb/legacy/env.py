"""The old scripts' `.env`: what it says of the connection, as the bundle's variables. Pure."""

from __future__ import annotations

import re

NAMES = {
    "scannerdb_login_host": ("DB_HOST", "POSTGRES_HOST", "PGHOST"),
    "scannerdb_login_port": ("DB_PORT", "POSTGRES_PORT", "PGPORT"),
    "scannerdb_login_user": ("DB_USER", "POSTGRES_USER", "PGUSER"),
    "scannerdb_login_db": ("DB_NAME", "POSTGRES_DB", "PGDATABASE"),
}
PASSWORDS = ("DB_PASSWORD", "POSTGRES_PASSWORD", "PGPASSWORD")
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


def read_env(content: str) -> dict[str, str]:
    """The assignments of a `.env`; quotes are taken off, comments passed over."""
    found = {}
    for line in content.splitlines():
        match = _LINE.match(line)
        if match:
            found[match.group(1)] = _unquoted(match.group(2))
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.sub(r"\s+#.*$", "", value)


def variables(values: dict[str, str]) -> dict[str, str]:
    """The bundle's variables that the `.env` has values for; never the password."""
    return {
        variable: next(values[name] for name in names if values.get(name))
        for variable, names in NAMES.items()
        if any(values.get(name) for name in names)
    }


def has_password(values: dict[str, str]) -> bool:
    """Whether there is a password in it."""
    return any(values.get(name) for name in PASSWORDS)
