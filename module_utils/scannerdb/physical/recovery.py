"""A disposable copy of the cluster, recovered to a point in time and paused there: made, read and gone within one run.

It has a private socket and no TCP, archives nothing, and starts no workers that write. A restore reads it paused; only
the drill ends its recovery, to look into its pages. That it stands where it was to stop is observed: in the log, in
what the server says, and in the last transaction.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..connection import Connection, Options, connect, explained, fetch
from ..disposable import end_server, setting_text
from ..errors import (
    AuthenticationFailed,
    ConnectionFailed,
    DatabaseMissing,
    RestoreRefused,
    ScannerDbError,
    TargetNotReached,
    ToolFailed,
    ToolMissing,
)
from ..files import ensure_free, file_errors
from ..process import as_system_user, machine_fault, run_tool
from ..tools import Tools, installed_tools
from .archive import lsn_text, parse_lsn
from .copy_folder import Copy
from .engine import PhysicalEngine
from .target import Landing, stamp

PORT = 5432
STUCK_S = 900.0  # without any progress of the replay
TICK_S = 0.1
RESERVE_BYTES = 1 << 30  # for WAL that waits to be replayed, at most
FEWEST_CONNECTIONS = 30
PARAMETERS = {  # recovery goes on only where these are at least what they were on the original
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
SETTINGS = {
    "listen_addresses": "''",
    "port": str(PORT),
    "ssl": "off",
    "hot_standby": "on",
    "wal_level": "replica",
    "archive_mode": "off",
    "primary_conninfo": "''",
    "recovery_target_action": "pause",
    "fsync": "off",  # after a crash there is nothing to keep
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "max_wal_size": "1GB",
    "logging_collector": "on",  # else its messages would fill a pipe that nobody reads
    "log_min_messages": "warning",
    "lc_messages": "'C'",
}
DAMAGED = "A file of the backup, or its WAL, is damaged or missing."
REFUTING = (  # what PostgreSQL says where the backup or its WAL is to blame
    ("before configured recovery target", "The archive ends before it: what was committed last is not archived yet."),
    ("before consistent recovery point", "The backup was not finished at that moment: an older one is needed."),
    ("wal_level=minimal", "WAL was written with wal_level=minimal meanwhile: nothing after that can be replayed."),
    ("is not a child of this server's history", "The backup is not of that timeline's past."),
    (r"could not (?:locate|find) .*(?:checkpoint|redo|WAL)|invalid checkpoint|WAL ends before", DAMAGED),
    (r"references to invalid pages|invalid page in block|invalid data in file|unexpected timeline ID", DAMAGED),
    (r"database files are incompatible|incorrect checksum in control file", DAMAGED),
)
OWN_RECOVERY = re.compile(r"^(restore_command|recovery_target\w*)\s*=\s*('(?:[^']|'')*')\s*$", re.MULTILINE)
STOPPED = re.compile(r"recovery stopping (before|after) ")
STATE = """
SELECT pg_is_in_recovery() AS recovering, pg_get_wal_replay_pause_state() AS paused,
       pg_last_wal_replay_lsn()::text AS lsn, pg_last_xact_replay_timestamp() AS last
"""


@dataclass(frozen=True)
class Paused:
    """A copy that stands at its target, and how to reach it."""

    options: Options
    lsn: int
    replay_s: float


def server_programs(pg_bin_dir: str, major: int) -> Tools:
    """The programs of a server of exactly that version; raises `ToolMissing`."""
    for tools in installed_tools(pg_bin_dir, "postgres"):
        if tools.major == major and all(Path(tools.path(name)).exists() for name in ("pg_waldump", "pg_controldata")):
            return tools
    place = f"in {pg_bin_dir}" if pg_bin_dir else "on this machine"
    raise ToolMissing(
        f"A point in time of PostgreSQL {major} needs the programs of that server; there are none {place}.",
        f"Install postgresql-{major}, or set scannerdb_pg_bin_dir.",
    )


def needed_bytes(landing: Landing, segment_bytes: int) -> int:
    """About how many bytes the copy takes."""
    return landing.base.size_bytes + min(landing.segments(segment_bytes) * segment_bytes, RESERVE_BYTES)


def restore_copy(
    copy: Copy, engine: PhysicalEngine, landing: Landing, segment_bytes: int, on_tick: Callable[[], object]
) -> None:
    """Put the base backup into the copy's folder and configure its server; raises where there is no room."""
    ensure_free(copy.home, needed_bytes(landing, segment_bytes), "the copy of the cluster")
    engine.restore(
        copy.data,
        landing.recovery,
        label=landing.base.label,
        repository=landing.base.repository,
        tablespaces={"*": str(copy.tablespaces)},  # left where they were, they would be the original's own
        on_tick=on_tick,
    )
    _configure(copy)


def _configure(copy: Copy) -> None:
    """Write the server's files; of what came with the backup only what the engine wrote on recovery is kept."""
    auto = copy.data / "postgresql.auto.conf"
    with file_errors("Reading", auto), os.fdopen(os.open(auto, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        recovery = dict(OWN_RECOVERY.findall(stream.read().decode("utf-8", "replace")))
    if "restore_command" not in recovery:
        raise ToolFailed(f"The restored {auto} has no restore_command, so nothing would be replayed.")
    places = {"hba_file": copy.home / "pg_hba.conf", "ident_file": copy.home / "pg_ident.conf"}
    places |= {"unix_socket_directories": copy.socket, "log_directory": copy.log}
    least = {"max_connections": FEWEST_CONNECTIONS}
    control = _control(copy)
    for name, label in PARAMETERS.items():
        least[name] = max(least.get(name, 0), int(control.get(label, "0")))
    values = {**SETTINGS, **{name: str(number) for name, number in least.items()}}
    values |= {name: setting_text(path) for name, path in places.items()}
    with file_errors("Configuring the server in", copy.home):
        auto.unlink()
        copy.settings.write_text("".join(f"{k} = {v}\n" for k, v in {**recovery, **values}.items()), encoding="utf-8")
        copy.settings.chmod(0o644)  # its user has to read it; it holds no secret


def _control(copy: Copy) -> Mapping[str, str]:
    """What pg_controldata says of the copy."""
    finished = run_tool([copy.programs.path("pg_controldata"), f"--pgdata={copy.data}"], None)
    pairs = (line.partition(":") for line in finished.stdout.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def let_in(copy: Copy, superusers: Sequence[str]) -> None:
    """Let whoever runs this in, as one of these roles, and nobody else."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    lines = "".join(f'copy "{name}" "{role}"\n' for role in superusers if '"' not in role)
    for path, text in (
        (copy.home / "pg_hba.conf", "local all all peer map=copy\n"),
        (copy.home / "pg_ident.conf", lines),
    ):
        with file_errors("Writing", path):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)


def run_paused(
    copy: Copy,
    landing: Landing,
    options: Options,
    superusers: Sequence[str],
    work: Callable[[Paused], object],
    on_replay: Callable[[int], object] = lambda lsn: None,
) -> None:
    """Start the copy's server; once it stands at its target, do the work, end it. Errors of the work come through.

    `options` say which database is meant; `superusers` are roles that may exist in it.
    """
    let_in(copy, superusers)
    began = time.monotonic()
    reached = False

    def meanwhile(exit_code: Callable[[], int | None]) -> None:
        nonlocal reached
        try:
            paused = _wait_paused(copy, landing, options, superusers, exit_code, on_replay)
            if paused:
                reached = True
                work(replace(paused, replay_s=time.monotonic() - began))
        finally:
            end_server(copy.data)

    command = [copy.programs.path("postgres"), "-D", str(copy.data), "-c", f"config_file={copy.settings}"]
    finished = run_tool(as_system_user(copy.user, command), None, check=False, meanwhile=meanwhile)
    if not reached:
        raise not_reached(copy.log_text() + finished.stderr, landing, finished.returncode)


def not_reached(log: str, landing: Landing, returncode: int = 0) -> ScannerDbError:
    """Why recovery ended without its target, out of the server's log. Pure.

    Only what the backup and its WAL are to blame for is a `TargetNotReached`: that alone refutes a backup.
    """
    fatal = [said for line in log.splitlines() for level, said in [_fatal(line)] if level]
    words = f"Recovery from {landing.base.label} along timeline {landing.window.timeline} did not reach its target"
    unchanged = "Nothing was changed: only a copy was at work."
    fault = machine_fault(log)
    if fault or returncode < 0:
        said = fault or f"its server was ended by signal {-returncode}"
        return ToolFailed(
            f"{words}, for which this machine is to blame ({said.rstrip('.')}). {unchanged}",
            "It says nothing about the backup. Look at the room, the memory and the rights in the copy's folder, and "
            "run again.",
        )
    said = fatal[0].rstrip(".") if fatal else "it ended and said nothing"
    full = f"{words} ({said}). {unchanged}"
    if "insufficient parameter" in log:
        return RestoreRefused(full, "The original's max_connections or the like were raised meanwhile.")
    hint = next((hint for pattern, hint in REFUTING if any(re.search(pattern, one) for one in fatal)), "")
    if hint:
        return TargetNotReached(full, hint)
    return ToolFailed(full, "It may be the backup, or not. Look at pgBackRest and at the server's programs.")


def _fatal(line: str) -> tuple[str, str]:
    """What a line of the log says that ends a server; empty where it does not."""
    level = next((one for one in ("FATAL:", "PANIC:") if one in line), "")
    return level, line.partition(level)[2].strip() if level else ""


def _wait_paused(
    copy: Copy,
    landing: Landing,
    options: Options,
    superusers: Sequence[str],
    exit_code: Callable[[], int | None],
    on_replay: Callable[[int], object],
) -> Optional[Paused]:
    """The copy once it stands at its target; None where its server ended before."""
    last, moved = -1, time.monotonic()
    with contextlib.ExitStack() as stack:
        conn: Optional[Connection] = None
        reach = options
        while exit_code() is None:
            if conn is None and _accepts(copy):
                conn = _login(copy, options, superusers)
                if conn:
                    stack.enter_context(contextlib.closing(conn))
                    reach = replace(_there(copy), user=conn.info.user, db=options.db)
            state = _state(conn) if conn else None
            if state:
                if state["lsn"] > last:
                    last, moved = state["lsn"], time.monotonic()
                    on_replay(last)
                if _stands(copy, state):
                    _require_landed(state, landing)
                    return Paused(reach, last, 0.0)
                if state["paused"] == "paused" and "insufficient parameter" in copy.log_text():
                    return None
            if time.monotonic() - moved > STUCK_S:
                raise ToolFailed(
                    f"The copy has replayed nothing for {STUCK_S:g} s.", "Does archive-get wait for something?"
                )
            time.sleep(TICK_S)
    return None


def _stands(copy: Copy, state: Mapping[str, Any]) -> bool:
    """Whether recovery has come to its target, which its log says: it may pause for other reasons, too."""
    if not state["recovering"]:
        raise RestoreRefused("The copy went on beyond its target, and is not used.", "Nothing was changed.")
    return state["paused"] == "paused" and bool(STOPPED.search(copy.log_text()))


def _require_landed(state: Mapping[str, Any], landing: Landing) -> None:
    """Raise `TargetNotReached` where the copy does not stand where the WAL says that it should."""
    ended = landing.last_ended
    replayed = ended is not None and ended.lsn >= landing.base.stop_lsn
    if replayed and ended and state["last"] != ended.at:
        seen = stamp(state["last"]) if state["last"] else "no known time"
        raise TargetNotReached(
            f"The copy's last transaction is of {seen}, and was to be of {stamp(ended.at)}: it is not used.",
            "Nothing was changed. Run again; where it stays so, look at the archive (playbooks/check.yml).",
        )
    beyond = landing.first_out is not None and state["lsn"] > landing.first_out.lsn
    if state["lsn"] < landing.base.stop_lsn or beyond:
        raise TargetNotReached(f"The copy stands at {lsn_text(state['lsn'])}, which is not where it was to stop.")


def _accepts(copy: Copy) -> bool:
    """Whether the server says that it takes connections."""
    with contextlib.suppress(OSError):
        lines = (copy.data / "postmaster.pid").read_text(encoding="ascii", errors="replace").splitlines()
        return len(lines) > 7 and lines[7].strip() in ("ready", "standby")
    return False


def _there(copy: Copy) -> Options:
    return Options(unix_socket=str(copy.socket), port=PORT, pg_bin_dir=copy.programs.folder)


def _login(copy: Copy, options: Options, superusers: Sequence[str]) -> Optional[Connection]:
    """A session in the copy as one of its superusers; None where role and database may yet come by replay.

    Raises `RestoreRefused` where they did not, and nothing more is replayed; another error where it takes no session.
    """
    cut: Optional[ConnectionFailed] = None
    stands = bool(STOPPED.search(copy.log_text()))  # looked at before: what comes later may have been missed
    for role in superusers:
        for database in dict.fromkeys([options.maintenance_db, options.db, "template1"]):
            found = replace(_there(copy), user=role, db=database)
            try:
                conn = connect(found, purpose="point in time", allow_standby=True)
            except ConnectionFailed as error:
                cut = error
            except (AuthenticationFailed, DatabaseMissing):
                continue
            else:
                if fetch(conn, "SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper"):
                    return conn
                conn.close()
    if not stands:
        return None
    if cut:
        raise cut
    raise RestoreRefused(
        f"None of the roles {', '.join(superusers)} was a superuser at that time.",
        "Set scannerdb_login_user to the superuser of then.",
    )


def _state(conn: Connection) -> Optional[Mapping[str, Any]]:
    """What the server says of its recovery; None where it does not answer."""
    with contextlib.suppress(ConnectionFailed), explained("Looking at the recovery"):
        (row,) = fetch(conn, STATE)
        return {**row, "lsn": parse_lsn(row["lsn"]) if row["lsn"] else 0}
    return None
