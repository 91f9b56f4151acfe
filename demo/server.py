"""One private PostgreSQL server in a folder of its own, used by the demo and by the tests.

Everything lies in `home`: `data/` (the cluster), `run/` (the socket), `server.log`, `port` and `password`. A start
works from any state: nothing there, a half-made cluster, a crashed server, a stale pid file, a server that runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo import user

SUPERUSER = "postgres"
ATTEMPTS = 5
READY_LINE = 8  # of postmaster.pid: "starting", "ready", "stopping"
SETTINGS = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "shared_buffers": "64MB",
    "max_connections": "60",
}


class ServerError(RuntimeError):
    """The server could not be made or started; the message is a sentence for the user."""


def wheel_bin_dir(package: str) -> Path | None:
    """The folder with the programs of a PostgreSQL wheel, or None when it is not installed."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or []:
        bin_dir = Path(location) / "pginstall" / "bin"
        if (bin_dir / "postgres").exists():
            return bin_dir
    return None


class Server:
    """A server to start and stop; `home` must be a folder that `user.suits_a_server` or a short one."""

    def __init__(self, home: Path, bin_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.bin_dir = bin_dir
        self.settings = {**SETTINGS, **(settings or {})}
        self.data = home / "data"
        self.socket_dir = home / "run"
        self.log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None  # only in the process that started it

    @property
    def port(self) -> int:
        """The port of the socket and of 127.0.0.1; 0 before the first start."""
        path = self.home / "port"
        return int(path.read_text(encoding="ascii")) if path.exists() else 0

    @property
    def password(self) -> str:
        """The superuser's password, needed over TCP only."""
        return (self.home / "password").read_text(encoding="ascii")

    @property
    def pid(self) -> int:
        """The running postmaster's process id, or 0."""
        lines = self._pid_file()
        found = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
        return found if found and self._is_ours(found) else 0

    def connect_args(self, dbname: str = "postgres", login: str = SUPERUSER) -> dict[str, Any]:
        """Keyword arguments for psycopg.connect over the private socket: no password asked."""
        return {"host": str(self.socket_dir), "port": self.port, "user": login, "dbname": dbname}

    def tcp_args(self, dbname: str = "postgres") -> dict[str, Any]:
        """Keyword arguments for psycopg.connect over loopback, where the password counts."""
        return {**self.connect_args(dbname), "host": "127.0.0.1", "password": self.password}

    def start(self) -> None:
        """Bring the server up from whatever state it is in; a running one is left alone."""
        if self.pid and self._wait_until_ready(None) and self._answers():
            return
        self.home.mkdir(parents=True, exist_ok=True)
        programs = self.programs()
        self._prepare(programs)
        for attempt in range(ATTEMPTS):
            self._configure(_free_port(self.port if attempt == 0 else 0))
            if self._launch(programs):
                return
            time.sleep(0.2 * (attempt + 1))  # a crashed server's children may still hold its memory
        raise ServerError(f"PostgreSQL did not start; its log {self.log} ends with:\n{self._log_tail()}")

    def stop(self) -> None:
        """End the server politely, then firmly; a stopped one is left alone."""
        for kind, patience in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            pid = self.pid
            if not pid:
                return
            os.kill(pid, kind)
            deadline = time.monotonic() + patience
            while self.pid and time.monotonic() < deadline:
                time.sleep(0.02)
            if self._process is not None:
                self._process.poll()  # or it stays a zombie as long as we live

    def remove(self) -> None:
        """Stop the server and delete everything it has."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def programs(self) -> Path:
        """A bin folder that the server's user can run: the wheel's own, or a copy in our home."""
        if user.runnable(self.bin_dir):
            return self.bin_dir
        target = self.home / "pg"
        copied = target / self.bin_dir.parent.parent.name / self.bin_dir.parent.name / self.bin_dir.name
        if not (copied.is_dir() and user.runnable(copied)):
            copied = user.copy_programs(self.bin_dir, target)
        if not user.runnable(copied):
            raise ServerError(f"The PostgreSQL programs in {self.bin_dir} do not run on this machine.")
        return copied

    def _prepare(self, programs: Path) -> None:
        """Make the folders and, where there is none of this version, the cluster."""
        user.give_away(self.home)
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        user.give_away(self.socket_dir)
        version_file = self.data / "PG_VERSION"
        made_by = version_file.read_text(encoding="ascii").strip() if version_file.exists() else ""
        if made_by != str(_major(programs)):
            self._initdb(programs)

    def _initdb(self, programs: Path) -> None:
        """Make a cluster beside its final place and move it there, so that a half-made one never counts."""
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        (self.home / "port").unlink(missing_ok=True)
        password = self.home / "password"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18), encoding="ascii")
        user.give_away(password)
        options = ["--encoding=UTF8", "--locale=C", "--no-sync", f"--username={SUPERUSER}"]
        options += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"]
        done = subprocess.run(
            [programs / "initdb", f"--pgdata={fresh}", *options],
            cwd=self.home,
            env=user.clean_env(),
            capture_output=True,
            text=True,
            check=False,
            **user.drop_args(),
        )
        if done.returncode:
            raise ServerError(f"initdb could not make a cluster in {fresh}:\n{done.stderr or done.stdout}")
        with (fresh / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write("include = 'scannerdb-demo.conf'\n")
        fresh.rename(self.data)

    def _configure(self, port: int) -> None:
        """Write the settings of the next start."""
        values = {"listen_addresses": "127.0.0.1", **self.settings, "port": str(port)}
        values["unix_socket_directories"] = str(self.socket_dir)
        lines = [f"{name} = '{value}'\n" for name, value in values.items()]
        (self.data / "scannerdb-demo.conf").write_text("".join(lines), encoding="ascii")
        (self.data / "scannerdb-demo.conf").chmod(0o644)
        (self.home / "port").write_text(str(port), encoding="ascii")

    def _launch(self, programs: Path) -> bool:
        """Start the server as a daemon of its own; True once it takes connections."""
        if not self.pid:
            for stale in [self.data / "postmaster.pid", *self.socket_dir.iterdir()]:
                stale.unlink(missing_ok=True)  # the numbers in them may be a stranger's by now
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", self.data],
                cwd=self.home,
                env=user.clean_env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **user.drop_args(),
            )
        return self._wait_until_ready(self._process)

    def _answers(self) -> bool:
        """True when somebody listens on the socket: a process that is just dying has a pid but no ear."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket_dir / f".s.PGSQL.{self.port}")) == 0

    def _wait_until_ready(self, process: subprocess.Popen[bytes] | None) -> bool:
        """Wait for the server's own word that it is ready; False when it ends or takes over a minute."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                return False
            lines = self._pid_file()
            if len(lines) >= READY_LINE and lines[READY_LINE - 1].strip() == "ready":
                return True
            if process is None and not self.pid:
                return False
            time.sleep(0.02)
        return False

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _is_ours(self, pid: int) -> bool:
        """True when that process is a postmaster of this very folder, not a stranger who got the number."""
        if Path("/proc/self").exists():
            with contextlib.suppress(OSError):  # a container's root may not look; then the command line tells
                return Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.data.resolve()
            with contextlib.suppress(OSError):
                return os.fsencode(self.data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return False
        listing = ["ps", "-o", "command=", "-p", str(pid)]
        done = subprocess.run(listing, capture_output=True, text=True, check=False)
        return f"-D {self.data}" in done.stdout

    def _log_tail(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-12:])


def _major(programs: Path) -> int:
    """The major version of the programs in that folder."""
    shown = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)", shown.stdout)
    if found is None:
        raise ServerError(f"{programs / 'postgres'} --version says {shown.stdout!r}: no version in it.")
    return int(found.group(1))


def _free_port(wanted: int) -> int:
    """The wanted port where nobody listens on it, else a random free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
