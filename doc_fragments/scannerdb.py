"""The documentation of each module's options, made from their declarations (`module_utils/scannerdb/option.py`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from scannerdb.argspec import ConnectionOptions
from scannerdb.backup.options import BackupOptions
from scannerdb.checks.options import CheckOptions
from scannerdb.cluster.options import ClusterOptions
from scannerdb.doctor.options import DoctorOptions
from scannerdb.drill.options import DrillOptions
from scannerdb.fixes.options import FixOptions, SchemaOptions
from scannerdb.jobs.options import (
    InfoOptions,
    MigrateOptions,
    PassfileOptions,
    UninstallFilesOptions,
    UninstallOptions,
)
from scannerdb.legacy.options import LegacyOptions
from scannerdb.option import documentation
from scannerdb.physical.options import PhysicalBackupOptions, PhysicalDrillOptions, PhysicalInfoOptions
from scannerdb.restore.options import RestoreOptions
from scannerdb.schedule.options import ScheduleInfoOptions
from scannerdb.sets.options import BackupInfoOptions, FoldersOptions, RemoveSetOptions
from scannerdb.status.options import StatusOptions
from scannerdb.vacuum.options import VacuumOptions


def _with_a_server(cls: type) -> str:
    """The options of a module that connects, and the driver that it needs."""
    return json.dumps({**json.loads(documentation(ConnectionOptions, cls)), "requirements": ["psycopg >= 3.1"]})


class ModuleDocFragment:
    """Named `scannerdb.backup`, `scannerdb.check` and so on in a module's documentation."""

    BACKUP = _with_a_server(BackupOptions)
    BACKUP_INFO = documentation(BackupInfoOptions)
    CHECK = _with_a_server(CheckOptions)
    CLUSTER = _with_a_server(ClusterOptions)
    DOCTOR = _with_a_server(DoctorOptions)
    FIX = _with_a_server(FixOptions)
    FOLDERS = documentation(FoldersOptions)
    INFO = _with_a_server(InfoOptions)
    LEGACY = documentation(LegacyOptions)
    MIGRATE = _with_a_server(MigrateOptions)
    PASSFILE = documentation(PassfileOptions)
    PHYSICAL_BACKUP = _with_a_server(PhysicalBackupOptions)
    PHYSICAL_DRILL = _with_a_server(PhysicalDrillOptions)
    PHYSICAL_INFO = _with_a_server(PhysicalInfoOptions)
    REMOVE_SET = _with_a_server(RemoveSetOptions)
    RESTORE = _with_a_server(RestoreOptions)
    SCHEDULE_INFO = documentation(ScheduleInfoOptions)
    SCHEMA = _with_a_server(SchemaOptions)
    STATUS = _with_a_server(StatusOptions)
    UNINSTALL = _with_a_server(UninstallOptions)
    UNINSTALL_FILES = documentation(UninstallFilesOptions)
    VACUUM = _with_a_server(VacuumOptions)
    VERIFY = _with_a_server(DrillOptions)
