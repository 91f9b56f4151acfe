"""The drill of a new set before it has its name, and before it is encrypted: level `restore` of a backup."""

from __future__ import annotations

import time

from ..backup.make import Drill as Prove
from ..backup.plan import Ready
from ..backup.request import Request
from ..backup.standby import DumpSource
from ..connection import Connection, Options
from ..errors import InvalidInput, ScannerDbError
from ..runs import Run, utc_now
from ..sets.catalogue import BackupSet
from ..sets.names import format_time
from ..sets.verification_log import Verification


def check_drill(asked: Request, place: DumpSource, ready: Ready) -> None:
    """Raise `InvalidInput` where a drill on the server is asked for and only a standby is there."""
    wanted = asked.backup.verify_level == "restore" and asked.place == "server"
    if wanted and ready.server.in_recovery and not place.primary:
        raise InvalidInput(
            "A drill on the server needs one that can be written, and only a standby is there.",
            "Let scannerdb_backup_verify_place be cluster, or name the primary in scannerdb_login_host, too.",
        )


def drill_of(conn: Connection, options: Options, asked: Request, run: Run, notes: list[str]) -> Prove | None:
    """What proves a new set by restoring it; None where that is not wanted. `conn` holds the job lock.

    What people should know of it is added to `notes`. Where nothing can be proven either way it raises one of our
    errors.
    """
    if asked.backup.verify_level != "restore":
        return None
    # Half as much again of the package, whose import the other levels need not wait for.
    from ..drill.restore_drill import Drill, drill_on_cluster, drill_on_server  # noqa: PLC0415

    def prove(item: BackupSet) -> Verification:
        started = time.monotonic()
        own = asked.place == "cluster"
        drill = Drill(item, asked.contract, run, asked.backup.jobs, asked.backup.nice, own_server=own)
        try:
            if own:
                outcome, _ = drill_on_cluster(options, asked.cluster_dir, drill)
            else:
                outcome, _ = drill_on_server(conn, options, drill)
        except ScannerDbError as error:
            notes.append(f"The new backup could not be drilled, and was read instead: {error}")
            raise
        notes.extend(outcome.notes)
        if outcome.rows_whole:
            notes.append(f"The new backup is kept as read. {' '.join(outcome.problems)} {outcome.hint}")
        return Verification(
            level="restore",
            ok=not outcome.problems,
            at=format_time(utc_now()),
            manifest_sha256=item.manifest_sha256,
            seconds=round(time.monotonic() - started, 3),
            problems=tuple(outcome.problems),
            tools=outcome.tools,
            restore_s=outcome.restore_s,
            place=asked.place,
            rows_whole=outcome.rows_whole,
        )

    return prove
