"""What the jobs can be told of physical backups."""

from __future__ import annotations

from dataclasses import dataclass

from ..argspec import OverlayOptions, RunOptions
from ..option import PathText, option
from .copy_folder import COPY_DIR
from .engine import KINDS

METHODS = ("dump", "pgbackrest")
BY_DEFAULT = METHODS[:1]
RETENTION_TYPES = ("count", "time")
AUTO = "auto"
CHOICES = (AUTO, *KINDS)


@dataclass(frozen=True)
class MethodOptions:
    """How backups are made, and where the physical ones are."""

    PREFIX = "scannerdb_pgbackrest_"
    backup_method: list[str] = option(
        list(BY_DEFAULT),
        "How backups are made; C(dump) saves the database into sets, C(pgbackrest) the whole cluster, with the WAL "
        "since. Either or both; physical ones are looked at only where C(pgbackrest) is among them.",
        choices=METHODS,
        variable="scannerdb_backup_method",
    )
    stanza: str = option("main", "Name of the stanza of pgBackRest; a cluster has one of its own.")
    pgbackrest_config: PathText = option(
        "",
        "pgBackRest's configuration; empty for where pgBackRest looks for it.",
        variable="scannerdb_pgbackrest_config",
    )


@dataclass(frozen=True)
class PhysicalInfoOptions(MethodOptions):
    """Look at the physical backups of the cluster."""

    PREFIX = "scannerdb_pgbackrest_"
    backup_max_age_h: float = option(26, "A newest backup that is older, in hours, is stale.")
    archive_max_age_s: int = option(
        900, "A server that archived no WAL for so many seconds is quiet; its last minutes cannot be restored."
    )


@dataclass(frozen=True)
class PhysicalBackupOptions(MethodOptions, RunOptions):
    """Back up the whole cluster with pgBackRest."""

    PREFIX = "scannerdb_pgbackrest_"
    kind: str = option(AUTO, "The kind to make; C(auto) is the one that is due.", choices=CHOICES)
    full_days: float = option(7, "Days after which a full backup is due.")
    diff_days: float = option(
        1, "Days after the last full or differential backup when a differential one is due; 0 for none."
    )
    retention_full: int = option(
        2, "How many full backups pgBackRest keeps, or days; for the warning before the window shortens."
    )
    retention_full_type: str = option("count", "What O(retention_full) counts.", choices=RETENTION_TYPES)
    run_id: str = option("", "Name of the run; made up where it is empty.", variable="")


@dataclass(frozen=True)
class PhysicalDrillOptions(MethodOptions, OverlayOptions, RunOptions):
    """Prove the newest physical backup by restoring it."""

    PREFIX = "scannerdb_pgbackrest_"
    copy_dir: PathText = option(
        COPY_DIR,
        "Folder in which the disposable cluster gets a private folder. Its path must be short, and it needs room for "
        "the whole cluster.",
        variable="scannerdb_verify_cluster_dir",
    )
    run_id: str = option("", "Name of the run in its log; made up where it is empty.", variable="")
