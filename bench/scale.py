"""How things grow: each job with the database, a run with the databases of a server, and with hosts; and memory."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scannerdb.connection import Options

from bench.figure import Curve
from bench.lab import ROOT, Lab
from bench.measure import clean_env, measured
from bench.playbook import Site
from demo.kinds import ENDPOINTS

SIZES = (0.2, 0.6, 2.0, 6.0, 20.0)  # 10,000 to 1,000,000 endpoints
JOBS = ("check", "backup", "fix", "vacuum")
SMALL = 0.2
DATABASES = (1, 5, 20, 50)
HOSTS = (1, 3, 10)
AT_ONCE = 10  # a server has a hundred connections as a rule, and a backup takes about six
LINEAR, FLAT = 1.1, 0.1  # the largest exponents that still are good


def sizes(lab: Lab, repetitions: int) -> Iterator[Curve]:
    """Seconds and peak memory of each job, from 10,000 endpoints up to the lab's."""
    seconds: dict[str, list[tuple[float, float]]] = {job: [] for job in JOBS}
    peaks: dict[str, list[tuple[float, float]]] = {job: [] for job in JOBS}
    for scale in [size for size in SIZES if size < lab.scale] + [lab.scale]:
        runs = [_chain(lab, scale) for _ in range(repetitions if scale < 6 else 1)]
        for job in JOBS:
            seconds[job].append((scale * ENDPOINTS, statistics.median(run[job][0] for run in runs)))
            peaks[job].append((scale * ENDPOINTS, max(run[job][1] for run in runs)))
    for job in JOBS:
        yield Curve(f"the {job} job", "endpoints", "s", seconds[job], LINEAR)
    for job in JOBS:
        yield Curve(f"peak memory of the {job} job", "endpoints", "MB", peaks[job], FLAT)


def _chain(lab: Lab, scale: float) -> dict[str, tuple[float, float]]:
    """Seconds and MB of each job, one after the other on one copy, each in a process of its own."""
    found = {}
    with lab.copy(scale=scale) as name:
        folder = lab.folder()
        for job in JOBS:
            asked = {"job": job, "folder": str(folder), "options": dataclasses.asdict(lab.options(name))}
            ran = measured([sys.executable, "-m", "bench.job", json.dumps(asked)], env=clean_env(), cwd=ROOT)
            told = json.loads(ran.output.splitlines()[-1])
            found[job] = (float(told["seconds"]), float(told["peak_mb"]))
    return found


def databases(lab: Lab, repetitions: int) -> Iterator[Curve]:
    """A maintain.yml with nothing to do, over many databases of one server."""
    with ExitStack() as stack:
        clean = stack.enter_context(maintained(lab))
        names = [stack.enter_context(lab.copy(f"bench_{n}", template=clean)) for n in range(DATABASES[-1])]
        points = [(float(n), _maintain(lab, {name: lab.options(name) for name in names[:n]})) for n in DATABASES]
    yield Curve("maintain.yml over the databases of one server", "databases", "s", points, LINEAR)


def hosts(lab: Lab, repetitions: int) -> Iterator[Curve]:
    """The same over hosts, each with a server of its own; here they share the machine's processors."""
    with ExitStack() as stack:
        labs = [stack.enter_context(Lab(SMALL, settings={"shared_buffers": "64MB"})) for _ in range(HOSTS[-1])]
        clean = [(one, stack.enter_context(maintained(one))) for one in labs]
        targets = {f"host{n}": one.options(name) for n, (one, name) in enumerate(clean)}
        points = [(float(n), _maintain(lab, dict(list(targets.items())[:n]))) for n in HOSTS]
    yield Curve("maintain.yml over hosts", "hosts", "s", points, LINEAR)


@contextmanager
def maintained(lab: Lab) -> Iterator[str]:
    """A small database in which nothing is left to do."""
    with lab.copy("bench_clean", scale=SMALL) as name:
        Site(lab.folder(), {"db": lab.options(name)}).play("maintain.yml")
        yield name


def _maintain(lab: Lab, targets: dict[str, Options]) -> float:
    folder: Path = lab.folder()
    return Site(folder, targets).play("maintain.yml", "-e", f"scannerdb_serial={AT_ONCE}").ran.seconds


MEASUREMENTS = (sizes, databases, hosts)
