"""The doctor: every known cause of trouble, tested one at a time, each with its hint.

It goes from the outside in: the server, the login, the database, what is in it, this machine. What cannot be tested
because an outer layer is broken is said. It changes nothing, but for one thing (`heal`): a database that a crash left
closed or half renamed in the middle of a cutover is opened again, as the next restore would do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..argspec import StorageOptions
from ..connection import Connection, Options, connect, job_entry, server_of
from ..contract.overlay import contract_with
from ..doctor import host, server
from ..doctor.binaries import server_programs
from ..doctor.diagnosis import WRONG, Diagnosis, fine, from_error, unknown, wrong
from ..doctor.options import DoctorOptions
from ..doctor.remedies import diagnoses
from ..errors import DependencyMissing, FileProblem, JobLocked, ScannerDbError
from ..fixes.apply import table_rows
from ..fixes.policy import FixPolicy, make_plan
from ..joblock import job_lock
from ..restore.heal import diagnose, find, heal
from ..runs import new_run_id, utc_now
from ..schedule.installed import has_entry, read_installed
from ..schedule.records import LOCK, OK, RUNNING, Record, last_of, read_records, record_path
from ..sets.catalogue import latest_target, list_sets, newest
from ..sets.signing import Trust
from ..sets.storage import Storage
from .inspect import inspect

IN_DATABASE = ["privileges", "extensions", "application", "consistency", "performance"]
IN_SERVER = ["database", "interrupted restore", "job lock", "connections"]


@dataclass(frozen=True)
class Places:
    """The folders of one database."""

    backup_dir: str
    state_dir: str
    log_dir: str
    report_dir: str
    config_dir: str
    signers: tuple[str, ...] = ()
    storage: str = StorageOptions.storage  # `auto` looks whether the backup folder outlives its container


def places_from(request: DoctorOptions) -> Places:
    """The folders that the diagnosis is asked to look at."""
    return Places(
        backup_dir=request.backup_dir,
        state_dir=request.state_dir,
        log_dir=request.log_dir,
        report_dir=request.report_dir,
        config_dir=request.config_dir,
        signers=tuple(request.trusted_signers),
        storage=request.backup_storage,
    )


@job_entry("The diagnosis")
def doctor(
    options: Options,
    places: Places,
    *,
    overlay: Mapping[str, Any] | None = None,
    stale_s: float = DoctorOptions.stale_s,
    heal_cutover: bool = True,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Test everything; returns the module's result: `diagnoses`, `problems` (how many), `healed`."""
    found: list[Diagnosis] = []
    healed: list[str] = []
    major, difference = 0, None
    try:
        with contextlib.closing(_knock(options)) as conn:
            facts = server_of(conn)
            major, difference = facts.major, server.server_clock(conn) - utc_now().timestamp()
            role = "a standby" if facts.in_recovery else "the primary"
            found += [
                fine("driver", "psycopg is there."),
                fine("server", f"PostgreSQL {facts.version} answers; {role}."),
            ]
            found.append(fine("login", f"Role {facts.user!r} is let in."))
            found += _programs_of(conn, facts.version)
            found += _in_server(conn, options, facts.in_recovery, stale_s, heal_cutover and not check_mode, healed)
    except ScannerDbError as error:
        found += _outside(error)
    else:
        found += _in_database(options, overlay)
    found += _on_host(options, places, major, difference)
    return _result(options, found, healed)


def _result(options: Options, found: list[Diagnosis], healed: list[str]) -> dict[str, Any]:
    count = sum(1 for diagnosis in found if diagnosis.state == WRONG)
    worst = next((diagnosis.message for diagnosis in found if diagnosis.state == WRONG), "")
    return {
        "changed": bool(healed),
        "diagnoses": [asdict(diagnosis) for diagnosis in found],
        "problems": count,
        "healed": healed,
        "msg": f"{options.db}: {count} problems; the first: {worst}" if count else f"{options.db}: nothing is wrong.",
    }


def _knock(options: Options) -> Connection:
    return connect(options, dbname=options.maintenance_db, purpose="doctor", allow_standby=True, statement_timeout_s=60)


def _outside(error: ScannerDbError) -> Iterator[Diagnosis]:
    """The server does not let us in: which layer is it, and what can therefore not be tested."""
    cause = {
        "DependencyMissing": "driver",
        "AuthenticationFailed": "login",
        "DatabaseMissing": "maintenance database",
        "PrivilegeMissing": "login",
        "ServerUnsupported": "server",
    }.get(type(error).__name__, "server")
    if not isinstance(error, DependencyMissing):
        yield fine("driver", "psycopg is there.")
    yield from_error(cause, error)
    yield from server.untested([*IN_SERVER, *IN_DATABASE], "the server lets nobody in.")


def _in_server(
    conn: Connection, options: Options, standby: bool, stale_s: float, may_heal: bool, healed: list[str]
) -> Iterator[Diagnosis]:
    yield _cutover(conn, options, may_heal and not standby, healed)
    with_errors = (
        (server.job_lock, (conn, options.db, stale_s), "job lock"),
        (server.connections, (conn,), "connections"),
    )
    for test, arguments, cause in with_errors:
        try:
            yield test(*arguments)
        except ScannerDbError as error:
            yield unknown(cause, str(error))


def _programs_of(conn: Connection, version: str) -> Iterator[Diagnosis]:
    try:
        yield server_programs(conn, version)
    except ScannerDbError as error:
        yield unknown("server programs", str(error))


def _cutover(conn: Connection, options: Options, may_heal: bool, healed: list[str]) -> Diagnosis:
    """Databases left closed or half restored by a run that was cut short; one that is at work is not disturbed."""
    cause = "interrupted restore"
    try:
        told = diagnose(find(conn, options.db), options.db)
        if not told:
            return fine(cause, "Nothing is left of one.")
        if not may_heal:
            return wrong(
                cause, " ".join(told), "Run playbooks/doctor.yml without --check, or the restore again: both heal it."
            )
        with job_lock(options, "doctor", new_run_id()) as held:
            healed += heal(held, options.db, options)
    except JobLocked as error:
        return fine(cause, f"A run is at work, so what it made is left alone. {error.message}")
    except ScannerDbError as error:
        return from_error(cause, error)
    return fine(cause, " ".join(healed))


def _in_database(options: Options, overlay: Mapping[str, Any] | None) -> Iterator[Diagnosis]:
    try:
        conn = connect(options, purpose="doctor", allow_standby=True, statement_timeout_s=120)
    except ScannerDbError as error:
        yield from_error("database", error)
        yield from server.untested(IN_DATABASE, "the database cannot be opened.")
        return
    with contextlib.closing(conn):
        yield fine("database", f"Database {options.db!r} can be opened.")
        try:
            yield from server.privileges(conn)
            yield server.extensions(conn)
            conn.execute("SET default_transaction_read_only = on")
            conn.execute("SET lock_timeout = '5s'")
            contract = contract_with(overlay)
            found = inspect(conn, contract).findings
            yield from diagnoses(found, make_plan(found, FixPolicy(), table_rows(conn, contract.schema)).skipped)
        except ScannerDbError as error:
            yield unknown("contents", str(error))


def _on_host(options: Options, places: Places, major: int, difference: float | None) -> Iterator[Diagnosis]:
    yield from host.programs(options.pg_bin_dir, major)
    sets, why = _sets(places, options.db)
    last = newest(sets)
    folders = {
        "backups": places.backup_dir,
        "state": places.state_dir,
        "logs": places.log_dir,
        "reports": places.report_dir,
    }
    yield from host.folders(folders, {"backups": 2 * last.manifest.size_bytes if last else 0})
    yield _lasting(Storage(Path(places.backup_dir), places.storage))
    records: list[Record] = []
    with contextlib.suppress(ScannerDbError):  # the schedule's part tells why
        records = read_records(places.state_dir)
    moments = [
        (item.created, f"Put it aside: playbooks/remove.yml -e scannerdb_remove_set={item.name}") for item in sets
    ]
    moments += [(one.started_at, f"Remove its record: rm {record_path(places.state_dir, one)}") for one in records]
    newest_one, settled = max(moments, default=(None, ""))
    yield host.clock(difference, newest_one, utc_now(), settled)
    yield from _backups(places.backup_dir, sets, why)
    yield host.debris(places.backup_dir)
    yield from _schedule(places)


def _lasting(storage: Storage) -> Diagnosis:
    """Whether a backup would be kept where it is written: a backup refuses what the doctor calls wrong here."""
    try:
        storage.ensure_kept("")
    except FileProblem as error:
        return from_error("backup storage", error)
    return fine("backup storage", f"{storage.folder} outlives this machine's containers.")


def _sets(places: Places, database: str) -> tuple[list[Any], str]:
    """The sets, and why they could not be looked at."""
    try:
        trust = Trust(places.state_dir, places.signers).checked()
        return list(list_sets(places.backup_dir, database, trust).sets), host.hidden(places.backup_dir)
    except (ScannerDbError, OSError) as error:
        return [], str(error)


def _backups(backup_dir: str, sets: list[Any], why: str) -> Iterator[Diagnosis]:
    damaged = [item.name for item in sets if item.damaged]
    last = newest(sets)
    if why:
        yield unknown("backups", why)
    elif damaged:
        hint = f"Run playbooks/remove.yml -e scannerdb_remove_set={damaged[0]}; it puts the set aside first."
        yield wrong("backups", f"Damaged: {', '.join(damaged)}.", hint)
    elif last is None:
        yield wrong("backups", f"There is none in {backup_dir}.", "Run playbooks/backup.yml.")
    else:
        yield fine("backups", f"{len(sets)}, the newest of {last.created:%Y-%m-%d %H:%M} UTC.")
    with contextlib.suppress(ScannerDbError, OSError):
        latest = latest_target(backup_dir)
        if latest and not Path(backup_dir, latest).is_dir():
            yield wrong("latest.backup", f"It leads to {latest}, which is gone.", "The next backup sets it right.")


def _schedule(places: Places) -> Iterator[Diagnosis]:
    try:
        installed = read_installed(places.config_dir)
        records = read_records(places.state_dir)
    except ScannerDbError as error:
        yield from_error("schedule", error)
        return
    yield _schedule_lock(Path(places.state_dir, LOCK), [r for r in records if r.outcome == RUNNING])
    if installed is None:
        yield fine("schedule", "No jobs are scheduled on this machine.")
        return
    yield host.scheduler(installed.kind)
    gone = [job.name for job in installed.jobs if job.enabled and not has_entry(installed, job)]
    if gone:
        yield wrong(
            "schedule",
            f"Nothing starts {', '.join(gone)}: their entries are gone.",
            "Run playbooks/schedule.yml again.",
        )
    for job in installed.jobs:
        last = last_of(records, job.name)
        if last and last.outcome not in (OK, RUNNING):
            text = f"Its last run, at {last.started}, {last.outcome}. {last.message}"
            yield wrong(f"job {job.name}", text, f"Read {last.log}.")


def _schedule_lock(path: Path, at_work: list[Any]) -> Diagnosis:
    """The lock of the scheduled jobs: free, held by a run, or held by what a killed run left."""
    cause = "lock of the scheduled jobs"
    if not path.exists():
        return fine(cause, "No job has run yet.")
    holding = host.holders(path)
    if holding is None:
        return unknown(cause, "this system has no /proc")
    if not holding:
        return fine(cause, "Nobody holds it.")
    names = ", ".join(map(str, sorted(holding)))
    if at_work:
        return fine(cause, f"Job {at_work[-1].job!r} has been at work since {at_work[-1].started} (processes {names}).")
    text = f"Processes {names} hold it, but their run is gone: a play has outlived its runner."
    return wrong(cause, text, f"If they do nothing useful any more: kill {names.replace(',', '')}")
