"""The write probe: does writing to `servers` reach the tables? Proven as the application
itself, in a frame (frame.py), in a transaction that is always rolled back: the frame is the wall, not the rollback.

It uses an address nobody has (a random one of the private IPv6 range fd00::/8), so no row of the application is read
or locked; nothing stays behind but a few numbers of the id sequences. An endpoint is deleted once more for each foreign
key that a delete meets (probe_children.py): the bot's rows, say, hang on models.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..connection import SQL, Composable, Connection, DriverError, Literal, scalar
from ..errors import ScannerDbError
from ..foreigncode import foreign_code, is_superuser, table_oids
from ..frame import Frame, Frames
from .ddl import qualified
from .model import Contract
from .probe_children import ProbeChild, children, insert_child

DEFAULT_PORT = 11434


@dataclass
class ProbeResult:
    """What the probe saw. `failures` are sentences; `skipped` says why it could not look, where that is so.

    `notes` are the deletes that a foreign key of another table refuses, or that could not be tried.
    """

    failures: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
    """The probe's frame, in which it is the application; its names and address."""

    frame: Frame
    view: Composable
    endpoints: Composable
    links: Composable
    ip: str

    def linked(self, identity: int) -> bool:
        query = SQL("SELECT count(*) FROM {} WHERE endpoint_id = {}").format(self.links, Literal(identity))
        return bool(self.frame.value(query) == 1)

    def insert(self) -> int:
        query = SQL("INSERT INTO {} (ip) VALUES ({}) RETURNING pg_catalog.to_jsonb(id)")
        return int((self.frame.returning(query.format(self.view, Literal(self.ip))) or [0])[0] or 0)

    def port(self, identity: int) -> Any:
        return self.frame.value(SQL("SELECT port FROM {} WHERE id = {}").format(self.endpoints, Literal(identity)))


def write_probe(conn: Connection, contract: Contract, lock_timeout_ms: int = 1000) -> ProbeResult:
    """Insert, update and delete through the view as the application's role; leave nothing.

    Never raises for what the view does: that is in the result, as is why it could not look.
    """
    role = contract.application_role
    try:
        frames = Frames(conn)
        why = _why_not(frames, contract)
    except ScannerDbError as error:
        return ProbeResult(skipped=f"could not look: {error}")
    if why:
        return ProbeResult(skipped=f"could not look: {why}")
    result = ProbeResult(role=role)
    local = {"lock_timeout": f"{int(lock_timeout_ms)}ms"}
    bench = _Bench(
        frames.of(role, local),
        qualified(contract.schema, contract.view.name),
        qualified(contract.schema, "endpoints"),
        qualified(contract.schema, "verified_endpoints"),
        "fd" + ":".join(secrets.token_hex(2) for _ in range(8))[2:],
    )
    try:
        with frames.transaction(local):
            for name, step in STEPS:
                _try(conn, name, step, bench, result)
            if result.ok:
                identity = bench.insert()  # one for all: each is a dead row afterwards
                for child in children(conn, contract):
                    _try_child(child, bench, contract.schema, identity, result)
            raise _Rollback
    except _Rollback:
        pass
    except DriverError as error:
        result.failures.append(f"the probe itself failed: {_why(error)}")
    return result


def _why_not(frames: Frames, contract: Contract) -> str:
    """Why the session cannot be the application, or nothing."""
    conn, role = frames.conn, contract.application_role
    if not scalar(conn, "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = %s", [role]):
        return f"there is no role {role}"
    member = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    if is_superuser(conn, role) and not frames.superuser:
        return f"{role} is a superuser, as whom only a superuser may act"
    if not scalar(conn, "SELECT pg_has_role(%s, %s)", [role, member]):
        return f"the session's role {frames.user} is no member of {role}, so it cannot act as it; GRANT {role} TO it"
    if not frames.superuser and not scalar(
        conn, "SELECT has_database_privilege(%s, current_database(), 'TEMPORARY')", [role]
    ):
        return f"{role} has no TEMPORARY on the database"
    if is_superuser(conn, role):
        tables = table_oids(conn, contract.schema, [contract.view.name, "endpoints", "verified_endpoints"])
        return foreign_code(conn, tables, role)
    return ""


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


def _try_child(child: ProbeChild, bench: _Bench, schema: str, identity: int, result: ProbeResult) -> None:
    """Delete an endpoint that a row of another table references, in a savepoint that is always rolled back."""
    conn = bench.frame.conn
    try:
        with conn.transaction():
            problem = _made(child, bench, schema, identity)
            if problem:
                result.notes.append(f"{child.text} could not be tried: {problem}")
                raise _Rollback
            problem = _gone(bench, identity)
            if problem:
                result.failures.append(f"{child.text}: {problem}")
            else:
                result.passed.append(child.text)
            raise _Rollback
    except _Rollback:
        pass
    except DriverError as error:
        if child.refuses:
            result.notes.append(f"{child.text} fails: {child.name} is ON DELETE {child.on_delete}")
        else:
            result.failures.append(f"{child.text}: {_why(error)}")


def _made(child: ProbeChild, bench: _Bench, schema: str, identity: int) -> str:
    """Make a row that references the endpoint; why it cannot be made, for all tables have rules of their own."""
    conn, frame = bench.frame.conn, bench.frame
    if is_superuser(conn, frame.role):
        foreign = foreign_code(conn, [child.relation, *table_oids(conn, schema, ["models", child.parent])], frame.role)
        if foreign:
            return foreign
    try:
        with conn.transaction():
            parent = _parent(child.parent, bench, schema, identity)
            made = frame.run(insert_child(child, schema, parent, identity))
    except (DriverError, LookupError) as error:
        return _why(error)
    return "" if made == 1 else "the row was not made"


def _parent(table: str, bench: _Bench, schema: str, identity: int) -> int:
    """The row that the child references, of the endpoint `identity`: its own, its link, or a new one of its."""
    if table == "endpoints":
        return identity
    at = Literal(identity)
    if table == "verified_endpoints":
        return int(bench.frame.value(SQL("SELECT id FROM {} WHERE endpoint_id = {}").format(bench.links, at)))
    if table not in PARENTS:
        raise LookupError(f"it references {table}")
    query = SQL(PARENTS[table]).format(qualified(schema, table), at)  # type: ignore[arg-type,unused-ignore]
    return int(bench.frame.returning(query)[0])


def _why(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _insert(bench: _Bench) -> str:
    identity = bench.insert()
    query = SQL("SELECT port, verified, scan_date IS NOT NULL AS dated FROM {} WHERE id = {}")
    rows = bench.frame.rows(query.format(bench.endpoints, Literal(identity)))
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
    update = SQL("UPDATE {} SET port = 11435 WHERE id = {}").format(bench.view, Literal(identity))
    touched, port = bench.frame.run(update), bench.port(identity)
    if touched != 1 or port != 11435:
        return f"{touched} rows updated, and the endpoint's port is {port}"
    return "" if bench.linked(identity) else "the link row got lost"


def _update_id(bench: _Bench) -> str:
    identity = bench.insert()
    try:
        with bench.frame.conn.transaction():
            bench.frame.run(SQL("UPDATE {} SET id = -1 WHERE id = {}").format(bench.view, Literal(identity)))
    except DriverError:
        return ""
    return "changing the id is not refused"


def _delete(bench: _Bench) -> str:
    identity = bench.insert()
    return _gone(bench, identity) or ("the link row stayed" if bench.linked(identity) else "")


def _gone(bench: _Bench, identity: int) -> str:
    """Delete an endpoint through the view; what is wrong with that."""
    touched = bench.frame.run(SQL("DELETE FROM {} WHERE id = {}").format(bench.view, Literal(identity)))
    left = bench.port(identity)
    if touched != 1 or left is not None:
        return f"{touched} rows deleted, and the endpoint is {'left' if left is not None else 'gone'}"
    return ""


PARENTS = {
    "models": "INSERT INTO {} (endpoint_id, name) VALUES ({}, 'scannerdb probe') RETURNING pg_catalog.to_jsonb(id)",
    "benchmark_results": "INSERT INTO {} (endpoint_id) VALUES ({}) RETURNING pg_catalog.to_jsonb(id)",
}

STEPS: tuple[tuple[str, Callable[[_Bench], str]], ...] = (
    ("insert", _insert),
    ("duplicate insert", _duplicate),
    ("update", _update),
    ("update of id", _update_id),
    ("delete", _delete),
)
