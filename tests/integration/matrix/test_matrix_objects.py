"""Kinds of objects: backup, drop, restore give the same text of pg_dump and the same rows; a drill proves the set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.matrix.matrix_kinds import GROUPS, kinds_of
from tests.integration.matrix.matrix_support import after_a_restore, differing, furnished, problems_of_a_drill
from tests.servers import Database


@pytest.mark.parametrize("group", GROUPS)
def test_objects_come_back(database: Database, tmp_path: Path, group: str) -> None:
    furnished(database, kinds_of(group))
    before, after = after_a_restore(database, tmp_path)
    assert differing(before, after) == ""
    assert problems_of_a_drill(database, tmp_path, "server") == []
