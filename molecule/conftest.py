"""What the verifications of all scenarios share: a look into a container, without Ansible's help."""

from __future__ import annotations

import os
from typing import Any, Callable

import pytest
import testinfra

PREFIX = os.environ.get("SCANNERDB_CONTAINERS", "scannerdb-test")


@pytest.fixture
def container() -> Callable[[str], Any]:
    """Gives the testinfra host of a container by its name in the inventory."""
    return lambda name: testinfra.get_host(f"podman://{PREFIX}-{name}")


@pytest.fixture
def query(container: Callable[[str], Any]) -> Callable[..., list[str]]:
    """Gives the lines that psql prints for a query on a database host, asked by the superuser."""

    def ask(name: str, sql: str, database: str = "ollama_scanner") -> list[str]:
        psql = "runuser -u postgres -- psql -X -A -t -v ON_ERROR_STOP=1 -d %s -c %s"
        return list(container(name).check_output(psql, database, sql).splitlines())

    return ask
