"""How the standbys of a server are set and use its indexes: one that no query of the primary needs may serve theirs.

Standbys are those that were named, and those that stream from the primary now, at the address they come from and the
primary's port. One that cannot be looked at, with the same login, is a sentence and no failure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ..checks.context import StandbyUse
from ..checks.members import NO_LESS, SAME
from ..connection import Connection, DriverError, Options, connect, explained, fetch
from ..errors import InvalidInput, ScannerDbError

TIMEOUT_S = 5
USED = """
SELECT n.nspname::text AS schema, c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'i' AND pg_stat_get_numscans(c.oid) > 0
"""
AGE = """
SELECT date_trunc('second', clock_timestamp() - coalesce(stats_reset, pg_postmaster_start_time()))::text AS age,
       pg_is_in_recovery() AS standby, (SELECT system_identifier FROM pg_control_system())::text AS cluster
  FROM pg_stat_database WHERE datname = current_database()
"""


def index_use(conn: Connection, options: Options, named: Sequence[str]) -> StandbyUse:
    """What the standbys of the primary behind `conn` use. Raises `InvalidInput` for a name that is no address."""
    # `host` may list ports of its own, and Patroni would lead to the primary.
    options = dataclasses.replace(options, port=conn.info.port, patroni_urls=())
    places = [place_of(name, options) for name in named]
    with explained("Looking for standbys"):
        mine = fetch(conn, AGE)[0]
        if mine["standby"]:
            return StandbyUse()
        rows = fetch(conn, "SELECT host(client_addr) AS host FROM pg_stat_replication WHERE state = 'streaming'")
    places += found(({str(row["host"] or "") for row in rows}), places, options)
    use = StandbyUse(own_settings=_settings(conn) if places else {})
    for place in places:
        name = f"{place.host or place.unix_socket}:{place.port}"
        try:
            use = _with_standby(use, name, place, mine["cluster"])
        except (ScannerDbError, DriverError) as error:
            why = getattr(error, "message", "") or str(error).partition("\n")[0]
            unseen = {**use.unseen, name: why}
            use = dataclasses.replace(use, unseen=unseen)
    return use


def _with_standby(use: StandbyUse, name: str, place: Options, cluster: str) -> StandbyUse:
    purpose = "check of a standby"
    with connect(place, purpose=purpose, statement_timeout_s=60, allow_standby=True, timeout_s=TIMEOUT_S) as conn:
        about = fetch(conn, AGE)[0]
        if not about["standby"] or about["cluster"] != cluster:
            return dataclasses.replace(use, unseen={**use.unseen, name: "it is no standby of this server"})
        used = {(row["schema"], row["name"]) for row in fetch(conn, USED)}
        settings = {**use.settings, name: _settings(conn)}
    return dataclasses.replace(use, used=use.used | used, seen={**use.seen, name: about["age"]}, settings=settings)


def _settings(conn: Connection) -> dict[str, str]:
    """The settings that members must have the same of, as far as the role may see them."""
    rows = fetch(conn, "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", [[*NO_LESS, *SAME]])
    return {row["name"]: row["setting"] for row in rows}


def place_of(name: str, options: Options) -> Options:
    """Where a standby is, out of `host`, `host:port` or `/folder/of/the/socket:port`; the rest is as for the primary.

    Pure. An IPv6 address with a port stands in brackets.
    """
    host, _, port = name.rpartition(":") if _has_port(name) else (name, "", str(options.port))
    host = host.strip().strip("[]")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInput(f"{name!r} is not where a standby can be.", "Write host, host:port or /socket/folder:port.")
    socket = host if host.startswith("/") else ""
    return dataclasses.replace(options, port=int(port), unix_socket=socket, host="" if socket else host)


def _has_port(name: str) -> bool:
    return name.count(":") == 1 or "]:" in name or (name.startswith("/") and ":" in name)


def found(hosts: Iterable[str], named: Sequence[Options], options: Options) -> list[Options]:
    """The streaming standbys that nobody named; one that came over a local socket has no address. Pure."""
    known = {place.host for place in named}
    return [
        dataclasses.replace(options, host=host, unix_socket="") for host in sorted(hosts) if host and host not in known
    ]
