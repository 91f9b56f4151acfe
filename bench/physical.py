"""Physical backups and their drill through us, beside the bare commands, on a cluster of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scannerdb.jobs.physical_backup import physical_backup
from scannerdb.jobs.physical_drill import physical_drill
from scannerdb.physical.options import PhysicalBackupOptions, PhysicalDrillOptions
from scannerdb.process import run_tool

from bench.figure import Figure, Goal, NotHere
from bench.lab import Lab
from bench.measure import interleave, timed
from demo import field, user
from tests.integration.physical.physical_support import STANZA, PhysicalCluster, physical_cluster
from tests.integration.support import options, run_backup, run_verify
from tests.servers import Database, make_home

PROCESSES = 2
BARE = "pgbackrest backup"
BARE_DRILL = "pgbackrest restore, pg_ctl start, pg_amcheck"
DUMP, DUMP_DRILL = "our dump", "the drill of our dump on a disposable cluster"
PORT = 5999  # of a private socket
CHANGE = "UPDATE endpoints SET inactive_reason = 'bench' WHERE id % 100 = (SELECT floor(random() * 100))"


def as_the_servers_user(*words: str | Path) -> None:
    """A command as somebody types it, as the server's user."""
    drop = ["setpriv", f"--reuid={user.UNPRIVILEGED}", "--clear-groups", "--"] if user.is_root() else []
    run_tool([*drop, *map(str, words)], None)


def pgbackrest(cluster: PhysicalCluster, *words: str) -> None:
    """One of its commands."""
    as_the_servers_user("pgbackrest", f"--config={cluster.config}", f"--stanza={STANZA}", *words)


def bare(cluster: PhysicalCluster, kind: str) -> None:
    """A backup by hand."""
    pgbackrest(cluster, f"--type={kind}", "backup", f"--process-max={PROCESSES}")


def bare_drill(cluster: PhysicalCluster) -> None:
    """A drill by hand: restored, replayed to the end of the archive, and every page looked at."""
    home, programs = make_home("scannerdb-bare-"), cluster.database.server.bin_dir
    copy, there = home / "copy", ["-h", home, "-p", PORT, "-U", "postgres"]
    private = f"-c listen_addresses='' -c unix_socket_directories={home} -c port={PORT} -c hba_file={home}/hba"
    (home / "hba").write_text("local all all trust\n", encoding="utf-8")
    (home / "hba").chmod(0o644)
    try:
        as_the_servers_user("mkdir", "-m", "0700", copy)
        pgbackrest(cluster, f"--pg1-path={copy}", "--archive-mode=off", "restore", f"--process-max={PROCESSES}")
        log = home / "copy" / "bench.log"
        as_the_servers_user(programs / "pg_ctl", "-D", copy, "-l", log, "-w", "-t", "600", "-o", private, "start")
        until = "DO $$BEGIN WHILE pg_is_in_recovery() LOOP PERFORM pg_sleep(0.05); END LOOP; END$$"
        as_the_servers_user(programs / "psql", *map(str, there), "-d", "postgres", "-qc", until)
        jobs = f"--jobs={PROCESSES}"
        as_the_servers_user(programs / "pg_amcheck", *map(str, there), "--all", "--install-missing", jobs)
    finally:
        as_the_servers_user(programs / "pg_ctl", "-D", copy, "-m", "immediate", "stop")
        shutil.rmtree(home)


def ours(cluster: PhysicalCluster, database: Database, kind: str) -> None:
    """The job: looks at everything before and after."""
    physical_backup(options(database), PhysicalBackupOptions(kind=kind, **asked(cluster)))


def our_drill(cluster: PhysicalCluster, database: Database) -> None:
    """The same by the job, which chooses the backup, asks for the last segment, and holds the contract against it."""
    folder = make_home("scannerdb-copies-")
    os.chown(folder, os.geteuid(), os.getegid())
    folder.chmod(0o755)
    try:
        done = physical_drill(options(database), PhysicalDrillOptions(copy_dir=str(folder), **asked(cluster)))
    finally:
        shutil.rmtree(folder)
    if done["drill"]["outcome"] != "passed":
        raise AssertionError(done["msg"])


def dump(database: Database, folder: Path) -> None:
    """The other method, of the one database: all of it, each time."""
    places: dict[str, Any] = {"backup_dir": str(folder / "dumps"), "state_dir": str(folder / "state")}
    run_backup(options(database), **places, jobs=PROCESSES)


def dump_drill(database: Database, folder: Path) -> None:
    """The newest dump into a cluster of its own, and every page looked at."""
    words: dict[str, Any] = {
        "backup_dir": str(folder / "dumps"),
        "state_dir": str(folder / "state"),
        "level": "restore",
    }
    home = make_home("scannerdb-drill-")
    home.chmod(0o755)
    try:
        done = run_verify(
            options(database), **words, place="cluster", cluster_dir=str(home), jobs=PROCESSES, amcheck=True
        )
    finally:
        shutil.rmtree(home)
    if done["verification"]["problems"]:
        raise AssertionError(done["msg"])


def beside_dumps(
    database: Database, incremental: Sequence[float], drill: Sequence[float], repetitions: int
) -> Iterator[Figure]:
    """The same two beside what dumps take for it, in the same run."""
    folder = make_home("scannerdb-dumps-")
    try:
        works = {"dump": partial(dump, database, folder), "drill": partial(dump_drill, database, folder)}
        took = interleave(repetitions, {name: partial(timed, work) for name, work in works.items()})
    finally:
        shutil.rmtree(folder)
    yield Figure("an incremental one beside a dump", "s", incremental, took["dump"], DUMP, Goal(times=0.25))
    yield Figure("its drill beside a dump's", "s", drill, took["drill"], DUMP_DRILL, Goal(times=0.5))


def asked(cluster: PhysicalCluster) -> dict[str, Any]:
    """What both jobs are told of the cluster."""
    return {"backup_method": ["pgbackrest"], "stanza": STANZA, "pgbackrest_config": str(cluster.config)}


def after_a_change(database: Database, cluster: PhysicalCluster, work: partial[None]) -> float:
    """Seconds of an incremental backup after one per cent of the largest table's rows were written."""
    database.sql(CHANGE)
    database.sql("CHECKPOINT")
    cluster.archive()
    return timed(work)


def times(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Seconds of a full and of an incremental backup, and of the drill of the last one."""
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
        drills = {"bare": partial(bare_drill, cluster), "ours": partial(our_drill, cluster, database)}
        drill = interleave(repetitions, {name: partial(timed, way) for name, way in drills.items()})
        yield Figure("the drill of the newest one", "s", drill["ours"], drill["bare"], BARE_DRILL, Goal(times=1.2))
        yield from beside_dumps(database, incr["ours"], drill["ours"], repetitions)


def _ways(cluster: PhysicalCluster, database: Database) -> dict[str, partial[None]]:
    return {"bare": partial(bare, cluster), "ours": partial(ours, cluster, database)}


MEASUREMENTS = (times,)
