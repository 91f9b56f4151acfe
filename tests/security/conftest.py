"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.attacks import Canary
from tests.servers import Database


@pytest.fixture
def canary(field_db: Database) -> Iterator[Canary]:
    """The field's database with the canary in it."""
    with Canary.in_database(field_db) as made:
        yield made
