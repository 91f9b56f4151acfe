"""The migration job: an older layout into the baseline, beside the live database, and then the restore's cutover.

Nobody writes to the live database from the backup on to the cutover: a session of ours holds SHARE ROW EXCLUSIVE locks
on its tables. Readers go on reading. The backup is restored into a side database, which is proven to be the live one
before its layout is changed, and proven again afterwards.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..argspec import budget_from
from ..connection import SQL, Connection, DriverError, Options, connect, fetch, job_entry, server_of
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import InvalidInput, MigrationRefused
from ..joblock import job_lock
from ..load.analyze import analyze
from ..load.preflight import (
    check_obstacles,
    check_replication,
    check_rights,
    check_room,
    data_room,
    replication_dependents,
)
from ..lockbudget import Budget, LockRecord, relation, retrying, who_blocks
from ..partial import telling_changes
from ..restore.build import clear_up, compare_content, create_side, fill_side, give_properties, side_session
from ..restore.fetch import at_hand
from ..restore.heal import diagnose, find, heal
from ..restore.marks import kept_name, side_name
from ..restore.plan import RestorePlan, check_sessions, live_facts, make_plan
from ..restore.request import (
    RestoreRequest,
    RestoreTask,
    backup_folder,
    check_request,
    counted,
    result_of,
    state_line,
)
from ..restore.sessions import connected, named
from ..restore.switch import cut_over, switch_of
from ..restorepoint import set_restore_point
from ..runs import Run, checked_run_id, new_run_id, utc_now
from ..sets.fetch import access_from
from ..sets.manifest import DatabaseFacts
from ..sets.signing import Trust
from ..sets.storage import Storage
from .migrate_side import UNTOUCHED, Older, move, older_layout
from .options import MigrateOptions
from .restore import aftermath
from .restore_before import ensure_lasting, made_before

JOB = "migrate"
WORDS = "scannerdb_migrate"
TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
   AND NOT starts_with(n.nspname::text, 'pg_') ORDER BY c.oid
"""


@dataclass(frozen=True)
class Standstill:
    """Our session that keeps everybody from writing to the live database, and the tables that it locks."""

    conn: Connection
    tables: tuple[tuple[str, str], ...]

    def confirm(self) -> None:
        """Raise `MigrationRefused` where it does not hold any more, or a table was made that it does not lock."""
        try:
            now = _tables(self.conn)
        except DriverError as error:
            raise MigrationRefused(
                "The session that kept others from writing was ended, so that rows may have come that were not "
                f"migrated: {str(error).splitlines()[0]}.",
                f"{UNTOUCHED} Run again.",
            ) from error
        if now != self.tables:
            other = ", ".join(sorted(".".join(name) for name in set(now) ^ set(self.tables)))
            raise MigrationRefused(
                f"Tables came or went while the database was migrated: {other}.",
                f"{UNTOUCHED} Stop the application, and run again.",
            )


@job_entry("The migration")
def migrate(options: Options, asked: MigrateOptions, *, check_mode: bool = False) -> dict[str, Any]:
    """Migrate an older layout into the baseline; the module's result, without a change where there is none.

    In check mode the plan is told and nothing is written. Raises one of our errors; up to the cutover the live
    database is only read, and writes to it wait.
    """
    request = _request_from(asked)
    check_request(options, request)
    contract = contract_with(asked.contract_overlay)
    run_id = checked_run_id(asked.run_id) if asked.run_id else new_run_id()
    run = Run(JOB, options.db, run_id, "" if check_mode else request.state_dir)
    task = RestoreTask(options, request, run, contract, check_mode=check_mode)
    if check_mode:
        with contextlib.closing(connect(options, dbname=options.maintenance_db, purpose=f"{JOB} plan")) as conn:
            healing = tuple(diagnose(find(conn, options.db), options.db))
            return _planned(conn, replace(task, told=healing))
    with telling_changes(run), job_lock(options, JOB, run.run_id, asked.lock_wait_s) as conn:
        run.log_path = asked.log_path or str(backup_folder(request) / f"migrate_{utc_now():%Y%m%d_%H%M%S}.log")
        with run.failure_told():
            healed = tuple(heal(conn, options.db, options))
            for line in healed:
                run.log(line)
                run.note_change(line)
            return _migrate(conn, replace(task, told=healed), budget_from(asked))


def _request_from(asked: MigrateOptions) -> RestoreRequest:
    """The restore that a migration is, from its own backup."""
    return RestoreRequest(
        backup_dir=Path(asked.backup_dir),
        confirm=asked.confirm,
        jobs=asked.jobs,
        grace_s=asked.grace_s,
        terminate=asked.terminate,
        state_dir=asked.state_dir,
        recipients=tuple(asked.age_recipients),
        storage=Storage(Path(asked.backup_dir), asked.storage),
        access=access_from(asked, asked),
        replication=asked.replication,
        run_code=asked.run_code,
        trust=Trust(asked.state_dir).checked(),
        words=WORDS,
    )


def _look(conn: Connection, task: RestoreTask) -> tuple[Optional[Older], Optional[DatabaseFacts]]:
    """The older layout and the database, after all that could stop the migration was looked at."""
    options, request = task.options, task.request
    with contextlib.closing(connect(options, purpose=f"{JOB} plan")) as live:
        older = older_layout(live, task.contract)
    if older is None:
        return None, None
    facts, _ = live_facts(options)
    if facts is None:
        raise MigrationRefused(f"Database {options.db!r} is gone.", "Run again.")
    if request.recipients and not request.access.key:
        raise InvalidInput(
            "The migration reads back the backup that it makes, and that is encrypted.",
            "Set scannerdb_backup_identity or scannerdb_backup_identity_key for this run.",
        )
    check_rights(conn, server_of(conn), facts.owner, True)
    check_obstacles(conn, options.db)
    check_room(data_room(conn, options, facts.tablespace), facts.size_bytes)
    if not task.check_mode:
        check_replication(replication_dependents(conn, options.db), options.db, request.replication == "cut", WORDS)
    return older, facts


def _nothing(task: RestoreTask) -> dict[str, Any]:
    name = task.options.db
    result = result_of(task.options, task.run, "", None, None, task.told)
    return {
        **result,
        "changed": bool(task.told) and not task.check_mode,
        "msg": f"Database {name!r} is in no older layout: servers is no table. There is nothing to migrate.",
        "diff": {"before": "", "after": ""},
    }


def _planned(conn: Connection, task: RestoreTask) -> dict[str, Any]:
    options, request, run = task.options, task.request, task.run
    older, facts = _look(conn, task)
    if older is None or facts is None:
        return _nothing(task)
    people = connected(conn, options.db)
    dependents = replication_dependents(conn, options.db)
    warnings = [*task.told, *dependents.sentences(options.db)]
    if dependents.logical and request.replication != "cut":
        warnings.append(f"This would stop the migration; {WORDS}_replication=cut lets it go on.")
    if people and not request.terminate:
        warnings.append(f"These sessions would stop the migration: {named(people)}.")
    kept = kept_name(options.db, run.run_id)
    lines = [
        f"stop writes to {options.db!r} until the cutover; readers go on",
        f"backup of {facts.size_bytes} bytes into {request.backup_dir}, with fingerprints",
        f"restore it into the new database {side_name(options.db, run.run_id)!r}, and compare all rows",
        *older.lines(),
        "make what the baseline has besides: tables, columns, keys, indexes, the view with its triggers, privileges",
        "compare rows and fingerprints of all old columns, the contract, and the write probe",
        f"wait {request.grace_s:g} s for clients, then cut over; the present database is kept as {kept!r}",
    ]
    return {
        **result_of(options, run, options.db, kept, None, warnings),
        "plan": {"steps": lines, "size_bytes": facts.size_bytes, "rows": older.rows},
        "diff": {
            "before": state_line(options.db, "an older layout"),
            "after": "".join(f"{line}\n" for line in lines),
        },
        "msg": f"Would migrate database {options.db!r} into the baseline.",
    }


def _migrate(conn: Connection, task: RestoreTask, budget: Budget) -> dict[str, Any]:
    options, request, run = task.options, task.request, task.run
    began = time.monotonic()
    older, _ = _look(conn, task)
    if older is None:
        run.progress("done")
        return _nothing(task)
    check_sessions(conn, options, request, request.grace_s)  # said now, not after the loading
    with standstill(options, run, budget) as still:
        backup = made_before(options, request, run, fingerprints=True)
        ensure_lasting(request, backup, run)
        source = replace(request, source=str(backup.path), verify_level="read")
        with at_hand(options, source, run, False) as ready:
            here = replace(task, request=ready)
            plan = make_plan(conn, options, ready, run, record=True)
            try:
                warnings = _build(conn, here, plan)
                set_restore_point(conn, run)
                still.confirm()
                switch = switch_of(here, plan, still.conn.info.backend_pid)
                done, gap = cut_over(conn, options, ready, run, switch)
            except BaseException:
                clear_up(conn, options, run)
                raise
    result = result_of(options, run, options.db, plan.previous, gap, [*task.told, *plan.warnings, *warnings])
    result["restore"].update(sessions_ended=done.ended, closed_ms=done.closed_ms, backup=str(backup.path))
    result["restore"].update(counted(plan.rows), duration_s=round(time.monotonic() - began, 1))
    result["msg"] = f"Migrated database {options.db!r} into the baseline{aftermath(plan, request.keep_hours)}."
    result["diff"] = {
        "before": state_line(options.db, "an older layout"),
        "after": state_line(options.db, "the baseline") + "".join(f"{line}\n" for line in older.lines()),
    }
    run.log(result["msg"])
    run.progress("done", replaced=True)
    return result


def _build(conn: Connection, task: RestoreTask, plan: RestorePlan) -> list[str]:
    """The side database: filled, proven to be the live one, moved, proven to be the baseline; returns warnings."""
    options, request, run = task.options, task.request, task.run
    properties = create_side(conn, options, request, plan, run)
    warnings = fill_side(conn, options, request, plan, run, task.contract)
    with side_session(options, plan, run) as side:
        run.progress("compare")
        compare_content(side, plan, run)
        run.progress("move")
        warnings += move(side, task.contract, run)
        others = _others(plan, task.contract)
        if others:
            compare_content(side, plan, run, others)
        warnings += analyze(side, ())
    give_properties(conn, options, properties)
    return warnings


def _others(plan: RestorePlan, contract: Contract) -> list[tuple[str, str]]:
    """The tables that the contract does not name: each must be what the backup says, also after the move."""
    known = {(contract.schema, name) for name in (*contract.tables, contract.view.name)}
    return [(t.schema, t.name) for t in plan.rows if (t.schema, t.name) not in known]


@contextlib.contextmanager
def standstill(options: Options, run: Run, budget: Budget) -> Iterator[Standstill]:
    """Let nobody write to the live database during the block; the cutover ends this session after all others."""
    run.progress("stop writes")
    conn = connect(options, purpose=f"{JOB} {run.run_id}")
    try:
        tables = _tables(conn)
        names = SQL(", ").join(relation(*table) for table in tables)

        def attempt() -> None:
            conn.execute("BEGIN")
            try:
                conn.execute(SQL("SET LOCAL lock_timeout = {}").format(SQL(str(int(budget.timeout_ms)))))
                conn.execute(SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))
            except BaseException:
                with contextlib.suppress(DriverError):
                    conn.execute("ROLLBACK")
                raise

        retrying(
            attempt,
            budget,
            LockRecord(),
            f"Stopping writes to {options.db!r}",
            lambda: who_blocks(conn, tables, "SHARE ROW EXCLUSIVE"),
        )
        yield Standstill(conn, tables)
    finally:
        with contextlib.suppress(DriverError):
            conn.close()


def _tables(conn: Connection) -> tuple[tuple[str, str], ...]:
    return tuple((row["schema"], row["name"]) for row in fetch(conn, TABLES))
