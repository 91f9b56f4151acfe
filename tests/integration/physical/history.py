"""A history to go back into: three timelines, a gap in the archive, quiet and busy times, and what was there when.

timeline 1   B1 ─ busy ─ a segment that is lost ─ B2 ─ quiet ─┬─ goes on ───────── (the live server)
timeline 2                                                    └─ work ─┬─ goes on
timeline 3                                                             └─ work
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from scannerdb.physical.engine import Recovery
from scannerdb.physical.window import PhysicalBackup

from demo import user
from demo.server import Server
from tests.integration.physical.physical_support import SETTINGS, STANZA, PhysicalCluster, physical_cluster
from tests.integration.support import wait_until
from tests.servers import make_home

SECOND = datetime.timedelta(seconds=1)


@dataclass(frozen=True)
class Commit:
    """A row that was committed: its id, by whom, when, and where the WAL stood before and after."""

    id: int
    xid: int
    at: datetime.datetime
    before: str
    after: str


@dataclass
class History:
    """What was committed on each timeline, and where the others left it."""

    cluster: PhysicalCluster
    commits: dict[int, list[Commit]] = field(default_factory=dict)
    parents: dict[int, tuple[int, int]] = field(default_factory=dict)  # the parent, and how many of its commits came
    backups: list[PhysicalBackup] = field(default_factory=list)
    points: dict[str, tuple[int, int]] = field(default_factory=dict)  # timeline, and how many commits were before
    gap: tuple[datetime.datetime, datetime.datetime] = (datetime.datetime.max, datetime.datetime.max)
    lost: str = ""
    last_id: int = 0

    @property
    def elsewhere(self) -> Path:
        """The folder of a tablespace."""
        return self.cluster.home / "elsewhere"

    def line(self, timeline: int) -> list[Commit]:
        """Every commit along a timeline, those of its ancestors first."""
        if timeline not in self.parents:
            return self.commits[timeline]
        parent, count = self.parents[timeline]
        return self.line(parent)[:count] + self.commits[timeline]

    def expected(self, timeline: int, moment: datetime.datetime) -> set[int]:
        """The rows at a moment."""
        return {one.id for one in self.line(timeline) if one.at <= moment}

    def reaches(self, timeline: int, moment: datetime.datetime) -> bool:
        """Whether a moment can be restored along a timeline; near the ends of backups it may or may not."""
        line = self.line(timeline)
        return self.backups[0].stopped + SECOND <= moment < line[-1].at and not self.gap[0] <= moment < self.gap[1]

    def commit(self, conn: psycopg.Connection[Any], timeline: int, count: int = 1, pause_s: float = 0.0) -> None:
        """Commit rows, one each time."""
        for _ in range(count):
            self.last_id += 1
            before = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            row = conn.execute(
                "INSERT INTO moments VALUES (%s) RETURNING pg_current_xact_id()::text::bigint", [self.last_id]
            ).fetchone()
            assert row and before
            facts = conn.execute(
                "SELECT pg_xact_commit_timestamp(%s::text::xid), pg_current_wal_insert_lsn()::text", [row[0]]
            ).fetchone()
            assert facts
            self.commits.setdefault(timeline, []).append(Commit(self.last_id, row[0], facts[0], before[0], facts[1]))
            time.sleep(pause_s)

    def point(self, conn: psycopg.Connection[Any], timeline: int, name: str) -> None:
        """Set a restore point."""
        conn.execute("SELECT pg_create_restore_point(%s)", [name])
        self.points[name] = (timeline, len(self.line(timeline)))


@contextlib.contextmanager
def made_history() -> Iterator[History]:
    """The history, with its live server running on the first timeline; gone after the block."""
    with physical_cluster(15, track_commit_timestamp="on") as cluster:
        history = History(cluster)
        with cluster.database.connect() as conn:
            conn.execute("CREATE TABLE moments (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
            history.elsewhere.mkdir()
            user.give_away(history.elsewhere)
            conn.execute(f"CREATE TABLESPACE elsewhere LOCATION '{history.elsewhere}'".encode())
            conn.execute("CREATE TABLE apart TABLESPACE elsewhere AS SELECT 42 AS answer")
            _first_part(history, conn)
            history.point(conn, 1, "fork_2")
            history.commit(conn, 1, 2)
            cluster.archive()
            _branch(history, 2, 1, "fork_2", "fork_3")
            history.commit(conn, 1, 2, 0.02)
            cluster.archive()
            _branch(history, 3, 2, "fork_3", "")
            history.commit(conn, 1, 3, 0.02)
            cluster.archive()
        yield history


def _first_part(history: History, conn: psycopg.Connection[Any]) -> None:
    """Two backups with a gap between them, and a quiet time."""
    cluster = history.cluster
    history.backups.append(cluster.engine().make("full").backup)
    time.sleep(1.1)  # a backup's end is told in whole seconds
    history.commit(conn, 1, 12)
    with conn.transaction(force_rollback=True):  # one that was rolled back, among the others
        conn.execute("INSERT INTO moments VALUES (-1)")
    cluster.archive()
    history.commit(conn, 1, 2, 0.1)
    history.gap = (history.line(1)[-3].at, datetime.datetime.max)
    history.lost = cluster.archive()
    history.commit(conn, 1, 2, 0.1)
    cluster.archive()
    history.backups.append(cluster.engine().make("incr").backup)
    cluster.file_of(history.lost).unlink()
    time.sleep(1.1)
    history.commit(conn, 1, 3, 0.3)
    history.gap = (history.gap[0], history.backups[1].stopped + SECOND)
    history.commit(conn, 1, 8)


def _branch(history: History, timeline: int, parent: int, point: str, leave: str) -> None:
    """A server that was recovered to a point and promoted, works a while on a timeline of its own, and is gone."""
    cluster = history.cluster
    home = make_home("scannerdb-branch-")
    config = cluster.config
    archive = f"pgbackrest --config={config} --stanza={STANZA} --pg1-path={home}/data archive-push %p"
    server = Server(
        home, cluster.database.server.bin_dir, {**SETTINGS, "archive_command": archive, "track_commit_timestamp": "on"}
    )
    try:
        recovery = Recovery("name", point, str(parent), action="promote")
        places = {"*": str(home / "tablespaces")}
        cluster.engine().restore(server.data, recovery, archive_mode="preserve", tablespaces=places)
        server.start()
        with psycopg.connect(**server.connect_args(), autocommit=True) as conn:
            wait_until(lambda: not conn.execute("SELECT pg_is_in_recovery()").fetchone()[0])  # type: ignore[index]
            history.parents[timeline] = (parent, history.points[point][1])
            history.commits[timeline] = []
            history.commit(conn, timeline, 3, 0.05)
            if leave:
                history.point(conn, timeline, leave)
            history.commit(conn, timeline, 2, 0.3)
            name = conn.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
            assert name
            last = "SELECT coalesce(max(last_archived_wal), '') FROM pg_stat_archiver"
            wait_until(lambda: conn.execute(last).fetchone()[0][:24] >= name[0])  # type: ignore[index]
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
