"""A primary and a standby of its own for one test, and ways to lose the primary."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scannerdb.connection import Options

from demo import field
from tests.integration.support import options, wait_until
from tests.servers import FAST, FIELD_SCALE, Database, find_bin_dir, lone_server, standby_of

NAME = "ollama_scanner"
VERSION = 17


@dataclass
class Pair:
    """Two servers of one cluster, with a small copy of the field's database."""

    old: Database
    new: Database

    def options(self, *more: str, **words: Any) -> Options:
        """One inventory host that is both of them; the standby first, and `more` places before it."""
        places = [f"{one.server.socket_dir}:{one.server.port}" for one in (self.new, self.old)]
        return options(self.old, **{"unix_socket": "", "host": ",".join([*more, *places]), **words})

    def lose_the_primary(self) -> None:
        """As a crash does; the standby has all that was committed, and takes over."""
        self.caught_up()
        os.kill(self.old.server.pid, signal.SIGQUIT)
        wait_until(lambda: not self.old.server.pid)
        self.new.sql("SELECT pg_promote()")

    def caught_up(self) -> None:
        """Wait until the standby has replayed all that is written so far."""
        # What is inserted and not flushed would wait for somebody to flush it; a switch does.
        position = self.old.value("SELECT pg_switch_wal()::text")
        wait_until(lambda: self.new.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position))

    @contextlib.contextmanager
    def returned(self) -> Iterator[Pair]:
        """The pair with a new standby of the one that took over."""
        with standby_of(self.new) as third:
            yield Pair(self.new, third)

    def once(self, act: Callable[[], object]) -> Callable[[], None]:
        """A function that acts the first time it is called."""
        left = [act]

        def called() -> None:
            if left:
                left.pop()()

        return called


@contextlib.contextmanager
def pair_of_servers() -> Iterator[Pair]:
    """Both are gone after the block."""
    bin_dir = find_bin_dir(VERSION)
    assert bin_dir is not None
    with lone_server(bin_dir, FAST) as made:
        made.sql(f"CREATE DATABASE {NAME}")
        database = Database(made.server, NAME)
        with database.connect() as conn:
            field.generate(conn, FIELD_SCALE)
        with standby_of(database) as second:
            yield Pair(database, second)


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A place that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"127.0.0.1:{door.getsockname()[1]}"
