"""Connections to PostgreSQL: the only file that imports psycopg, besides those that only it uses.

The module must be importable where psycopg is absent (Ansible imports it before anything can be said), so the names it
re-exports are placeholders then, and `connect` raises `DependencyMissing` with the hint.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, Union, cast

from .errors import (
    ConnectionFailed,
    DatabaseMissing,
    DependencyMissing,
    FileProblem,
    InvalidInput,
    PrimaryMoved,
    PrimaryUnseen,
    PrivilegeMissing,
    printable,
    quoted,
)
from .login import Options
from .memberstate import STATE, MemberState, state_from
from .pooler import refuse_sharing
from .primary import ensure_same, fence_of, going_on, keeping
from .primary import member_of as _member_of
from .refusals import LOCK_NOT_AVAILABLE, failure, refuse_unsuitable, refused
from .session import (
    KEEPALIVES,
    STATEMENT_LIMIT_S,
    behind_catalog,
    own_environment,
    settings_for,
    speaks_english,
    startup_options,
)

try:
    import psycopg
    from psycopg.rows import dict_row
    from psycopg.sql import Composable, Composed, Literal

    from .anybytes import ANY_BYTES, SQL, Identifier, take_any_bytes
    from .knock import state_of_refusal
    from .watched import LOOK_S, Watched

    HAVE_PSYCOPG = True
    DriverError: type[Exception] = psycopg.Error
except ImportError:  # said properly by connect()
    HAVE_PSYCOPG = False
    SQL = Composable = Composed = Identifier = Literal = None  # type: ignore[assignment,misc]
    DriverError = OSError

__all__ = [
    "HAVE_PSYCOPG",
    "MEMBER_TIMEOUT_S",
    "SQL",
    "Composable",
    "Composed",
    "Connection",
    "DriverError",
    "Identifier",
    "Literal",
    "Options",
    "Query",
    "Row",
    "ServerInfo",
    "connect",
    "execute",
    "explained",
    "fetch",
    "is_lock_timeout",
    "job_entry",
    "member_of",
    "scalar",
    "server_of",
    "state_of",
    "survived",
    "text_of",
    "tool_settings",
]

Connection = Any  # psycopg.Connection[dict[str, Any]]; kept loose so that its absence is survived
Query = Union[str, "Composable"]
Row = dict[str, Any]
_Job = TypeVar("_Job", bound=Callable[..., dict[str, Any]])
_Result = TypeVar("_Result")

MEMBER_TIMEOUT_S = 2  # libpq's shortest, for one of several servers
ATTEMPTS = 4
SLOW_S = 5.0  # a session that ends sooner, while it is set up, is tried again
WITNESS_S = 5.0  # what a question to another member may take


@dataclass(frozen=True)
class ServerInfo:
    """What the server says of itself."""

    version_num: int
    version: str
    in_recovery: bool
    superuser: bool
    user: str
    database: str
    encoding: str

    @property
    def major(self) -> int:
        """Major version, e.g. 17."""
        return self.version_num // 10000


def connect(
    options: Options,
    *,
    dbname: str | None = None,
    purpose: str = "",
    statement_timeout_s: int = STATEMENT_LIMIT_S,
    allow_standby: bool = False,
    role_search_path: bool = False,
    timeout_s: int = 10,
) -> Connection:
    """Open an autocommit connection whose rows are dicts.

    The session is prepared as `session.py` says, whatever role, database and environment have been given, and notices
    soon that its client is gone, so that a killed run's locks go away. With `role_search_path` the role's own search
    path follows upon the catalog: sessions that fire the application's triggers need that. `purpose` becomes part of
    the application name. Raises one of `DependencyMissing`, `ConnectionFailed`, `AuthenticationFailed`,
    `DatabaseMissing`, `ServerUnsupported`.
    """
    if not HAVE_PSYCOPG:
        raise DependencyMissing(
            "The Python library psycopg (version 3.1 or newer) is not installed where this task runs.",
            "Install it there: playbooks/client.yml -e scannerdb_client_install=true does (python3-psycopg on Debian "
            "and Ubuntu, python3-psycopg3 on the RHEL family), or 'pip install psycopg[binary]'.",
        )
    options = member_of(options, dbname, allow_standby)
    words = _words(options, dbname, purpose, timeout_s)
    for attempts_left in reversed(range(ATTEMPTS)):
        conn = _open(words, options)
        opened = time.monotonic()
        try:
            seen = _known(conn, options, words, allow_standby)
            any_bytes = {"client_encoding": ANY_BYTES} if conn.any_bytes else {}
            conn.prepared = {**settings_for(seen["names"], statement_timeout_s), **any_bytes}
            conn.language = seen["language"]
            conn.english = "lc_messages" in conn.prepared or speaks_english(conn.language)
            conn.limit_s = (statement_timeout_s or STATEMENT_LIMIT_S) + LOOK_S
            own_path = {"search_path": behind_catalog(seen["path"])} if role_search_path else {}
            unknown = _prepare(conn, {**conn.prepared, **own_path})
            conn.prepared = {name: value for name, value in conn.prepared.items() if name not in unknown}
            return conn
        except BaseException as error:
            conn.close()
            # A timeout of the role's, which is not off yet, may have ended a session that was slow to be set up.
            again = isinstance(error, ConnectionFailed) and not isinstance(error, (PrimaryMoved, PrimaryUnseen))
            if not attempts_left or not again or time.monotonic() - opened > SLOW_S:
                raise
    raise AssertionError("the last attempt returns or raises")


def _known(conn: Connection, options: Options, words: dict[str, Any], allow_standby: bool) -> Row:
    """What has to be known of a session that may be used; raises where it may not."""
    with explained(f"Looking at the session on {options.server}"):
        seen = _look(conn)
        ensure_same(options, state_from(seen, options))
        refuse_unsuitable(conn.info.server_version, seen, options.server, allow_standby)
    if seen["pid"] != conn.info.backend_pid:
        conn.pooled = True
        refuse_sharing(conn, seen["pid"], lambda: _open(words, options), DriverError, options.server)
    if not allow_standby:
        conn.fence = fence_of(options, lambda one: _witness(one, one.maintenance_db), state_of)
    return seen


def member_of(options: Options, dbname: str | None = None, allow_standby: bool = True) -> Options:
    """The one server that a run works on, of those that `options` name: all its sessions and tools are given that."""
    return _member_of(options, lambda one: _ask(one, dbname), allow_standby)


def _witness(options: Options, dbname: str | None = None) -> Connection:
    """A session that is only asked what its server is."""
    conn = _open(_words(options, dbname, "cluster", MEMBER_TIMEOUT_S), options)
    conn.limit_s = WITNESS_S
    return conn


def _ask(options: Options, dbname: str | None = None) -> MemberState:
    with contextlib.closing(_witness(options, dbname)) as conn:
        return state_of(conn, options)


def _ask_again(options: Options) -> MemberState:
    """What a server is, whatever has become of the database meanwhile."""
    try:
        return _ask(options, options.maintenance_db)
    except (PrivilegeMissing, DatabaseMissing):
        return _ask(options)


def state_of(conn: Connection, options: Options) -> MemberState:
    """What the server behind a session is by now, a session in which nothing has been set yet."""
    with explained(f"Asking the server on {options.server}"):
        return state_from(fetch(conn, f"SELECT {STATE}")[0], options)


def _words(options: Options, dbname: str | None, purpose: str, timeout_s: int) -> dict[str, Any]:
    """libpq's keywords. What the environment says of a connection is not ours, and taken out of it for this process."""
    for name in set(os.environ) - set(own_environment(os.environ)):
        del os.environ[name]
    words: dict[str, Any] = {**KEEPALIVES, **options.libpq(dbname)}
    words["connect_timeout"] = str(timeout_s)
    words["application_name"] = f"scannerdb {purpose}".strip()[:63]
    words["client_encoding"] = "UTF8"
    if options.password:
        words["password"] = options.password
    return words


def _open(words: dict[str, Any], options: Options) -> Connection:
    """Connect; raises one of our errors."""
    started = time.monotonic()
    try:
        conn = Watched.connect(autocommit=True, row_factory=dict_row, prepare_threshold=None, **words)
        conn.any_bytes = take_any_bytes(conn)
        return conn
    except UnicodeError:  # a label of more than 63 letters
        raise InvalidInput(f"{quoted(options.host)} cannot be a host's name.", "Set scannerdb_login_host.") from None
    except DriverError as error:
        in_time = time.monotonic() - started < float(words["connect_timeout"]) - 1
        state = state_of_refusal(words) if in_time else ""
        raise refused(str(error), state, options.server, options.host, options.user, words["dbname"]) from None


def _look(conn: Connection) -> Row:
    """What has to be known of a session before anything is set in it. Its search path may be anybody's yet."""
    equal = SQL("OPERATOR(pg_catalog.=)")
    granted = SQL("pg_catalog.current_setting('is_superuser') {equal} 'on'")
    if conn.info.server_version >= 150000:
        granted = SQL("pg_catalog.has_parameter_privilege(name, 'SET')")
    query = """
        SELECT {state}, pg_catalog.pg_backend_pid() AS pid,
               pg_catalog.current_setting('search_path') AS path,
               pg_catalog.current_setting('lc_messages') AS language,
               (SELECT setting {equal} 'on' AND (source {equal} 'configuration file' OR source {equal} 'command line')
                  FROM pg_catalog.pg_settings WHERE name {equal} 'default_transaction_read_only') AS read_only,
               (SELECT pg_catalog.array_agg(name) FROM pg_catalog.pg_settings
                 WHERE context {equal} 'user' OR context {equal} 'superuser' AND {granted}) AS names
    """
    found = fetch(conn, SQL(query).format(state=SQL(STATE), equal=equal, granted=granted.format(equal=equal)))
    return found[0]


def _prepare(conn: Connection, settings: Mapping[str, str]) -> set[str]:
    """Set them; those that the server refuses come back: they would stop a tool that is given them at its start."""
    # One round trip; where the server refuses one of them, one for each.
    if _set(conn, settings):
        return set()
    return {name for name, value in settings.items() if not _set(conn, {name: value})}


def _set(conn: Connection, settings: Mapping[str, str]) -> bool:
    """Whether the server took these settings; raises `ConnectionFailed` where it is gone."""
    call = "pg_catalog.set_config({}, {}, false)"
    calls = [SQL(call).format(Literal(name), Literal(value)) for name, value in settings.items()]
    with explained("Preparing the session"):
        try:
            execute(conn, SQL("SELECT ") + SQL(", ").join(calls))
        except DriverError:
            if conn.closed:
                raise
            return False
    return True


def tool_settings(options: Options, dbname: str, more: Mapping[str, str]) -> tuple[str, bool]:
    """PGOPTIONS for a client tool that is about to work on that database: the settings of our sessions, and `more`.

    The driver looks first, so that no tool meets a shared session. Over a pooler, which takes no options, they are
    empty. The second value says whether the tool will be told of errors in English.
    """
    with contextlib.closing(connect(options, dbname=dbname, purpose="tools", allow_standby=True)) as conn:
        if conn.pooled:
            return "", speaks_english(conn.language)
        encoding = conn.info.parameter_status("server_encoding") or ""
        return startup_options({**conn.prepared, **more}, encoding), conn.english


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn a driver error inside the block into one of our errors; `doing` opens it: 'Reading the catalog'."""
    try:
        yield
    except DriverError as error:
        raise failure(error, doing) from error


def job_entry(doing: str) -> Callable[[_Job], _Job]:
    """For the function that is a job's entry: its driver errors are `explained`, its result is UTF-8 throughout."""

    def prepared(work: _Job) -> _Job:
        @functools.wraps(work)
        def entry(*args: Any, **more: Any) -> Any:
            try:
                with keeping(doing, _ask_again), explained(doing):
                    return printable(work(*args, **more))
            except OSError as error:  # a path that no file can have, where nobody expected one
                where = f" {quoted(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
                raise FileProblem(f"{doing} failed:{where} {error.strerror or error}.") from error

        return cast(_Job, entry)

    return prepared


def survived(doing: str, work: Callable[[], _Result], note: Callable[[str], object]) -> _Result:
    """Do `work`, which may begin again as often as it has to, on whichever member is the primary; `note` is told."""

    def attempt() -> _Result:
        with explained(doing):
            return work()

    return going_on(doing, _ask_again, attempt, note)


def is_lock_timeout(error: BaseException) -> bool:
    """True where a statement gave up because of `lock_timeout`."""
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


def execute(conn: Connection, query: Query, params: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
    """Run one statement and return how many rows it touched (-1 where that means nothing)."""
    return int(conn.execute(query, params).rowcount)


def fetch(conn: Connection, query: Query, params: Sequence[Any] | Mapping[str, Any] | None = None) -> list[Row]:
    """Run a query and return its rows as dicts."""
    rows: list[Row] = conn.execute(query, params).fetchall()
    return rows


def scalar(conn: Connection, query: Query, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
    """Run a query and return the first column of its first row, or None where there is no row."""
    row = conn.execute(query, params).fetchone()
    return next(iter(row.values())) if row else None


def text_of(query: Query) -> str:
    """A query as text. (psycopg 3.1, unlike newer ones, cannot render identifiers without a connection; this can.)"""
    if isinstance(query, str):
        return query
    if isinstance(query, Composed):
        return "".join(text_of(part) for part in query)
    value = getattr(query, "_obj", "")
    if isinstance(query, Identifier):
        return ".".join('"' + name.replace('"', '""') + '"' for name in value)
    if isinstance(query, Literal):
        return _literal_text(value)
    return str(value)


def _literal_text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "ARRAY[" + ", ".join(map(_literal_text, value)) + "]"
    text = str(value).replace("'", "''")
    # The E'' form means the same whatever standard_conforming_strings is.
    return " E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"


def server_of(conn: Connection) -> ServerInfo:
    """Ask the server who it is."""
    query = """
        SELECT current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version,
               pg_is_in_recovery() AS in_recovery, rolsuper AS superuser, current_user::text AS user,
               current_database()::text AS database, pg_encoding_to_char(d.encoding) AS encoding
          FROM pg_roles r, pg_database d
         WHERE r.rolname = current_user AND d.datname = current_database()
    """
    with explained("Asking the server for its version"):
        return ServerInfo(**fetch(conn, query)[0])
