"""A restore: how long nobody can connect, what the load costs, and the whole beside the old script's and Ansible's."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Identifier
from scannerdb.connection import connect
from scannerdb.contract.overlay import contract_with
from scannerdb.jobs.restore import restore
from scannerdb.load.contents import wanted_lines
from scannerdb.restore.build import create_empty, load_side
from scannerdb.restore.options import RestoreOptions
from scannerdb.restore.plan import make_plan
from scannerdb.restore.request import RestoreRequest, RestoreTask
from scannerdb.runs import Run

from bench.figure import Beside, Figure, Goal
from bench.lab import ROOT, Lab
from bench.load import beside, worst_lines
from bench.measure import clean_env, interleave, measured, timed
from bench.playbook import Site
from tests.integration.support import run_backup

CLIENTS, CUTOVERS, JOBS = 10, 10, 2
SMALL = 0.2  # a cutover changes names, whatever the size
OLD = "the old script: pg_dump -Fc, pg_restore -c"
COMMUNITY = "community.postgresql.postgresql_db state=restore"


# --- the cutover


@contextlib.contextmanager
def hammering(lab: Lab, name: str) -> Iterator[list[tuple[float, int]]]:
    """Ten clients in processes of their own; the list holds what they met once the block has ended, in order."""
    met: list[tuple[float, int]] = []
    words = json.dumps({key: str(value) for key, value in lab.server.connect_args(name).items()})
    command = [sys.executable, "-m", "bench.hammer_process"]
    pipe = subprocess.PIPE
    clients = [subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe) for _ in range(CLIENTS)]
    try:
        for client in clients:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(words + "\n")
            client.stdin.flush()
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        time.sleep(0.5)
        yield met
        time.sleep(0.5)
    finally:
        for client in clients:
            told = client.communicate()[0]
            met += [(when, oid) for when, oid in json.loads(told)["met"]]
        met.sort()


def gap_ms(met: list[tuple[float, int]]) -> float:
    """From the last connection to the first database until the first to another. Pure."""
    old = met[0][1]
    return (min(when for when, oid in met if oid != old) - max(when for when, oid in met if oid == old)) * 1000


def cutovers(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """A restore, then it is swapped back and forth while ten clients hammer; ten cutovers for the judgement."""
    gaps: list[float] = []
    closed: list[float] = []
    folder = str(lab.folder())
    with lab.copy(scale=SMALL) as name:
        options = lab.options(name)
        run_backup(options, backup_dir=folder, state_dir=f"{folder}/state", jobs=JOBS)
        more: dict[str, Any] = {
            "backup_dir": folder,
            "state_dir": f"{folder}/state",
            "confirm": name,
            "terminate": True,
            "grace_s": 0,
        }
        restore(options, RestoreOptions(source="latest", prebackup=False, **more))
        for _ in range(max(CUTOVERS, repetitions)):
            with hammering(lab, name) as met:
                told = restore(options, RestoreOptions(state="undone", **more))
            gaps.append(gap_ms(met))
            closed.append(told["restore"]["closed_ms"])
        old = statistics.median(_old_restore(lab, name) for _ in range(min(3, repetitions)))
        _drop_kept(lab, name)
    peer = [old * 1000] * len(gaps)
    what = f"nobody can connect during a cutover, {CLIENTS} clients hammering"
    yield Figure(what, "ms", gaps, peer, "the old script's whole pg_restore -c", Goal(most=50))
    yield Figure(f"{what}: the worst", "ms", gaps, goal=Goal(most=150), judged="worst")
    yield Figure("of these closed, as the server measures it", "ms", closed)


def _drop_kept(lab: Lab, name: str) -> None:
    with lab.session("postgres") as conn:
        rows = conn.execute("SELECT datname::text FROM pg_database WHERE starts_with(datname, %s)", [f"{name}__"])
        for (kept,) in rows.fetchall():
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(kept)))


# --- the load


def _pg(lab: Lab, name: str, program: str, *arguments: str | Path) -> float:
    """Seconds of a PostgreSQL program, whose errors do not count: pg_restore -c complains by nature."""
    words = lab.server.connect_args(name)
    env = clean_env(PGHOST=str(words["host"]), PGPORT=str(words["port"]), PGUSER=str(words["user"]), PGDATABASE=name)
    return measured([lab.server.bin_dir / program, *arguments], env=env).seconds


def _old_restore(lab: Lab, name: str) -> float:
    """The old script's restore alone: a dump of the database goes back into it."""
    target = lab.folder() / "x.backup"
    _pg(lab, name, "pg_dump", "-Fc", f"--file={target}")
    return _pg(lab, name, "pg_restore", "-c", "--if-exists", "-d", name, target)


def _our_load(lab: Lab, name: str, folder: Path) -> float:
    """pg_restore as the job runs it, after everything that comes before."""
    options, run = lab.options(name), Run("restore", name)
    task = RestoreTask(
        options, RestoreRequest(folder, source="latest", jobs=JOBS, verify_level="checksum"), run, contract_with(None)
    )
    with contextlib.closing(connect(options, dbname="postgres", purpose="bench")) as conn:
        plan = make_plan(conn, options, task.request, run, record=False)
        create_empty(conn, options, plan, plan.target, run)
        try:
            lines = wanted_lines(plan.contents, superuser=True)
            return timed(lambda: load_side(conn, options, task.request, plan, run, task.contract, lines))
        finally:
            lab.drop(plan.side)


def _bare_load(lab: Lab, folder: Path) -> float:
    lab.drop("bare")
    with lab.session("postgres") as conn:
        conn.execute("CREATE DATABASE bare TEMPLATE template0")
    try:
        return _pg(lab, "bare", "pg_restore", f"-j{JOBS}", "-d", "bare", folder / "latest.backup" / "dump")
    finally:
        lab.drop("bare")


def loads(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Our load beside the bare tool, of one set."""
    with lab.copy() as name:
        folder = lab.folder()
        run_backup(lab.options(name), backup_dir=str(folder), state_dir=str(folder / "state"), jobs=JOBS)
        ways = {"ours": lambda: _our_load(lab, name, folder), "bare": lambda: _bare_load(lab, folder)}
        seen = interleave(repetitions, ways)
    yield Figure("the load", "s", seen["ours"], seen["bare"], f"pg_restore -j{JOBS}", Goal(times=1.05))


# --- the whole


def _ours(lab: Lab, name: str, folder: Path) -> float:
    """Pre-restore backup, verification, load, validation, cutover."""
    work: dict[str, Any] = {"source": "latest", "confirm": name, "grace_s": 0, "terminate": True, "jobs": JOBS}
    asked = RestoreOptions(backup_dir=str(folder), state_dir=str(folder / "state"), **work)
    seconds = timed(lambda: restore(lab.options(name), asked))
    _drop_kept(lab, name)
    for path in folder.glob("*.backup"):
        if not path.is_symlink() and path.name != (folder / "latest.backup").readlink().name:
            shutil.rmtree(path)
    return seconds


def _old(lab: Lab, name: str, dump: Path) -> float:
    """Its pre-restore backup, then a restore into the live database."""
    seconds = _pg(lab, name, "pg_dump", "-Fc", f"--file={dump.parent / 'before.backup'}")
    return seconds + _pg(lab, name, "pg_restore", "-c", "--if-exists", "-d", name, dump)


def _community(lab: Lab, site: Site, name: str, dump: Path) -> float:
    """Into an empty database, which is what it is made for; it backs nothing up."""
    lab.drop("other")
    with lab.session("postgres") as conn:
        conn.execute("CREATE DATABASE other TEMPLATE template0")
    options = lab.options("other")
    where = {"login_unix_socket": options.unix_socket, "login_port": options.port, "login_user": options.user}
    arguments = {"name": "other", "state": "restore", "target": str(dump), **where}
    try:
        return site.module("community.postgresql.postgresql_db", arguments, options.pg_bin_dir).seconds
    finally:
        lab.drop("other")


def whole(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Everything that each way does by itself."""
    with lab.copy() as name:
        folder, dumps = lab.folder(), lab.folder()
        site = Site(lab.folder(), {"db": lab.options(name)})
        run_backup(lab.options(name), backup_dir=str(folder), state_dir=str(folder / "state"), jobs=JOBS)
        dump = dumps / "x.pgc"
        _pg(lab, name, "pg_dump", "-Fc", f"--file={dump}")
        ways = {
            "ours": lambda: _ours(lab, name, folder),
            "old": lambda: _old(lab, name, dump),
            "community": lambda: _community(lab, site, name, dump),
        }
        seen = interleave(repetitions, ways)
    note = "backup before, every byte verified, rows and contract and a write proven, the old database kept"
    yield Figure("the whole restore", "s", seen["ours"], seen["old"], OLD, Goal(times=1 / 1.3), note=note)
    yield Figure("the whole restore", "s", seen["ours"], seen["community"], COMMUNITY)


def clients(lab: Lab, repetitions: int) -> Iterator[Beside]:
    """What clients see while the whole database is restored, from a backup that is there already."""
    with lab.copy() as name:
        folder, dump = lab.folder(), lab.folder() / "x.pgc"
        run_backup(lab.options(name), backup_dir=str(folder), state_dir=str(folder / "state"), jobs=JOBS)
        _pg(lab, name, "pg_dump", "-Fc", f"--file={dump}")
        ways = {
            "ours": lambda: beside(lab, name, lambda: _ours(lab, name, folder)),
            OLD: lambda: beside(lab, name, lambda: _old(lab, name, dump)),
        }
        seen = interleave(repetitions, ways)
    yield from worst_lines("a restore", seen)


MEASUREMENTS = (cutovers, loads, whole, clients)
