"""How to reach the database: the connection options, as libpq's keywords and as a client tool's environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .session import own_environment

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CHANNEL_BINDINGS = ("disable", "prefer", "require")
SERVICE = "scannerdb"  # of the service file that tools are given
# Parameters of libpq that have no option of their own and may be given all the same (`connect_params`).
PASSED_ON = frozenset(
    [
        "gssdelegation",
        "gssencmode",
        "gsslib",
        "krbsrvname",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "require_auth",
        "requirepeer",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcertmode",
        "sslcompression",
        "sslcrl",
        "sslcrldir",
        "sslnegotiation",
        "sslsni",
    ]
)
OPTION_OF = {
    "host": "login_host",
    "port": "login_port",
    "user": "login_user",
    "password": "login_password",
    "dbname": "login_db",
    "sslmode": "ssl_mode",
    "sslrootcert": "ca_cert",
    "sslcert": "ssl_cert",
    "sslkey": "ssl_key",
    "channel_binding": "channel_binding",
}
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
}


@dataclass(frozen=True)
class Options:
    """How to reach the database: the values of the `login_*` options.

    `host` may list several servers, of which the primary is taken: `db1,db2:5433`. `password` is never part of the
    `repr`. An empty `host` and `unix_socket` mean libpq's default socket.
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
    ssl_cert: str = ""
    ssl_key: str = ""
    channel_binding: str = "prefer"
    connect_params: tuple[tuple[str, str], ...] = ()  # of `PASSED_ON`
    patroni_urls: tuple[str, ...] = ()  # of the REST API of a cluster's members, who know where the primary is
    patroni_members: tuple[str, ...] = ()  # names, addresses and networks where Patroni may say that members are
    min_standbys: int = 0  # how many must stream, before what makes them fall behind is begun

    def __post_init__(self) -> None:
        """Lists, as JSON brings them, become tuples: whoever compares and keeps these values needs them hashable."""
        object.__setattr__(self, "connect_params", tuple(map(tuple, self.connect_params)))
        object.__setattr__(self, "patroni_urls", tuple(self.patroni_urls))
        object.__setattr__(self, "patroni_members", tuple(self.patroni_members))

    @property
    def server(self) -> str:
        """Where the server is, for a sentence."""
        if self.patroni_urls and not self.host:
            return f"the cluster of {self.patroni_urls[0]}"
        place = self.host or self.unix_socket or "the local socket"
        return f"{place} port {self.port}"

    @property
    def servers(self) -> tuple[Options, ...]:
        """Itself, for each of the servers that `host` lists."""
        if "," not in self.host and not re.search(r":\d+$", self.host):
            return (self,)
        places = [_split_place(text.strip(), self.port) for text in self.host.split(",") if text.strip()]
        return tuple(self.at(host, port) for host, port in places)

    def at(self, host: str, port: int) -> Options:
        """The same login at one server."""
        return replace(self, host=host, port=port, patroni_urls=(), patroni_members=())

    def libpq(self, dbname: str | None = None) -> dict[str, str]:
        """The connection keywords of libpq, without the password."""
        servers = self.servers
        words = {
            "host": ",".join(server.host or server.unix_socket for server in servers),
            "port": ",".join(str(server.port) for server in servers),
            "user": self.user,
            "dbname": self.db if dbname is None else dbname,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
            "sslcert": self.ssl_cert,
            "sslkey": self.ssl_key,
            "channel_binding": self.channel_binding if self.channel_binding != "prefer" else "",
        }
        return {word: value for word, value in {**dict(self.connect_params), **words}.items() if value}


def _split_place(text: str, port: int) -> tuple[str, int]:
    """`db1:5433` or `[::1]:5433` as host and port; the port is `port` where none stands there. Pure."""
    host, colon, number = text.rpartition(":")
    if colon and number.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(number)
    return text.strip("[]"), port


def passfile_line(password: str) -> str:
    """The line of a libpq password file that matches every connection; `:` and `\\` are escaped."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def tool_environment(
    options: Options,
    dbname: str,
    inherited: Mapping[str, str],
    *,
    passfile: str | None = None,
    servicefile: str = "",
    startup: str = "",
) -> dict[str, str]:
    """The environment for a client tool, made of ours (`inherited`): no PG* variable of that can steer it elsewhere.

    The database's name travels in PGDATABASE: with `-d`, pg_dump would read `a=b` as a connection string. `servicefile`
    holds the keepalives and what else has no variable; `startup` the settings of its sessions.
    """
    environment = own_environment(inherited)
    words = options.libpq(dbname)
    environment.update({variable: words[word] for word, variable in _VARIABLES.items() if word in words})
    environment["PGAPPNAME"] = "scannerdb"
    environment["PGCONNECT_TIMEOUT"] = "10"
    if startup:
        environment["PGOPTIONS"] = startup
    if servicefile:
        environment["PGSERVICEFILE"], environment["PGSERVICE"] = servicefile, SERVICE
    if passfile:
        environment["PGPASSFILE"] = passfile
    return environment
