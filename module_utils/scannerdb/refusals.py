"""What libpq says when it cannot connect, as one of our errors: a sentence and its cure. Pure."""

from __future__ import annotations

import re

from .errors import (
    AuthenticationFailed,
    ConnectionFailed,
    DatabaseMissing,
    PrivilegeMissing,
    ScannerDbError,
    ServerUnsupported,
)

_MESSAGES: tuple[tuple[str, type[ScannerDbError], str, str], ...] = (
    (
        r"server is in hot standby mode",
        ServerUnsupported,
        "None of the servers {host} is a primary that can be reached.",
        "Start or promote one, or correct scannerdb_login_host.",
    ),
    (
        r"password authentication failed|no password supplied|Peer authentication failed|authentication failed",
        AuthenticationFailed,
        "{server} refused the login of role {user!r}: {why}.",
        "Check scannerdb_login_user and scannerdb_login_password; for a local socket, the system user that runs this "
        "must map to that role.",
    ),
    (
        r"no pg_hba.conf entry",
        AuthenticationFailed,
        "{server} has no pg_hba.conf entry that lets role {user!r} in: {why}.",
        "Add a line for this client to pg_hba.conf and reload the server.",
    ),
    (
        r"pg_hba.conf rejects connection",
        AuthenticationFailed,
        "A line in pg_hba.conf of {server} turns role {user!r} away: {why}.",
        "Put a line that lets this client in before that one, and reload the server.",
    ),
    (
        r'role ".*" does not exist',
        AuthenticationFailed,
        "{server} has no role {user!r}.",
        "Create it (playbooks/deploy.yml does), or set scannerdb_login_user.",
    ),
    (
        r'database ".*" does not exist',
        DatabaseMissing,
        "{server} has no database {db!r}.",
        "Check scannerdb_login_db, create it with playbooks/deploy.yml, or restore it with playbooks/restore.yml.",
    ),
    (
        r'database ".*" is not currently accepting connections',
        ConnectionFailed,
        "Database {db!r} on {server} accepts no connections; an interrupted restore leaves one so.",
        "Run playbooks/restore.yml again, which heals it, or: ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    (
        r"could not translate host name|Name or service not known|failed to resolve host",
        ConnectionFailed,
        "There is no host named {host!r}: {why}.",
        "Check scannerdb_login_host and the name service.",
    ),
    (
        r"too many (clients|connections)|remaining connection slots",
        ConnectionFailed,
        "{server} has no free connection slot: {why}.",
        "End idle sessions or raise max_connections.",
    ),
    (
        r"permission denied for database|does not have CONNECT privilege",
        PrivilegeMissing,
        "Role {user!r} may not connect to database {db!r}.",
        "GRANT CONNECT ON DATABASE … TO the role.",
    ),
)


def refused(text: str, server: str, host: str, user: str, db: str) -> ScannerDbError:
    """The error for libpq's message `text`; `server` is how the place reads, `host` what was asked for."""
    words = {
        "server": f"The server on {server}",
        "user": user or "(the system user's name)",
        "db": db,
        "host": host,
        "why": _last_reason(text),
    }
    for pattern, kind, sentence, cure in _MESSAGES:
        if re.search(pattern, text):
            return kind(sentence.format(**words), cure)
    return ConnectionFailed(
        f"The server on {server} cannot be reached: {words['why']}.",
        "Check that PostgreSQL runs there, scannerdb_login_host, scannerdb_login_port, and the firewall.",
    )


def _last_reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    reason = lines[-1] if lines else text
    return re.sub(r"^.*?(?:FATAL|failed):\s*", "", reason).rstrip(".")
