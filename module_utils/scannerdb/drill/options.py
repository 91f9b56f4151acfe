"""What the restore drill can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import FolderOptions, IdentityOptions, OffsiteOptions, OverlayOptions, RunOptions, TrustOptions
from ..option import PathText, option
from ..sets.verification_log import CLUSTER_DIR, PLACES, PROOFS


@dataclass(frozen=True)
class DrillOptions(FolderOptions, IdentityOptions, OffsiteOptions, OverlayOptions, RunOptions, TrustOptions):
    """Prove a backup set of the Ollama Scanner database, by restoring it."""

    PREFIX = "scannerdb_verify_"
    GIVEN: ClassVar = {
        "source": "{{ __scannerdb_verify_source }}",
        "log_path": "{{ scannerdb_log_dir }}/verify.log",
    }
    source: str = option(
        "latest",
        "The set to verify; V(latest), a set's name, a path, or a time, as for a restore.",
        "With C(offsite:) before V(latest), a name or a time, the copy at O(offsite_remote) is brought into a "
        "hidden folder of O(backup_dir) and verified there; the outcome is added to the copy's record.",
        default_in_playbooks="",
        note="Empty for the set that a backup earlier in the same workflow has made, and where there is none, for "
        "C(latest).",
    )
    level: str = option(
        "restore",
        "How much is to be proven.",
        "V(checksum) reads every file and compares it with the manifest, and the manifest with the hash in "
        "O(state_dir).",
        "V(read) also decompresses the whole dump and counts its rows.",
        "V(restore) compares the files, and restores them. The set must have been made on this host or by one of "
        "O(trusted_signers), for what is in another would run.",
        choices=PROOFS,
    )
    place: str = option(
        "server",
        "Where a drill restores.",
        "V(server) takes the server of the connection options. The job lock of the database is held meanwhile.",
        "V(cluster) starts a disposable PostgreSQL on the host where the task runs, on a private socket. It needs "
        "the programs of a server there, of the major version that was backed up or newer, and room in "
        "O(cluster_dir). Root runs it as C(scannerdb-drill), else as C(nobody). What is in the set runs without a "
        "superuser's rights there.",
        choices=PLACES,
    )
    cluster_dir: PathText = option(
        CLUSTER_DIR, "Folder in which the disposable cluster gets a private folder. Its path must be short."
    )
    jobs: int = option(0, "Parallel workers of C(pg_restore); 0 for as many as there are processors, at most eight.")
    nice: int = option(0, "Niceness of the client programs, 0 to 19.")
    amcheck: bool = option(
        False,
        "Look into every table and B-tree index of the restored database with the extension amcheck, too.",
        "Where it is not installed, or the role is no superuser, a warning says so.",
    )
    run_id: str = option("", "Name of the run in logs and progress files; made up where it is empty.", variable="")
