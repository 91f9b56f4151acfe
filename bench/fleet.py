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


class Fleet:
    """The inventory of the containers, and what podman and Ansible need to reach them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        hosts = {f"host{n}": {"container_image": "database"} for n in range(HOSTS)}
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
    """All containers share the machine's processors."""
    with fleet(lab.folder()) as many:
        ways = {
            "ten": lambda: many.play("maintain.yml"),
            "one": lambda: many.play("maintain.yml", "host0"),
            "status": lambda: many.play("playbooks/status.yml"),
        }
        seen = interleave(repetitions, ways)
    one = "one host"
    yield Figure(f"maintain.yml with nothing to do, {HOSTS} hosts", "s", seen["ten"], seen["one"], one, Goal(times=3))
    yield Figure(f"status.yml, {HOSTS} hosts", "s", seen["status"], goal=Goal(most=10))


MEASUREMENTS = (hosts,)
