"""A cluster of three under real Patroni, with etcd: plain processes on loopback, not as root."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from scannerdb.connection import Options
from scannerdb.process import die_with_parent

from demo import field as scanner
from demo import user
from tests.integration.support import wait_until
from tests.servers import FAST, FIELD_SCALE, make_home
from tests.system.needs import server_dir

NAME = "ollama_scanner"
VERSION = 15
ROLES = {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}}
DCS = {
    "ttl": 20,
    "loop_wait": 3,
    "retry_timeout": 5,
    "primary_start_timeout": 0,  # where the leader's server dies, another takes over at once
    "postgresql": {
        "use_pg_rewind": True,
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        "parameters": {**FAST, "wal_log_hints": "on", "max_connections": "60"},
    },
}


def free_ports(count: int) -> list[int]:
    """Ports that nobody has just now."""
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [door.getsockname()[1] for door in doors]


@dataclass
class PatroniSite:
    """The running cluster. Members are named m0, m1 and m2."""

    home: Path
    ports: list[int]
    apis: list[int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def options(self, **words: Any) -> Options:
        """One inventory host that is the cluster, known by Patroni's addresses alone."""
        urls = tuple(f"http://127.0.0.1:{port}" for port in self.apis)
        bin_dir = str(server_dir(VERSION))
        return Options(**{"user": "postgres", "db": NAME, "patroni_urls": urls, "pg_bin_dir": bin_dir, **words})

    def ask(self, path: str, body: Any = None, method: str = "GET") -> Any:
        """Ask the first REST API that answers."""
        for port in self.apis:
            with contextlib.suppress(OSError):
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text = answer.read().decode()
                    return json.loads(text) if text.startswith("{") else text
        return None

    def members(self) -> list[dict[str, Any]]:
        """The members as Patroni sees them."""
        return list((self.ask("/cluster") or {"members": []})["members"])

    def leader(self) -> int:
        """The number of the leader; -1 for none."""
        found = [one["name"] for one in self.members() if one["role"] == "leader" and one["state"] == "running"]
        return int(found[0][1:]) if found else -1

    def well(self) -> bool:
        """Whether two standbys follow a leader on one timeline and have all that it has: either may be promoted."""
        states = [(one["role"], one["state"], one.get("timeline")) for one in self.members()]
        if len(states) != 3 or self.leader() < 0 or len({timeline for _, _, timeline in states}) != 1:
            return False
        replayed = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
        with contextlib.suppress(psycopg.Error), self.at_leader() as conn:
            return conn.execute(replayed).fetchone() == (2,)
        return False

    def at_leader(self) -> psycopg.Connection[Any]:
        """A session of the superuser in the leader's database of its own."""
        return psycopg.connect(host="127.0.0.1", port=self.ports[self.leader()], user="postgres", autocommit=True)

    def switchover(self) -> None:
        """In good order, to any other member."""
        self.ask("/switchover", {"leader": f"m{self.leader()}"}, "POST")

    def kill_server(self, number: int, kind: signal.Signals) -> None:
        """A signal to the server of one member, if it runs."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int((self.home / f"m{number}" / "data" / "postmaster.pid").read_text().split()[0]), kind)

    def pause(self, on: bool) -> None:
        """Patroni's maintenance mode."""
        self.ask("/config", {"pause": on}, "PATCH")
        wait_until(lambda: bool((self.ask("/cluster") or {}).get("pause")) is on, 60)

    def start(self, name: str, *command: str) -> None:
        """One of the processes, in its own folder."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        user.give_away(folder)
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                env=user.clean_env(),
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it is async-signal-safe
                **user.drop_args(),
            )

    def start_member(self, number: int) -> None:
        """Patroni of one member, which starts its server."""
        self.start(f"m{number}", "/usr/bin/python3", "/usr/bin/patroni", str(self.home / f"m{number}.json"))

    def configure(self, number: int, etcd: int) -> None:
        """Write one member's file."""
        folder = self.home / f"m{number}"
        postgresql = {
            "listen": f"127.0.0.1:{self.ports[number]}",
            "connect_address": f"127.0.0.1:{self.ports[number]}",
            "data_dir": str(folder / "data"),
            "bin_dir": str(server_dir(VERSION)),
            "authentication": ROLES,
            "pgpass": str(folder / "pgpass"),
            "parameters": {"unix_socket_directories": str(folder)},
            "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all all trust"],
        }
        api = f"127.0.0.1:{self.apis[number]}"
        document = {
            "scope": "scanner",
            "name": f"m{number}",
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": f"127.0.0.1:{etcd}"},
            "bootstrap": {"dcs": DCS, "initdb": [{"encoding": "UTF8"}, "data-checksums", {"locale": "C.UTF-8"}]},
            "postgresql": postgresql,
        }
        (self.home / f"m{number}.json").write_text(json.dumps(document), encoding="utf-8")

    def fill(self) -> None:
        """The field's database, anew."""
        with self.at_leader() as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)".encode())
            conn.execute(f"CREATE DATABASE {NAME}".encode())
            words = conn.info.get_parameters()
        with psycopg.connect(**{**words, "dbname": NAME}, autocommit=True) as conn:
            scanner.generate(conn, FIELD_SCALE)

    def close(self) -> None:
        """End all of it."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for number in range(3):
            self.kill_server(number, signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def patroni_site() -> Iterator[PatroniSite]:
    """The cluster with the field's database, gone after the block."""
    etcd, peer, *rest = free_ports(8)
    site = PatroniSite(make_home("scannerdb-patroni-"), rest[:3], rest[3:])
    try:
        client, other = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        urls = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", other]
        peers = ["--initial-advertise-peer-urls", other, "--initial-cluster", f"default={other}"]
        site.start("etcd", "/usr/bin/etcd", "--data-dir", str(site.home / "etcd" / "data"), *urls, *peers)
        for number in range(3):
            site.configure(number, etcd)
            site.start_member(number)
            if number == 0:
                wait_until(lambda: site.leader() == 0, 120)
        wait_until(site.well, 180)
        site.fill()
        yield site
    finally:
        site.close()
