"""What can be asked of jobs that belong to no area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import (
    BudgetOptions,
    EncryptionOptions,
    FolderOptions,
    IdentityOptions,
    OffsiteOptions,
    OverlayOptions,
    RunOptions,
    StorageOptions,
)
from ..option import REQUIRED, PathText, option
from ..restore.options import REPLICATION


@dataclass(frozen=True)
class MigrateOptions(
    FolderOptions,
    StorageOptions,
    EncryptionOptions,
    IdentityOptions,
    OffsiteOptions,
    OverlayOptions,
    RunOptions,
    BudgetOptions,
):
    """Migrate an older layout of the Ollama Scanner database into the baseline."""

    PREFIX = "scannerdb_migrate_"
    confirm: str = option("", "The name of the database, spelled out. Anything else and nothing happens.")
    jobs: int = option(0, "Parallel workers; 0 for as many as there are processors, at most eight.")
    grace_s: int = option(5, "How many seconds clients get to go, at the beginning and again before the cutover.")
    terminate: bool = option(
        False,
        "Whether sessions that are still there may be ended at the moment of the cutover. A write of theirs that "
        "waits is refused then, never lost.",
        "Without it a migration of a database that is in use stops, and says who uses it.",
    )
    replication: str = option(
        "stop",
        "What to do where logical replication slots or subscriptions hang on the database, which the cutover "
        "would cut off. V(stop) says what that would mean and migrates nothing; V(cut) goes on.",
        choices=REPLICATION,
    )
    run_code: bool = option(
        False,
        "Whether functions that belong to lesser roles may run while the side database is loaded, with the rights "
        "of O(login_user). Without it the migration is refused, and names the function and its owner.",
    )
    run_id: str = option("", "Name of this run in logs and progress files; made up where it is empty.", variable="")
    SAYS: ClassVar = {"log_path": ("File for the run's log instead of C(migrate_<time>.log) in O(backup_dir).",)}


@dataclass(frozen=True)
class PassfileOptions:
    """Keep a password in a user's password file."""

    path: PathText = option(
        REQUIRED, "The file, such as F(/home/maintainer/.pgpass). It is made where it is missing, for its owner only."
    )
    owner: str = option("", "The system user whose file it is; empty for the one who runs the task.")
    place: str = option(
        REQUIRED, "What the password is for, as C(host:port:database:user); a colon or backslash in one is escaped."
    )
    password: str = option(REQUIRED, "The password, escaped likewise.", secret=True)


@dataclass(frozen=True)
class UninstallOptions:
    """Take the bundle's schema out of the Ollama Scanner database."""

    lock_wait_s: int = option(0, "How many seconds to wait for another run on the same database.")


@dataclass(frozen=True)
class UninstallFilesOptions:
    """Take the bundle's files off a host."""

    config_dir: PathText = option(REQUIRED, "The folder of the schedule.")
    report_dir: PathText = option(REQUIRED, "The folder of the reports.")
    log_dir: PathText = option(REQUIRED, "The folder of the logs.")
    backup_dir: PathText = option(REQUIRED, "The folder of the backups.")
    bundle_dir: PathText = option(
        "", "Where the bundle is installed; empty where it is not. It goes with the last database of the machine."
    )
    metrics_path: PathText = option("", "The file of the metrics; empty for none.")
    database: str = option(
        "", "The database whose backup sets go as well, with the logs among them; empty to leave all backups."
    )
    job_logs: list[str] = option([], "Names of the scheduled jobs' logs, which lie among the backups.")
    state_dir: PathText = option(REQUIRED, "The folder of run records, progress and hashes.")


@dataclass(frozen=True)
class InfoOptions:
    """Tell sizes, settings and sessions of the database: how to reach it is all that is asked."""

    SAYS: ClassVar = {"maintenance_db": ("Not used by this module; the option is here as in all the others.",)}
