"""The middle of a restore: the side database, and its proof. The live one is only read."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence

from ..connection import SQL, Composable, Connection, DriverError, Identifier, Options, connect, explained, scalar
from ..contract.difference import difference
from ..contract.introspect import read_catalog
from ..contract.model import Contract
from ..contract.needs import OLDER_LAYOUT
from ..contract.probe import write_probe
from ..errors import ScannerDbError, ToolFailed, ValidationFailed
from ..finding import Finding
from ..joblock import job_lock
from ..load.analyze import analyze
from ..load.contents import wanted_lines, without_roles
from ..load.failures import remedy, summed_up
from ..load.loading import Load, Loaded, load_archive
from ..load.second_attempt import Archive, safe_paths
from ..load.sql_file import Terms, load_script
from ..load.target import Target, create_statement, located_as, property_statements, silence
from ..load.validation import check_counts, counts_of, new_losses, plain_tables, sequences_kept
from ..process import cores
from ..runs import Run, now_text
from ..sets.archive import SQL_FILE
from ..sets.fingerprint import fingerprint_differences
from .heal import find, heal, set_comment
from .marks import SIDE, DatabaseMark
from .missing_rights import give_carried, unreadable, unreadable_or_absent
from .plan import RestorePlan
from .proof import loader
from .request import RestoreRequest
from .roles import check_replaced, contract_under, give_event_triggers, give_to_roles, make_roles

RECONNECT_S = 10.0
UNKNOWN_LOCALE = ("42809", "22023", "0A000")  # of CREATE DATABASE: no such locale, none for the encoding, no ICU
ROLELESS = ("--no-owner", "--no-privileges")  # flags of pg_restore where roles are replaced
GIVING = "Giving the restored database the settings, privileges and limits of {!r}"


def side_mark(options: Options, plan: RestorePlan, run: Run) -> DatabaseMark:
    """The comment of this run's side database."""
    return DatabaseMark(SIDE, options.db, run.run_id, now_text(), plan.source.place)


def create_empty(conn: Connection, options: Options, plan: RestorePlan, target: Target, run: Run) -> None:
    """Create the empty side database, marked as ours."""
    closed = plan.server.superuser
    with explained(f"Creating the database {plan.side!r}"):
        try:
            conn.execute(create_statement(plan.side, target, plan.server.major, closed=closed))
        except DriverError as error:
            if plan.spare is None or getattr(error, "sqlstate", "") not in UNKNOWN_LOCALE:
                raise
            run.log(f"warning: {locale_refused(error, plan)}")
            conn.execute(create_statement(plan.side, located_as(target, plan.spare), plan.server.major, closed=closed))
            run.facts["locale"] = locale_refused(error, plan)
        run.facts["side_database"] = plan.side
        set_comment(conn, plan.side, side_mark(options, plan, run).text())
        for statement in silence(plan.side, plan.server.major, plan.server.superuser):
            conn.execute(statement)


def locale_refused(error: Exception, plan: RestorePlan) -> str:
    """That the server does not know what the file asks for, and what is taken instead. Pure."""
    why = str(error).splitlines()[0].rstrip(".")
    instead = plan.spare.origin if plan.spare else ""
    return f"The server makes no database as CREATE DATABASE in the file asks ({why}): it is made as {instead} has it."


def create_side(
    conn: Connection, options: Options, request: RestoreRequest, plan: RestorePlan, run: Run
) -> list[Composable]:
    """Create the empty side database; returns the statements that will give it its properties, tried out."""
    run.progress("create")
    make_roles(conn, request, plan, run)
    create_empty(conn, options, plan, plan.target, run)
    loud = silence(plan.side, plan.server.major, plan.server.superuser, off=False)
    properties = [*loud, *property_statements(plan.side, plan.target)]
    with explained(GIVING.format(options.db)):
        with conn.transaction(force_rollback=True):  # what is not permitted is said before the long work
            for statement in properties:
                conn.execute(statement)
        if plan.target.grants is not None:
            conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(plan.side)))
    return properties


def fill_side(
    conn: Connection, options: Options, request: RestoreRequest, plan: RestorePlan, run: Run, contract: Contract
) -> list[str]:
    """Load the side database and analyze it; returns warnings."""
    wanted = wanted_lines(plan.contents, plan.server.superuser)
    warnings = load_side(conn, options, request, plan, run, contract, wanted)
    run.progress("analyze")
    with side_session(options, plan, run) as side:
        warnings += analyze(side, _paths(conn, request, plan))
    return warnings


def side_session(options: Options, plan: RestorePlan, run: Run) -> contextlib.closing[Connection]:
    """A session in the side database, for a with statement."""
    return contextlib.closing(connect(options, dbname=plan.side, purpose=f"restore {run.run_id}"))


def give_properties(conn: Connection, options: Options, properties: list[Composable]) -> None:
    """Carry settings, privileges and limits over; last, because a read-only setting would fail the write probe."""
    with explained(GIVING.format(options.db)), conn.transaction():
        for statement in properties:
            conn.execute(statement)


def load_side(
    conn: Connection,
    options: Options,
    request: RestoreRequest,
    plan: RestorePlan,
    run: Run,
    contract: Contract,
    lines: Sequence[str],
    flags: Sequence[str] = (),
) -> list[str]:
    """Load these lines of the archive's table of contents, with more flags for pg_restore; returns warnings.

    A plain SQL file is loaded as a whole.
    """
    run.progress("load", 0, plan.needed_bytes, unit="bytes")
    whole = not flags  # parts of it keep the roles and places that they have

    def tell() -> None:
        with contextlib.suppress(DriverError):
            size = scalar(conn, "SELECT pg_database_size(%s)", [plan.side])
            run.progress("load", int(size or 0), plan.needed_bytes, unit="bytes")

    def roles() -> None:
        if plan.rules and whole:
            _give_roles(options, plan, run)

    if plan.source.kind == SQL_FILE:
        terms = Terms(plan.server.major, plan.server.superuser, plan.rules, plan.places, plan.source.name)
        warnings, said = [], load_script(plan.tools, options, plan.source.dump, plan.side, terms, tell)
        _require_unchanged(request)
        roles()
    else:
        roleless = bool(plan.rules) and whole
        load = _load_of(conn, options, request, plan, ROLELESS if roleless else flags)
        loaded = load_archive(load, without_roles(plan.contents, lines) if roleless else lines, roles, tell)
        _require_unchanged(request)
        warnings, said = _outcome_of(loaded, plan), loaded.said
        warnings += _late_event_triggers(options, plan, run) if roleless else []
    for line in said.splitlines():
        run.log(f"{loader(plan.source)}: {line.strip()}")
    return warnings + (_settled(options, plan, run, contract) if whole else [])


def _give_roles(options: Options, plan: RestorePlan, run: Run) -> None:
    """Give everything to its roles; before event triggers are there, which might forbid it."""
    run.progress("roles")
    with side_session(options, plan, run) as side:
        run.log(f"{give_to_roles(side, plan)} statements about roles, as they were to be rewritten")
        check_replaced(side, plan.rules)


def _late_event_triggers(options: Options, plan: RestorePlan, run: Run) -> list[str]:
    """Give event triggers to their roles, which are all there by now; warnings of those that had to stay."""
    with side_session(options, plan, run) as side:
        kept = give_event_triggers(side, plan)
    return [f"No superuser, and so left with the restoring role: {statement}" for statement in kept]


def _settled(options: Options, plan: RestorePlan, run: Run, contract: Contract) -> list[str]:
    """Give what the source does not say, and warn of what it asks and cannot have."""
    warnings = [run.facts["locale"]] if "locale" in run.facts else []
    if plan.carried:
        with side_session(options, plan, run) as side:
            count = give_carried(side, plan.carried, contract_under(contract, plan.rules))
        run.log(f"{count} statements gave owners and privileges")
    if plan.rules.ignored:
        names = ", ".join(sorted(plan.rules.ignored))
        warnings.append(f"Roles {names} do not exist: what they had was left out, their objects have another owner.")
    return warnings


def _require_unchanged(request: RestoreRequest) -> None:
    """Raise `BackupInvalid` where somebody has changed what was loaded, whatever came of it."""
    if request.kept:
        request.kept.require_unchanged()


def _paths(conn: Connection, request: RestoreRequest, plan: RestorePlan) -> tuple[str, ...]:
    return safe_paths(conn, plan.target.settings, plan.contents.code, request.run_code)


def _load_of(
    conn: Connection, options: Options, request: RestoreRequest, plan: RestorePlan, flags: Sequence[str]
) -> Load:
    if plan.places:
        flags = [*flags, "--no-tablespaces"]
    archive = Archive(plan.tools, options, plan.source.dump, plan.side, tuple(flags))
    paths = _paths(conn, request, plan)
    jobs = request.jobs or cores()
    return Load(
        archive, plan.contents, plan.source.kind, jobs, paths=paths, named=request.leave_out, places=plan.places
    )


def _outcome_of(loaded: Loaded, plan: RestorePlan) -> list[str]:
    """What people should know of a load; raises `ToolFailed` where something is missing that was not to be left out."""
    if loaded.failures:
        raise ToolFailed(
            f"pg_restore failed: {summed_up(loaded.failures, plan.contents)} The live database was not touched.",
            remedy(loaded.failures, plan.contents),
        )
    told = []
    if loaded.again:
        told.append(
            f"{len(loaded.again)} objects could be made in a second attempt only, with the original's search_path: "
            f"{', '.join(loaded.again[:5])}."
        )
    if loaded.left_out:
        told.append(f"Left out, as scannerdb_restore_leave_out says: {', '.join(loaded.left_out)}.")
    return told


def validate(options: Options, request: RestoreRequest, plan: RestorePlan, run: Run, contract: Contract) -> list[str]:
    """Prove the side database: row counts, contract, write probe. Warnings come back; `ValidationFailed` stops."""
    run.progress("validate")
    contract = contract_under(contract, plan.rules)
    with side_session(options, plan, run) as side:
        compare_content(side, plan, run)
        serious = [f for f in difference(contract, read_catalog(side, contract)) if f.severity == "critical"]
        _judge(options, request, plan, run, contract, serious)
        closed = unreadable(side, contract, roleless=bool(plan.carried))
        if closed and not (plan.source.is_set and _is_no_news(options, plan, run, contract, closed)):
            _judge_readable(request, plan, closed)
        if serious:
            told = "; ".join(f"{f.id} ({f.object})" for f in serious[:5])
            return [
                f"The restored database has {len(serious)} critical findings, as the backup had: {told}. Run "
                "playbooks/fix.yml. The write probe was left out."
            ]
        with sequences_kept(side):
            probe = write_probe(side, contract)
    if probe.failures:
        raise ValidationFailed(
            f"Writing to the restored database does not work: {'; '.join(probe.failures)}.",
            "The live database was not touched; use another backup.",
        )
    for said in (probe.skipped or "passed", *probe.notes):
        run.log(f"write probe: {said}")
    return [f"The write probe could not look: {probe.skipped}."] if probe.skipped else []


def compare_content(side: Connection, plan: RestorePlan, run: Run, only: Sequence[tuple[str, str]] = ()) -> None:
    """Hold rows, and fingerprints where there are any, against what the source says; raises `ValidationFailed`.

    `only` names the tables to look at; without it all of them are.
    """
    tables = [t for t in plan.rows if not only or (t.schema, t.name) in only]
    if not plan.manifest:
        plain = plain_tables(side)
        tables = [t for t in tables if (t.schema, t.name) in plain]
    check_counts(*counts_of(side, tables))
    run.log(f"the rows of {len(tables)} tables are as in {'the manifest' if plan.manifest else plan.source.name}")
    differences = fingerprint_differences(
        side, tables, lambda done, total: run.progress("fingerprints", done, total, unit="tables")
    )
    if differences:
        raise ValidationFailed(
            f"The restored database is not what was backed up: {' '.join(differences[:5])}",
            "The live database was not touched; verify the backup, or use another.",
        )
    run.log(f"{sum(1 for t in tables if t.fingerprint)} fingerprints are as in the manifest")


def _judge(
    options: Options, request: RestoreRequest, plan: RestorePlan, run: Run, contract: Contract, serious: list[Finding]
) -> None:
    """Raise `ValidationFailed` where the backup lost what the live database has, or what the contract demands."""
    for finding in serious:
        run.log(f"critical: {finding.id} {finding.object}: {finding.message}")
    refused = [f for f in serious if not any(fnmatch.fnmatchcase(f.id, pattern) for pattern in request.accept)]
    if not refused or (plan.live is None and any(f.id == OLDER_LAYOUT for f in serious)):
        return  # the contract says nothing of an older layout
    present: list[Finding] = []
    if plan.live:
        with contextlib.closing(connect(options, purpose=f"restore {run.run_id}")) as live:
            present = difference(contract, read_catalog(live, contract))
    lost = new_losses([(f.id, f.object) for f in refused], [(f.id, f.object) for f in present])
    if lost:
        told = "; ".join(f"{finding} ({name})" for finding, name in lost[:5])
        raise ValidationFailed(
            f"The backup {plan.source.name} lacks what the database must have: {told}.",
            "The live database was not touched. Use another backup; where this one is right, list these ids in "
            "scannerdb_restore_accept.",
        )


def _is_no_news(options: Options, plan: RestorePlan, run: Run, contract: Contract, told: list[str]) -> bool:
    """True where the application cannot read these in the live database either, of which a set is a true image."""
    if plan.live is None:
        return True
    with contextlib.closing(connect(options, purpose=f"restore {run.run_id}")) as live:
        return set(told) <= set(unreadable_or_absent(live, contract))


def _judge_readable(request: RestoreRequest, plan: RestorePlan, told: list[str]) -> None:
    """Raise `ValidationFailed` where the application could not read its tables after the cutover."""
    if told and not any(fnmatch.fnmatchcase("schema.privilege.missing", pattern) for pattern in request.accept):
        raise ValidationFailed(
            f"After a restore of {plan.source.name} the application could not read its tables: {'; '.join(told[:5])}.",
            "The live database was not touched. playbooks/deploy.yml makes the role and its privileges; a restore that "
            "is right without lists schema.privilege.missing in scannerdb_restore_accept.",
        )


def clear_up(conn: Connection, options: Options, run: Run) -> None:
    """Put right what a failed run left, at once where the lock is still ours; else the next run does it."""
    told, settled = [], False
    with contextlib.suppress(ScannerDbError, DriverError), still_ours(conn, options, run) as session:
        told = heal(session, options.db)
        left = [f.name for f in find(session, options.db) if f.mark and _is_side_of(f.mark, run)]
        told += [f"Database {name!r}, half restored, is still there; the next restore removes it." for name in left]
        settled = True
        for line in told[len(told) - len(left) :]:
            run.note_change(line)
        if not left:
            run.facts.pop("side_database", None)
    for line in told:
        run.log(line)
    if not settled and "side_database" in run.facts:
        run.note_change("What is left of the side database could not be looked at; the next restore removes it.")


def _is_side_of(mark: DatabaseMark, run: Run) -> bool:
    return mark.kind == SIDE and mark.run_id == run.run_id


@contextlib.contextmanager
def still_ours(conn: Connection, options: Options, run: Run) -> Iterator[Connection]:
    """The session that holds the job lock; a new one where the server went away."""
    if conn.closed:
        with job_lock(options, "restore", run.run_id, RECONNECT_S) as again:
            yield again
    else:
        yield conn
