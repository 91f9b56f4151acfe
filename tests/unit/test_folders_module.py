"""The jobs' folders: made in one call, private, with an owner, honest in check mode."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import FileProblem
from scannerdb.jobs.folders import folders

from tests.needs import needs

pytestmark = pytest.mark.usefixtures("any_umask")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Any:
    """What the shell of whoever runs this has set must not matter."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def call(*paths: Path, check: bool = False, **more: Any) -> dict[str, Any]:
    return folders([str(path) for path in paths], check_mode=check, **more)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_made_once_and_private_below_parents_that_are_not(tmp_path: Path) -> None:
    state, reports, logs = tmp_path / "lib/db", tmp_path / "lib/db/reports", tmp_path / "log"
    made = [str(tmp_path / "lib"), *map(str, (state, reports, logs))]
    planned = call(state, reports, logs, check=True)
    assert (planned["changed"], planned["made"], list(tmp_path.iterdir())) == (True, made, [])
    first = call(state, reports, logs)
    assert (first["changed"], first["made"], first["diff"]) == (True, made, planned["diff"])
    assert {mode(path) for path in (state, reports, logs)} == {0o700}
    assert mode(tmp_path / "lib") == 0o755  # another database's folders may be another user's
    second = call(state, reports, logs)
    assert (second["changed"], second["made"], second["diff"]) == (False, [], [])


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    planned = call(folder, check=True)
    assert planned["changed"] and mode(folder) == 0o755
    assert planned["diff"][0]["before"]["mode"] == "0755"
    assert call(folder)["changed"] and mode(folder) == 0o700
    assert not call(folder)["changed"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    real.chmod(0o755)
    link.symlink_to(real)
    assert call(link)["changed"]
    assert link.is_symlink() and mode(real) == 0o700


@needs("root")
def test_the_owner_gets_what_is_made_and_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    assert call(there, tmp_path / "new/deep", owner="nobody")["changed"]
    assert {path.owner() for path in (there, tmp_path / "new/deep")} == {"nobody"}
    assert {path.owner() for path in (tmp_path, tmp_path / "new")} == {"root"}
    assert not call(there, tmp_path / "new/deep", owner="nobody")["changed"]


def test_a_file_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for check in (True, False):
        with pytest.raises(FileProblem, match="Not a directory"):
            call(tmp_path / "file" / "below", check=check)
