"""The write probe: does writing to `servers` reach the tables? Proven in a transaction that is always rolled back.

It uses an address nobody has (a random one of the private IPv6 range fd00::/8), so no row of the application is read
or locked; nothing stays behind but a few numbers of the id sequences.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from ..connection import SQL, Composable, Connection, DriverError, Identifier, fetch, scalar
from .ddl import qualified
from .model import Contract

DEFAULT_PORT = 11434


@dataclass
class ProbeResult:
    """What the probe saw. `failures` are sentences; `skipped` says why it could not look, where that is so."""

    failures: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    skipped: str = ""
    role: str = ""

    @property
    def ok(self) -> bool:
        """True where everything that was tried worked."""
        return not self.failures and not self.skipped


class _Rollback(Exception):
    """Ends the probe's transaction."""


@dataclass(frozen=True)
class _Bench:
    """The probe's own connection, names and address."""

    conn: Connection
    view: Composable
    endpoints: Composable
    links: Composable
    ip: str

    def linked(self, identity: int) -> bool:
        query = SQL("SELECT count(*) FROM {} WHERE endpoint_id = %s").format(self.links)
        return bool(scalar(self.conn, query, [identity]) == 1)

    def insert(self) -> int:
        query = SQL("INSERT INTO {} (ip) VALUES (%s) RETURNING id").format(self.view)
        return int(scalar(self.conn, query, [self.ip]) or 0)


def write_probe(conn: Connection, contract: Contract, lock_timeout_ms: int = 1000) -> ProbeResult:
    """Insert, update and delete through the view as the application's role where that is possible; leave nothing.

    Never raises for what the view does: that is in the result.
    """
    result = ProbeResult()
    bench = _Bench(
        conn,
        qualified(contract.schema, contract.view.name),
        qualified(contract.schema, "endpoints"),
        qualified(contract.schema, "verified_endpoints"),
        "fd" + ":".join(secrets.token_hex(2) for _ in range(8))[2:],
    )
    try:
        with conn.transaction():
            conn.execute(SQL("SET LOCAL lock_timeout = {}").format(SQL(str(int(lock_timeout_ms)))))
            conn.execute("SET LOCAL search_path = pg_catalog, pg_temp")
            result.role = _become(conn, contract.application_role)
            for name, step in STEPS:
                _try(conn, name, step, bench, result)
            raise _Rollback
    except _Rollback:
        pass
    except DriverError as error:
        result.failures.append(f"the probe itself failed: {_why(error)}")
    return result


def _become(conn: Connection, role: str) -> str:
    """Act as the application's role where this role may, so that its privileges are proven too."""
    if scalar(conn, "SELECT count(*) FROM pg_roles WHERE rolname = %s", [role]):
        try:
            with conn.transaction():
                conn.execute(SQL("SET LOCAL ROLE {}").format(Identifier(role)))
        except DriverError:
            pass  # not a member: the probe then runs as the maintenance role, and says so
    return str(scalar(conn, "SELECT current_user::text"))


def _try(conn: Connection, name: str, step: Callable[[_Bench], str], bench: _Bench, result: ProbeResult) -> None:
    """Run one step in a savepoint that is always rolled back."""
    problem = ""
    try:
        with conn.transaction():
            problem = step(bench)
            raise _Rollback
    except _Rollback:
        pass
    except DriverError as error:
        problem = _why(error)
    if problem:
        result.failures.append(f"{name}: {problem}")
    else:
        result.passed.append(name)


def _why(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _insert(bench: _Bench) -> str:
    identity = bench.insert()
    query = SQL("SELECT port, verified, scan_date IS NOT NULL AS dated FROM {} WHERE id = %s").format(bench.endpoints)
    rows = fetch(bench.conn, query, [identity])
    if not rows:
        return "RETURNING does not give the endpoint's id"
    row = rows[0]
    if row["port"] != DEFAULT_PORT or row["verified"] != 1 or not row["dated"]:
        return f"the endpoint came out as port {row['port']}, verified {row['verified']}, dated {row['dated']}"
    return "" if bench.linked(identity) else "the link row is missing"


def _duplicate(bench: _Bench) -> str:
    first, second = bench.insert(), bench.insert()
    return "" if first == second else f"a duplicate address made another row ({first}, {second})"


def _update(bench: _Bench) -> str:
    identity = bench.insert()
    update = SQL("UPDATE {} SET port = 11435 WHERE id = %s").format(bench.view)
    touched = bench.conn.execute(update, [identity]).rowcount
    port = scalar(bench.conn, SQL("SELECT port FROM {} WHERE id = %s").format(bench.endpoints), [identity])
    if touched != 1 or port != 11435:
        return f"{touched} rows updated, and the endpoint's port is {port}"
    return "" if bench.linked(identity) else "the link row got lost"


def _update_id(bench: _Bench) -> str:
    identity = bench.insert()
    try:
        with bench.conn.transaction():
            bench.conn.execute(SQL("UPDATE {} SET id = -1 WHERE id = %s").format(bench.view), [identity])
    except DriverError:
        return ""
    return "changing the id is not refused"


def _delete(bench: _Bench) -> str:
    identity = bench.insert()
    touched = bench.conn.execute(SQL("DELETE FROM {} WHERE id = %s").format(bench.view), [identity]).rowcount
    left = scalar(bench.conn, SQL("SELECT count(*) FROM {} WHERE id = %s").format(bench.endpoints), [identity])
    if touched != 1 or left != 0:
        return f"{touched} rows deleted, and {left} endpoints left"
    return "the link row stayed" if bench.linked(identity) else ""


STEPS: tuple[tuple[str, Callable[[_Bench], str]], ...] = (
    ("insert", _insert),
    ("duplicate insert", _duplicate),
    ("update", _update),
    ("update of id", _update_id),
    ("delete", _delete),
)
