"""What tests need of the machine: the one list of system packages, what each is for, and how to tell that it is there.

It is read by the system's own Python before there is a virtual environment: the standard library is all there is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVERS = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")
HELPERS = "/usr/lib/podman:/usr/libexec/podman:/usr/local/lib/podman:/usr/local/libexec/podman"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER_LIBRARIES = ("/usr/lib/*/libatomic.so.1", "/usr/lib64/libatomic.so.1")  # of the program that drives it
LOCALES = ("de_DE", "ja_JP")
REPACKED = {"bookworm": 15, "trixie": 17}  # the server of the distribution, for which it has pg_repack
OLD_SERVER = Path(sys.prefix, "postgresql-13", "postgresql", "bin")  # tests/fetched_servers.py puts it there
NEXT = 19  # the version of PostgreSQL that no release of Debian has yet
CACHE = Path(os.environ.get("SCANNERDB_TEST_CACHE") or "/var/cache/scannerdb-tests")
NEXT_ROOT = CACHE / f"postgresql-{NEXT}"
NEXT_SERVER = NEXT_ROOT / "usr/lib/postgresql" / str(NEXT) / "bin"  # tests/next_server.py puts it there


@dataclass(frozen=True)
class Need:
    """Something that tests need, and what is not tested where it is absent.

    `packages` are for every release, `by_release` for one of them; a release whose entry is None has no such package.
    """

    name: str
    tests: str
    found: Callable[[], bool]
    packages: Sequence[str] = ()
    by_release: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    how: str = ""

    def wanted(self, release: str) -> list[str]:
        """The packages of it in a release of Debian."""
        return [*self.packages, *(self.by_release.get(release) or ())]

    def lawful(self, release: str) -> bool:
        """Whether it may be absent even where everything is required: that release has no package of it."""
        return release in self.by_release and self.by_release[release] is None

    def remedy(self, release: str) -> str:
        """How to have it."""
        packages = self.wanted(release)
        return self.how or (f"apt-get install {' '.join(packages)}" if packages else "see docs/testing.md")


def program(*names: str) -> Callable[[], bool]:
    """All these programs are there."""
    return lambda: all(shutil.which(name) for name in names)


def server_dir(version: int) -> Path | None:
    """The folder of the distribution's programs of a PostgreSQL server."""
    folders = (Path(pattern.format(version)) for pattern in SERVERS)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def faketime_library() -> Path | None:
    """The library that lies about the time."""
    return next((found for pattern in LIBRARIES for found in Path("/").glob(pattern[1:])), None)


def browser() -> str | None:
    """A Chromium."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def has_browser() -> bool:
    """Whether a Chromium can be driven."""
    return browser() is not None and any(any(Path("/").glob(pattern[1:])) for pattern in DRIVER_LIBRARIES)


def has_repack(version: int) -> bool:
    """Whether pg_repack is installed for that version."""
    folder = server_dir(version)
    return folder is not None and (folder / "pg_repack").exists()


def has_locales() -> bool:
    """Whether messages can be had in German and Japanese."""
    if not shutil.which("locale"):
        return False
    listed = subprocess.run(["locale", "-a"], capture_output=True, check=False).stdout.split()
    return all(f"{name}.utf8".encode() in listed for name in LOCALES)


def has_containers() -> bool:
    """Whether containers can be made; whether they start is tried by `make molecule`."""
    return program("podman", "mmdebstrap")() and bool(shutil.which("netavark", path=HELPERS))


NEEDS = (
    Need(
        "postgresql-15",
        "PostgreSQL 15",
        lambda: server_dir(15) is not None,
        by_release={"bookworm": ("postgresql-15",), "trixie": None},
        how="PostgreSQL 15 is a package of Debian 12, and of apt.postgresql.org",
    ),
    Need(
        "pg_repack",
        "compaction with pg_repack",
        lambda: any(has_repack(version) for version in REPACKED.values()),
        by_release={release: (f"postgresql-{v}", f"postgresql-{v}-repack") for release, v in REPACKED.items()},
    ),
    Need("pgbackrest", "physical backups", program("pgbackrest"), ("pgbackrest",)),
    Need("age", "encrypted backups", program("age", "age-keygen"), ("age",)),
    Need("rclone", "off-site copies", program("rclone"), ("rclone",)),
    Need("promtool", "metrics and alert rules", program("promtool"), ("prometheus",)),
    Need("pgbouncer", "a pooler between us and the server", program("pgbouncer"), ("pgbouncer",)),
    Need(
        "patroni",
        "a cluster under Patroni",
        program("patroni", "etcd"),
        ("patroni", "etcd-server"),
    ),
    Need("logrotate", "the rotation of logs", program("logrotate"), ("logrotate",)),
    Need("systemd-analyze", "timers and units", program("systemd-analyze"), ("systemd",)),
    Need("chromium", "the HTML report in a browser", has_browser, ("chromium", "libatomic1")),
    Need("faketime", "a clock that is wrong", lambda: faketime_library() is not None, ("faketime",)),
    Need("locales", "servers that speak German or Japanese", has_locales, ("locales",)),
    Need("openssl", "TLS and signatures", program("openssl"), ("openssl",)),
    Need("fincore", "what a backup leaves in memory", program("fincore"), ("util-linux-extra",)),
    Need("mount", "full, inode-less, read-only and other file systems", program("mount"), ("mount",)),
    Need("ps", "the process list that others can read", program("ps"), ("procps",)),
    Need("patchelf", f"PostgreSQL {NEXT}", program("patchelf"), ("patchelf",)),
    Need("ssh-agent", "jobs as AWX starts them", program("ssh-agent"), ("openssh-client",)),
    Need(
        "containers",
        "roles and playbooks in containers",
        has_containers,
        ("podman", "runc", "mmdebstrap", "netavark", "aardvark-dns", "iptables"),
    ),
)
# What no package gives; these are looked for where they are needed, not installed.
CONDITIONS = (
    Need(
        "postgresql-13",
        "a server that is too old",
        OLD_SERVER.is_dir,
        how="make integration fetches it, for Linux on x86_64",
    ),
    Need(
        f"postgresql-{NEXT}",
        f"PostgreSQL {NEXT}",
        NEXT_SERVER.is_dir,
        how="make integration fetches it, as root, with mmdebstrap, patchelf and a Debian mirror",
    ),
    Need("linux", "what only Linux can", lambda: sys.platform == "linux", how="run the tests on Linux"),
    Need("root", "what only root may do", lambda: os.geteuid() == 0, how="run the tests as root, in a container"),
    Need("mounting", "file systems of every kind", lambda: os.geteuid() == 0, how="run as root, with CAP_SYS_ADMIN"),
    Need("disk", "what a backup leaves in memory", lambda: True, how="set TMPDIR to a folder on a disk"),
)
BY_NAME = {need.name: need for need in (*NEEDS, *CONDITIONS)}


def required() -> bool:
    """Whether an absence is a failure."""
    return os.environ.get("SCANNERDB_REQUIRE_ALL") == "1" or os.environ.get("CI") == "true"


def release() -> str:
    """The code name of this Debian; empty on another system."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    debian = facts.get("ID", "").strip('"') == "debian"
    return facts.get("VERSION_CODENAME", "").strip('"') if debian else ""
