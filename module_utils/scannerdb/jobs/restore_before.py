"""The backup of what is about to be replaced, by a restore or a migration."""

from __future__ import annotations

from typing import Optional

from ..backup.plan import BackupRequest
from ..connection import Options
from ..errors import RestoreRefused, ScannerDbError
from ..restore.plan import RestorePlan
from ..restore.request import RestoreRequest
from ..runs import Run
from ..sets.catalogue import BackupSet
from .around_backup import copy_away
from .backup import make_backup


def pre_restore_backup(options: Options, request: RestoreRequest, plan: RestorePlan, run: Run) -> Optional[str]:
    """Back up what is about to be replaced; the set's path. Its failure stops the restore."""
    if plan.live is None:
        run.log("there is no database to back up")
        return None
    if not request.prebackup:
        run.log("no pre-restore backup, as asked")
        return None
    try:
        made = made_before(options, request, run)
    except ScannerDbError as error:
        raise RestoreRefused(
            f"The backup before the restore failed, so nothing was restored: {error}",
            "Where the database is too broken to be backed up, set scannerdb_restore_prebackup to false.",
        ) from error
    ensure_lasting(request, made, run)
    return str(made.path)


def made_before(options: Options, request: RestoreRequest, run: Run, fingerprints: bool = False) -> BackupSet:
    """A set of the live database; raises our errors."""
    run.progress("backup")
    request.storage.ensure_kept(request.access.offsite.remote)
    return make_backup(
        options,
        BackupRequest(
            backup_dir=request.backup_dir,
            state_dir=request.state_dir,
            purpose="pre_restore",
            jobs=request.jobs,
            recipients=request.recipients,
            fingerprints=fingerprints,
        ),
        run,
    )


def ensure_lasting(request: RestoreRequest, made: BackupSet, run: Run) -> None:
    """Copy the set elsewhere; raises `RestoreRefused` where that fails and it would not last here."""
    copied = copy_away(request.access.offsite, made, (), run)
    if copied and not copied.copied and request.storage.why_lost():
        raise RestoreRefused(
            f"The backup before it would not last ({request.storage.why_lost()}), and could not be copied to "
            f"{copied.remote}: {copied.why}",
            "Nothing was changed. Look at the remote and run again.",
        )
