"""What is found out before a backup writes anything: the server, the tools, their compression, the room."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..connection import Options, ServerInfo, connect, scalar, server_of
from ..errors import FileProblem, ToolMissing
from ..files import file_errors, free_bytes, too_small
from ..process import cores, version_of
from ..sets.catalogue import BackupSet, ensure_link_or_nothing
from ..sets.database_facts import read_facts
from ..sets.manifest import DUMP, DUMP_FILE, DatabaseFacts
from ..sets.signing import Trust
from ..tools import Tools, find_tools
from .dump import choose_compression
from .options import BackupOptions
from .slots import workers

FEWEST_DUMP_LOCK_MS = 2000


@dataclass(frozen=True)
class BackupRequest:
    """What kind of set is wanted. `jobs` 0 means: from the cores. `contract` is the contract's fingerprint, if known.

    `lock_timeout_ms` is how long one attempt waits for its ACCESS SHARE locks, which stop no writer.
    """

    backup_dir: Path
    state_dir: str = ""
    purpose: str = BackupOptions.purpose
    verify_level: str = BackupOptions.verify_level
    jobs: int = 0
    nice: int = 0
    lock_timeout_ms: int = FEWEST_DUMP_LOCK_MS
    lock_deadline_s: float = BackupOptions.lock_deadline_s
    contract: str = ""
    fingerprints: bool = False
    dump_format: str = BackupOptions.dump_format
    recipients: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()

    @property
    def trust(self) -> Trust:
        """Whose sets, and whose word on them, count."""
        return Trust(self.state_dir, self.signers)

    @property
    def dump_path(self) -> str:
        """Where the dump lies in the set."""
        return DUMP if self.dump_format == "directory" else DUMP_FILE


@dataclass(frozen=True)
class Ready:
    """What was found out before anything is written: server, tools, room. `options` lead to that one server."""

    options: Options
    server: ServerInfo
    facts: DatabaseFacts
    tools: Tools
    pg_restore_version: str
    compression: str
    jobs: int
    estimate_bytes: int
    notes: tuple[str, ...] = ()


def estimate(size_bytes: int, previous: Sequence[BackupSet]) -> int:
    """About how many bytes the next set will need. Pure.

    A database that was backed up before: the last set and a fifth more, scaled to the size now, and a fifth of what
    was added since. Without a set before: a fifth of the database, which has indexes and is not compressed.
    """
    last = max(previous, key=lambda s: (s.created, s.name), default=None)
    if last is None or last.manifest.database.size_bytes <= 0:
        return size_bytes // 5
    then, needed = last.manifest.database.size_bytes, last.manifest.size_bytes
    scaled = int(1.2 * needed * size_bytes / then)
    return max(scaled, needed + max(0, size_bytes - then) // 5)


def get_ready(options: Options, request: BackupRequest, previous: Sequence[BackupSet]) -> Ready:
    """Look at server, tools and disk without writing; raises where a backup could not succeed."""
    with contextlib.closing(connect(options, purpose="backup plan", allow_standby=True)) as conn:
        server = server_of(conn)
        facts = read_facts(conn)
        in_files = request.dump_format == "directory"
        wanted = (request.jobs or cores()) if in_files else 1
        large_files = in_files and bool(scalar(conn, "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"))
        jobs, note = workers(conn, wanted)
    ensure_link_or_nothing(request.backup_dir)
    tools = find_tools(options.pg_bin_dir, server.major)
    restore_version = version_of(tools.path("pg_restore"))
    if not restore_version:
        raise ToolMissing(f"There is no pg_restore beside {tools.path('pg_dump')}.", "Reinstall the client tools.")
    return Ready(
        options=options,
        server=server,
        facts=facts,
        tools=tools,
        pg_restore_version=restore_version,
        compression=choose_compression(tools, large_files=large_files),
        jobs=jobs,
        estimate_bytes=estimate(facts.size_bytes, previous),
        notes=(note,) if note else (),
    )


def ensure_room(ready: Ready, backup_dir: Path, coming: int = 0) -> int:
    """The bytes free where the set will be, at this moment; raises `FileProblem` where they cannot take it.

    `coming` are those that a sweep would free before.
    """
    with file_errors("Looking at", backup_dir):
        folder = next(p for p in [backup_dir, *backup_dir.parents] if p.is_dir())
    free = free_bytes(folder) + coming
    if free < ready.estimate_bytes:
        raise FileProblem(
            too_small(backup_dir, free, "the backup", ready.estimate_bytes),
            "Free some space, shorten scannerdb_retention_days, or set scannerdb_backup_dir to another disk.",
        )
    return free
