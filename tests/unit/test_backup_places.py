"""Where a dump comes from and whether it lasts where it goes: choices that need no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.backup.standby import Candidate, SourcePolicy, choose
from scannerdb.errors import ConnectionFailed, FileProblem, InvalidInput, ServerUnsupported
from scannerdb.login import Options, tool_environment
from scannerdb.sets import storage
from scannerdb.sets.storage import Storage, mount_of, why_ephemeral

MIB = 1 << 20


@pytest.mark.parametrize(
    ("host", "places"),
    [
        ("db1", [("db1", 5432)]),
        ("db1:5433", [("db1", 5433)]),
        ("db1,db2:5433", [("db1", 5432), ("db2", 5433)]),
        ("/run/a:1, /run/b", [("/run/a", 1), ("/run/b", 5432)]),
        ("::1", [("::1", 5432)]),
        ("[::1]:7,fe80::2", [("::1", 7), ("fe80::2", 5432)]),
    ],
)
def test_several_servers_in_one_option(host: str, places: list[tuple[str, int]]) -> None:
    options = Options(host=host, user="me")
    assert [(one.host, one.port) for one in options.servers] == places
    words = options.libpq()
    assert words["host"].split(",") == [place[0] for place in places]
    assert words["port"].split(",") == [str(place[1]) for place in places]
    assert tool_environment(options, "x", {})["PGHOST"] == words["host"]


def at(name: str, *, standby: bool, position: int = 0, system: str = "1") -> Candidate:
    return Candidate(Options(host=name), standby, position, system)


def gone(name: str) -> Candidate:
    return Candidate(Options(host=name), error=ConnectionFailed(f"{name} cannot be reached."))


PRIMARY = at("p", standby=False, position=100 * MIB)
NEAR = at("near", standby=True, position=99 * MIB)
NEARER = at("nearer", standby=True, position=100 * MIB + 1)  # asked a moment later than the primary
FAR = at("far", standby=True, position=10 * MIB)


@pytest.mark.parametrize(
    ("candidates", "wanted", "chosen", "note"),
    [
        ([PRIMARY, NEAR, NEARER, FAR], "auto", "nearer", "far port 5432 is 90 MiB behind"),
        ([PRIMARY, FAR], "auto", "p", "is 90 MiB behind"),
        ([PRIMARY, NEAR], "primary", "p", ""),
        ([gone("x"), PRIMARY], "auto", "p", "x cannot be reached."),
        ([gone("x"), FAR], "auto", "far", "how far the standby is behind is not known"),
        ([PRIMARY], "auto", "p", ""),
    ],
)
def test_the_choice(candidates: list[Candidate], wanted: str, chosen: str, note: str) -> None:
    for order in (candidates, candidates[::-1]):
        place = choose(order, SourcePolicy(wanted))
        assert place.options.host == chosen
        assert note in " ".join(place.notes)
        if PRIMARY in candidates:
            assert place.primary == PRIMARY.options
            assert place.other == (None if chosen == "p" else PRIMARY.options)


def test_no_choice_is_said() -> None:
    with pytest.raises(ServerUnsupported, match=r"There is no standby to dump from: .*90 MiB behind"):
        choose([PRIMARY, FAR], SourcePolicy("standby"))
    with pytest.raises(ServerUnsupported, match="There is no primary to dump from"):
        choose([NEAR], SourcePolicy("primary"))
    with pytest.raises(ConnectionFailed, match="x cannot be reached"):
        choose([gone("x"), gone("y")], SourcePolicy())
    with pytest.raises(InvalidInput, match="both say that they are the primary"):
        choose([PRIMARY, at("q", standby=False)], SourcePolicy())
    with pytest.raises(InvalidInput, match="are not of one cluster"):
        choose([PRIMARY, at("alien", standby=True, system="2")], SourcePolicy())


MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a
28 27 0:25 / /var/tmp rw shared:2 - ext4 /dev/vda rw
29 28 0:26 / /var/tmp rw - tmpfs tmpfs rw
30 27 0:27 / /srv/my\040backups rw - xfs /dev/vdb rw
""".lstrip()


@pytest.mark.parametrize(
    ("path", "mount", "kind"),
    [
        ("/var/backups", "/", "overlay"),
        ("/var/tmp/x", "/var/tmp", "tmpfs"),
        ("/var/tmpfoo", "/", "overlay"),
        ("/srv/my backups/db1", "/srv/my backups", "xfs"),
        ("/", "/", "overlay"),
    ],
)
def test_the_mount_of_a_path(path: str, mount: str, kind: str) -> None:
    assert mount_of(MOUNTS, path) == (mount, kind)


@pytest.mark.parametrize(
    ("mount", "kind", "container", "lost"),
    [
        ("/", "ext4", False, ""),
        ("/", "ext4", True, "a container's own"),
        ("/backups", "ext4", True, ""),
        ("/backups", "nfs4", True, ""),
        ("/", "overlay", True, "layer"),
        ("/", "overlay", False, "layer"),
        ("/tmp", "tmpfs", False, "in memory"),
    ],
)
def test_what_does_not_last(mount: str, kind: str, container: bool, lost: str) -> None:
    why = why_ephemeral(mount, kind, container)
    assert lost in why
    assert bool(why) == bool(lost)


def test_what_people_say_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / ".containerenv"
    monkeypatch.setattr(storage, "MARKERS", (str(marker),))
    for name in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert not storage.in_container()
    marker.touch()
    assert storage.in_container()
    monkeypatch.setattr(storage, "MARKERS", ())
    monkeypatch.setenv("container", "lxc")  # a machine, not an application
    assert not storage.in_container()
    monkeypatch.setenv("container", "podman")
    assert storage.in_container()
    Storage(tmp_path).ensure_kept("")
    Storage(tmp_path, "ephemeral").ensure_kept("s3:bucket")
    with pytest.raises(FileProblem, match=r"not last: it is said to be ephemeral\..*scannerdb_backup_offsite_remote"):
        Storage(tmp_path, "ephemeral").ensure_kept("")
    assert "in memory" in Storage(Path("/dev/shm/not/there"), "auto").why_lost()
