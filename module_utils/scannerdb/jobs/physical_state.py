"""Looking at the physical backups of a cluster: the server first, then the repositories, then what is wrong."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..connection import Connection, Options, connect
from ..errors import ScannerDbError
from ..finding import Finding, ordered
from ..physical.archive import SEGMENT_BYTES
from ..physical.engine import PhysicalEngine, Repository
from ..physical.facts import read_facts
from ..physical.judge import PhysicalLimits, ServerFacts, judge
from ..physical.pgbackrest import PgBackRest, windows_of
from ..physical.request import Stanza
from ..physical.window import Window
from ..physical.words import current, public_backup, public_window
from ..runs import utc_now
from ..serverdisk import data_folder, is_local

USUAL_OWNER = "postgres"


@dataclass(frozen=True)
class PhysicalState:
    """What was seen. `why` says why the repositories could not be looked at."""

    server: ServerFacts | None = None
    repositories: Sequence[Repository] = ()
    problems: Sequence[Finding] = ()
    windows: Sequence[Window] = field(default_factory=list)
    why: str = ""


def engine_for(conn: Connection, stanza: Stanza, server: ServerFacts) -> PhysicalEngine:
    """The engine of a stanza. As root it runs as the owner of the cluster's files, to whom the repository belongs."""
    user = _owner(conn) if os.geteuid() == 0 else ""
    return PgBackRest(stanza.name, stanza.config, user, segment_bytes=server.segment_bytes)


def _owner(conn: Connection) -> str:
    folder = data_folder(conn) if is_local(conn) else ""
    with contextlib.suppress(OSError, KeyError):
        return pwd.getpwuid(Path(folder).stat().st_uid).pw_name
    return USUAL_OWNER


def look(conn: Connection, stanza: Stanza, limits: PhysicalLimits | None = None) -> PhysicalState:
    """Look at everything; an engine that does not answer is said, and raises nothing."""
    server = read_facts(conn)
    try:
        repositories = engine_for(conn, stanza, server).list()
    except ScannerDbError as error:
        return PhysicalState(server, why=str(error))
    problems = judge(server, repositories, limits or PhysicalLimits(), utc_now())
    windows = [window for repository in repositories for window in windows_of(repository, server.segment_bytes)]
    return PhysicalState(server, repositories, problems, windows)


def look_from(options: Options, stanza: Stanza, limits: PhysicalLimits | None = None) -> PhysicalState:
    """`look` on a connection of its own; a server that does not answer is said, too."""
    try:
        with contextlib.closing(
            connect(options, dbname=options.maintenance_db, purpose="physical backups", allow_standby=True)
        ) as conn:
            return look(conn, stanza, limits)
    except ScannerDbError as error:
        return PhysicalState(why=str(error))


def public_state(state: PhysicalState, stanza: str) -> dict[str, Any]:
    """What was seen, as results show it."""
    now = utc_now()
    backups = [backup for repository in state.repositories for backup in repository.backups]
    windows = sorted(state.windows, key=lambda window: (window.repository, window.timeline))
    main = current(windows)
    segment_bytes = state.server.segment_bytes if state.server else SEGMENT_BYTES
    return {
        "stanza": stanza,
        "why": state.why,
        "backups": [public_backup(backup, now) for backup in backups],
        "windows": [public_window(window, now, segment_bytes) for window in windows],
        "window": public_window(main, now, segment_bytes) if main else {},
        "problems": [{**problem.public(), "hint": problem.why_no_fix} for problem in ordered(state.problems)],
    }
