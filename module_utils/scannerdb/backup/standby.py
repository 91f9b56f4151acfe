"""Which of a database's servers a dump is taken from: they are asked, so that a failover needs no edit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Union

from ..connection import MEMBER_TIMEOUT_S, DriverError, Options, connect, explained, fetch, scalar
from ..errors import ConnectionFailed, InvalidInput, ScannerDbError, ServerUnsupported
from ..primary import PATIENCE_S, places
from ..together import ask_all

GRACE_S = 1.0  # for the standbys, once the primary has answered
ORIGINS = ("auto", "primary", "standby")
_STATE = """
SELECT pg_is_in_recovery() AS standby,
       (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END
        - '0/0')::bigint AS position
"""


@dataclass(frozen=True)
class SourcePolicy:
    """Where people want the dump taken from, and how many bytes of the log a standby may be behind."""

    wanted: str = "auto"
    max_lag_bytes: int = 64 << 20


@dataclass(frozen=True)
class Candidate:
    """What one server said: whether it is a standby, where its log stands, and which cluster it is of, if known."""

    options: Options
    standby: bool = False
    position: int = 0
    system: str = ""
    error: Optional[ScannerDbError] = None


@dataclass(frozen=True)
class DumpSource:
    """Where the dump is taken, the primary where one answered, and what people should know of the choice."""

    options: Options
    primary: Optional[Options] = None
    remarks: tuple[str, ...] = ()

    @property
    def other(self) -> Optional[Options]:
        """The primary, where the dump is to be taken from a standby."""
        return self.primary if self.primary != self.options else None


def find_place(options: Options, origin: SourcePolicy) -> DumpSource:
    """Ask the servers that `options` names, and choose; raises one of our errors where none will do."""
    if len(options.servers) == 1 and not options.patroni_urls and origin.wanted == "auto":
        return DumpSource(options)
    asked, _ = places(options)
    answers = ask_all(asked, _ask, lambda one: not one.standby, PATIENCE_S, GRACE_S)
    return choose([_candidate(server, answers.get(server)) for server in asked], origin)


def _ask(options: Options) -> Candidate:
    conn = connect(options, purpose="backup plan", allow_standby=True, timeout_s=MEMBER_TIMEOUT_S)
    with contextlib.closing(conn):
        with explained(f"Asking the server on {options.server}"):
            row = fetch(conn, _STATE)[0]
        system = ""
        with contextlib.suppress(DriverError):
            system = str(scalar(conn, "SELECT system_identifier FROM pg_control_system()"))
        return Candidate(options, row["standby"], row["position"], system)


def _candidate(options: Options, answer: Union[Candidate, ScannerDbError, None]) -> Candidate:
    if isinstance(answer, Candidate):
        return answer
    silent = ConnectionFailed(f"The server on {options.server} does not answer.")
    return Candidate(options, error=answer or silent)


def choose(candidates: Sequence[Candidate], origin: SourcePolicy) -> DumpSource:
    """The server to dump from: the standby that is least behind, if not too far, else the primary. Pure."""
    there = [c for c in candidates if c.error is None]
    primary = _primary(there)
    remarks = [f"{c.error.message}" for c in candidates if c.error]
    if not there and candidates[0].error:
        raise candidates[0].error
    if origin.wanted != "primary":
        fit = []
        for standby in (c for c in there if c.standby):
            lag = max(0, primary.position - standby.position) if primary else 0
            if lag <= origin.max_lag_bytes:
                fit.append((lag, standby))
            else:
                remarks.append(f"The standby on {standby.options.server} is {lag >> 20} MiB behind.")
        if fit:
            best = min(fit, key=lambda pair: pair[0])[1]
            if not primary:
                remarks.append("No primary answered: how far the standby is behind is not known.")
            return DumpSource(best.options, primary.options if primary else None, tuple(remarks))
    if primary and origin.wanted != "standby":
        return DumpSource(primary.options, primary.options, tuple(remarks))
    raise ServerUnsupported(
        f"There is no {'standby' if origin.wanted != 'primary' else 'primary'} to dump from: "
        f"{' '.join(remarks) or 'the servers that answered are none'}",
        "Name it in scannerdb_login_host, raise scannerdb_backup_max_lag_mb, or set scannerdb_backup_dump_from: auto.",
    )


def _primary(there: Sequence[Candidate]) -> Optional[Candidate]:
    """The one primary among servers of one cluster; raises `InvalidInput` where they are not that."""
    if len({c.system for c in there if c.system}) > 1:
        names = ", ".join(c.options.server for c in there)
        raise InvalidInput(f"The servers on {names} are not of one cluster.", "List only one primary and its standbys.")
    primaries = [c for c in there if not c.standby]
    if len(primaries) > 1:
        names = " and ".join(c.options.server for c in primaries)
        raise InvalidInput(
            f"The servers on {names} both say that they are the primary.",
            "Find out which one is, and stop the other, before anything writes to both.",
        )
    return primaries[0] if primaries else None
