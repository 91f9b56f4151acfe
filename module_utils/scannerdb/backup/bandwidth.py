"""Limits how fast a dump reads from the server, which pg_dump itself cannot: a relay between the two keeps the pace.

A relay rather than stopping and continuing pg_dump: nothing stays behind of a killed run but closed connections. It
passes bytes on as they are, so TLS and authentication go on between pg_dump and the server.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

from ..connection import Connection, Options
from ..errors import InvalidInput
from ..process import PIECE

FEWEST = 32 << 10  # bytes a second, as of pg_basebackup's --max-rate
LOOPBACK = "127.0.0.1"
_TCP = Path("/proc/net/tcp")
_Address = Union[str, tuple[str, int]]


class Pace:
    """Lets so many bytes a second through, those of all connections together."""

    def __init__(
        self,
        bytes_per_s: int,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.passed = 0
        self.piece = max(1, min(PIECE, bytes_per_s // 10))  # nobody waits much longer than a tenth of a second at once
        self._bytes_per_s = bytes_per_s
        self._now, self._sleep = now, sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def keep(self, count: int) -> None:
        """Wait until so many bytes more may pass."""
        with self._lock:
            now = self._now()
            self._free_at = max(self._free_at, now) + count / self._bytes_per_s
            self.passed += count
            pause = self._free_at - now
        self._sleep(pause)


def ensure_limitable(bytes_per_s: int) -> None:
    """Raise where a limit is wanted, and this system cannot tell whose the programs are that connect to the relay."""
    if bytes_per_s and sys.platform != "linux":
        raise InvalidInput(
            "The bandwidth of a dump can be limited on Linux only.", "Set scannerdb_backup_bandwidth to 0."
        )


@contextlib.contextmanager
def limited(conn: Connection, options: Options, bytes_per_s: int, tell: Callable[[str], object]) -> Iterator[Options]:
    """Options that lead a client program to the server of `conn` at no more than `bytes_per_s`; 0 is no limit.

    The program has to be of the user that runs this, and to end within the block. `tell` hears then how much it got.
    """
    if not bytes_per_s:
        yield options
        return
    pace = Pace(bytes_per_s)
    relay, known = _relay(conn, options, pace)
    with relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield known
        finally:
            relay.shutdown()
            thread.join()
            tell(f"{pace.passed} bytes came from the server, at most {bytes_per_s} a second")


def _relay(conn: Connection, options: Options, pace: Pace) -> tuple[_Relay, Options]:
    """A relay of the same kind as the connection, and how to reach it."""
    # The password as it was found: a line of ~/.pgpass names the server's port, not the relay's.
    known = replace(options, password=options.password or conn.info.password)
    upstream = _address(conn)
    if isinstance(upstream, str):
        folder = f"@scannerdb-{secrets.token_hex(8)}"  # of no file system, so nothing of it stays
        path = f"\0{folder[1:]}/.s.PGSQL.{options.port}"
        return _SocketRelay(path, upstream, pace), replace(known, host="", unix_socket=folder)
    relay = _TcpRelay((LOOPBACK, 0), upstream, pace)
    return relay, replace(known, host=conn.info.host, hostaddr=LOOPBACK, port=relay.server_address[1])


def _address(conn: Connection) -> _Address:
    """Where the server of a connection listens: the path of its socket, or address and port."""
    host, port = conn.info.host, conn.info.port
    if host.startswith(("/", "@")):
        path = f"{host}/.s.PGSQL.{port}"
        return path.replace("@", "\0", 1) if host.startswith("@") else path
    return conn.info.hostaddr, port


class _Passing(socketserver.BaseRequestHandler):
    """One connection of the program, and that to the server which belongs to it."""

    server: _Relay

    def handle(self) -> None:
        with contextlib.suppress(OSError), _connected(self.server.upstream) as upstream:
            for end in (self.request, upstream):
                if end.family != socket.AF_UNIX:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            questions = threading.Thread(target=_pass_on, args=(self.request, upstream), daemon=True)
            questions.start()
            _pass_on(upstream, self.request, self.server.pace)
            questions.join()


class _Relay(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Lets in nobody else on this machine: a server that trusts `peer` or `ident` would take them for us."""

    daemon_threads = True
    block_on_close = False  # they end by themselves when the program has

    def __init__(self, address: Any, upstream: _Address, pace: Pace) -> None:
        self.upstream, self.pace = upstream, pace
        super().__init__(address, _Passing)


class _SocketRelay(_Relay, socketserver.UnixStreamServer):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        _, user, _ = struct.unpack("3i", request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return bool(user == os.geteuid())


class _TcpRelay(_Relay, socketserver.TCPServer):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        return is_own(_TCP.read_text(encoding="ascii"), client_address[1], self.server_address[1], os.geteuid())


def is_own(table: str, port: int, to_port: int, user: int) -> bool:
    """Whether the socket of `port` that is connected to `to_port` is the user's, by a /proc/net/tcp. Pure."""
    for line in table.splitlines()[1:]:
        _, local, remote, _, _, _, _, owner, *_ = line.split()
        if [int(place.rpartition(":")[2], 16) for place in (local, remote)] == [port, to_port]:
            return int(owner) == user
    return False


def _connected(upstream: _Address) -> socket.socket:
    if isinstance(upstream, str):
        made = socket.socket(socket.AF_UNIX)
        made.connect(upstream)
        return made
    return socket.create_connection(upstream)


def _pass_on(source: socket.socket, sink: socket.socket, pace: Optional[Pace] = None) -> None:
    """Pass on what comes until one side ends; then both do."""
    with contextlib.suppress(OSError):
        for piece in iter(lambda: source.recv(pace.piece if pace else PIECE), b""):
            if pace:
                pace.keep(len(piece))
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
