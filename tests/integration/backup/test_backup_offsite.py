"""Copies elsewhere by rclone, to a folder and to an S3-compatible server on loopback.

rclone comes from the distribution, the S3 server from PyPI: what is not here is said, not tested.
`SCANNERDB_MOTO_SERVER` names the program where it is not in the PATH.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import BackupInvalid, InvalidInput, ToolMissing
from scannerdb.jobs.backup_info import backup_info
from scannerdb.runs import utc_now
from scannerdb.sets import offsite
from scannerdb.sets.catalogue import list_sets
from scannerdb.sets.locate import find_set
from scannerdb.sets.names import set_name
from scannerdb.sets.options import BackupInfoOptions

from tests.backup_sets import make_set
from tests.integration.backup.backup_support import ROWS, options_of, run, visible
from tests.integration.support import content, run_restore, run_verify, wait_until
from tests.needs import needs
from tests.servers import Database

MOTO = os.environ.get("SCANNERDB_MOTO_SERVER") or str(Path(sys.executable).with_name("moto_server"))
needs_rclone = needs("rclone")
S3 = """[store]
type = s3
provider = Other
access_key_id = AKIATESTTESTTEST
secret_access_key = sEcReTsEcReTsEcReT
endpoint = http://127.0.0.1:{port}
region = us-east-1
force_path_style = true
upload_cutoff = 5M
chunk_size = 5M
"""
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


class Store:
    """A remote, with what the tests have to do to it behind rclone's back."""

    def __init__(self, remote: str, config: str = "") -> None:
        self.words = {"offsite_remote": remote, "offsite_config": config}
        self.remote = remote
        self.config = config

    def rclone(self, *words: str) -> str:
        command = ["rclone", *words, *([f"--config={self.config}"] if self.config else [])]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def names(self) -> set[str]:
        return {line.rstrip("/") for line in self.rclone("lsf", self.remote).splitlines()}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A local folder, and a bucket on a server that speaks S3."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # rclone 1.60 cannot take it
    if request.param == "folder":
        (tmp_path / "away").mkdir()
        yield Store(str(tmp_path / "away"))
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        config = tmp_path / "rclone.conf"
        config.write_text(S3.format(port=port), encoding="ascii")
        made = Store("store:bucket/scanner", str(config))
        made.rclone("mkdir", "store:bucket")
        yield made
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


@needs_rclone
@pytest.mark.parametrize("check", ["download", "hash"])
def test_a_copy_is_made_proven_and_usable(database: Database, tmp_path: Path, store: Store, check: str) -> None:
    database.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 250000) i")  # several parts
    result = run(database, tmp_path, offsite_check=check, **store.words)
    name = result["backup"]["name"]
    empty = {"removed": [], "caught_up": [], "missing": [], "left_alone": [], "why": ""}
    assert result["offsite"] == {"remote": store.remote, "copied": True, **empty}
    assert not result["failed"]
    back = tmp_path / "back" / name
    store.rclone("copy", f"{store.remote}/{name}", str(back))
    ours = {p.relative_to(back): p.read_bytes() for p in back.rglob("*") if p.is_file()}
    path = Path(result["backup"]["path"])
    assert ours == {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def failing(tmp_path: Path, words: str) -> str:
    """An rclone that fails where its arguments are like these."""
    path = tmp_path / "failing-rclone"
    real = shutil.which("rclone")
    path.write_text(f'#!/bin/sh\ncase "$*" in {words}) exit 1;; esac\nexec {real} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@needs_rclone
def test_old_copies_and_cut_short_ones_go_and_nothing_else(
    database: Database, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    with monkeypatch.context() as broken:
        broken.setattr(offsite, "RCLONE", failing(tmp_path, "copyto*/manifest.json*"))
        cut_short = run(database, tmp_path, **store.words)["backup"]["name"]
    assert cut_short in store.names()
    (tmp_path / "b" / "latest.backup").unlink()
    shutil.rmtree(tmp_path / "b" / cut_short)
    wait_until(lambda: set_name(database.name, utc_now()) > cut_short)  # or the next run takes its name
    day = datetime.timedelta(days=1)
    far = tmp_path / "far"
    far.mkdir()
    ages = {age: make_set(far, utc_now() - age * day, database.name).name for age in (5, 100, 200)}
    other = make_set(far, utc_now() - 300 * day, "another").name
    by_hand = make_set(far, utc_now() - 3 * day, database.name).name
    (far / by_hand / "manifest.json").unlink()
    stranger = f"{database.name}_20200101_000000.backup"
    (far / stranger).mkdir()
    (far / stranger / "manifest.json").write_text("{}", encoding="ascii")
    store.rclone("copy", str(far), store.remote)
    result = run(database, tmp_path, offsite_days=90, offsite_min=2, **store.words)
    assert set(result["offsite"]["removed"]) == {ages[100], ages[200], cut_short}
    assert store.names() == {ages[5], other, stranger, by_hand, result["backup"]["name"]}
    assert result["offsite"]["left_alone"] == [by_hand]
    (warning,) = result["warnings"]
    assert f"have no manifest.json: {by_hand}." in warning
    pre = run(database, tmp_path, purpose="pre_restore", offsite_days=0, offsite_min=0, **store.words)
    assert pre["offsite"]["removed"] == [], "a restore's own backup lets nothing go"


@needs_rclone
def test_a_removal_that_was_cut_short_is_finished_by_the_next_run(
    database: Database, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    old = make_set(tmp_path / "far", utc_now() - datetime.timedelta(days=100), database.name).name
    store.rclone("copy", str(tmp_path / "far"), store.remote)
    with monkeypatch.context() as broken:
        broken.setattr(offsite, "RCLONE", failing(tmp_path, "purge*"))
        result = run(database, tmp_path, offsite_min=1, **store.words)
    assert (result["failed"], result["offsite"]["copied"], result["offsite"]["removed"]) == (False, True, [])
    assert old in store.names()
    result = run(database, tmp_path, offsite_min=1, **store.words)
    assert (result["offsite"]["removed"], result["offsite"]["left_alone"]) == ([old], [])
    assert store.names() == {path.name for path in (tmp_path / "b").glob("*_*.backup")}


@needs_rclone
def test_a_copy_that_cannot_be_made_is_said_and_the_set_is_kept(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    (tmp_path / "file").write_text("", encoding="ascii")
    result = run(database, tmp_path, offsite_remote=str(tmp_path / "file" / "below"))
    assert (result["failed"], result["offsite"]["copied"]) == (True, False)
    assert "was made and is kept, but could not be copied" in result["msg"]
    assert find_set(tmp_path / "b", "latest").name == result["backup"]["name"]
    unknown = run(database, tmp_path, offsite_remote="nowhere:x", offsite_config="/dev/null")
    assert "nowhere" in unknown["offsite"]["why"]


@needs_rclone
def test_what_earlier_runs_could_not_copy_is_copied_by_the_next(
    database: Database, tmp_path: Path, store: Store
) -> None:
    database.sql(ROWS)
    (tmp_path / "file").write_text("", encoding="ascii")
    unreachable = {"offsite_remote": str(tmp_path / "file" / "below")}
    first, second, rotten = (run(database, tmp_path, **unreachable)["backup"]["name"] for _ in range(3))
    toc = tmp_path / "b" / rotten / "dump" / "toc.dat"
    toc.write_bytes(toc.read_bytes()[:-1])
    store.rclone("copy", str(tmp_path / "b" / first / "dump"), f"{store.remote}/{first}/dump")  # cut short there
    info = backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **store.words))
    assert {s["name"]: s["copied"] for s in info["sets"]} == {first: False, second: False, rotten: False}
    result = run(database, tmp_path, **store.words)
    assert not result["failed"]
    assert (result["offsite"]["caught_up"], result["offsite"]["missing"]) == ([second, first], [rotten])
    assert result["offsite"]["removed"] == []
    assert "and 2 that earlier runs had missed" in result["msg"]
    assert f"Backup {rotten} still has no copy" in result["warnings"][0]
    assert f"{rotten} is damaged" in Path(result["log"]).read_text(encoding="utf-8")
    assert store.names() == {first, second, result["backup"]["name"]}
    for name in store.names():
        store.rclone("check", str(tmp_path / "b" / name), f"{store.remote}/{name}", "--download")
    info = backup_info(BackupInfoOptions(backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **store.words))
    assert {s["name"] for s in info["sets"] if s["copied"]} == store.names()
    # What the policy for copies would not keep is not copied either.
    (tmp_path / "b" / rotten).rename(tmp_path / "rotten")
    make_set(tmp_path / "b", utc_now() - datetime.timedelta(days=20), database.name)
    result = run(database, tmp_path, offsite_days=10, offsite_min=2, **store.words)
    assert (result["offsite"]["caught_up"], result["offsite"]["missing"]) == ([], [])


def gated(tmp_path: Path) -> Path:
    """An rclone that makes a folder `held` and holds back the first manifest until there is a file `go`."""
    path = tmp_path / "rclone"
    wait = f"until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
    hold = f"case \"$1 $3\" in 'copyto '*/manifest.json) mkdir '{tmp_path}/held' 2>/dev/null && {wait};; esac"
    path.write_text(f'#!/bin/sh\n{hold}\nexec {shutil.which("rclone")} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@needs_rclone
@pytest.mark.parametrize("stale", [False, True], ids=["beside", "listed before it was made"])
def test_a_copy_that_another_run_is_uploading_is_left_alone(
    database: Database, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    database.sql(ROWS)
    mine = run(database, tmp_path)["backup"]["name"]
    before = list_sets(tmp_path / "b", database.name).sets
    monkeypatch.setattr(offsite, "RCLONE", str(gated(tmp_path)))
    purpose = "regular" if stale else "pre_restore"
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(run, database, tmp_path, purpose=purpose, **store.words)
        try:
            wait_until((tmp_path / "held").is_dir)
            if stale:
                place = offsite.Offsite(store.remote, store.config)
                done = offsite.replicate(place, find_set(tmp_path / "b", mine), before)
                assert (done.copied, done.removed, done.why) == (True, [], "")
            else:
                assert run(database, tmp_path, **store.words)["offsite"]["removed"] == []
        finally:
            (tmp_path / "go").touch()
        result = upload.result()
    assert result["offsite"]["copied"]
    path = result["backup"]["path"]
    store.rclone("check", path, f"{store.remote}/{result['backup']['name']}", "--download")


@needs_rclone
@pytest.mark.parametrize("what", ["dump/toc.dat", "manifest.json"])
def test_a_copy_that_arrives_damaged_is_found(
    database: Database, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    database.sql(ROWS)
    real = offsite._rclone

    def damaging(where: Any, words: Any, *more: Any, **named: Any) -> Any:
        finished = real(where, words, *more, **named)
        if (words[0] == "copy" and "toc" in what) or (words[0] == "copyto" and words[2].endswith(what)):
            place = words[-1] if words[0] == "copy" else words[-1].rpartition("/")[0]
            damaged = tmp_path / "damaged"
            store.rclone("copyto", f"{place}/{what}", str(damaged))
            data = bytearray(damaged.read_bytes())
            data[-2] ^= 1
            damaged.write_bytes(data)
            store.rclone("copyto", "--ignore-times", str(damaged), f"{place}/{what}")
        return finished

    monkeypatch.setattr(offsite, "_rclone", damaging)
    for check in ("download", "hash"):
        result = run(database, tmp_path, offsite_check=check, **store.words)
        assert result["failed"], check
        assert not result["offsite"]["copied"]


def test_without_rclone_it_is_said_before_the_backup(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsite, "RCLONE", "/nonexistent/rclone")
    for check_mode in (True, False):
        with pytest.raises(ToolMissing, match="Install rclone"):
            run(database, tmp_path, offsite_remote="x:y", check_mode=check_mode)
    assert not (tmp_path / "b").exists()
    with pytest.raises(InvalidInput):
        run(database, tmp_path, offsite_remote="--delete-everything")
    assert run(database, tmp_path)["offsite"] == {}


@needs_rclone
@pytest.mark.parametrize("encrypted", [False, pytest.param(True, marks=needs("age"))])
def test_a_copy_is_drilled_and_restored(field_db: Database, tmp_path: Path, store: Store, encrypted: bool) -> None:
    """The host with all its backups is gone; the copies bring the database back."""
    more: dict[str, Any] = {}
    key: dict[str, Any] = {}
    if encrypted:
        subprocess.run(["age-keygen", "-o", str(tmp_path / "key")], check=True, capture_output=True)
        key = {"identity_key": (tmp_path / "key").read_text(encoding="ascii")}
        more = {"age_recipients": [key["identity_key"].partition("public key: ")[2].split()[0]]}
    before = content(field_db)
    name = run(field_db, tmp_path, **more, **store.words)["backup"]["name"]
    shutil.rmtree(tmp_path / "b")
    field_db.sql("DELETE FROM models")
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), **store.words, **key}
    shown = run_verify(options_of(field_db), **words, source="offsite:latest")
    assert (shown["verification"]["passed"], shown["verification"]["set"]) == (True, name)
    assert '"restore"' in store.rclone("cat", f"{store.remote}/{name}/verification.jsonl")
    words = {**words, "confirm": field_db.name, "grace_s": 0, "prebackup": False}
    for request in ("latest", name, name.removesuffix(".backup"), f"{utc_now():%Y-%m-%d}"):
        told = run_restore(options_of(field_db), **words, source=f"offsite:{request}", check_mode=True)
        assert told["plan"]["source"] == f"{store.remote}/{name}"
    done = run_restore(options_of(field_db), **words, source="offsite:latest")
    assert done["restore"]["source"] == f"{store.remote}/{name}"
    assert content(field_db) == before
    assert visible(tmp_path / "b") == set(), "what was fetched and decrypted is gone"


@needs_rclone
def test_a_copy_that_is_not_there_or_damaged_is_not_restored(database: Database, tmp_path: Path, store: Store) -> None:
    database.sql(ROWS)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "confirm": database.name}
    with pytest.raises(InvalidInput, match="Set scannerdb_backup_offsite_remote"):
        run_restore(options_of(database), **words, source="offsite:latest")
    with pytest.raises(BackupInvalid, match=r"has no such copy.*there is none at all"):
        run_restore(options_of(database), **words, **store.words, source="offsite:latest")
    name = run(database, tmp_path, **store.words)["backup"]["name"]
    with pytest.raises(BackupInvalid, match=f"has no such copy.*the newest is {name}"):
        run_restore(options_of(database), **words, **store.words, source="offsite:2020-01-01")
    toc = tmp_path / "toc.dat"
    store.rclone("copyto", f"{store.remote}/{name}/dump/toc.dat", str(toc))
    toc.write_bytes(toc.read_bytes()[:-1] + b"?")
    store.rclone("copyto", "--ignore-times", str(toc), f"{store.remote}/{name}/dump/toc.dat")
    with pytest.raises(BackupInvalid, match=r"dump/toc\.dat has changed"):
        run_restore(options_of(database), **words, **store.words, source="offsite:latest")
    del words["confirm"]
    shown = run_verify(options_of(database), **words, **store.words, source=f"offsite:{name}")
    assert not shown["verification"]["passed"]
    assert visible(tmp_path / "b") == {name, "latest.backup"}
    assert not find_set(tmp_path / "b", name).damaged, "the set here is another"
