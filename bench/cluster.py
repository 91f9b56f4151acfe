"""A backup with Debian's PostgreSQL 15, whose tools have only gzip, beside the old script and beside pgBackRest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.backup import JOBS, Place, figures
from bench.figure import Figure, NotHere
from bench.lab import Lab
from bench.measure import clean_env, interleave, measured

BIN_DIR = Path("/usr/lib/postgresql/15/bin")
CONFIG = """
[global]
repo1-path={repo}
lock-path={lock}
log-level-file=off
process-max={jobs}
compress-type={compress}
start-fast=y
archive-check=n
archive-copy=n

[bench]
pg1-path={data}
pg1-port={port}
pg1-socket-path={socket}
pg1-user=postgres
"""


def whole_cluster(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """The same database on a server of its own."""
    program = shutil.which("pgbackrest")
    if program is None or not BIN_DIR.is_dir():
        raise NotHere("pgBackRest or PostgreSQL 15 is not installed: apt install pgbackrest postgresql-15")
    with Lab(lab.scale, BIN_DIR) as older, older.copy() as name:
        older.drop(older.template())  # pgBackRest takes all that the cluster has
        place = Place(older, name)
        place.task()
        ways: dict[str, Callable[[], float]] = {
            **place.ways(),
            "gz": lambda: physical(older, program, place.folder / "gz", "gz"),
            "lz4": lambda: physical(older, program, place.folder / "lz4", "lz4"),
        }
        seen = interleave(repetitions, ways)
    yield from figures(place, seen)
    for compress in ("gz", "lz4"):
        peer = f"pgBackRest {compress} of the whole cluster, {JOBS} processes"
        yield Figure("backup.yml", "s", seen["task"], seen[compress], peer)


def physical(lab: Lab, program: str, repo: Path, compress: str) -> float:
    """Seconds of a full backup with pgBackRest into a new repository, without the log."""
    shutil.rmtree(repo, ignore_errors=True)
    repo.mkdir()
    server = lab.server
    config = repo / "pgbackrest.conf"
    values = {"repo": repo / "repo", "lock": repo / "lock", "jobs": JOBS, "compress": compress}
    where = {"data": server.data, "port": server.port, "socket": server.socket_dir}
    config.write_text(CONFIG.format(**values, **where), encoding="utf-8")
    words = [program, f"--config={config}", "--stanza=bench"]
    measured([*words, "stanza-create"], env=clean_env())
    return measured([*words, "--type=full", "backup"], env=clean_env()).seconds


MEASUREMENTS = (whole_cluster,)
