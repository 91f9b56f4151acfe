"""What can be asked of the job that looks for the old scripts."""

from __future__ import annotations

from dataclasses import dataclass

from ..option import PathText, option

MODES = ("report", "take", "remove")
CRONTABS = ("/var/spool/cron/crontabs", "/var/spool/cron", "/etc/cron.d", "/etc/crontab")


@dataclass(frozen=True)
class LegacyOptions:
    """Recognise what the old shell scripts left on a host."""

    mode: str = option(
        "report",
        "V(report) only looks. V(take) makes the lines comments, V(remove) removes them.",
        choices=MODES,
    )
    folder: PathText = option("", "Where the old scripts lie, where no line of a crontab tells.")
    crontabs: list[PathText] = option(
        list(CRONTABS),
        "Crontabs, and folders of them. A name with a point in it is no crontab, unless a user has it.",
    )
