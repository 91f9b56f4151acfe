"""What this project asks of an engine of physical backups: make, list, verify, window, restore.

Nothing above this package knows an engine's command line. What an engine says of itself is not believed where it can
be looked at: the checks hold the archive's segments against the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .window import ArchiveSegment, Fork, PhysicalBackup, Window

KINDS = ("full", "diff", "incr")


@dataclass(frozen=True)
class ClusterIdentity:
    """A cluster that a stanza has known: another one after pg_upgrade."""

    archive_id: str  # such as 15-1
    system_id: int
    version: str


@dataclass(frozen=True)
class Repository:
    """What lies in one repository of a stanza. `problem` says why it has none or could not be looked at."""

    key: int
    clusters: tuple[ClusterIdentity, ...] = ()  # oldest first: the last one is backed up now
    backups: tuple[PhysicalBackup, ...] = ()  # oldest first
    segments: Mapping[str, tuple[ArchiveSegment, ...]] = field(default_factory=dict)  # by archive_id
    histories: Mapping[str, Mapping[int, tuple[Fork, ...]]] = field(default_factory=dict)  # by archive_id
    encrypted: bool = False
    problem: str = ""
    code: int = 0  # the engine's own for it

    @property
    def archive_id(self) -> str:
        """The archive of the cluster that is backed up now; '' where there is none."""
        return self.clusters[-1].archive_id if self.clusters else ""


@dataclass(frozen=True)
class Verification:
    """What the engine says of its own files. It is no proof: it does not miss what was never there."""

    ok: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MadeBackup:
    """A backup that was just made, and what the engine warned of meanwhile."""

    backup: PhysicalBackup
    duration_s: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expiry:
    """The labels of what retention removed, and why it went no further ('' where it ended well)."""

    removed: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Recovery:
    """Where recovery ends: `kind` is time, lsn, xid, name, immediate, or default (the end of the archive)."""

    kind: str = "default"
    target: str = ""
    timeline: str = ""  # a number, current or latest; '' is the engine's own choice, which a fork makes wrong
    inclusive: bool = True
    action: str = "pause"


class PhysicalEngine(Protocol):
    """The five verbs; `expire` is the second half of make, for a caller that has looked at what was made.

    `fetch` brings a single segment for whoever wants to read it.
    """

    @property
    def user(self) -> str:
        """Who runs it where we are root: the owner of the cluster's files."""

    def make(self, kind: str, repository: int = 1, on_tick: Callable[[], object] | None = None) -> MadeBackup:
        """Make a backup of that kind in a repository, and remove none; raises where it failed.

        Raises `BackupUnseen` where the engine says that it made one, and it could not be listed.
        """

    def expire(self, repository: int = 1) -> Expiry:
        """Remove what the engine's retention says of a repository; what went is seen, also where it failed half-way."""

    def list(self) -> Sequence[Repository]:
        """What there is in each repository, read anew."""

    def verify(self) -> Verification:
        """Have the engine read its own files, in each repository."""

    def window(self) -> Sequence[Window]:
        """What can be restored, of each repository and timeline."""

    def restore(
        self,
        folder: Path,
        recovery: Recovery,
        *,
        label: str = "",
        delta: bool = False,
        repository: int = 0,
        tablespaces: Mapping[str, str] | None = None,
        archive_mode: str = "off",
        on_tick: Callable[[], object] | None = None,
    ) -> None:
        """Put a backup's files into a folder, with what the server needs to recover from there; starts nothing.

        `tablespaces` says where each is to lie; with the name `*` all that are not named, each in a folder below.
        """

    def fetch(self, segment: str, path: Path) -> bool:
        """Bring a segment of the archive into a file; False where the archive does not have it."""
