"""What can be asked about a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..option import REQUIRED, option


@dataclass(frozen=True)
class ScheduleInfoOptions:
    """Say when scheduled jobs run."""

    schedule: list[dict[str, Any]] = option(
        REQUIRED,
        "The jobs. Each has a C(name), a C(profile), C(hour), C(minute), C(weekday) or C(day), C(log), C(enabled) "
        "and perhaps a C(playbook).",
    )
    offset: int = option(0, "Start every job so many minutes later.")
    timezone: str = option("", "Time zone of the hours; empty for the machine's own.")
