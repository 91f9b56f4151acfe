"""Where sets are kept: folders that do not last, and dumps of other people that retention was told of."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import FileProblem, InvalidInput, RestoreRefused
from scannerdb.jobs.backup_info import backup_info
from scannerdb.runs import utc_now
from scannerdb.sets import storage
from scannerdb.sets.locate import find_set
from scannerdb.sets.options import BackupInfoOptions

from tests.backup_sets import make_set
from tests.integration.backup.backup_support import ROWS, options_of, run, visible
from tests.integration.playbooks import Site, site
from tests.integration.restore.restore_support import old_dump
from tests.integration.support import run_backup, run_restore
from tests.needs import lack, needs
from tests.servers import Database, Databases

__all__ = ["site"]
DAY = datetime.timedelta(days=1)
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


@pytest.fixture
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of its own file system: `tmpfs`, `overlay` (as a container's layers), or `disk` (as a volume)."""
    folder, lower, upper, work = (tmp_path / name for name in ("vol", "lower", "upper", "work"))
    for made in (folder, lower, upper, work):
        made.mkdir()
    commands = {
        "tmpfs": ["-t", "tmpfs", "tmpfs"],
        "overlay": ["-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}"],
        "disk": ["--bind", str(lower)],
    }
    command = ["mount", *commands[request.param], str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lack("mounting", f"{request.param}: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@needs("rclone")
@pytest.mark.parametrize("mounted", ["tmpfs", "overlay"], indirect=True)
def test_a_folder_that_does_not_last(database: Database, mounted: Path, tmp_path: Path) -> None:
    """As in an execution environment: without a copy elsewhere there is no backup, and it is said beforehand."""
    database.sql(ROWS)
    words: dict[str, Any] = {"backup_dir": str(mounted / "b"), "state_dir": str(mounted / "s"), "storage": "auto"}
    for check_mode in (True, False):
        with pytest.raises(FileProblem, match=r"would not last: .*scannerdb_backup_storage: persistent"):
            run_backup(options_of(database), **words, check_mode=check_mode)
    assert not (mounted / "b").exists()
    assert run_backup(options_of(database), **{**words, "storage": "persistent"})["changed"]
    confirmed = {"source": "latest", "confirm": database.name, "grace_s": 0, "accept": ["*"]}
    with pytest.raises(RestoreRefused, match="would not last"):
        run_restore(options_of(database), **words, **confirmed)
    away = {"offsite_remote": str(tmp_path / "away")}
    result = run_backup(options_of(database), **words, **away)
    assert (result["failed"], result["offsite"]["copied"]) == (False, True)
    assert (tmp_path / "away" / result["backup"]["name"] / "manifest.json").exists()
    done = run_restore(options_of(database), **words, **confirmed, **away)
    assert (tmp_path / "away" / Path(done["restore"]["backup"]).name / "manifest.json").exists()
    (tmp_path / "file").touch()
    nowhere = {"offsite_remote": str(tmp_path / "file" / "below")}
    result = run_backup(options_of(database), **words, **nowhere)
    assert result["failed"]
    assert "could not be copied" in result["msg"]
    assert "What is here will not last" in result["msg"]
    with pytest.raises(RestoreRefused, match=r"would not last .* could not be copied"):
        run_restore(options_of(database), **words, **confirmed, **nowhere)


def test_the_playbook_says_so_and_fails(database: Database, site: Site) -> None:
    database.sql(ROWS)
    site.add("one", database)
    told = site.run("playbooks/backup.yml", scannerdb_backup_storage="ephemeral")
    told.failed("would not last: it is said to be ephemeral", "scannerdb_backup_offsite_remote")
    assert site.backups("one") == []


@pytest.mark.parametrize("mounted", ["disk"], indirect=True)
def test_a_volume_in_a_container_lasts(
    database: Database, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "in_container", lambda: True)
    if storage.mount_of(storage.MOUNTS.read_text(encoding="utf-8"), str(tmp_path))[0] == "/":
        with pytest.raises(FileProblem, match="would not last"):
            run(database, tmp_path, storage="auto")
    run_backup(options_of(database), backup_dir=str(mounted / "b"), state_dir=str(mounted / "s"), storage="auto")
    assert find_set(mounted / "b", "latest")


def test_dumps_of_others_go_only_when_told(database: Database, make_database: Databases, tmp_path: Path) -> None:
    """Files of the old script, a renamed set, a dump in a folder; not what is of another database, or no dump."""
    database.sql(ROWS)
    folder = tmp_path / "b"
    folder.mkdir()
    name = database.name
    old = old_dump(database, folder / f"{name}_20200101_000000.backup")
    older = old_dump(database, folder / f"{name}_20190101_000000.backup", "t")
    tree = old_dump(database, folder / "monday.dir", "d")
    young = old_dump(database, folder / f"{name}_{utc_now() - DAY:%Y%m%d_%H%M%S}.backup")
    undated = old_dump(database, folder / "by-hand.backup")
    renamed = make_set(folder, utc_now() - 90 * DAY, name).rename(folder / "copy of a set.backup")
    theirs = old_dump(make_database(), folder / "theirs_20200101_000000.backup")
    broken = folder / f"{name}_20180101_000000.backup"
    broken.write_bytes(b"PGDMP?")
    sql = old_dump(database, folder / f"{name}_20170101_000000.backup", "p")
    other = old_dump(database, folder / "not-told.dump")
    for path in (tree, undated, other):
        os.utime(path, (0, 0))
    everything = {p.name for p in (old, older, tree, young, undated, renamed, theirs, broken, sql, other)}
    first = run(database, tmp_path, retention_min=1)
    assert (first["removed"], first["warnings"]) == ([], []), "nobody told of them"
    words = {"adopt": ["*.backup", "monday.dir"], "retention_min": 1}
    info = backup_info(
        BackupInfoOptions(backup_dir=str(folder), state_dir=str(folder / "state"), database=name, **words)
    )
    going = {a["name"] for a in info["adopted"] if a["retention"]["action"] == "remove"}
    plan = run(database, tmp_path, **words, check_mode=True)
    assert set(plan["removed"]) == going == {p.name for p in (old, older, tree, undated, renamed)}
    assert {o["name"] for o in info["others"]} == {theirs.name, broken.name, sql.name}
    assert everything <= visible(folder)
    result = run(database, tmp_path, **words)
    assert set(result["removed"]) == going
    assert visible(folder) == (everything - going) | {
        "latest.backup",
        first["backup"]["name"],
        result["backup"]["name"],
    }
    told = " ".join(result["warnings"])
    assert f"{theirs.name} was not adopted: {theirs.name} is a dump of" in told
    assert f"{broken.name} was not adopted" in told
    assert "plain SQL file" in told
    assert run(database, tmp_path, **words)["removed"] == []
    for wrong in ("../x", "*", "/etc/*", ""):
        with pytest.raises(InvalidInput, match="adopt has"):
            run(database, tmp_path, adopt=[wrong])


def test_an_adopted_dump_counts_like_a_regular_set(database: Database, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    ages = (40, 50, 60)
    dumps = [
        old_dump(database, tmp_path / "b" / f"{database.name}_{utc_now() - age * DAY:%Y%m%d_%H%M%S}.backup")
        for age in ages
    ]
    result = run(database, tmp_path, adopt=[f"{database.name}_*.backup"], retention_min=3)
    assert result["removed"] == [dumps[2].name]
    why = {d["name"]: d["why"] for d in result["retention"]}
    assert why[dumps[1].name] == "one of the newest 3"
    link = tmp_path / "b" / "linked.backup"
    link.symlink_to(dumps[0].name)
    assert run(database, tmp_path, adopt=["linked.backup"], retention_min=0, retention_days=0)["removed"] == [
        result["backup"]["name"]
    ]
