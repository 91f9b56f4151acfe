"""Debian's packages, installed so that nothing but files comes with them: no service, no cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.system.needs import LOCALES, Need

PATIENT = ("-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30")
INSTALL_S = 1200
NO_SERVICE = ("/usr/sbin/policy-rc.d", "#!/bin/sh\n# for the tests' packages: nothing is started\nexit 101\n", 0o755)
NO_CLUSTER = ("/etc/postgresql-common/createcluster.d/scannerdb-tests.conf", "create_main_cluster = false\n", 0o644)
SERVICES = {
    "prometheus": "prometheus",
    "pgbouncer": "pgbouncer",
    "patroni": "patroni",
    "etcd-server": "etcd",
    "postgresql-common": "postgresql",
}


def provide(absent: Sequence[Need], release: str) -> str:
    """Install what is absent, as far as it can be; why it could not, empty where it could."""
    packages = sorted({package for need in absent for package in need.wanted(release)} - installed())
    if packages and (why := why_not() or _install(packages)):
        return why
    if any(need.name == "locales" for need in absent):
        return _make_locales()
    return ""


def why_not() -> str:
    """Why nothing may be installed here."""
    if not shutil.which("apt-get"):
        return "not installed, and this is no Debian or Ubuntu"
    return "" if os.geteuid() == 0 else "not installed, and only root may install"


def installed() -> set[str]:
    """The packages that are there."""
    if not shutil.which("dpkg-query"):
        return set()
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}


def _install(packages: Sequence[str]) -> str:
    """Install packages; why that failed, empty where it did not."""
    print(f"Installing {' '.join(packages)} …", flush=True)
    before = installed()
    with ExitStack() as stack:
        for path, text, mode in (NO_SERVICE, NO_CLUSTER):
            stack.enter_context(_for_a_while(Path(path), text, mode))
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            if why := _apt(command):
                return why
    for package, service in SERVICES.items():
        if package in installed() - before and shutil.which("systemctl"):
            subprocess.run(["systemctl", "--quiet", "disable", service], capture_output=True, check=False)
    return ""


@contextmanager
def _for_a_while(path: Path, text: str, mode: int) -> Iterator[None]:
    """A file that is there during the installation, unless the machine has its own."""
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:  # ours is of a run that was killed
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _apt(command: Sequence[str]) -> str:
    """Run apt-get; the line in which it said why it failed."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            ["apt-get", "--quiet=2", *PATIENT, *command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=INSTALL_S,
            env=quiet,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {command[0]} did not end within {INSTALL_S} s"
    if done.returncode == 0:
        return ""
    lines = (done.stderr + done.stdout).strip().splitlines()
    told = [line for line in lines if line.startswith("E: ")] or lines or [f"exit code {done.returncode}"]
    return f"apt-get failed: {told[0]}"


def _make_locales() -> str:
    """Make the locales of servers that speak another language."""
    for name in LOCALES:
        command = ["localedef", "--inputfile", name, "--charmap=UTF-8", f"{name}.UTF-8"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        if done.returncode > 1:  # 1: warnings
            return f"localedef failed: {done.stderr.strip().splitlines()[-1:]}"
    return ""
