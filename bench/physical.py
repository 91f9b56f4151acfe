"""A physical backup through us beside the bare pgBackRest, on a cluster of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from scannerdb.jobs.physical_backup import physical_backup
from scannerdb.process import run_tool

from bench.figure import Figure, Goal, NotHere
from bench.lab import Lab
from bench.measure import interleave, timed
from demo import field, user
from tests.integration.physical.physical_support import STANZA, PhysicalCluster, physical_cluster
from tests.integration.support import options
from tests.servers import Database

PROCESSES = 2
BARE = "pgbackrest backup"
CHANGE = "UPDATE endpoints SET inactive_reason = 'bench' WHERE id % 100 = (SELECT floor(random() * 100))"


def bare(cluster: PhysicalCluster, kind: str) -> None:
    """The command as somebody types it, as the server's user."""
    words = ["pgbackrest", f"--config={cluster.config}", f"--stanza={STANZA}", f"--type={kind}", "backup"]
    drop = ["setpriv", f"--reuid={user.UNPRIVILEGED}", "--clear-groups", "--"] if user.is_root() else []
    run_tool([*drop, *words, f"--process-max={PROCESSES}"], None)


def ours(cluster: PhysicalCluster, database: Database, kind: str) -> None:
    """The job: looks at everything before and after."""
    asked: dict[str, Any] = {
        "backup_method": ["pgbackrest"],
        "stanza": STANZA,
        "pgbackrest_config": str(cluster.config),
    }
    physical_backup(options(database), kind=kind, **asked)


def after_a_change(database: Database, cluster: PhysicalCluster, work: partial[None]) -> float:
    """Seconds of an incremental backup after one per cent of the largest table's rows were written."""
    database.sql(CHANGE)
    database.sql("CHECKPOINT")
    cluster.archive()
    return timed(work)


def times(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Seconds of a full and of an incremental backup."""
    if not shutil.which("pgbackrest"):
        raise NotHere("pgbackrest is not installed: apt-get install --no-install-recommends pgbackrest")
    with physical_cluster(15) as cluster:
        cluster.configure(extra=f"process-max={PROCESSES}")
        cluster.database.sql("CREATE DATABASE scanner")
        database = Database(cluster.database.server, "scanner")
        with database.connect() as conn:
            field.generate(conn, lab.scale)
        ways = {name: partial(work, "full") for name, work in _ways(cluster, database).items()}
        full = interleave(repetitions, {name: partial(timed, way) for name, way in ways.items()})
        yield Figure("a full physical backup", "s", full["ours"], full["bare"], BARE, Goal(times=1.1, plus=1))
        ways = {name: partial(work, "incr") for name, work in _ways(cluster, database).items()}
        incr = interleave(
            repetitions, {name: partial(after_a_change, database, cluster, way) for name, way in ways.items()}
        )
        yield Figure("an incremental one, 1 % changed", "s", incr["ours"], incr["bare"], BARE, Goal(times=1.1, plus=1))


def _ways(cluster: PhysicalCluster, database: Database) -> dict[str, partial[None]]:
    return {"bare": partial(bare, cluster), "ours": partial(ours, cluster, database)}


MEASUREMENTS = (times,)
