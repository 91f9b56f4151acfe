"""What a run that was cut short left on the server, by a crash or a failover: the next job that writes removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..connection import Connection, Options
from ..drill.scratch import drop, left_over
from ..errors import ScannerDbError
from ..restore.heal import diagnose, find, heal
from ..runs import Run


def remove_remains(conn: Connection, options: Options, run: Run) -> list[str]:
    """Remove databases of restores and drills that did not end; sentences on what was changed.

    `conn` leads to the maintenance database and holds the job lock, so none of them is at work. What this role may not
    remove, or what somebody is in, stays for a later run: no job fails for that.
    """
    told: list[str] = []
    try:
        before = diagnose(find(conn, options.db), options.db)
        done = heal(conn, options.db, options) if before else []
        for line in done:
            run.log(line)
        if done and diagnose(find(conn, options.db), options.db) != before:
            told += done
        for name in left_over(conn, options.db):
            drop(conn, name)
            told.append(f"Database {name!r}, which an earlier drill had left, was removed.")
            run.log(told[-1])
    except ScannerDbError as error:
        if conn.closed:
            raise
        run.log(f"what earlier runs left on the server stays: {error}")
    for line in told:
        run.note_change(line)
    return told


def with_remains(result: Mapping[str, Any], told: Sequence[str]) -> dict[str, Any]:
    """The result of a job that removed them, too. Pure."""
    return {**result, "changed": True, "msg": " ".join([result["msg"], *told])} if told else dict(result)
