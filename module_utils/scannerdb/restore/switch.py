"""From a proven database to the users' one, and back again: what a restore and its undo share."""

from __future__ import annotations

import contextlib
import shlex
from typing import Any, Optional

from ..connection import Connection, DriverError, Options, explained, fetch, server_of
from ..errors import InvalidInput, RestoreRefused, ScannerDbError
from ..load.preflight import check_obstacles, check_replication, check_rights, replication_dependents
from ..runs import Run, checked_run_id, now_text
from ..standbylag import let_catch_up, standbys_missing
from .build import clear_up, side_mark, still_ours
from .cutover import Switch, Switched, switch_over
from .cutover_waker import CutoverWaker
from .downtime_probe import DowntimeProbe
from .heal import Found, find, kept_databases
from .marks import KEPT, DatabaseMark, kept_name
from .plan import RestorePlan, check_sessions
from .request import RestoreRequest, RestoreTask, result_of, state_line

ALMOST_NOTHING = 1 << 20


def cut_over(
    conn: Connection, options: Options, request: RestoreRequest, run: Run, switch: Switch
) -> tuple[Switched, Optional[float]]:
    """Wait for the clients, switch, and measure; puts things right at once where the block was cut short."""
    check_obstacles(conn, switch.live)
    came = replication_dependents(conn, switch.live)  # while it was loading
    check_replication(came, switch.live, switch.cut_slots, request.words)
    if switch.live_exists:
        run.progress("grace")
        check_sessions(conn, options, request, request.grace_s, switch.holder)
    run.progress("standbys")
    require_standbys(conn, options)
    with explained("Looking at the standbys"):
        behind = let_catch_up(conn, ALMOST_NOTHING)  # or who reads there would wait for what was loaded
    if behind:
        run.log(f"warning: {behind}; the cutover does not wait any longer")
    run.progress("cutover")
    run.log(f"cutover: {switch.incoming!r} becomes {switch.live!r}")
    prober = DowntimeProbe(options) if switch.live_exists else None
    with prober or contextlib.nullcontext(), CutoverWaker(conn, options, run.run_id):
        done = switched(conn, options, run, switch, _told(switch, run))
    gap = prober.cutover_ms() if prober else None
    run.log(f"cutover done: closed for {done.closed_ms} ms, {gap} ms for a client, {done.ended} sessions ended")
    return done, gap


def require_standbys(conn: Connection, options: Options) -> None:
    """Raise `RestoreRefused` while a standby is missing that the site wants to stream."""
    missing = standbys_missing(conn, options)
    if missing:
        raise RestoreRefused(missing, "Bring the missing one back, or allow fewer; the database is as it was.")


def switched(conn: Connection, options: Options, run: Run, switch: Switch, told: tuple[str, str]) -> Switched:
    """Switch over; `told` says so, with the way back, if the run fails from here on.

    Where the connection broke, the server may have finished all the same: that is looked at.
    """
    try:
        done = switch_over(conn, switch)
    except BaseException as error:
        clear_up(conn, options, run)
        landed = None
        with contextlib.suppress(ScannerDbError, DriverError), still_ours(conn, options, run) as session:
            name = switch.kept if switch.live_exists else switch.live
            landed = bool(fetch(session, "SELECT FROM pg_database WHERE datname = %s", [name]))
        if landed or (landed is None and not isinstance(error, RestoreRefused)):
            run.note_change(told[0] if landed else f"Whether this happened is not known: {told[0]}", told[1])
        raise
    run.note_change(*told)
    return done


def _told(switch: Switch, run: Run) -> tuple[str, str]:
    """What a cutover did, and the way back, for the end of an error. Pure."""
    if not switch.live_exists:
        return f"Database {switch.live!r} is there again.", ""
    undone = "ansible-playbook playbooks/restore.yml -e scannerdb_restore_undo=true -e scannerdb_run_id="
    return (
        f"The cutover was done: database {switch.live!r} is the one that was {switch.incoming!r}, and the one that it "
        f"replaced is kept as {switch.kept!r}.",
        f"To swap back: {undone}{run.run_id} -e scannerdb_restore_confirm={shlex.quote(switch.live)}",
    )


def switch_of(task: RestoreTask, plan: RestorePlan, holder: int = 0) -> Switch:
    """The cutover of a planned restore; `holder` is our own process that keeps everybody from writing."""
    mark = side_mark(task.options, plan, task.run)
    comment = plan.live.comment if plan.live else ""
    return Switch(
        live=task.options.db,
        incoming=plan.side,
        kept=plan.kept,
        live_exists=plan.live is not None,
        mark=mark,
        kept_mark=DatabaseMark(KEPT, task.options.db, task.run.run_id, mark.at, mark.source, comment=comment),
        comment=plan.target.comment,
        terminate=task.request.terminate,
        cut_slots=task.request.replication == "cut",
        holder=holder,
    )


def undo(conn: Connection, task: RestoreTask, wanted: str) -> dict[str, Any]:
    """Swap the live database with one kept by an earlier run; that keeps the live one in turn."""
    options, run = task.options, task.run
    found = find(conn, options.db)
    name, mark = _chosen(found, options.db, wanted)
    live = any(f.name == options.db for f in found)
    owner, comment = _owner_and_comment(conn, options.db if live else name)
    check_rights(conn, server_of(conn), owner, live)
    check_obstacles(conn, options.db)
    dependents = replication_dependents(conn, options.db)
    check_replication(dependents, options.db, task.request.replication == "cut" or task.check_mode)
    previous = kept_name(options.db, run.run_id)
    warnings = [*task.told, *dependents.sentences(options.db)]
    result = result_of(options, run, name, previous if live else None, None, warnings)
    line = f"{name!r} (kept by run {mark.run_id} at {mark.at})"
    result["diff"] = {"before": state_line(options.db, "as it is"), "after": state_line(options.db, f"was {line}")}
    if task.check_mode:
        result["msg"] = f"Would swap database {options.db!r} with {line}."
        return result
    kept = DatabaseMark(
        KEPT, options.db, run.run_id, now_text(), f"undone by {run.run_id}", comment=comment if live else ""
    )
    cut = task.request.replication == "cut"
    switch = Switch(options.db, name, previous, live, mark, kept, mark.comment, task.request.terminate, cut)
    done, gap = cut_over(conn, options, task.request, run, switch)
    other = f"; what it replaced is kept as {previous!r}" if live else ""
    result["msg"] = f"Database {options.db!r} is again the one that run {mark.run_id} had replaced{other}."
    result["restore"].update(cutover_ms=gap, sessions_ended=done.ended, closed_ms=done.closed_ms, backup=None)
    return result


def _chosen(found: list[Found], database: str, wanted: str) -> tuple[str, DatabaseMark]:
    """The kept database to bring back, the newest or the wanted run's; raises `RestoreRefused` where there is none."""
    if wanted:
        checked_run_id(wanted)
    for item in kept_databases(found, database):
        if item.mark and wanted in ("", item.mark.run_id):
            return item.name, item.mark
    which = f"by run {wanted}" if wanted else "by a restore"
    raise RestoreRefused(
        f"There is no database kept {which} that {database!r} could be swapped with.",
        "Restore a backup instead: scannerdb_backup_info lists what there is.",
    )


def _owner_and_comment(conn: Connection, database: str) -> tuple[str, str]:
    with explained(f"Looking at database {database!r}"):
        rows = fetch(
            conn,
            "SELECT pg_get_userbyid(datdba)::text AS owner, coalesce(shobj_description(oid, 'pg_database'), '') AS text"
            " FROM pg_database WHERE datname = %s",
            [database],
        )
    if not rows:
        raise InvalidInput(f"Database {database!r} is gone.", "Run again.")
    return str(rows[0]["owner"]), str(rows[0]["text"])
