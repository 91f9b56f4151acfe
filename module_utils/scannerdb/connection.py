"""Connections to PostgreSQL: the only file that imports psycopg.

The module must be importable where psycopg is absent (Ansible imports it before anything can be said), so the names it
re-exports are placeholders then, and `connect` raises `DependencyMissing` with the cure.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

from .errors import (
    ConnectionFailed,
    DependencyMissing,
    LockTimeout,
    PrivilegeMissing,
    QueryFailed,
    ScannerDbError,
    ServerUnsupported,
)
from .refusals import refused

try:
    import psycopg
    from psycopg.rows import dict_row
    from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

    HAVE_PSYCOPG = True
    DriverError: type[Exception] = psycopg.Error
except ImportError:  # said properly by connect()
    HAVE_PSYCOPG = False
    SQL = Composable = Composed = Identifier = Literal = None  # type: ignore[assignment,misc]
    DriverError = OSError

__all__ = [
    "HAVE_PSYCOPG",
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
    "Server",
    "connect",
    "execute",
    "explained",
    "fetch",
    "is_lock_timeout",
    "scalar",
    "server_of",
    "text_of",
]

Connection = Any  # psycopg.Connection[dict[str, Any]]; kept loose so that its absence is survived
Query = Union[str, "Composable"]
Row = dict[str, Any]

OLDEST_SERVER = 140000
PRIMARY_SINCE = 140000  # from which libpq on one may ask for the "primary"; a distribution's psycopg may have an older
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True)
class Options:
    """How to reach the database: the values of the `login_*` options.

    `host` may list several servers, of which the primary is taken: `db1,db2:5433`. `password` is never part of the
    `repr`. An empty `host` and `unix_socket` mean libpq's default socket. `hostaddr` is the address of
    `host`, where that name is not to be looked up.
    """

    host: str = ""
    port: int = 5432
    user: str = ""
    password: str = field(default="", repr=False)
    unix_socket: str = ""
    db: str = "ollama_scanner"
    ssl_mode: str = "prefer"
    ca_cert: str = ""
    maintenance_db: str = "postgres"
    pg_bin_dir: str = ""
    hostaddr: str = ""

    @property
    def server(self) -> str:
        """Where the server is, for a sentence."""
        place = self.host or self.unix_socket or "the local socket"
        return f"{place} port {self.port}"

    @property
    def servers(self) -> tuple[Options, ...]:
        """Itself, for each of the servers that `host` lists."""
        if "," not in self.host and not re.search(r":\d+$", self.host):
            return (self,)
        places = [_split_place(text.strip(), self.port) for text in self.host.split(",") if text.strip()]
        return tuple(replace(self, host=host, port=port) for host, port in places)

    def libpq(self, dbname: str | None = None) -> dict[str, str]:
        """The connection keywords of libpq, without the password."""
        servers = self.servers
        words = {
            "host": ",".join(server.host or server.unix_socket for server in servers),
            "hostaddr": self.hostaddr,
            "port": ",".join(str(server.port) for server in servers),
            "target_session_attrs": "primary" if len(servers) > 1 else "",
            "user": self.user,
            "dbname": self.db if dbname is None else dbname,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
        }
        return {word: value for word, value in words.items() if value}


def _split_place(text: str, port: int) -> tuple[str, int]:
    """`db1:5433` or `[::1]:5433` as host and port; the port is `port` where none stands there. Pure."""
    host, colon, number = text.rpartition(":")
    if colon and number.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(number)
    return text.strip("[]"), port


@dataclass(frozen=True)
class Server:
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
    statement_timeout_s: int = 0,
    allow_standby: bool = False,
    search_path: str | None = "pg_catalog",
    timeout_s: int = 10,
) -> Connection:
    """Open an autocommit connection whose rows are dicts.

    The session has a fixed TimeZone and DateStyle, and notices within ten seconds that its client is gone, so that a
    killed run's locks go away. `search_path` is the role's own where it is None: sessions that fire the application's
    triggers need that. `purpose` becomes part of the application name. Raises one of `DependencyMissing`,
    `ConnectionFailed`, `AuthenticationFailed`, `DatabaseMissing`, `ServerUnsupported`.
    """
    if not HAVE_PSYCOPG:
        raise DependencyMissing(
            "The Python library psycopg (version 3.1 or newer) is not installed where this task runs.",
            "Install it there: python3-psycopg on Debian and Ubuntu, python3-psycopg3 on the RHEL family, "
            "or 'pip install psycopg[binary]'.",
        )
    words: dict[str, Any] = dict(options.libpq(dbname))
    words["connect_timeout"] = str(timeout_s)
    words["application_name"] = f"scannerdb {purpose}".strip()[:63]
    words["client_encoding"] = "UTF8"
    if options.password:
        words["password"] = options.password
    conn = _open(words, options, allow_standby)
    try:
        _prepare_session(conn, statement_timeout_s, search_path)
        _check_server(conn, options, allow_standby)
    except BaseException:
        conn.close()
        raise
    return conn


def _open(words: dict[str, Any], options: Options, allow_standby: bool) -> Connection:
    """Connect; of several servers to the primary, else to any where that will do."""
    if words.get("target_session_attrs") and psycopg.pq.version() < PRIMARY_SINCE:
        words["target_session_attrs"] = "read-write"  # the same, unless the primary is set to be read only
    try:
        return psycopg.connect(autocommit=True, row_factory=dict_row, prepare_threshold=None, **words)
    except DriverError as error:
        if allow_standby and words.pop("target_session_attrs", ""):
            return _open(words, options, allow_standby)
        raise refused(str(error), options.server, options.host, options.user, words.get("dbname", "")) from None


def _prepare_session(conn: Connection, statement_timeout_s: int, search_path: str | None) -> None:
    settings = {
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "idle_session_timeout": "0",
        "client_connection_check_interval": "10s",
        "idle_in_transaction_session_timeout": "0",
        "statement_timeout": f"{statement_timeout_s}s",
        "standard_conforming_strings": "on",
    }
    if search_path is not None:
        settings["search_path"] = search_path
    # One round trip; where the server lacks one of them (client_connection_check_interval on Windows), one for each.
    if not _set(conn, settings):
        for name, value in settings.items():
            _set(conn, {name: value})


def _set(conn: Connection, settings: Mapping[str, str]) -> bool:
    """Whether the server took these settings; raises `ConnectionFailed` where it is gone."""
    calls = [SQL("set_config({}, {}, false)").format(Literal(name), Literal(value)) for name, value in settings.items()]
    with explained("Preparing the session"):
        try:
            execute(conn, SQL("SELECT ") + SQL(", ").join(calls))
        except DriverError:
            if conn.closed:
                raise
            return False
    return True


def _check_server(conn: Connection, options: Options, allow_standby: bool) -> None:
    version = conn.info.server_version
    if version < OLDEST_SERVER:
        raise ServerUnsupported(
            f"The server on {options.server} is PostgreSQL {version // 10000}; 14 is the oldest that is supported.",
            "Upgrade the server.",
        )
    if allow_standby:
        return
    with explained(f"Asking the server on {options.server} whether it is a standby"):
        standby = scalar(conn, "SELECT pg_is_in_recovery()")
    if standby:
        raise ServerUnsupported(
            f"The server on {options.server} is a standby, which cannot be written.",
            "Point scannerdb_login_host at the primary.",
        )


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn a driver error inside the block into one of our errors; `doing` opens it: 'Reading the catalog'."""
    try:
        yield
    except DriverError as error:
        raise _query_error(error, doing) from error


def _query_error(error: Exception, doing: str) -> ScannerDbError:
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
        return LockTimeout(sentence, "Another session holds the lock; try again when it is gone.")
    if state == "57014":
        return QueryFailed(sentence, "The statement was cancelled or ran out of its time.")
    if state.startswith("53"):
        return QueryFailed(sentence, "The server is out of a resource: look at its disk, memory and connections.")
    if state.startswith(("57P", "08")) or not state:
        return ConnectionFailed(sentence, "Look at the server's log and run again: every job can be repeated.")
    return QueryFailed(sentence)


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


def server_of(conn: Connection) -> Server:
    """Ask the server who it is."""
    query = """
        SELECT current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version,
               pg_is_in_recovery() AS in_recovery, rolsuper AS superuser, current_user::text AS user,
               current_database()::text AS database, pg_encoding_to_char(d.encoding) AS encoding
          FROM pg_roles r, pg_database d
         WHERE r.rolname = current_user AND d.datname = current_database()
    """
    with explained("Asking the server for its version"):
        return Server(**fetch(conn, query)[0])


def passfile_line(password: str) -> str:
    """The line of a libpq password file that matches every connection; `:` and `\\` are escaped."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def tool_environment(options: Options, dbname: str, passfile: str | None) -> dict[str, str]:
    """The environment for a client tool: no inherited PG* variable can steer it elsewhere.

    The database's name travels in PGDATABASE: with `-d`, pg_dump would read `a=b` as a connection string.
    """
    kept = {"PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG") or k in kept}
    names = {
        "host": "PGHOST",
        "hostaddr": "PGHOSTADDR",
        "port": "PGPORT",
        "user": "PGUSER",
        "dbname": "PGDATABASE",
        "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT",
        "target_session_attrs": "PGTARGETSESSIONATTRS",
    }
    environment.update({names[word]: value for word, value in options.libpq(dbname).items()})
    environment["PGAPPNAME"] = "scannerdb"
    environment["PGCONNECT_TIMEOUT"] = "10"
    environment["LC_MESSAGES"] = environment["LANGUAGE"] = "C"
    if passfile:
        environment["PGPASSFILE"] = passfile
    return environment
