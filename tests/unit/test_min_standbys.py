"""How many standbys must stream before anything heavy is begun: enough, too few, or not to be seen."""

from __future__ import annotations

import pytest
from scannerdb.standbylag import missing_of


@pytest.mark.parametrize(("wanted", "standbys", "hidden"), [(1, 1, 0), (1, 2, 0), (2, 2, 1)])
def test_enough(wanted: int, standbys: int, hidden: int) -> None:
    assert missing_of(wanted, standbys, hidden) == ""


@pytest.mark.parametrize(
    ("wanted", "standbys", "words"),
    [(1, 0, "No standbys stream"), (2, 1, "1 standby streams"), (3, 2, "2 standbys stream")],
)
def test_too_few(wanted: int, standbys: int, words: str) -> None:
    assert (
        missing_of(wanted, standbys, 0) == f"{words} from the primary, and scannerdb_cluster_min_standbys is {wanted}."
    )


def test_what_cannot_be_seen_is_not_taken_for_enough() -> None:
    assert missing_of(2, 0, 3) == (
        "Whether 2 standbys stream (scannerdb_cluster_min_standbys) could not be seen: "
        "this role is no member of pg_monitor."
    )
