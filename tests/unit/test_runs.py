"""A run's name, log and progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scannerdb.errors import InvalidInput
from scannerdb.runs import PROGRESS_KEPT, RUN_ID, Run, checked_run_id, new_run_id


def test_names_are_of_the_format_and_unique() -> None:
    names = {new_run_id() for _ in range(100)}
    assert len(names) == 100
    assert all(RUN_ID.match(name) and checked_run_id(name) == name for name in names)


@pytest.mark.parametrize(
    "text", ["", "x", "20250418T031500Z-0A1B2C3D", "20250418T031500Z-0a1b2c3d\n", "../20250418T031500Z-0a1b2c3d"]
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a run's name"):
        checked_run_id(text)


def test_progress_tells_how_far_and_old_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "progress"
    folder.mkdir()
    for number in range(PROGRESS_KEPT + 10):
        (folder / f"20200101T0000{number:02d}Z-00000000.json").write_text("{}")
    run = Run("fix", "db", state_dir=str(tmp_path))
    run.progress("dates", 5, 10)
    run.progress("dates", 6, 10)
    status = json.loads((folder / f"{run.run_id}.json").read_text())
    assert (status["step"], status["done"], status["total"]) == ("dates", 6, 10)
    assert len(list(folder.iterdir())) == PROGRESS_KEPT + 1


def test_without_folders_nothing_is_written(tmp_path: Path) -> None:
    run = Run("fix", "db")
    run.log("x")
    run.progress("x")
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_private_and_one_line_each(tmp_path: Path) -> None:
    run = Run("fix", "db", log_path=str(tmp_path / "logs" / "a.log"))
    run.log("first\nsecond")
    run.log("third")
    path = tmp_path / "logs" / "a.log"
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert len(path.read_text().splitlines()) == 2
