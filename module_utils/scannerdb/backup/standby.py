"""Which of a database's servers a dump is taken from: they are asked, so that a failover needs no edit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Union

from ..connection import MEMBER_TIMEOUT_S, DriverError, Options, connect, explained, fetch, scalar
from ..errors import ConnectionFailed, InvalidInput, ScannerDbError, ServerUnsupported
from ..memberstate import MemberState, primaries_of
from ..patroni import PatroniView
from ..primary import PATIENCE_S, places
from ..together import ask_all

GRACE_S = 1.0  # for the standbys, once the primary has answered
ORIGINS = ("auto", "primary", "standby")
_STATE = """
SELECT pg_is_in_recovery() AS standby,
       (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END
        - '0/0')::bigint AS position,
       CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn(), 0) ELSE 0
        END::bigint AS unreplayed,
       EXISTS (SELECT FROM pg_stat_wal_receiver) AS streaming,
       extract(epoch FROM pg_postmaster_start_time())::text AS started,
       to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS newest
"""


@dataclass(frozen=True)
class SourcePolicy:
    """Where people want the dump taken from, and how many bytes of the log a standby may be behind."""

    wanted: str = "auto"
    max_lag_bytes: int = 64 << 20


@dataclass(frozen=True)
class Candidate:
    """What one server said: whether it is a standby, where its log stands, and which cluster it is of, if known.

    Of a standby also how many bytes it has received and not replayed, whether it follows a server just now, and when
    its newest transaction was.
    """

    options: Options
    standby: bool = False
    position: int = 0
    system: str = ""
    error: Optional[ScannerDbError] = None
    unreplayed: int = 0
    streaming: bool = True
    newest: str = ""
    started: str = ""

    @property
    def words(self) -> str:
        """How far a standby is behind, as far as it knows that itself."""
        newest = f", and its newest transaction is of {self.newest} UTC" if self.newest else ""
        return f"it has {self.unreplayed >> 20} MiB received and not replayed{newest}"


@dataclass(frozen=True)
class DumpSource:
    """Where the dump is taken, the primary where one answered, and what people should know of the choice."""

    options: Options
    primary: Optional[Options] = None
    notes: tuple[str, ...] = ()

    @property
    def other(self) -> Optional[Options]:
        """The primary, where the dump is to be taken from a standby."""
        return self.primary if self.primary != self.options else None


def find_place(options: Options, origin: SourcePolicy) -> DumpSource:
    """Ask the servers that `options` names, and choose; raises one of our errors where none will do."""
    asked, view = places(options)
    answers = ask_all(asked, _ask, lambda one: not one.standby, PATIENCE_S, GRACE_S)
    chosen = choose([_candidate(server, answers.get(server)) for server in asked], origin, view)
    return chosen if len(asked) > 1 else DumpSource(chosen.options, None, chosen.notes)


def _ask(options: Options) -> Candidate:
    conn = connect(options, purpose="backup plan", allow_standby=True, timeout_s=MEMBER_TIMEOUT_S)
    with contextlib.closing(conn):
        with explained(f"Asking the server on {options.server}"):
            row = fetch(conn, _STATE)[0]
        system = ""
        with contextlib.suppress(DriverError):
            system = str(scalar(conn, "SELECT system_identifier FROM pg_control_system()"))
        more = {name: row[name] for name in ("streaming", "started")}
        more |= {"unreplayed": max(0, row["unreplayed"]), "newest": row["newest"] or ""}
        return Candidate(options, row["standby"], row["position"], system, **more)


def _candidate(options: Options, answer: Union[Candidate, ScannerDbError, None]) -> Candidate:
    if isinstance(answer, Candidate):
        return answer
    silent = ConnectionFailed(f"The server on {options.server} does not answer.")
    return Candidate(options, error=answer or silent)


def choose(candidates: Sequence[Candidate], origin: SourcePolicy, view: Optional[PatroniView] = None) -> DumpSource:
    """The server to dump from: the standby that is least behind, if not too far, else the primary. Pure.

    Where no primary answered, a standby is what there is, however far it is behind: then that is said.
    """
    there = [c for c in candidates if c.error is None]
    primary = _primary(there, view)
    standbys = [c for c in there if c.standby]
    notes = [f"{c.error.message}" for c in candidates if c.error]
    notes += [f"{one.host} port {one.port} was not asked: nobody named it." for one in (view.strange if view else ())]
    if not there and candidates[0].error:
        raise candidates[0].error
    if origin.wanted != "primary" and standbys:
        if not primary:
            best = min(standbys, key=lambda c: (not c.streaming, c.unreplayed, -c.position))
            return DumpSource(best.options, None, (*notes, *_unmeasured(best, len(candidates), origin)))
        lags = [(max(0, primary.position - one.position), one) for one in standbys]
        fit = [pair for pair in lags if pair[0] <= origin.max_lag_bytes]
        notes += [
            f"The standby on {one.options.server} is {lag >> 20} MiB behind."
            for lag, one in lags
            if (lag, one) not in fit
        ]
        if fit:
            best = min(fit, key=lambda pair: pair[0])[1]
            return DumpSource(best.options, primary.options, tuple(notes))
    if primary and origin.wanted == "standby" and len(candidates) == 1:
        notes.append(f"The dump was wanted from a standby, but {primary.options.server} is a primary and named alone.")
        return DumpSource(primary.options, primary.options, tuple(notes))
    if primary and origin.wanted != "standby":
        return DumpSource(primary.options, primary.options, tuple(notes))
    raise ServerUnsupported(
        f"There is no {'standby' if origin.wanted != 'primary' else 'primary'} to dump from: "
        f"{' '.join(notes) or 'the servers that answered are none'}",
        "Name it in scannerdb_login_host, raise scannerdb_backup_max_lag_mb, or set scannerdb_backup_dump_from: auto.",
    )


def _unmeasured(standby: Candidate, asked: int, origin: SourcePolicy) -> list[str]:
    """What to say of a standby's lag where no primary is there to measure it by."""
    if asked > 1:
        return [f"No primary answered: how far the standby is behind is not known; {standby.words}."]
    where = f"The standby on {standby.options.server}"
    if not standby.streaming:
        return [f"{where} follows no server just now: how far it is behind is not known; {standby.words}."]
    return [f"{where} is behind: {standby.words}."] if standby.unreplayed > origin.max_lag_bytes else []


def _primary(there: Sequence[Candidate], view: Optional[PatroniView]) -> Optional[Candidate]:
    """The one primary among servers of one cluster; raises `InvalidInput` where they are not that.

    Every job finds it in the same way: of several, Patroni's leader.
    """
    if len({c.system for c in there if c.system}) > 1:
        names = ", ".join(c.options.server for c in there)
        raise InvalidInput(f"The servers on {names} are not of one cluster.", "List only one primary and its standbys.")
    found = primaries_of((MemberState(c.options, c.standby, started=c.started) for c in there), view)
    if len(found) > 1:
        names = " and ".join(one.options.server for one in found)
        raise InvalidInput(
            f"The servers on {names} both say that they are the primary.",
            "Find out which one is, and stop the other, before anything writes to both.",
        )
    return next((c for c in there if found and c.options == found[0].options), None)
