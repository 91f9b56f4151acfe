"""Doing what was decided, one table at a time, without making anybody wait who was not told to.

VACUUM, ANALYZE and the CONCURRENTLY commands stop no reader and no writer; a table whose lock somebody else holds is
left out and named. VACUUM FULL alone needs a strong lock: it asks for it in short attempts, under the lock budget.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..connection import Connection, Query, explained, fetch, scalar
from ..errors import ConnectionFailed, LockTimeout, PrivilegeMissing, ScannerDbError
from ..files import too_small
from ..lockbudget import who_blocks
from ..serverdisk import room_for
from ..standbylag import PATIENCE_S, let_catch_up, standbys_missing
from . import pgrepack
from .measure import TableMeasure
from .plan import PG_REPACK, REPACK, REWRITES, Action, TableDecision
from .progress import watched
from .rebuild import drop_leftover, reindex
from .repack import repack
from .result import ActionResult, Blocked, Means, Refused, VacuumStep
from .rewrite import vacuum_full
from .statements import as_text, statements

LOCK_NOT_AVAILABLE = "55P03"
GONE = ("42P01", "42704")  # no such table, no such index
SETTLE_S = 2.0
WAL_HEAVY = ("reindex", PG_REPACK, *REWRITES)  # they write about as much as the table has


def queries_for(conn: Connection, measure: TableMeasure, action: Action) -> list[Query]:
    """The statements of an action on this server."""
    parallel = 0
    if action.kind in ("vacuum", *REWRITES):
        allowed = int(scalar(conn, "SELECT current_setting('max_parallel_maintenance_workers')"))
        parallel = max(0, min(allowed, len(measure.indexes) - 1))  # the leader takes an index too
    return statements(action, measure.schema, measure.name, conn.info.server_version, parallel)


def texts_for(conn: Connection, measure: TableMeasure, action: Action, means: Means) -> list[str]:
    """What an action runs, for people: its SQL, and the command line of pg_repack."""
    told = [as_text(query) for query in queries_for(conn, measure, action)]
    if action.kind == PG_REPACK:
        told.insert(0, shlex.join(pgrepack.command(means.program, measure, means.budget.deadline_s)))
    if action.kind == "drop_repack":
        told = [as_text(query) for query in pgrepack.drops(measure)]
    return told


def perform(conn: Connection, decisions: Sequence[TableDecision], means: Means) -> list[ActionResult]:
    """Carry out the actions in order; a table that was locked gets a second try at the end.

    An action that came to nothing is followed by what it has `instead`. What fails on one table does not keep the
    others from their turn: look at each outcome's `error`. Raises `ConnectionFailed` when the server is gone.
    """
    steps = [(decision, action) for decision in decisions for action in decision.actions]
    todo = [VacuumStep(number, len(steps), *step) for number, step in enumerate(steps, start=1)]
    outcomes = {}
    for step in todo:
        outcomes[step.number] = _with_instead(conn, step, means, last=False)
    for step in todo:
        if outcomes[step.number][0].blocked:
            outcomes[step.number] = _with_instead(conn, step, means, last=True)
    return [outcome for number in sorted(outcomes) for outcome in outcomes[number]]


def _with_instead(conn: Connection, step: VacuumStep, means: Means, *, last: bool) -> list[ActionResult]:
    """What came of a step, and of what was tried in its place; a blocked one comes again, unless it is `last`."""
    means.watch(step)
    outcome = _attempt(conn, step.decision, step.action, means)
    if outcome.done or (outcome.blocked and not last):
        return [outcome]
    others = []
    for action in step.action.instead:
        means.watch(replace(step, action=action))
        others.append(_attempt(conn, step.decision, action, means))
    outcome.instead = ", ".join(other.action.words for other in others if other.done)
    return [outcome, *(other for other in others if other.done or other.error)]  # one reason for a table is enough


def _attempt(conn: Connection, decision: TableDecision, action: Action, means: Means) -> ActionResult:
    outcome = ActionResult(decision, action)
    started = time.monotonic()
    try:
        with explained(f"{action.kind.replace('_', ' ').upper()} of {decision.measure.qualified}"):
            _begin(conn, outcome, means)
            _do(conn, outcome, means)
    except (Blocked, Refused, LockTimeout, PrivilegeMissing) as error:
        outcome.note, outcome.blocked = error.message, isinstance(error, Blocked)
    except ConnectionFailed:
        raise
    except ScannerDbError as error:
        if getattr(error.__cause__, "sqlstate", "") in GONE:
            outcome.note = "it was dropped in the meantime"
        else:
            outcome.error = str(error)
    finally:
        outcome.seconds = round(time.monotonic() - started, 3)
        if outcome.done:
            means.finished(outcome)
    return outcome


def _begin(conn: Connection, outcome: ActionResult, means: Means) -> None:
    """Raise `Refused` where the action may not be begun now, or the disk has no room for the copy it makes."""
    action, measure = outcome.action, outcome.decision.measure
    why_not = means.gate(action)
    if why_not:
        raise Refused(why_not)
    if action.kind in WAL_HEAVY:
        missing = standbys_missing(conn, means.options)
        if missing:
            raise Refused(missing.rstrip("."))
        outcome.note = let_catch_up(conn, patience_s=min(PATIENCE_S, means.budget.deadline_s))
    if not action.room:
        return
    room = room_for(conn, measure.tablespace)
    known = [size for size in (means.free_bytes or None, room.free) if size is not None]
    free = min(known, default=None)  # what was measured beats a larger word
    if free is None:
        if action.kind in REWRITES and not action.forced:
            hint = "say it in scannerdb_vacuum_free_gb, or ask for the table by name"
            raise Refused(f"it is not known how much disk the server has free, because {room.why}: {hint}")
        outcome.note = f"free disk was not checked, because {room.why}"
    elif free < action.room:
        raise Refused(too_small("the server's disk", free, "the copy", action.room).rstrip("."))


def _do(conn: Connection, outcome: ActionResult, means: Means) -> None:
    action, measure = outcome.action, outcome.decision.measure
    if action.kind == PG_REPACK:
        pgrepack.run_pg_repack(conn, measure, means, outcome.lock)
        _make_good(conn, outcome)
    elif action.kind == REPACK:
        outcome.note = repack(conn, queries_for(conn, measure, action)[0], measure, means, outcome.lock)
        _make_good(conn, outcome)
    elif action.kind == "drop_repack":
        pgrepack.clear_up(conn, measure, means, outcome.lock)
        outcome.done = True
    else:
        with watched(means.options, conn.info.backend_pid, means.tell):
            _run_sql(conn, outcome, means)


def _run_sql(conn: Connection, outcome: ActionResult, means: Means) -> None:
    action, measure = outcome.action, outcome.decision.measure
    query = queries_for(conn, measure, action)[0]
    if action.kind == "full":
        vacuum_full(conn, query, measure, means.budget, outcome.lock)
        _make_good(conn, outcome)
    elif action.kind == "reindex":
        reindex(conn, query, measure, means.budget, outcome)
    elif action.kind == "drop_index":
        drop_leftover(conn, query, measure)
        outcome.done = True
    else:
        outcome.note = _gentle(conn, query, measure)
        outcome.done = True


def _make_good(conn: Connection, outcome: ActionResult) -> None:
    """The VACUUM after a rewrite. The rewrite counts even where this is locked out; the next run makes up for it."""
    outcome.done = True
    measure = outcome.decision.measure
    with contextlib.suppress(Blocked):
        _gentle(conn, queries_for(conn, measure, outcome.action)[-1], measure)


def _gentle(conn: Connection, query: Query, measure: TableMeasure) -> str:
    """VACUUM or ANALYZE with SKIP_LOCKED; returns what was left out of it.

    The server only warns where it skips a table. A lock is known by its SQLSTATE; a missing right has none of its own
    and a text in the server's language, so it is a warning after which nothing was done.
    """
    before = scalar(conn, "SELECT clock_timestamp()")
    with _warnings(conn) as told:
        conn.execute(query)
    if any(state == LOCK_NOT_AVAILABLE for state, _ in told):
        whom = who_blocks(conn, [(measure.schema, measure.name)], "SHARE UPDATE EXCLUSIVE")
        if _counted(conn, measure, "vacuum", before):
            return f"it was vacuumed, but its statistics were not renewed: it is locked, {whom}"
        raise Blocked(f"it is locked, {whom}")
    if not _settle(conn, measure, before) and told:
        raise PrivilegeMissing(f"the server refused: {told[0][1]}")
    return ""


@contextlib.contextmanager
def _warnings(conn: Connection) -> Iterator[list[tuple[str, str]]]:
    """Collect the warnings (SQLSTATE, text) that the server sends during the block."""
    told: list[tuple[str, str]] = []

    def hear(diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            told.append((diagnostic.sqlstate or "", diagnostic.message_primary or ""))

    conn.add_notice_handler(hear)
    try:
        yield told
    finally:
        conn.remove_notice_handler(hear)


def _counted(conn: Connection, measure: TableMeasure, what: str, since: Any) -> bool:
    """True once the statistics know of a vacuum or an analyze after `since`."""
    row = fetch(
        conn,
        """
        SELECT last_vacuum, last_analyze FROM pg_stat_all_tables WHERE schemaname = %s AND relname = %s
        """,
        [measure.schema, measure.name],
    )
    at = row[0][f"last_{what}"] if row else None
    return at is not None and at >= since


def _settle(conn: Connection, measure: TableMeasure, since: Any) -> bool:
    """Wait until the statistics show what was done (before PostgreSQL 15 they arrive late); False if they never do."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        scalar(conn, "SELECT pg_stat_clear_snapshot()::text")
        if _counted(conn, measure, "vacuum", since) or _counted(conn, measure, "analyze", since):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
