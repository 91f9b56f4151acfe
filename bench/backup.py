"""A backup beside the old script's, community.postgresql's, the bare tools and what the disk and processor allow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from psycopg.sql import SQL, Identifier

from bench.figure import Beside, Figure, Goal
from bench.lab import TABLES, Lab
from bench.load import beside, worst_lines
from bench.measure import Ran, clean_env, interleave, measured, timed
from bench.playbook import Played, Site
from tests.integration.support import run_backup

OLD = "the old script's pg_dump -Fc"
COMMUNITY = "community.postgresql.postgresql_db state=dump"
JOBS = 2


class Place:
    """A database to back up, and a folder where each way puts its dumps."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name, self.folder = lab, name, lab.folder()
        self.site = Site(lab.folder(), {"db": lab.options(name)}, scannerdb_backup_jobs=JOBS)
        self.compression = ""
        self.bytes: dict[str, int] = {}

    def task(self, verify_level: str = "read", metered: bool = False) -> Played:
        """The whole backup.yml; checksums, counts and fsync always are part of it."""
        self.site.drop_backups()
        level = f"scannerdb_backup_verify_level={verify_level}"
        played = self.site.play("playbooks/backup.yml", "-e", level, metered=metered)
        (made,) = (path for path in self.site.folder.glob("db/backups/*.backup") if not path.is_symlink())
        self.compression = json.loads((made / "manifest.json").read_text(encoding="utf-8"))["compression"]
        self.bytes["ours"] = size(made)
        return played

    def job(self, verify_level: str) -> float:
        """Our job alone, in this process."""
        target = self._fresh("job")
        work = partial(
            run_backup, self.lab.options(self.name), backup_dir=str(target), verify_level=verify_level, jobs=JOBS
        )
        return timed(work)

    def old(self) -> float:
        """One file, gzip 6, one process."""
        target = self._fresh("old") / "x.backup"
        seconds = self._pg_dump("-Fc", f"--file={target}").seconds
        self.bytes["old"] = size(target)
        return seconds

    def floor(self) -> float:
        """The fastest that pg_dump can: the directory format, as parallel and as little compressed as ours."""
        target = self._fresh("floor") / "dump"
        level = self.compression.removeprefix("gzip:")  # pg_dump 15 knows only its level
        return self._pg_dump("-Fd", f"--jobs={JOBS}", f"--compress={level}", f"--file={target}").seconds

    def community(self) -> float:
        """What an Ansible user would write otherwise."""
        options = self.lab.options(self.name)
        arguments = {
            "name": self.name,
            "state": "dump",
            "target": str(self._fresh("community") / "x.pgc"),
            "login_unix_socket": options.unix_socket,
            "login_port": options.port,
            "login_user": options.user,
        }
        return self.site.module("community.postgresql.postgresql_db", arguments, options.pg_bin_dir).seconds

    def limit(self) -> float:
        """Every row read and sent nowhere, by as many sessions."""
        with ThreadPoolExecutor(JOBS) as pool:
            return timed(lambda: list(pool.map(self._copy_out, reversed(TABLES))))

    def _copy_out(self, table: str) -> None:
        with self.lab.session(self.name) as conn:
            conn.execute(SQL("COPY {} TO '/dev/null'").format(Identifier(table)))

    def _pg_dump(self, *arguments: str) -> Ran:
        words = self.lab.server.connect_args(self.name)
        where = {"PGHOST": words["host"], "PGPORT": str(words["port"]), "PGUSER": words["user"]}
        env = clean_env(**where, PGDATABASE=self.name)
        return measured([self.lab.server.bin_dir / "pg_dump", *arguments], env=env)

    def _fresh(self, way: str) -> Path:
        target = self.folder / way
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return target

    def ways(self) -> dict[str, Callable[[], float]]:
        """What is measured turn by turn, in seconds."""
        return {
            "task": lambda: self.task().ran.seconds,
            "unread": lambda: self.task("checksum").ran.seconds,
            "unverified": lambda: self.task("none").ran.seconds,
            "job": lambda: self.job("read"),
            "old": self.old,
            "floor": self.floor,
            "community": self.community,
            "limit": self.limit,
        }


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())


def times(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Seconds, size and memory."""
    with lab.copy() as name:
        place = Place(lab, name)
        peaks = [place.task(metered=True).peak_mb]  # it also tells the compression that the floor takes
        seen = interleave(repetitions, place.ways())
    yield from figures(place, seen)
    yield Figure("peak memory of a backup's processes", "MB", peaks)


def figures(place: Place, seen: dict[str, list[float]]) -> Iterator[Figure]:
    """The table's lines; what the tools have decides the goals."""
    zstd = place.compression.startswith("zstd")
    goal, bytes_goal = (Goal(times=1 / 6), Goal(times=1.05)) if zstd else (Goal(times=1 / 4.2), Goal(times=1.2))
    floor = f"pg_dump -Fd -j{JOBS} {place.compression}"
    goal_beside_floor = Goal(times=1.1, plus=1.5)
    note = f"the whole playbook, {place.compression}; counts, checksums, reading everything back, fsync"
    yield Figure("backup.yml", "s", seen["task"], seen["old"], OLD, goal, note=note)
    yield Figure("backup.yml", "s", seen["task"], seen["community"], COMMUNITY, goal)
    yield Figure("backup.yml", "s", seen["task"], seen["floor"], floor)
    not_read = "backup.yml, verified by checksums only"
    yield Figure(not_read, "s", seen["unread"], seen["old"], OLD, goal)
    yield Figure(not_read, "s", seen["unread"], seen["floor"], floor, goal_beside_floor)
    recorded = "backup.yml, checksums recorded only"
    yield Figure(recorded, "s", seen["unverified"], seen["old"], OLD, goal)
    yield Figure(recorded, "s", seen["unverified"], seen["floor"], floor, goal_beside_floor)
    yield Figure("the backup job alone", "s", seen["job"], seen["floor"], floor)
    yield Figure("the backup job alone", "s", seen["job"], seen["limit"], f"COPY to nowhere, {JOBS} sessions")
    sizes = [[place.bytes[way] / 1024**2] for way in ("ours", "old")]
    yield Figure("size of a set", "MB", sizes[0], sizes[1], OLD, bytes_goal)


def clients(lab: Lab, repetitions: int) -> Iterator[Beside]:
    """What clients see beside a backup."""
    with lab.copy() as name:
        place = Place(lab, name)
        ways: dict[str, Callable[[], object]] = {"ours": lambda: place.job("read"), OLD: place.old}
        seen = interleave(repetitions, {by: partial(beside, lab, name, work) for by, work in ways.items()})
    yield from worst_lines("a backup", seen)


MEASUREMENTS = (times, clients)
