"""Settings of which the members of a cluster must have the same: whoever takes over works as the primary did."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding
from ..finding_kinds import FindingKind, finding
from .context import Context
from .unit import check

# A standby with less of these stops, or does not start, once the primary's log says that it has more.
NO_LESS = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)
SAME = ("shared_preload_libraries", "wal_level")


@check(
    "settings of standbys",
    FindingKind(
        "server.member.setting_differs",
        "warning",
        "A standby has another setting than its primary: it may stop, or work differently once it takes over.",
        how="Give all members the same (under Patroni with patronictl edit-config); it counts after a restart, "
        "standbys first where it grows and the primary first where it shrinks.",
        lock="none",
    ),
)
def settings_of_members(context: Context) -> Iterator[Finding]:
    """What differs on each standby that could be looked at; a setting that the role may not see is left out."""
    mine = context.standbys.own_settings
    for place, theirs in context.standbys.settings.items():
        for name in sorted({*NO_LESS, *SAME} & mine.keys() & theirs.keys()):
            if theirs[name] != mine[name]:
                less = name in NO_LESS and int(theirs[name]) < int(mine[name])
                yield finding(
                    "server.member.setting_differs",
                    name,
                    f"{name} is {theirs[name] or 'empty'} on the standby {place} and {mine[name] or 'empty'} on its "
                    f"primary{': the standby may stop for that, and will not start again' if less else ''}.",
                    {"standby": place, "there": theirs[name], "here": mine[name]},
                )
