"""Compaction beside the old monthly script (VACUUM FULL for everything): what it gives back, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scannerdb.jobs.vacuum import vacuum
from scannerdb.vacuum.options import VacuumOptions

from bench.figure import Beside, Figure, Goal, NotHere
from bench.lab import Lab
from bench.load import READ_SERVER, UPDATE_ENDPOINT, Seen, load, worst_lines
from bench.measure import interleave, timed
from tests.system.needs import NEXT, NEXT_SERVER

OLD = "the old script's VACUUM FULL of everything"
FULL = "VACUUM FULL"
REPACK = "REPACK (CONCURRENTLY)"
WRITERS = 10
# pg_repack is no wheel's: PostgreSQL 15 with it comes from the distribution.
WITH_PG_REPACK = Path("/usr/lib/postgresql/15/bin")
INVALID = "DROP INDEX IF EXISTS idx_endpoints_verified_active"  # of the field's; REPACK refuses a table that has one
HALF = (
    "UPDATE endpoints SET inactive_reason = 'first' WHERE id % 2 = 0",
    "UPDATE endpoints SET inactive_reason = 'second' WHERE id % 2 = 1",
)


@dataclass(frozen=True)
class Compacted:
    """What one way did: seconds, bytes of endpoints before and after, and what clients saw."""

    seconds: float
    before: int
    after: int
    seen: Seen

    @property
    def given_back_mb(self) -> float:
        """What the disk has again, in MB."""
        return (self.before - self.after) / (1 << 20)


def compaction(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """A million endpoints at scale 20, updated in two halves, rewritten beside a reader and a writer."""
    if not (WITH_PG_REPACK / "pg_repack").exists():
        raise NotHere("pg_repack is not installed: apt install postgresql-15-repack.")
    with Lab(lab.scale, WITH_PG_REPACK) as own:
        template = _bloated(own)
        seen = interleave(
            repetitions,
            {
                "ours": lambda: _compact(own, template, lambda name: _ours(own, name)),
                OLD: lambda: _compact(own, template, lambda name: _run(own, name, "VACUUM FULL")),
                FULL: lambda: _compact(own, template, lambda name: _run(own, name, "VACUUM FULL endpoints")),
            },
        )
        nothing, bare = _nothing_to_do(own, template, repetitions)
    ours, old, full = seen["ours"], seen[OLD], seen[FULL]
    worst = [[one.seen.worst() for one in way] for way in (ours, old)]
    name = "a writer's worst latency during compaction"
    yield Figure(name, "ms", worst[0], worst[1], OLD, Goal(most=100), "worst")
    back = [[one.given_back_mb for one in way] for way in (ours, full)]
    name = "space that compaction gives back"
    yield Figure(name, "MB", back[0], back[1], f"{FULL} of the same table", Goal(least_times=0.95))
    yield Figure("compaction", "s", [one.seconds for one in ours], [one.seconds for one in full], FULL)
    yield Figure("a vacuum with nothing to do", "s", nothing, bare, "VACUUM of every table", Goal(most=1))
    yield from worst_lines("compaction", {"ours": [one.seen for one in ours], OLD: [one.seen for one in old]})


def online_compaction(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """The same by REPACK (CONCURRENTLY) of the newest PostgreSQL, beside ten writers."""
    if not NEXT_SERVER.is_dir():
        raise NotHere(f"PostgreSQL {NEXT} is not here: make integration fetches it, as root.")
    with Lab(lab.scale, NEXT_SERVER, {"wal_level": "replica"}) as own:
        template = _bloated(own, extension="")
        ways: dict[str, Callable[[str], None]] = {
            REPACK: lambda name: _ours(own, name, "repack"),
            FULL: lambda name: _run(own, name, "VACUUM FULL endpoints"),
        }
        seen = interleave(
            repetitions,
            {way: lambda work=work: _compact(own, template, work, WRITERS) for way, work in ways.items()},  # type: ignore[misc]
        )
    ours, full = seen[REPACK], seen[FULL]
    worst = [[one.seen.worst() for one in way] for way in (ours, full)]
    name = f"the worst latency of {WRITERS} writers during {REPACK}"
    yield Figure(name, "ms", worst[0], worst[1], FULL, Goal(most=100), "worst")
    back = [[one.given_back_mb for one in way] for way in (ours, full)]
    yield Figure(f"space that {REPACK} gives back", "MB", back[0], back[1], FULL, Goal(least_times=0.95))
    yield Figure(REPACK, "s", [one.seconds for one in ours], [one.seconds for one in full], FULL)
    yield from worst_lines(REPACK, {"ours": [one.seen for one in ours], FULL: [one.seen for one in full]})


def repacking(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """And by pg_repack, which PostgreSQL had before, beside as many writers."""
    if not (WITH_PG_REPACK / "pg_repack").exists():
        raise NotHere("pg_repack is not installed: apt install postgresql-15-repack.")
    with Lab(lab.scale, WITH_PG_REPACK) as own:
        template = _bloated(own)
        seen = [_compact(own, template, lambda name: _ours(own, name), WRITERS) for _ in range(repetitions)]
    name = f"the worst latency of {WRITERS} writers during pg_repack"
    yield Figure(name, "ms", [one.seen.worst() for one in seen], goal=Goal(most=100), judged="worst")
    yield Figure("space that pg_repack gives back beside them", "MB", [one.given_back_mb for one in seen])
    yield Figure("pg_repack beside them", "s", [one.seconds for one in seen])
    yield from worst_lines(f"pg_repack, {WRITERS} writers", {"ours": [one.seen for one in seen]})


def _ours(lab: Lab, name: str, kind: str = "pg_repack") -> None:
    result = vacuum(lab.options(name), VacuumOptions(method="repack", tables=["endpoints"]))
    done = {row["name"]: row["action"] for row in result["tables"]}
    if done.get("endpoints") != kind:
        raise RuntimeError(f"endpoints was not rewritten by {kind}: {done}, {result['left_undone']}")


def _run(lab: Lab, name: str, statement: str) -> None:
    with lab.session(name) as conn:
        conn.execute(statement.encode())


def _compact(lab: Lab, template: str, work: Callable[[str], None], writers: int = 1) -> Compacted:
    """`work` on a fresh copy, beside writers and a reader."""
    with lab.copy(template=template) as name:
        before = _size(lab, name)
        with load(lab, name, [UPDATE_ENDPOINT] * writers, [READ_SERVER]) as seen:
            seconds = timed(lambda: work(name))
            after = _size(lab, name)
    return Compacted(seconds, before, after, seen)


def _size(lab: Lab, name: str) -> int:
    with lab.session(name) as conn:
        row = conn.execute("SELECT pg_total_relation_size('endpoints')").fetchone()
    return int(row[0]) if row else 0


def _bloated(lab: Lab, extension: str = "CREATE EXTENSION pg_repack") -> str:
    """The name of a database whose endpoints were updated in two halves, nobody vacuuming."""
    name, template = "bench_bloated", lab.template()
    lab.drop(name)
    with lab.session("postgres") as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    with lab.session(name) as conn:
        for statement in filter(None, (extension, INVALID, *HALF)):
            conn.execute(statement.encode())
        conn.execute("ANALYZE")
    return name


def _nothing_to_do(lab: Lab, template: str, repetitions: int) -> tuple[list[float], list[float]]:
    """Seconds of a run that finds everything in order, and of a plain VACUUM then."""
    with lab.copy(template=template) as name:
        vacuum(lab.options(name), VacuumOptions(profile="monthly"))
        ours = [timed(lambda: vacuum(lab.options(name), VacuumOptions())) for _ in range(repetitions)]
        bare = [timed(lambda: _run(lab, name, "VACUUM")) for _ in range(repetitions)]
    return ours, bare


MEASUREMENTS = (compaction, online_compaction, repacking)
