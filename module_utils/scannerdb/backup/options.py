"""What the backup job can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import (
    BudgetOptions,
    EncryptionOptions,
    FolderOptions,
    OffsiteOptions,
    OverlayOptions,
    RetentionOptions,
    RunOptions,
    StorageOptions,
    TrustOptions,
)
from ..option import PathText, SizeInBytes, option
from ..sets.manifest import DUMP_FORMATS, PURPOSES, REGULAR
from ..sets.offsite import CHECKS
from ..sets.verification_log import CLUSTER_DIR, LEVELS, PLACES
from .standby import ORIGINS


@dataclass(frozen=True)
class BackupOptions(
    FolderOptions,
    StorageOptions,
    EncryptionOptions,
    OffsiteOptions,
    OverlayOptions,
    RetentionOptions,
    BudgetOptions,
    RunOptions,
    TrustOptions,
):
    """Back up the Ollama Scanner database into a verified set."""

    PREFIX = "scannerdb_backup_"
    verify_level: str = option(
        "read",
        "How the new set is verified before it counts.",
        "V(checksum) reads every file again and compares it with the manifest.",
        "V(read) also decompresses the whole dump and compares every table's rows with the snapshot.",
        "V(restore) restores it into a scratch database, as M(scannerdb_verify) does, before it is encrypted. "
        "Where that cannot be done (no room, no rights), the set is read instead, with a warning.",
        choices=LEVELS,
    )
    verify_place: str = option(
        "server",
        "Where V(restore) restores; on the database's V(server), or on a disposable one, a V(cluster).",
        choices=PLACES,
    )
    verify_cluster_dir: PathText = option(
        CLUSTER_DIR, "Folder in which that one gets a private folder. Its path must be short."
    )
    purpose: str = option(
        REGULAR, "A V(pre_restore) set never becomes C(latest.backup).", choices=PURPOSES, variable=""
    )
    jobs: int = option(0, "Parallel workers of C(pg_dump); 0 for as many as there are processors, at most eight.")
    nice: int = option(0, "Niceness of the client programs, 0 to 19.")
    bandwidth: SizeInBytes = option(
        0, "No more. Anything but V(0) is refused, with what to use instead; the option goes with the next release."
    )
    contract_fingerprint: str = option(
        "", "Fingerprint of the schema for the manifest; computed from the structure where it is empty.", variable=""
    )
    dump_format: str = option(
        "directory",
        "V(directory) is one file per table, made by several workers.",
        "V(custom) is one file for all, made by one.",
        choices=DUMP_FORMATS,
        formerly="scannerdb_backup_format",
    )
    dump_from: str = option(
        "auto",
        "Where O(login_host) names several servers (C(db1,db2)), which of them the dump is taken from. They are "
        "asked who is the primary and how far the others are behind, so nothing has to be edited after a "
        "failover.",
        "V(auto) takes the standby that is least behind; the primary, where all are more than O(max_lag_mb) "
        "behind. V(primary) and V(standby) insist.",
        "A standby that ends the dump twice, to go on replaying, is given up for the primary.",
        choices=ORIGINS,
        formerly="scannerdb_backup_from",
    )
    max_lag_mb: int = option(64, "How many MB of the log a standby may be behind the primary, for O(dump_from).")
    adopt: list[str] = option(
        [],
        "Names or patterns of dumps in O(backup_dir) that the bundle did not make, such as "
        "C(ollama_scanner_*.backup), and that retention may treat like regular sets. Their age is in their names "
        "(UTC), else when they were written.",
        "Only archives of C(pg_dump) and renamed sets, and only of this database, as their content says.",
    )
    fingerprints: bool = option(
        False,
        "Compute an order-independent fingerprint of every table's content in the dump's snapshot, too.",
        "A restore drill compares them. It costs ten times as much as counting the rows.",
    )
    hook_pre_backup: list[str] = option(
        [],
        "Command to run before a backup, as a list of the program and its arguments. There is no shell.",
        "A single word that begins with C(https://) or C(http://) is called instead, by POST, with the values "
        "below as JSON (C(event), C(database) and so on).",
        "Commands get C(SCANNERDB_EVENT), C(SCANNERDB_DATABASE), C(SCANNERDB_RUN_ID), C(SCANNERDB_BACKUP_DIR) and "
        "C(SCANNERDB_PURPOSE) in their environment. A command that fails is a warning, and never fails the "
        "backup.",
        formerly="scannerdb_backup_hook_pre",
        as_yaml=True,
    )
    hook_post_backup: list[str] = option(
        [],
        "Command to run after a successful backup.",
        "It also gets C(SCANNERDB_NAME), C(SCANNERDB_PATH), C(SCANNERDB_SIZE_BYTES), C(SCANNERDB_DURATION_S), "
        "C(SCANNERDB_VERIFIED), C(SCANNERDB_LOG) and C(SCANNERDB_MESSAGE).",
        formerly="scannerdb_backup_hook_post",
        as_yaml=True,
    )
    hook_on_failure: list[str] = option(
        [],
        "Command to run when a backup or its copy failed.",
        "It also gets C(SCANNERDB_LOG) and C(SCANNERDB_MESSAGE), the error.",
        formerly="scannerdb_backup_hook_failure",
        as_yaml=True,
    )
    hook_timeout_s: int = option(60, "A command is ended after so many seconds.")
    offsite_check: str = option(
        "download",
        "How the copy is proven. V(download) reads every byte back.",
        "V(hash) trusts the checksums of the storage, and reads back where it has none.",
        choices=CHECKS,
    )
    offsite_days: int = option(90, "Copies older than so many days are removed.")
    offsite_min: int = option(7, "So many of the newest copies are kept whatever their age.")
    run_id: str = option("", "Name of the run in logs and progress files; made up where it is empty.", variable="")
    SAYS: ClassVar = {
        "login_user": (
            "Role to log in as; empty for the system user's name. It has to read all tables (C(pg_read_all_data)).",
        ),
        "log_path": ("File for the run's log instead of C(backup_<time>.log) in O(backup_dir).",),
        "lock_timeout_ms": (
            "The lock budget of the whole bundle. A dump waits for its locks ten times as long, at least two "
            "seconds, because writers do not wait behind it.",
        ),
    }
