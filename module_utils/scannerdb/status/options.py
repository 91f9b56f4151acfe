"""What the status job can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..argspec import FolderOptions, TrustOptions
from ..option import REQUIRED, PathText, option
from ..physical.options import BY_DEFAULT, METHODS


@dataclass(frozen=True)
class StatusOptions(FolderOptions, TrustOptions):
    """Say how the Ollama Scanner database and its maintenance are doing."""

    PREFIX = "scannerdb_status_"
    host: str = option(REQUIRED, "Name of the database in the inventory.", given="{{ inventory_hostname }}")
    state_dir: PathText = option(
        REQUIRED, "Folder of run records and of the history of checks.", given="{{ scannerdb_state_dir }}"
    )
    log_dir: PathText = option(REQUIRED, "Folder of the logs.", given="{{ scannerdb_log_dir }}")
    config_dir: PathText = option(
        REQUIRED, "Folder of what C(schedule.yml) installed.", given="{{ scannerdb_config_dir }}"
    )
    backup_max_age_h: float = option(26, "A newest backup that is older, in hours, is critical.")
    proof_max_age_d: float = option(35, "A proof by a restore that is older, in days, is a warning.")
    check_max_age_d: float = option(8, "A last check that is older, in days, is a warning.")
    grace_s: int = option(3600, "A job that did not run is late so many seconds after it was due.")
    backup_method: list[str] = option(
        list(BY_DEFAULT),
        "How backups are made; sets are missed only where C(dump) is among them.",
        choices=METHODS,
        given="{{ __scannerdb_backup_method }}",
    )
    physical: dict[str, Any] = option(
        {},
        "What M(scannerdb_physical_info) saw of the physical backups.",
        given="{{ __scannerdb_physical_seen }}",
    )
    metrics_path: PathText = option(
        "",
        "File to write metrics to, for Prometheus' textfile collector. Empty for none.",
        given="{{ __scannerdb_metrics_path }}",
    )
