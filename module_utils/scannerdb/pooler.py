"""Recognises a pooler that shares a server's session among its clients, before anything is set there.

Behind such a pooler our settings and locks would be left to the application's next statement. It shows without a
trace: the process that libpq was told of is not the one that answers. A pooler in session mode shows so, too, and does
no harm: there, what was given to one connection is not given to another one while that is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import ServerUnsupported

LOOKS = 3  # other sessions that are asked for; each keeps what it is given, so that the next cannot get the same
_PID = "SELECT pg_catalog.pg_backend_pid() AS pid"


def refuse_sharing(conn: Any, pid: int, another: Callable[[], Any], failures: type[Exception], server: str) -> None:
    """Raise `ServerUnsupported` unless the session of process `pid`, reached over a pooler, is `conn`'s alone.

    `another` opens a second connection to the same place; `failures` is what the driver raises.
    """
    others: list[Any] = []
    try:
        alone = _alone(conn, pid, another, others)
    except failures:  # a pooler in statement mode lets no transaction begin
        alone = False
    finally:
        for other in others:
            other.close()
    if not alone:
        raise ServerUnsupported(
            f"What answers on {server} is a connection pooler that gives one session to several clients (PgBouncer in "
            "transaction or statement mode): locks and settings would reach the application's own sessions.",
            "Set scannerdb_login_host and scannerdb_login_port to PostgreSQL itself, or give this user a pool in "
            "session mode.",
        )


def _alone(conn: Any, pid: int, another: Callable[[], Any], others: list[Any]) -> bool:
    for _ in range(LOOKS):
        other = another()
        others.append(other)
        other.execute("BEGIN")
        if other.execute(_PID).fetchone()["pid"] == pid:
            return False
    return bool(conn.execute(_PID).fetchone()["pid"] == pid)
