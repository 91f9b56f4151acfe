"""The restore job: prove the source, build it beside the live database, prove that, then cut over; and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..backup.storage import Storage
from ..connection import Connection, Options, connect, explained, fetch, server_of
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import InvalidInput, RestoreRefused, ScannerDbError
from ..joblock import job_lock
from ..restore.cutover import Switch, Switched, switch_over
from ..restore.heal import Found, diagnose, find, heal, kept_databases
from ..restore.names import KEPT, Mark, kept_name
from ..restore.nudge import Nudger
from ..restore.preflight import check_obstacles, check_rights, hangers_on
from ..restore.prober import Prober
from ..restore.sessions import connected, named
from ..runs import Run, checked_run_id, new_run_id, utc_now
from .restore_build import clear_up, create_side, fill_side, give_properties, pre_restore_backup, side_mark, validate
from .restore_fetch import at_hand
from .restore_plan import Wish, backup_folder, check_sessions, check_wish, make_plan, plan_values, steps
from .sources import access_from

JOB = "restore"


def restore(
    options: Options,
    *,
    backup_dir: str,
    source: str = "",
    confirm: str = "",
    state: str = "restored",
    prebackup: bool = True,
    verify_level: str = "read",
    jobs: int = 0,
    grace_s: float = 5,
    terminate: bool = False,
    missing_roles: str = "stop",
    accept: Sequence[str] = (),
    contract_overlay: Optional[Mapping[str, Any]] = None,
    undo_run_id: str = "",
    storage: str = "persistent",
    age_recipients: Sequence[str] = (),
    identity: str = "",
    identity_key: str = "",
    offsite_remote: str = "",
    offsite_config: str = "",
    offsite_bandwidth: str = "",
    lock_wait_s: float = 0,
    log_path: str = "",
    state_dir: str = "",
    run_id: str = "",
    check_mode: bool = False,
) -> dict[str, Any]:
    """Restore the database, or with state `undone` swap back to the one kept by a restore; the module's result.

    In check mode the source is verified, everything that could stop the restore is looked at, the whole plan is told
    and nothing is written. Raises one of our errors; up to the cutover the live database is untouched then, and a
    cutover that fails puts everything back.
    """
    check_wish(options, confirm, jobs, grace_s)
    wish = Wish(
        source=source,
        confirm=confirm,
        backup_dir=Path(backup_dir),
        prebackup=prebackup,
        verify_level=verify_level,
        jobs=jobs,
        grace_s=grace_s,
        terminate=terminate,
        missing_roles=missing_roles,
        accept=tuple(accept),
        state_dir=state_dir,
        storage=Storage(Path(backup_dir), storage),
        recipients=tuple(age_recipients),
        access=access_from(identity, identity_key, offsite_remote, offsite_config, offsite_bandwidth),
    )
    run = Run(JOB, options.db, checked_run_id(run_id) if run_id else new_run_id(), "" if check_mode else state_dir)
    undo = state == "undone"
    contract = contract_with(contract_overlay)  # a wrong overlay is said in check mode too
    if check_mode:
        return _plan_only(options, wish, run, undo, undo_run_id)
    with job_lock(options, JOB, run.run_id, lock_wait_s) as conn:
        run.log_path = log_path or str(backup_folder(wish) / f"restore_{utc_now():%Y%m%d_%H%M%S}.log")
        with _logged(run):
            told = heal(conn, options.db, options)
            for line in told:
                run.log(line)
            if undo:
                return _undo(conn, options, wish, run, undo_run_id, told)
            with at_hand(options, wish, run) as ready:
                return _restore(conn, options, ready, run, contract, told)


@contextlib.contextmanager
def _logged(run: Run) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(ScannerDbError):  # a full disk must not hide the reason
            run.log(f"failed: {error or type(error).__name__}")
            run.progress("failed")
        raise
    run.progress("done")


def _plan_only(options: Options, wish: Wish, run: Run, undo: bool, undo_run_id: str) -> dict[str, Any]:
    """Check mode: no lock is taken, since nothing is written."""
    with contextlib.closing(connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan")) as conn:
        told = diagnose(find(conn, options.db), options.db)
        if undo:
            return _undo(conn, options, wish, run, undo_run_id, told, check_mode=True)
        with at_hand(options, wish, run) as ready:
            return _planned(conn, options, ready, run, told)


def _planned(conn: Connection, options: Options, wish: Wish, run: Run, told: list[str]) -> dict[str, Any]:
    plan = make_plan(conn, options, wish, run, record=False)
    warnings = [*told, *plan.warnings]
    if plan.live and not wish.terminate:
        people = connected(conn, options.db)
        if people:
            warnings.append(f"These sessions would stop the restore: {named(people)}.")
    lines = steps(plan, wish, conn, options)
    return {
        **_result(options, run, plan.source.place, plan.previous, None, warnings),
        "plan": plan_values(plan, lines),
        "diff": {"before": _state_line(options.db, "as it is"), "after": "".join(f"{line}\n" for line in lines)},
        "msg": f"Would restore database {options.db!r} from {plan.source.name}.",
    }


def _restore(
    conn: Connection, options: Options, wish: Wish, run: Run, contract: Contract, told: list[str]
) -> dict[str, Any]:
    plan = make_plan(conn, options, wish, run, record=True)
    for line in steps(plan, wish, conn, options):
        run.log(f"plan: {line}")
    if plan.live:
        check_sessions(conn, options, wish, wish.grace_s)  # said now, not after an hour of loading
    try:
        properties = create_side(conn, options, wish, plan, run)
        backup = pre_restore_backup(options, wish, plan, run)
        ignored = fill_side(conn, options, wish, plan, run)
        warnings = [*told, *plan.warnings, *ignored, *validate(options, wish, plan, run, contract)]
        give_properties(conn, options, properties)
        mark = side_mark(options, plan, run)
        kept = Mark(KEPT, options.db, run.run_id, mark.at, mark.source, comment=plan.live.comment if plan.live else "")
        switch = Switch(
            live=options.db,
            incoming=plan.side,
            kept=plan.kept,
            live_exists=plan.live is not None,
            mark=mark,
            kept_mark=kept,
            comment=plan.target.comment,
            terminate=wish.terminate,
        )
        done, gap = _cut_over(conn, options, wish, run, switch)
    except BaseException:
        clear_up(conn, options, run)
        raise
    result = _result(options, run, plan.source.place, plan.previous, gap, warnings)
    backed = f"; the database it replaced is kept as {plan.kept!r}" if plan.live else "; there was nothing to back up"
    result["msg"] = f"Restored database {options.db!r} from {plan.source.name}{backed}."
    result["restore"].update(sessions_ended=done.ended, closed_ms=done.closed_ms, backup=backup)
    result["diff"] = {
        "before": _state_line(options.db, "as it was" if plan.live else "missing"),
        "after": _state_line(options.db, f"from {plan.source.place}"),
    }
    return result


def _cut_over(
    conn: Connection, options: Options, wish: Wish, run: Run, switch: Switch
) -> tuple[Switched, Optional[float]]:
    """Wait for the clients, switch, and measure; puts things right at once where the block was cut short."""
    check_obstacles(conn, options.db)
    if switch.live_exists:
        run.progress("grace")
        check_sessions(conn, options, wish, wish.grace_s)
    run.progress("cutover")
    run.log(f"cutover: {switch.incoming!r} becomes {switch.live!r}")
    prober = Prober(options) if switch.live_exists else None
    try:
        with prober or contextlib.nullcontext(), Nudger(conn, options, run.run_id):
            done = switch_over(conn, switch)
    except BaseException:
        clear_up(conn, options, run)
        raise
    gap = prober.cutover_ms() if prober else None
    run.log(f"cutover done: closed for {done.closed_ms} ms, {gap} ms for a client, {done.ended} sessions ended")
    return done, gap


def _undo(
    conn: Connection, options: Options, wish: Wish, run: Run, wanted: str, told: list[str], *, check_mode: bool = False
) -> dict[str, Any]:
    """Swap the live database with one kept by an earlier run; that keeps the live one in turn."""
    found = find(conn, options.db)
    name, mark = _chosen(found, options.db, wanted)
    live = any(f.name == options.db for f in found)
    owner, comment = _owner_and_comment(conn, options.db if live else name)
    check_rights(conn, server_of(conn), owner, live)
    check_obstacles(conn, options.db)
    previous = kept_name(options.db, run.run_id)
    warnings = [*told, *hangers_on(conn, options.db)]
    result = _result(options, run, name, previous if live else None, None, warnings)
    line = f"{name!r} (kept by run {mark.run_id} at {mark.at})"
    result["diff"] = {"before": _state_line(options.db, "as it is"), "after": _state_line(options.db, f"was {line}")}
    if check_mode:
        result["msg"] = f"Would swap database {options.db!r} with {line}."
        return result
    now = f"{utc_now():%Y-%m-%dT%H:%M:%SZ}"
    switch = Switch(
        live=options.db,
        incoming=name,
        kept=previous,
        live_exists=live,
        mark=mark,
        kept_mark=Mark(KEPT, options.db, run.run_id, now, f"undone by {run.run_id}", comment=comment if live else ""),
        comment=mark.comment,
        terminate=wish.terminate,
    )
    done, gap = _cut_over(conn, options, wish, run, switch)
    other = f"; what it replaced is kept as {previous!r}" if live else ""
    result["msg"] = f"Database {options.db!r} is again the one that run {mark.run_id} had replaced{other}."
    result["restore"].update(cutover_ms=gap, sessions_ended=done.ended, closed_ms=done.closed_ms, backup=None)
    return result


def _chosen(found: Sequence[Found], database: str, wanted: str) -> tuple[str, Mark]:
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


def _state_line(database: str, words: str) -> str:
    return f"database {database!r}: {words}\n"


def _result(
    options: Options, run: Run, source: str, previous: Optional[str], gap: Optional[float], warnings: Sequence[str]
) -> dict[str, Any]:
    return {
        "changed": True,
        "restore": {
            "source": source,
            "database": options.db,
            "previous_database": previous,
            "cutover_ms": gap,
        },
        "run_id": run.run_id,
        "log": run.log_path,
        "warnings": list(warnings),
    }
