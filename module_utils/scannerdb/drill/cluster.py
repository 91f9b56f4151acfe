"""A disposable cluster for restore drills, so that production feels nothing: made, used and gone within one run.

It listens on a private socket only, and lets in nobody but the user that runs the drill.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..connection import Options
from ..disposable import ServerHome, end_server, private_home, setting_text
from ..errors import InvalidInput, ToolFailed, ToolMissing
from ..files import file_errors
from ..process import Finished, run_tool, tool_error
from ..tools import Tools, choose_tools, installed_tools

PREFIX = "scannerdb-drill-"
LAYOUT = {"bindir": ("initdb", "postgres"), "libdir": ("*.so*",), "pkglibdir": ("*",), "sharedir": ("*",)}
# Whom root runs the server as: the first that exists. The live server's own user comes last, for it owns the live data.
LENDERS = ("scannerdb-drill", "nobody", "postgres")
LOADER = "_load"
PATIENCE_S = 60.0
SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",  # after a crash there is nothing to keep
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "30",
    "logging_collector": "on",  # else its messages would fill a pipe that nobody reads
    "log_min_messages": "warning",
    "lc_messages": "'C'",
}


@dataclass(frozen=True)
class Cluster(ServerHome):
    """A disposable cluster that is about to run."""

    superuser: str = field(default_factory=lambda: f"scannerdb_{secrets.token_hex(4)}")  # no role of any set

    @property
    def bin_dir(self) -> Path:
        """The programs that its user runs: the copy in its home, where there had to be one."""
        copied = self.home / "programs" / "bin"
        return copied if copied.is_dir() else Path(self.programs.folder)

    @property
    def loader(self) -> str:
        """The login that fills databases, and may do nothing else."""
        return f"{self.superuser}{LOADER}"

    @property
    def options(self) -> Options:
        """How to reach it, for the client programs of its own version."""
        return Options(
            unix_socket=str(self.socket), user=self.superuser, db="postgres", pg_bin_dir=self.programs.folder
        )


def server_programs(pg_bin_dir: str, server_major: int, archive_major: int) -> Tools:
    """A folder with `postgres`, `initdb` and `pg_restore` that can take the set; raises `ToolMissing`."""
    whole = [
        tools
        for tools in installed_tools(pg_bin_dir, "postgres")
        if all(Path(tools.path(name)).exists() for name in ("initdb", "pg_restore"))
    ]
    tools = choose_tools(whole, server_major, archive_major)
    if tools is None:
        wanted = max(server_major, archive_major)
        there = f"the newest here is {whole[0].version}" if whole else "there is none here"
        raise ToolMissing(
            f"A drill on a disposable cluster needs the programs of a PostgreSQL {wanted} server; {there}.",
            f"Install postgresql-{wanted}, set scannerdb_pg_bin_dir, or set scannerdb_verify_place to server.",
        )
    return tools


def lent_user() -> str:
    """Whom the server runs as: nobody else where we are not root."""
    if os.geteuid() != 0:
        return ""
    for name in LENDERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise InvalidInput(
        "A PostgreSQL server does not run as root, and there is no user postgres or nobody.",
        "Run this as another user (scannerdb_become_user).",
    )


@contextlib.contextmanager
def prepared(parent: Path, programs: Tools) -> Iterator[Cluster]:
    """An empty cluster in a new folder below `parent`; the folder is gone after the block, whatever happens in it."""
    user = lent_user()
    with private_home(parent, PREFIX, "scannerdb_verify_cluster_dir") as home:
        cluster = Cluster(home, programs, user)
        _make(cluster)
        yield cluster


def _make(cluster: Cluster) -> None:
    cluster.make_folders()
    if cluster.user:
        with file_errors("Making folders in", cluster.home):
            _bring_programs(cluster)
    initdb = [
        str(cluster.bin_dir / "initdb"),
        f"--pgdata={cluster.data}",
        f"--username={cluster.superuser}",
        "--auth=peer",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    finished = run_tool(_as_user(cluster, initdb), None, check=False)
    if finished.returncode:
        error = tool_error("initdb", finished)
        raise ToolFailed(
            error.message,
            error.hint or f"User {cluster.user or 'that runs this'} must be able to run {cluster.programs.folder}.",
        )
    _configure(cluster)


def _bring_programs(cluster: Cluster) -> None:
    """Copy the server's programs into its home where its user cannot run them in their place, as below root's own.

    A server finds its libraries and files from where it lies, so all of them keep their places to each other.
    """
    trial = _as_user(cluster, [cluster.programs.path("postgres"), "--version"])
    if run_tool(trial, None, check=False).returncode == 0:
        return
    with contextlib.suppress(ToolFailed, ToolMissing), file_errors("Copying the server's programs to", cluster.home):
        prefix = Path(cluster.programs.folder).resolve().parent
        for what, patterns in LAYOUT.items():
            shown = run_tool([cluster.programs.path("pg_config"), f"--{what}"], None).stdout.strip()
            _copy(Path(shown).resolve(), patterns, prefix, cluster.home / "programs")


def _copy(source: Path, patterns: Sequence[str], prefix: Path, target: Path) -> None:
    """Copy what fits out of a folder of an installation, for everybody to read; what lies elsewhere stays there."""
    if prefix not in source.parents:
        return
    place = target / source.relative_to(prefix)
    for path in (found for pattern in patterns for found in source.glob(pattern)):
        place.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, place / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, place / path.name)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _configure(cluster: Cluster) -> None:
    """Write the server's files beside its data folder: in there its user could plant links for us to write through."""
    who = pwd.getpwuid(os.geteuid()).pw_name
    hba, ident = cluster.home / "pg_hba.conf", cluster.home / "pg_ident.conf"
    places = {"hba_file": hba, "ident_file": ident, "unix_socket_directories": cluster.socket}
    places["log_directory"] = cluster.log
    settings = {**SETTINGS, **{name: setting_text(path) for name, path in places.items()}}
    texts = {
        hba: "local all all peer map=drill\n",
        ident: f'drill "{who}" {cluster.superuser}\ndrill "{who}" {cluster.loader}\n',
        cluster.settings: "".join(f"{name} = {value}\n" for name, value in settings.items()),
    }
    with file_errors("Configuring the server in", cluster.home):
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)  # its user has to read them; they hold no secret


def _as_user(cluster: Cluster, command: Sequence[str]) -> list[str]:
    """The command as the server's user; it still dies with us."""
    if not cluster.user:
        return list(command)
    entry = pwd.getpwnam(cluster.user)
    drop = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--pdeathsig=TERM", "--"]
    return [*drop, "env", "--chdir=/", *command]


def run_with(cluster: Cluster, work: Callable[[Options], None]) -> None:
    """Start the server, do the work, end the server; errors of the work come through."""
    ready = False

    def meanwhile(exit_code: Callable[[], int | None]) -> None:
        nonlocal ready
        try:
            ready = _wait_ready(cluster, exit_code)
            if ready:
                work(cluster.options)
        finally:
            end_server(cluster.data)

    command = [str(cluster.bin_dir / "postgres"), "-D", str(cluster.data), "-c", f"config_file={cluster.settings}"]
    finished = run_tool(_as_user(cluster, command), None, check=False, meanwhile=meanwhile)
    if not ready:
        told = Finished(finished.stdout, finished.stderr + cluster.log_text(), finished.returncode)
        raise tool_error("postgres", told)


def _wait_ready(cluster: Cluster, exit_code: Callable[[], int | None]) -> bool:
    """True once the server takes connections; False where it ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while exit_code() is None:
        with contextlib.suppress(OSError):
            text = (cluster.data / "postmaster.pid").read_text(encoding="ascii", errors="replace")
            if text.rstrip().endswith("ready"):
                return True
        if time.monotonic() > deadline:
            raise ToolFailed(f"The disposable cluster in {cluster.home} did not start within {PATIENCE_S:g} s.")
        time.sleep(0.05)
    return False
