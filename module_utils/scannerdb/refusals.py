"""Why a server refuses a connection, as one of our errors: a sentence and its hint. Pure.

The SQLSTATE decides: texts come in the server's language. Text is looked at where there is no code, because no server
answered or an old libpq hides it, and where one code has several causes, for a better hint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import (
    AuthenticationFailed,
    ConnectionFailed,
    DatabaseMissing,
    LockTimeout,
    PrivilegeMissing,
    QueryFailed,
    ScannerDbError,
    ServerUnsupported,
)

OLDEST_SERVER = 140000
LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True)
class _Refusal:
    """One reason: the SQLSTATEs that say so by themselves, and English text that does where no code is known."""

    states: tuple[str, ...]
    text: str
    kind: type[ScannerDbError]
    sentence: str
    hint: str


_REFUSALS = (
    _Refusal(
        (),
        r"server is in hot standby mode",
        ServerUnsupported,
        "None of the servers {host} is a primary that can be reached.",
        "Start or promote one, or correct scannerdb_login_host.",
    ),
    _Refusal(
        (),
        r"no pg_hba.conf entry",
        AuthenticationFailed,
        "{server} has no pg_hba.conf entry that lets role {user!r} in: {why}.",
        "Add a line for this client to pg_hba.conf and reload the server.",
    ),
    _Refusal(
        (),
        r"pg_hba.conf rejects connection",
        AuthenticationFailed,
        "A line in pg_hba.conf of {server} turns role {user!r} away: {why}.",
        "Put a line that lets this client in before that one, and reload the server.",
    ),
    _Refusal(
        (),
        r'role ".*" does not exist',
        AuthenticationFailed,
        "{server} has no role {user!r}.",
        "Create it (playbooks/deploy.yml does), or set scannerdb_login_user.",
    ),
    _Refusal(
        ("28P01", "28000"),
        r"password authentication failed|no password supplied|Peer authentication failed|authentication failed",
        AuthenticationFailed,
        "{server} refused the login of role {user!r}: {why}.",
        "Check scannerdb_login_user and scannerdb_login_password; for a local socket, the system user that runs this "
        "must map to that role.",
    ),
    _Refusal(
        ("3D000",),
        r'database ".*" does not exist',
        DatabaseMissing,
        "{server} has no database {db!r}.",
        "Check scannerdb_login_db, create it with playbooks/deploy.yml, or restore it with playbooks/restore.yml.",
    ),
    _Refusal(
        ("55000",),
        r'database ".*" is not currently accepting connections',
        ConnectionFailed,
        "Database {db!r} on {server} accepts no connections; an interrupted restore leaves one so.",
        "Run playbooks/restore.yml again, which heals it, or: ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    _Refusal(
        (),
        r"could not translate host name|Name or service not known|failed to resolve host",
        ConnectionFailed,
        "There is no host named {host!r}: {why}.",
        "Check scannerdb_login_host and the name service.",
    ),
    _Refusal(
        ("53300",),
        r"too many (clients|connections)|remaining connection slots",
        ConnectionFailed,
        "{server} has no free connection slot: {why}.",
        "End idle sessions or raise max_connections.",
    ),
    _Refusal(
        ("42501",),
        r"permission denied for database|does not have CONNECT privilege",
        PrivilegeMissing,
        "Role {user!r} may not connect to database {db!r}.",
        "GRANT CONNECT ON DATABASE … TO the role.",
    ),
    _Refusal(
        ("57P03",),
        r"the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)",
        ConnectionFailed,
        "{server} takes no connections just now: {why}.",
        "Wait until it has started, and run again; its log says what it is doing.",
    ),
)
# A message of the server in libpq's trace: severity (translated, and not), then the code.
_TRACED = re.compile(rb'\tErrorResponse\t S "[^"]*"(?: V "[A-Z]+")? C "([0-9A-Z]{5})"')


def refusal_state(trace: bytes) -> str:
    """The SQLSTATE of the last error in libpq's trace of a connection; empty where there is none."""
    found = _TRACED.findall(trace)
    return found[-1].decode("ascii") if found else ""


def refuse_unsuitable(version: int, seen: Mapping[str, Any], server: str, allow_standby: bool) -> None:
    """Raise `ServerUnsupported` where a server is too old, or cannot be written and the job writes.

    `seen` is what it says of itself: `standby`, `read_only` (set in its own configuration, and so on purpose).
    """
    if version < OLDEST_SERVER:
        raise ServerUnsupported(
            f"The server on {server} is PostgreSQL {version // 10000}; 14 is the oldest that is supported.",
            "Upgrade the server.",
        )
    if seen["standby"] and not allow_standby:
        raise ServerUnsupported(
            f"The server on {server} is a standby, which cannot be written.",
            "Point scannerdb_login_host at the primary.",
        )
    if seen["read_only"] and not allow_standby:
        raise ServerUnsupported(
            f"The server on {server} is set to be read only (default_transaction_read_only in its configuration), and "
            "this job writes.",
            "ALTER SYSTEM RESET default_transaction_read_only, or take the line out of postgresql.conf, and reload.",
        )


def refused(text: str, state: str, server: str, host: str, user: str, db: str) -> ScannerDbError:
    """The error for libpq's message `text`, and the server's SQLSTATE where that is known.

    `server` is how the place reads, `host` what was asked for.
    """
    words = {
        "server": f"The server on {server}",
        "user": user or "(the system user's name)",
        "db": db,
        "host": host,
        "why": _last_reason(text),
    }
    reason = _reason(text, state)
    if reason:
        return reason.kind(reason.sentence.format(**words), reason.hint)
    if state:
        return ConnectionFailed(
            f"The server on {server} refuses the connection: {words['why']} (SQLSTATE {state}).",
            "Look at the server's log.",
        )
    return ConnectionFailed(
        f"The server on {server} cannot be reached: {words['why']}.",
        "Check that PostgreSQL runs there, scannerdb_login_host, scannerdb_login_port, and the firewall.",
    )


def _reason(text: str, state: str) -> _Refusal | None:
    """What the code says; of a role that may not log in, the text may say more than the code."""
    if state and state != "28000":
        return next((known for known in _REFUSALS if state in known.states), None)
    said = next((known for known in _REFUSALS if re.search(known.text, text)), None)
    if state and (said is None or said.kind is not AuthenticationFailed):
        return next(known for known in _REFUSALS if state in known.states)
    return said


def _last_reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    reason = lines[-1] if lines else text
    return re.sub(r"^.*?(?:FATAL|failed):\s*", "", reason).rstrip(".")


def failure(error: Exception, doing: str) -> ScannerDbError:
    """The error for what the driver raised while `doing`."""
    state = getattr(error, "sqlstate", None) or ""
    diagnostic = getattr(error, "diag", None)
    # libpq's own words, where the server is gone, go over several lines: the first says it.
    why = str(getattr(diagnostic, "message_primary", None) or error).strip().partition("\n")[0].rstrip(".")
    detail = getattr(diagnostic, "message_detail", None)
    if detail:
        why = f"{why} ({detail.strip().rstrip('.')})"
    sentence = f"{doing} failed: {why}."
    if state == "42501":
        return PrivilegeMissing(sentence, "Grant the role that right, or run as the owner of the object.")
    if state == LOCK_NOT_AVAILABLE:
        return LockTimeout(
            sentence, "Another session holds the lock: try again when it is gone, or raise scannerdb_lock_deadline_s."
        )
    if state == "57014":
        return QueryFailed(sentence, "The statement was cancelled or ran out of its time.")
    if state.startswith("53"):
        return QueryFailed(sentence, "The server is out of a resource: look at its disk, memory and connections.")
    if state.startswith(("57P", "08")) or not state:
        return ConnectionFailed(sentence, "Look at the server's log and run again: every job can be repeated.")
    return QueryFailed(sentence)
