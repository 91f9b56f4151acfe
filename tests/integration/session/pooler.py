"""A real PgBouncer in front of a test's server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from demo import user
from tests.integration.support import wait_until
from tests.servers import Database, make_home

PROGRAM = "pgbouncer"


def installed() -> str:
    """PgBouncer's path; Debian has it where only administrators look."""
    path = shutil.which(PROGRAM, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    assert path, "PgBouncer is not installed: apt install pgbouncer"
    return path


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def pooled(database: Database, mode: str, **more: str) -> Iterator[int]:
    """The port of a PgBouncer in that mode, which lets everybody in as who he says he is."""
    home = make_home("scannerdb-pool-")
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": str(home / "users"),
        "pool_mode": mode,
        "logfile": str(home / "log"),
        **more,
    }
    where = f"host={database.server.socket_dir} port={database.server.port}"
    lines = ["[databases]", f"* = {where}", "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
    _write(home / "users", '"postgres" ""\n"ollama" ""\n')
    _write(home / "ini", "\n".join(lines) + "\n")
    child = subprocess.Popen(
        [installed(), "-q", str(home / "ini")],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user.drop_args(),
    )
    try:
        wait_until(lambda: _answers(database, port))
        yield port
    finally:
        child.terminate()
        child.wait(timeout=20)
        shutil.rmtree(home, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    user.give_away(path)


def _answers(database: Database, port: int) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres").close()
        return True
    return False
