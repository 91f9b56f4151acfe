"""A clone: the backup under another name, for development; masked, where that is wanted, before anybody can see it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ..connection import SQL, Connection, Identifier, explained, fetch, text_of
from ..errors import FileProblem, RestoreRefused, ValidationFailed
from ..load.analyze import analyze
from ..load.contents import wanted_lines
from ..load.second_attempt import safe_paths
from ..load.target import property_statements, silence
from ..process import run_tool
from ..tools import Tools
from .build import clear_up, compare_content, create_empty, load_side, side_mark, side_session
from .cutover import Switch
from .heal import sessions_in
from .plan import RestorePlan, make_plan, plan_values, role_lines
from .request import RestoreTask, counted, result_of, state_line
from .roles import make_roles
from .switch import switched


def clone(conn: Connection, task: RestoreTask) -> dict[str, Any]:
    """Restore into a new database beside the live one, which is not touched; the module's result."""
    options, request, run = task.options, task.request, task.run
    _check_name(conn, request.into_database)
    if request.masking_sql and not os.access(request.masking_sql, os.R_OK):
        raise FileProblem(f"The masking SQL {request.masking_sql} cannot be read.", "Check its path and its mode.")
    plan = make_plan(conn, options, request, run, record=not task.check_mode)
    lines = _steps(plan, task)
    result = result_of(options, run, plan.source.place, None, None, [*task.told, *plan.warnings])
    result["restore"].update(database=request.into_database, left_out=request.leave_out.texts)
    result["diff"] = {
        "before": state_line(request.into_database, "missing"),
        "after": state_line(request.into_database, f"from {plan.source.place}"),
    }
    if task.check_mode:
        result["plan"] = plan_values(plan, lines)
        result["msg"] = f"Would clone {plan.source.name} to database {request.into_database!r}."
        return result
    for line in lines:
        run.log(f"plan: {line}")
    try:
        result["warnings"] += _build(conn, task, plan)
        mark = side_mark(options, plan, run)
        comment = f"Clone of {options.db!r} made by run {run.run_id} from {plan.source.place}"
        switch = Switch(request.into_database, plan.side, "", False, mark, mark, comment)
        back = f"To remove it: {text_of(SQL('DROP DATABASE {}').format(Identifier(request.into_database)))};"
        switched(conn, options, run, switch, (f"The clone {request.into_database!r} was made.", back))
    except BaseException:
        clear_up(conn, options, run)
        raise
    masked = f", masked by {request.masking_sql}" if request.masking_sql else ""
    result["restore"].update(counted(plan.rows))
    result["msg"] = f"Cloned {plan.source.name} to database {request.into_database!r}{masked}."
    return result


def _check_name(conn: Connection, name: str) -> None:
    if len(name.encode()) > 63:
        raise RestoreRefused(f"{name!r} is too long for a database's name: PostgreSQL takes 63 bytes.")
    with explained("Looking for the clone's name"):
        if fetch(conn, "SELECT FROM pg_database WHERE datname = %s", [name]):
            raise RestoreRefused(
                f"Database {name!r} exists already, and a clone replaces nothing.",
                "Drop it, or choose another name in scannerdb_restore_into_database.",
            )


def _steps(plan: RestorePlan, task: RestoreTask) -> list[str]:
    request = task.request
    masked = f"run {request.masking_sql} on it, rewrite its tables" if request.masking_sql else "not masked"
    return [
        f"source: {plan.source.place}, {plan.source.size_bytes} bytes, verified",
        f"new database {plan.side!r}, closed to everybody who is no superuser and not in the maintenance role",
        *role_lines(plan, request),
        f"load {plan.contents.tables} tables, about {plan.needed_bytes} bytes"
        + (f", and compare the rows of {len(plan.rows)}" if plan.rows else ""),
        masked,
        "analyze, give owner, privileges and settings",
        f"rename it to {request.into_database!r}",
    ]


def _build(conn: Connection, task: RestoreTask, plan: RestorePlan) -> list[str]:
    """Load, compare, mask, analyze, give away; returns warnings."""
    options, request, run = task.options, task.request, task.run
    run.progress("create")
    make_roles(conn, request, plan, run)
    target = replace(plan.target, comment="", is_template=False)
    # Its owner could connect: it gets one when all is done.
    create_empty(conn, options, plan, replace(target, owner=""), run)
    with explained(f"Closing {plan.side!r}"):
        conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(plan.side)))
    if sessions_in(conn, plan.side):
        raise RestoreRefused(f"Somebody connected to {plan.side!r} while it was made.", "Run again.")
    warnings = load_side(
        conn, options, request, plan, run, task.contract, wanted_lines(plan.contents, plan.server.superuser)
    )
    with side_session(options, plan, run) as side:
        compare_content(side, plan, run)
    if request.masking_sql:
        run.progress("mask")
        mask(task, plan.tools, plan.side)
    run.progress("analyze")
    with side_session(options, plan, run) as side, explained(f"Analyzing {plan.side!r}"):
        # Statistics hold values, and updated rows stay in the files: only rewritten tables hold nothing else.
        if request.masking_sql:
            side.execute("VACUUM (FULL, ANALYZE)")
        else:
            warnings += analyze(side, safe_paths(conn, plan.target.settings, plan.contents.code, request.run_code))
    with explained(f"Giving {plan.side!r} its owner, privileges and settings"), conn.transaction():
        name = Identifier(plan.side)
        if target.owner:
            conn.execute(SQL("ALTER DATABASE {} OWNER TO {}").format(name, Identifier(target.owner)))
        if target.grants is None:
            conn.execute(SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(name))
        loud = silence(plan.side, plan.server.major, plan.server.superuser, off=False)
        for statement in [*loud, *property_statements(plan.side, target)]:
            conn.execute(statement)
    return warnings


def mask(task: RestoreTask, tools: Tools, side: str) -> None:
    """Run the masking SQL as one transaction; a single error stops the clone."""
    words = [tools.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"]
    finished = run_tool([*words, "-f", task.request.masking_sql], task.options, dbname=side, check=False)
    if finished.returncode != 0:
        why = " ".join(finished.stderr.split())[:500] or f"psql ended with code {finished.returncode}"
        raise ValidationFailed(
            f"The masking SQL failed, so there is no clone: {why.rstrip('.')}.",
            f"Repair {task.request.masking_sql}, and run again.",
        )
