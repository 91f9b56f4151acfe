"""The old scripts' `.env`: what it says of the connection, as the bundle's variables. Pure."""

from __future__ import annotations

import re

# The old scripts read POSTGRES_* first, and take this port where none is said.
NAMES = {
    "scannerdb_login_host": ("POSTGRES_HOST", "DB_HOST", "PGHOST"),
    "scannerdb_login_port": ("POSTGRES_PORT", "DB_PORT", "PGPORT"),
    "scannerdb_login_user": ("POSTGRES_USER", "DB_USER", "PGUSER"),
    "scannerdb_login_db": ("POSTGRES_DB", "DB_NAME", "PGDATABASE"),
}
PORT = "5433"
PASSWORDS = ("POSTGRES_PASSWORD", "DB_PASSWORD", "PGPASSWORD")
FILES = (".env", "DiscordBot/.env")
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
    found = {
        variable: next(values[name] for name in names if values.get(name))
        for variable, names in NAMES.items()
        if any(values.get(name) for name in names)
    }
    return {**({"scannerdb_login_port": PORT} if found else {}), **found}


def has_password(values: dict[str, str]) -> bool:
    """Whether there is a password in it."""
    return any(values.get(name) for name in PASSWORDS)
