"""One cluster with a stanza for all tests of this folder that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import needs
from tests.integration.physical.physical_support import PhysicalCluster, has_pgbackrest, physical_cluster
from tests.servers import find_bin_dir


@pytest.fixture(scope="session")
def stanza() -> Iterator[PhysicalCluster]:
    """A PostgreSQL 15 that archives into an encrypted repository with one full backup."""
    if not has_pgbackrest():
        needs.lack("pgbackrest")
    if find_bin_dir(15) is None:
        needs.lack("postgresql-15")
    with physical_cluster() as made:
        made.engine().make("full")
        yield made
