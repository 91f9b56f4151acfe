"""A run over ten hosts beside one over a single host, each a container with systemd and a PostgreSQL of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure, Goal, NotHere
from bench.lab import ROOT, Lab
from bench.measure import clean_env, interleave, measured
from tests.containers import engine

PREFIX = "scannerdb-bench"
HOSTS = 10
SHARE = 0.1  # of a processor for each host: one is then all hosts', the other is left to Ansible


class Fleet:
    """The inventory of the containers, and what podman and Ansible need to reach them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.hosts = [f"host{n}" for n in range(HOSTS)]
        hosts = {host: {"container_image": "database"} for host in self.hosts}
        self.inventory = folder / "fleet.json"
        # The connection's variables are those of the scenarios' containers.
        self.inventory.write_text(json.dumps({"containers": {"children": {"fleet": {"hosts": hosts}}}}))
        self.environment = clean_env(
            **environment,
            ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ANSIBLE_HOME=str(folder / "ansible"),
            ANSIBLE_CONNECTION_PLUGINS=str(ROOT / "molecule" / "shared" / "connection"),
            SCANNERDB_CONTAINERS=PREFIX,
        )

    def play(self, playbook: str, hosts: str = "fleet", *more: str) -> float:
        """Seconds of a playbook over these hosts. Raises RuntimeError when it fails."""
        sources = ["-i", str(ROOT / "molecule" / "inventory"), "-i", str(self.inventory)]
        words = [*sources, "-e", f"scannerdb_hosts={hosts}", *more, str(ROOT / playbook)]
        command = [sys.executable, "-m", "ansible", "playbook", *words]
        return measured(command, env=self.environment, cwd=ROOT).seconds

    def limit(self, processors: float) -> None:
        """Give each container that much of a processor, however busy the others are."""
        for host in self.hosts:
            measured(["podman", "update", f"--cpus={processors}", f"{PREFIX}-{host}"], env=self.environment)


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Containers with a database in which nothing is left to do; gone afterwards."""
    try:
        environment = engine.usable_environment()
    except (engine.Unavailable, OSError) as reason:
        raise NotHere(f"No containers here: {reason}") from reason
    made = Fleet(folder, environment)
    engine.remove(PREFIX, environment)
    try:
        made.play("molecule/shared/create.yml", "fleet", "--limit", "fleet,localhost")
        made.play("playbooks/deploy.yml")
        made.play("maintain.yml")
        yield made
    finally:
        engine.remove(PREFIX, environment)


def hosts(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """Ten hosts that share the machine's processors, then ten that each have their own, if a slow one."""
    with fleet(lab.folder()) as many:
        ways = {"ten": lambda: many.play("maintain.yml"), "one": lambda: many.play("maintain.yml", "host0")}
        status = {"status": lambda: many.play("playbooks/status.yml")}
        shared = interleave(repetitions, {**ways, **status})
        many.limit(SHARE)
        own = interleave(repetitions, ways)
    what, one, goal = f"maintain.yml with nothing to do, {HOSTS} hosts", "one host", Goal(times=3)
    yield Figure(f"{what} that share all processors", "s", shared["ten"], shared["one"], one, goal)
    yield Figure(f"{what} with {SHARE:g} of a processor each", "s", own["ten"], own["one"], one, goal)
    yield Figure(f"status.yml, {HOSTS} hosts", "s", shared["status"], goal=Goal(most=10))


MEASUREMENTS = (hosts,)
