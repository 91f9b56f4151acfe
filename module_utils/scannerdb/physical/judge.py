"""What is wrong with physical backups: the archive held against the server, whatever the engine says. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput
from ..finding import Finding
from ..finding_kinds import finding
from . import kinds
from .archive import SEGMENT_BYTES, Range, parse_segment, segment_name
from .engine import Repository
from .options import PhysicalInfoOptions
from .pgbackrest import windows_of
from .window import ArchiveSegment, Window, broken_backups

__all__ = ["PhysicalLimits", "ServerFacts", "judge", "kinds"]

NO_STANZA = (1, 2, 3)  # codes of a repository: no path, no valid backup, no stanza data
NO_BACKUP = 2
# With a wrong key the padding is wrong, or by chance it is not, and what comes out is no text.
KEY_WORDS = ("[CryptoError]", "[FormatError]")


@dataclass(frozen=True)
class ServerFacts:
    """What the server says of itself and of its archiving. None is what this role may not see."""

    system_id: int
    major: int
    timeline: int
    now: datetime.datetime
    archive_mode: str
    archive_how: str  # its archive_command or archive_library
    segment_bytes: int = SEGMENT_BYTES
    standby: bool = False
    last_archived: str = ""
    last_archived_at: datetime.datetime | None = None
    last_failed: str = ""
    last_failed_at: datetime.datetime | None = None
    failures: int = 0
    waiting: int | None = None  # segments that wait for being archived
    free_bytes: int | None = None  # on the disk of pg_wal


@dataclass(frozen=True)
class PhysicalLimits:
    """From when on something is stale."""

    backup_max_age_h: float = PhysicalInfoOptions.backup_max_age_h
    archive_max_age_s: float = PhysicalInfoOptions.archive_max_age_s
    clock_s: float = 300


def judge(
    server: ServerFacts, repositories: Sequence[Repository], limits: PhysicalLimits, now: datetime.datetime
) -> list[Finding]:
    """Everything that is wrong. `server` must have been asked before the repositories were listed."""
    found = [*_archiving(server), *_quiet(server, limits)]
    for repository in repositories:
        found += _repository(server, repository, limits, now)
    return [*found, *_clock(server, limits, now)]


def _archiving(server: ServerFacts) -> Iterator[Finding]:
    if server.archive_mode == "off" or not server.archive_how:
        setting = "archive_mode is off" if server.archive_mode == "off" else "archive_command is empty"
        yield finding("archive.mode.off", "archive_mode", f"The server archives nothing: {setting}.")
    elif _failing(server):
        file = server.last_failed
        words = f"Archiving {file} failed at {_at(server.last_failed_at)}, {server.failures} times in all."
        evidence = {"file": file, "failures": server.failures, "waiting": server.waiting}
        yield finding("archive.wal.failing", "archive_command", f"{words}{_forecast(server)}", evidence)


def _failing(server: ServerFacts) -> bool:
    failed, done = server.last_failed_at, server.last_archived_at
    return failed is not None and (done is None or failed > done)


def _forecast(server: ServerFacts) -> str:
    """When pg_wal fills its disk at the pace since the last success."""
    if not server.waiting or server.free_bytes is None:
        return f" {server.waiting} segments wait." if server.waiting else ""
    held = server.waiting * server.segment_bytes
    words = f" {server.waiting} segments wait ({held >> 20} MB), {server.free_bytes >> 20} MB are free"
    if server.last_archived_at is None or server.now <= server.last_archived_at:
        return f"{words}."
    hours = server.free_bytes / held * (server.now - server.last_archived_at).total_seconds() / 3600
    return f"{words}: at this pace the disk of pg_wal is full in {hours:.1f} hours."


def _quiet(server: ServerFacts, limits: PhysicalLimits) -> Iterator[Finding]:
    """No new WAL although nothing fails: a moment after the last commit cannot be restored."""
    done = server.last_archived_at
    if server.archive_mode == "off" or not server.archive_how or _failing(server) or server.standby:
        return
    age = (server.now - done).total_seconds() if done else None
    if age is None or age > limits.archive_max_age_s:
        said = f"for {age:.0f} s (the last one at {_at(done)})" if age is not None else "yet"
        words = f"No WAL was archived {said}: what is later cannot be restored to a time."
        yield finding("archive.wal.quiet", "archive_timeout", words, {"age_s": age})


def _repository(
    server: ServerFacts, repository: Repository, limits: PhysicalLimits, now: datetime.datetime
) -> Iterator[Finding]:
    name = f"repository {repository.key}"
    if repository.problem and repository.code != NO_BACKUP:
        yield _unreadable(repository, name)
        return
    if not repository.clusters:
        yield finding("physical.stanza.missing", name, f"There is no stanza in {name}.")
        return
    known = repository.clusters[-1]
    if known.system_id != server.system_id:
        words = (
            f"The stanza in {name} is that of cluster {known.system_id} (PostgreSQL {known.version}); the server is "
        )
        words += f"{server.system_id} (PostgreSQL {server.major})."
        evidence = {"stanza": str(known.system_id), "server": str(server.system_id)}
        yield finding("physical.stanza.foreign", name, words, evidence)
        return
    yield from _segments(server, repository, name)
    yield from _backups(repository, name, limits, now)


def _unreadable(repository: Repository, name: str) -> Finding:
    if repository.code in NO_STANZA:
        return finding("physical.stanza.missing", name, f"There is no stanza in {name}: {repository.problem}.")
    kind = "key.wrong" if any(word in repository.problem for word in KEY_WORDS) else "repository.unreadable"
    words = f"{name.capitalize()} cannot be read: {repository.problem.rstrip('.')}."
    return finding(f"physical.{kind}", name, words, {"code": repository.code})


def _segments(server: ServerFacts, repository: Repository, name: str) -> Iterator[Finding]:
    present = repository.segments.get(repository.archive_id, ())
    yield from _absent(server, present, name)
    twice = _twice(present)
    if twice:
        words = f"{len(twice)} segments are twice in {name} with other contents, the first is {twice[0]}."
        yield finding("archive.segment.duplicate", name, words, {"segments": twice[:20]})
    for window in windows_of(repository, server.segment_bytes):
        for gap in window.gaps:
            yield _gap(server, window, gap.missing, gap.begins, gap.ends, name)


def _absent(server: ServerFacts, present: Sequence[ArchiveSegment], name: str) -> Iterator[Finding]:
    """What the server says it has archived has to be there."""
    try:
        wanted = parse_segment(server.last_archived, server.segment_bytes)
    except InvalidInput:  # a history file, a label of a backup, or nothing yet
        return
    if wanted not in {(segment.timeline, segment.number) for segment in present}:
        words = (
            f"The server says that {server.last_archived} was archived ({_at(server.last_archived_at)}), but {name} "
        )
        words += "does not have it."
        yield finding("archive.segment.absent", name, words, {"segment": server.last_archived})


def _twice(present: Sequence[ArchiveSegment]) -> list[str]:
    seen: dict[tuple[int, int], int] = {}
    for segment in present:
        seen[segment.timeline, segment.number] = seen.get((segment.timeline, segment.number), 0) + 1
    return sorted({s.name for s in present if seen[s.timeline, s.number] > 1})


def _gap(
    server: ServerFacts,
    window: Window,
    missing: Range,
    begins: datetime.datetime,
    ends: datetime.datetime | None,
    name: str,
) -> Finding:
    first = segment_name(window.timeline, missing.first, server.segment_bytes)
    words = f"{missing.count} WAL segments are missing in {name} from {first} on: "
    if ends:
        words += f"along timeline {window.timeline} nothing between {_at(begins)} and {_at(ends)} can be restored."
    else:
        words += f"along timeline {window.timeline} nothing after {_at(begins)} can be restored."
    evidence = {"first": first, "count": missing.count, "timeline": window.timeline}
    return finding(f"archive.gap.{'closed' if ends else 'open'}", name, words, evidence)


def _backups(repository: Repository, name: str, limits: PhysicalLimits, now: datetime.datetime) -> Iterator[Finding]:
    made = [backup for backup in repository.backups if backup.archive_id == repository.archive_id]
    if not made:
        yield finding("physical.backup.missing", name, f"There is no physical backup in {name}.")
        return
    broken = broken_backups(made, repository.segments.get(repository.archive_id, ()))
    for label, why in broken.items():
        yield finding("physical.backup.broken", label, f"Backup {label} cannot be restored: {why}.")
    for backup in made:
        if backup.page_errors:
            words = f"Pages in backup {backup.label} did not match their checksum: it proves nothing."
            yield finding("physical.backup.page_errors", backup.label, words)
    newest = max(made, key=lambda backup: backup.stopped)
    hours = (now - newest.stopped).total_seconds() / 3600
    if hours > limits.backup_max_age_h:
        words = f"The newest physical backup in {name}, {newest.label}, is {hours:.0f} hours old."
        yield finding("physical.backup.stale", newest.label, words, {"age_h": round(hours, 1)})
    if (newest.stopped - now).total_seconds() > limits.clock_s:
        words = f"The newest physical backup in {name}, {newest.label}, is from the future ({_at(newest.stopped)})."
        yield finding("physical.clock.differs", newest.label, words)


def _clock(server: ServerFacts, limits: PhysicalLimits, now: datetime.datetime) -> Iterator[Finding]:
    apart = (server.now - now).total_seconds()
    if abs(apart) > limits.clock_s:
        words = f"The server's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} that of this host."
        yield finding("physical.clock.differs", "server", words, {"seconds": round(apart)})


def _at(moment: datetime.datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "an unknown time"
