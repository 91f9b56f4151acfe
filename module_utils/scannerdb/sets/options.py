"""What can be asked of the jobs that list, remove and make room for backup sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import FolderOptions, OffsiteOptions, RetentionOptions, TrustOptions
from ..option import REQUIRED, PathText, option


@dataclass(frozen=True)
class BackupInfoOptions(FolderOptions, OffsiteOptions, RetentionOptions, TrustOptions):
    """List the backup sets of the Ollama Scanner database."""

    database: str = option("", "List sets of this database only; empty for all.")
    adopt: list[str] = option(
        [], "Names or patterns of other dumps that retention treats like sets, as in M(scannerdb_backup)."
    )
    state_dir: PathText = option(
        "", "Folder of this host's key and of the hashes of its manifests; without it no set counts as made here."
    )


@dataclass(frozen=True)
class RemoveSetOptions(FolderOptions):
    """Put a backup set aside, or remove one that was."""

    name: str = option(REQUIRED, "The set's name.")
    lock_wait_s: int = option(0, "How many seconds to wait for another run on the same database.")
    final: bool = option(False, "Whether a set that was put aside is removed for good.")
    SAYS: ClassVar = {
        "pg_bin_dir": (
            "Folder of the client programs. This module needs none; the option is here as in all the others.",
        )
    }


@dataclass(frozen=True)
class FoldersOptions:
    """Make the private folders that the jobs write to."""

    paths: list[PathText] = option(REQUIRED, "The folders.")
    owner: str = option("", "System user who shall own them; empty to leave the owner as it is.")
    from_owner: str = option("", "System user whose folders and files in them go to O(owner), too; empty for none.")
    backup_dir: PathText = option(
        "", "Folder of the backups, in which half-made sets of O(database) are looked for that killed runs left."
    )
    database: str = option("", "The database whose half-made sets are removed; empty to remove nothing.")
    state_dir: PathText = option("", "Folder of the state, in which half-written files are looked for likewise.")
