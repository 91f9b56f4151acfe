"""What the doctor can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..argspec import STORAGES, FolderOptions, OverlayOptions, TrustOptions
from ..option import REQUIRED, PathText, option


@dataclass(frozen=True)
class DoctorOptions(FolderOptions, OverlayOptions, TrustOptions):
    """Find out what is wrong with the Ollama Scanner database and its maintenance."""

    PREFIX = "scannerdb_doctor_"
    state_dir: PathText = option(REQUIRED, "Folder of run records.", given="{{ scannerdb_state_dir }}")
    log_dir: PathText = option(REQUIRED, "Folder of the logs.", given="{{ scannerdb_log_dir }}")
    report_dir: PathText = option(REQUIRED, "Folder of the reports.", given="{{ scannerdb_report_dir }}")
    config_dir: PathText = option(
        REQUIRED, "Folder of what C(schedule.yml) installed.", given="{{ scannerdb_config_dir }}"
    )
    backup_storage: str = option(
        "auto",
        "Whether the backup folder outlives the machine or container it is in; V(auto) to look.",
        choices=STORAGES,
        given="{{ 'persistent' if scannerdb_backup_offsite_remote else scannerdb_backup_storage }}",
    )
    stale_s: int = option(21600, "A job lock that is held for more seconds is called stale; 0 for never.")
    heal: bool = option(True, "Whether the databases that an interrupted restore left are put right.")
