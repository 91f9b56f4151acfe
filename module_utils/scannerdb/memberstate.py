"""What one server of a cluster says of itself, and which of several servers is the primary by that. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .addresses import one_place
from .login import Options
from .patroni import PatroniView

# A standby has no current segment. The search path may be anybody's yet.
STATE = """
pg_catalog.pg_is_in_recovery() AS standby,
CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL
     ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END AS segment,
EXISTS (SELECT FROM pg_catalog.pg_stat_replication) AS followed,
EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS started,
(SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver) AS following
"""


@dataclass(frozen=True)
class MemberState:
    """What one server says of itself.

    `started` tells one server from any other, however its address is written. `following` is the timeline that a
    standby receives, 0 where it receives none or the role may not see it.
    """

    options: Options
    standby: bool = False
    timeline: int = 0  # of a primary
    followed: bool = False  # whether anything streams from it
    started: str = ""
    following: int = 0

    @property
    def place(self) -> tuple[str, int]:
        """Where it was asked."""
        return self.options.host or self.options.unix_socket, self.options.port

    @property
    def words(self) -> str:
        """Where it is and what it is, for a sentence."""
        kind = "a standby" if self.standby else f"a primary on timeline {self.timeline}"
        return f"{self.options.server} is {kind}"

    def is_at(self, place: tuple[str, int]) -> bool:
        """Whether it is there, however that is written."""
        return one_place(self.place, place)

    def is_same_as(self, other: MemberState) -> bool:
        """Whether both are one server: by when that was started, and after a restart by where it is."""
        return bool(self.started and self.started == other.started) or self.is_at(other.place)


def state_from(row: Mapping[str, Any], options: Options) -> MemberState:
    """The answer to a query of `STATE`."""
    timeline, following = timeline_of(row["segment"]), row["following"] or 0
    return MemberState(options, row["standby"], timeline, row["followed"], row["started"], following)


def timeline_of(segment: Optional[str]) -> int:
    """The timeline in the name of a WAL segment; 0 where there is none."""
    return int(segment[:8], 16) if segment else 0


def primaries_of(states: Iterable[MemberState], view: Optional[PatroniView]) -> list[MemberState]:
    """The servers that say they are the primary, each once; of several the one that Patroni says leads."""
    found: list[MemberState] = []
    for state in states:
        if not state.standby and not any(state.is_same_as(other) for other in found):
            found.append(state)
    leader = view.leader if view else None
    return [state for state in found if leader is None or state.is_at(leader.place)]
