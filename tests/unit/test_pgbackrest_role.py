"""What the role scannerdb_pgbackrest writes, and what it leaves alone: its filters."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILTER = Path(__file__).resolve().parents[2] / "roles/scannerdb_pgbackrest/filter_plugins/scannerdb_pgbackrest.py"
DEBIAN, MAIN, OWN = "/etc/pgbackrest.conf", "/etc/pgbackrest/pgbackrest.conf", "/etc/pgbackrest/conf.d/main.conf"
MARK = "# Written by the role scannerdb_pgbackrest: change its variables, not this file.\n"
PACKAGED = "[global]\nrepo1-path=/var/lib/pgbackrest\n#repo1-cipher-pass=...\n#[main]\n#pg1-path=/v/13/main\n"
DATA = "/var/lib/postgresql/17/main"


@pytest.fixture(scope="module")
def role() -> Any:
    spec = importlib.util.spec_from_file_location(FILTER.stem, FILTER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_passphrase_always_has_its_cipher(role: Any) -> None:
    repositories = [{"path": "/a", "cipher-pass": "own"}, {"path": "/b"}, {"path": "/c", "cipher-type": "none"}]
    made = role.section(repositories, {"bundle": "y"}, "common")
    assert (made["repo1-cipher-type"], made["repo1-cipher-pass"]) == ("aes-256-cbc", "own")
    assert (made["repo2-cipher-type"], made["repo2-cipher-pass"]) == ("aes-256-cbc", "common")
    assert made["repo3-cipher-type"] == "none" and "repo3-cipher-pass" not in made
    assert role.wrong(made, "common") == []
    assert role.section([{"path": "/a"}], {}, "") == {"repo1-path": "/a", "repo1-cipher-type": "none"}


@pytest.mark.parametrize(
    ("repository", "password", "word"),
    [
        ({"cipher-pass": "x", "cipher-type": "none"}, "", "would not be used"),
        ({"cipher-type": "aes-256-cbc"}, "", "no cipher-pass"),
        ({"cipher-pass": "own"}, "common", "no repository would use it"),
        ({"cipher-type": "none"}, "common", "no repository would use it"),
        ({"path": "/a\nrepo1-host=elsewhere"}, "", "repo1-path holds a line break"),
        ({}, "s3cret ", "repo1-cipher-pass holds"),
    ],
)
def test_what_would_be_misread_is_refused(role: Any, repository: dict[str, Any], password: str, word: str) -> None:
    (said,) = role.wrong(role.section([repository], {}, password), password)
    assert word in said and "s3cret" not in said and "elsewhere" not in said


def test_booleans_are_written_as_pgbackrest_reads_them(role: Any) -> None:
    assert role.written({"start-fast": True, "resume": False, "process-max": 4}) == {
        "start-fast": "y",
        "resume": "n",
        "process-max": "4",
    }


def test_the_files_that_pgbackrest_reads_are_found(role: Any) -> None:
    there = ["/etc/host.conf", DEBIAN, OWN, "/etc/pgbackrest/other.conf", MAIN]
    assert role.among(there, [DEBIAN, MAIN, "/etc/pgbackrest/conf.d/*.conf"]) == [DEBIAN, OWN, MAIN]
    assert role.among(there, ["/etc/pgbackrest/other.conf"]) == ["/etc/pgbackrest/other.conf"]


def laid(role: Any, files: dict[str, str], target: str = OWN, replace: bool = False) -> dict[str, list[str]]:
    slurped = [{"source": k, "content": base64.b64encode(v.encode()).decode()} for k, v in files.items()]
    found: dict[str, list[str]] = role.layout(slurped, target, "main", DATA, {"repo1-path": "/r"}, replace)
    return found


def test_files_that_do_not_concern_the_cluster_stay(role: Any) -> None:
    own = f"{MARK}[main]\nrepo1-path=/old\npg1-path={DATA}\n"
    other = "[global]\nprocess-max=4\n[other]\npg1-path=/x\nrepo2-path=/y\n"
    assert laid(role, {DEBIAN: PACKAGED, MAIN: other, OWN: own}) == {"refused": [], "aside": []}


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        (DEBIAN, "[main]\npg1-path=/x\n", "was not written by deploy.yml"),
        (MAIN, f"[main:backup]\nprocess-max=2\n[main]\npg1-path={DATA}\n", "was not written by deploy.yml"),
        (OWN, f"[main]\npg1-path={DATA}\n", "was not written by deploy.yml"),
        (OWN, f"{MARK}[main]\npg1-path=/another\n", "is that of the cluster in /another"),
        (MAIN, f"{MARK}[global]\n[main]\npg1-path=/another\n", "is that of the cluster in /another"),
    ],
)
def test_what_others_wrote_is_refused_until_it_may_be_replaced(role: Any, path: str, text: str, word: str) -> None:
    (said,) = laid(role, {path: text})["refused"]
    assert word in said and "scannerdb_pgbackrest_replace_config=true" in said
    assert laid(role, {path: text}, replace=True) == {"refused": [], "aside": [] if path == OWN else [path]}


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        (MAIN, f"[main]\npg1-path={DATA}\n[other]\npg1-path=/x\n", "is the configuration of other, too"),
        (OWN, f"{MARK}[main]\npg1-path={DATA}\n[other]\npg1-path=/x\n", "is the configuration of other, too"),
        (DEBIAN, "[global]\nrepo2-path=/elsewhere\nrepo1-path=/a\n[other]\npg1-path=/x\n", "sets repo2-path"),
    ],
)
def test_what_other_clusters_stand_in_is_never_touched(role: Any, path: str, text: str, word: str) -> None:
    (said,) = laid(role, {path: text}, replace=True)["refused"]
    assert word in said and "scannerdb_pgbackrest_config" in said


def test_an_earlier_file_of_ours_gives_way_to_that_of_the_cluster(role: Any) -> None:
    old = f"{MARK}[global]\nrepo1-path=/r\n\n[main]\npg1-path={DATA}\n"
    assert laid(role, {MAIN: old, DEBIAN: PACKAGED}) == {"refused": [], "aside": [MAIN]}


def test_only_our_own_command_is_no_other_archiving(role: Any) -> None:
    line = "pgbackrest --stanza=main archive-push %p"
    own = [line, "/bin/true"]
    off = {"archive_command": "(disabled)", "archive_library": ""}
    assert role.foreign([off, {}], own) == [] == role.foreign([{"archive_command": one} for one in own], own)
    other = {"archive_command": "pgbackrest --stanza=other archive-push %p", "archive_library": "basic_archive"}
    assert role.foreign([off, other, other], own) == [
        "archive_command is pgbackrest --stanza=other archive-push %p",
        "archive_library is basic_archive",
    ]


def test_where_a_repository_lies(role: Any) -> None:
    assert role.place({"path": "/srv/r"}) == "/srv/r" and role.place({}) == "/var/lib/pgbackrest"
    assert role.place({"host": "backup.example.com", "path": "/r"}) == "backup.example.com:/r"
    assert role.place({"type": "s3", "s3-bucket": "scanner", "path": "/main"}) == "scanner:/main"


def test_a_repository_that_cannot_be_read_is_no_missing_stanza(role: Any) -> None:
    answer = (
        '[{"repo":[{"key":1,"status":{"code":1,"message":"missing stanza path"}},'
        '{"key":2,"status":{"code":0,"message":"ok"}},'
        '{"key":3,"status":{"code":99,"message":"[CryptoError] unable to flush\nbytes"}}]}]'
    )
    found = role.states(answer)
    assert [one["missing"] for one in found] == [True, False, False]
    assert [one["problem"] for one in found] == ["", "", "repository 3: [CryptoError] unable to flush bytes"]
    assert role.states("") == []
