"""A cluster of its own with a stanza of pgBackRest: archiving on, the repository encrypted and in a folder."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scannerdb.physical.pgbackrest import PgBackRest

from demo import user
from tests.integration.support import wait_until
from tests.servers import FAST, Database, find_bin_dir, lone_server, make_home

STANZA = "main"
KEY = "not a secret of anybody"
CONFIG = """[global]
repo1-path={home}/{repository}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={key}
repo1-bundle=y
repo1-retention-full=2
compress-type=zst
compress-level=1
start-fast=y
archive-timeout=20
log-path={home}/log
lock-path={home}/lock
spool-path={home}/spool
log-level-file=off
{extra}

[{stanza}]
pg1-path={data}
pg1-port={port}
pg1-socket-path={socket}
pg1-user=postgres
"""
SETTINGS = {**FAST, "archive_mode": "on", "wal_level": "replica", "max_wal_senders": "3", "wal_keep_size": "0"}


@dataclass(frozen=True)
class PhysicalCluster:
    """The server, and where pgBackRest's files are."""

    database: Database
    home: Path

    @property
    def config(self) -> Path:
        """The configuration that the server archives by."""
        return self.home / "pgbackrest.conf"

    @property
    def repository(self) -> Path:
        """The repository's folder."""
        return self.home / "repository"

    def engine(self, **more: Any) -> PgBackRest:
        """The engine as the server's user."""
        facts = {"stanza": STANZA, "config": str(self.config), "user": user.UNPRIVILEGED if user.is_root() else ""}
        return PgBackRest(**{**facts, **more})

    def configure(self, name: str = "", **more: Any) -> Path:
        """Write a configuration, by default the server's own, and return it."""
        server = self.database.server
        facts = {"home": self.home, "repository": "repository", "key": KEY, "stanza": STANZA, "data": server.data}
        facts.update(extra="")
        facts.update(port=server.port, socket=server.socket_dir)
        path = self.home / name if name else self.config
        path.write_text(CONFIG.format(**{**facts, **more}), encoding="utf-8")
        user.give_away(path)
        path.chmod(0o600)
        return path

    def run(self, *arguments: str) -> str:
        """One command of pgBackRest that has to end well."""
        return self.engine()._run(*arguments).stdout

    def archive(self) -> str:
        """Commit something, have its segment archived, and return that segment's name."""
        name: str = self.database.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn()) FROM pg_current_xact_id()")
        self.database.sql("SELECT pg_switch_wal()")
        archived = "SELECT coalesce(max(last_archived_wal), '') FROM pg_stat_archiver"
        wait_until(lambda: self.database.value(archived)[8:24] >= name[8:24])
        return name

    def file_of(self, segment: str) -> Path:
        """A segment's file in the archive."""
        return next(self.repository.glob(f"archive/{STANZA}/*/{segment[:16]}/{segment}-*"))


@contextlib.contextmanager
def physical_cluster(version: int = 15, **settings: str) -> Iterator[PhysicalCluster]:
    """A cluster with an empty stanza, gone after the block."""
    bin_dir = find_bin_dir(version)
    assert bin_dir is not None
    home = make_home("scannerdb-physical-")
    for name in ("repository", "log", "lock", "spool"):
        (home / name).mkdir()
        user.give_away(home / name)
    command = f"pgbackrest --config={home}/pgbackrest.conf --stanza={STANZA} archive-push %p"
    try:
        with lone_server(bin_dir, {**SETTINGS, "archive_command": command, **settings}) as database:
            made = PhysicalCluster(database, home)
            made.configure()
            made.run("stanza-create")
            yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


@functools.cache
def has_pgbackrest() -> bool:
    """Whether it is installed."""
    return shutil.which("pgbackrest") is not None
