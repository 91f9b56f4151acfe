"""Sets that do not lie here in the clear: what it takes to reach them, and copies that are brought back for a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..argspec import IdentityOptions, OffsiteOptions
from ..errors import BackupInvalid, InvalidInput
from ..files import ensure_folder
from ..runs import Run
from .catalogue import BackupSet, load_set, newest, newest_at
from .encryption import Key
from .locate import parse_moment
from .offsite import Offsite, fetch_set, remote_sets
from .staging import borrowed, sweep

OFFSITE = "offsite:"


@dataclass(frozen=True)
class Access:
    """What it takes to reach such sets: a private key, and where copies are."""

    key: Key = field(default_factory=Key)
    offsite: Offsite = field(default_factory=Offsite)


def access_from(keys: IdentityOptions, elsewhere: OffsiteOptions) -> Access:
    """The access out of a job's options."""
    place = Offsite(elsewhere.offsite_remote, elsewhere.offsite_config, bandwidth=elsewhere.offsite_bandwidth)
    return Access(Key(keys.identity, keys.identity_key), place.checked())


def find_copy(wanted: str, offsite: Offsite, database: str) -> BackupSet:
    """The copy that `offsite:latest`, `offsite:<name>` or `offsite:<time>` means; raises `BackupInvalid`."""
    if not offsite.remote:
        raise InvalidInput(
            f"{wanted!r} asks for a copy elsewhere, and it is not said where copies go.",
            "Set scannerdb_backup_offsite_remote.",
        )
    word = wanted[len(OFFSITE) :]
    copies, _ = remote_sets(offsite, database)
    moment = parse_moment(word)
    if word == "latest":
        found = newest(copies)
    elif moment:
        found = newest_at(copies, moment)
    else:
        found = next((c for c in copies if c.name in (word, f"{word}.backup")), None)
    if found is None:
        last = newest(copies)
        there = f"the newest is {last.name}" if last else "there is none at all"
        raise BackupInvalid(f"{offsite.remote} has no such copy of database {database!r} as {word!r}; {there}.")
    return found


def tidied(backup_dir: Path, database: str, run: Run) -> list[str]:
    """Remove what killed runs left in the backup folder, and say so in the log; returns the names of what went."""
    swept = sweep(backup_dir, database)
    if swept:
        run.log(f"removed the debris of earlier runs: {', '.join(swept)}")
        run.note_change(f"The debris of earlier runs was removed: {', '.join(swept)}.")
    return swept


@contextlib.contextmanager
def fetched(copy: BackupSet, access: Access, backup_dir: Path, database: str, run: Run) -> Iterator[Path]:
    """Bring a copy into a hidden folder of `backup_dir`, which is gone after the block; yields its path."""
    with borrowed(ensure_folder(backup_dir), database) as folder:
        run.progress("fetch", 0, copy.manifest.size_bytes, unit="bytes")
        run.log(f"fetching {access.offsite.at(copy.name)}: {copy.manifest.size_bytes} bytes")
        path = fetch_set(access.offsite, copy, folder)
        if load_set(path).manifest_sha256 != copy.manifest_sha256:
            raise BackupInvalid(f"The copy of {copy.name} became another while it was fetched.", "Run again.")
        yield path
