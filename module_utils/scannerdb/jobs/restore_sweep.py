"""Dropping the databases that restores have replaced, once they were kept long enough; never in the same run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..clock import clocks_apart
from ..connection import Connection, DriverError, Options, connect, server_of
from ..errors import InvalidInput
from ..joblock import job_lock
from ..partial import telling_changes
from ..restore.heal import Found, drop, find
from ..restore.kept import kept_until, swept, why_not
from ..restore.options import RestoreOptions
from ..runs import STAMP, Run, checked_run_id, new_run_id, utc_now

JOB = "restore"


def sweep(options: Options, asked: RestoreOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Drop what was kept for `keep_hours` (zero or less: nothing); the module's result.

    A database that is in use, or that replication hangs on, is left, with the reason; on a standby all are. Raises our
    errors.
    """
    if options.maintenance_db == options.db:
        raise InvalidInput(
            f"The maintenance database is {options.db!r} itself.", "Set scannerdb_maintenance_db to another one."
        )
    run_id = checked_run_id(asked.run_id) if asked.run_id else new_run_id()
    run = Run(JOB, options.db, run_id, "" if check_mode else asked.state_dir)
    if not check_mode:
        run.log_path = asked.log_path or str(Path(asked.backup_dir, f"restore_{utc_now():%Y%m%d_%H%M%S}.log"))
    with telling_changes(run), _session(options, run, asked.lock_wait_s, check_mode) as conn:
        return _sweep(conn, options, asked.keep_hours, run, check_mode)


@contextlib.contextmanager
def _session(options: Options, run: Run, lock_wait_s: float, check_mode: bool) -> Iterator[Connection]:
    """A connection to the maintenance database; with the job lock, but in check mode, which changes nothing."""
    if check_mode:
        session = connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan", allow_standby=True)
        with contextlib.closing(session) as conn:
            yield conn
    else:
        with job_lock(options, JOB, run.run_id, lock_wait_s, allow_standby=True) as conn:
            yield conn


def _sweep(conn: Connection, options: Options, keep_hours: float, run: Run, check_mode: bool) -> dict[str, Any]:
    now = utc_now()
    standby = server_of(conn).in_recovery  # its primary drops them
    apart = clocks_apart(conn)
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    left: list[dict[str, str]] = []
    for item in swept(find(conn, options.db), options.db):
        until = kept_until(item, keep_hours)
        if until is None or until > now or standby or apart or (item.mark and item.mark.run_id == run.run_id):
            kept.append(_described(item, f"{until:{STAMP}}" if until else ""))
            continue
        why = why_not(conn, item.name) or ("" if check_mode else _dropped(conn, item.name, run))
        if why:
            left.append({"name": item.name, "why": why})
        else:
            dropped.append(_described(item, f"{until:{STAMP}}"))
    return {
        "changed": bool(dropped),
        "dropped": dropped,
        "kept": kept,
        "left_undone": left,
        "run_id": run.run_id,
        "log": run.log_path if dropped and not check_mode else "",
        "warnings": [apart] * bool(apart and kept)
        + [f"Database {one['name']!r} has been kept long enough, but {one['why']}: it stays." for one in left],
        "diff": {
            "before": "".join(f"database {one['name']!r}\n" for one in [*kept, *left, *dropped]),
            "after": "".join(f"database {one['name']!r}\n" for one in [*kept, *left]),
        },
        "msg": _message(kept, dropped, check_mode),
    }


def _dropped(conn: Connection, name: str, run: Run) -> str:
    """Drop a database; why it could not be, or nothing."""
    try:
        drop(conn, name)
    except DriverError as error:
        return str(error).splitlines()[0].rstrip(".")
    run.note_change(f"Database {name!r}, kept by a restore, was dropped.")
    run.log(f"database {name!r}, kept by a restore, was dropped")
    return ""


def _described(item: Found, until: str) -> dict[str, Any]:
    return {
        "name": item.name,
        "size_bytes": item.size_bytes,
        "kept_at": item.mark.at if item.mark else "",
        "kept_until": until,
    }


def _message(kept: list[dict[str, Any]], dropped: list[dict[str, Any]], check_mode: bool) -> str:
    """One sentence on what was dropped, one on what is kept. Pure."""
    told = []
    if dropped:
        freed = sum(one["size_bytes"] for one in dropped) >> 20
        names = ", ".join(repr(one["name"]) for one in dropped)
        told.append(f"{'Would drop' if check_mode else 'Dropped'} {names}, which restores had replaced ({freed} MiB).")
    else:
        told.append("There is no replaced database to drop.")
    told += [f"{one['name']!r} is kept until {one['kept_until'] or 'somebody drops it'}." for one in kept]
    return " ".join(told)
