"""Single tables out of a backup, into a schema of their own in the live database: to compare, and to copy rows back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..connection import SQL, Connection, Identifier, Options, connect, explained, fetch, scalar, text_of
from ..errors import BackupInvalid, InvalidInput, RestoreRefused
from ..load.contents import table_lines
from ..load.role_mapping import RoleRules
from ..load.sql_file import Terms, load_script
from ..process import run_tool
from ..sets.archive import SQL_FILE
from ..sets.staging import borrowed, sweep
from .build import clear_up, compare_content, create_empty, load_side, side_session
from .plan import RestorePlan, make_plan, plan_values
from .request import RestoreTask, backup_folder, counted, result_of, state_line

PLAIN = ("--no-owner", "--no-privileges", "--no-comments", "--no-publications", "--no-security-labels")
Name = tuple[str, str]  # schema and table
_QUOTED = r'"(?P<quoted_{0}>(?:[^"]|"")+)"|(?P<{0}>[^".]+)'
_NAME = re.compile(rf"(?:(?:{_QUOTED.format('schema')})\.)?(?:{_QUOTED.format('name')})")


def bring_tables(conn: Connection, task: RestoreTask) -> dict[str, Any]:
    """Put tables of the backup into a new schema of the live database; the module's result.

    They are loaded into a side database first (of plain SQL everything is), and come over as one transaction: the
    schema is there whole or not at all, and the live tables are not touched.
    """
    options, run = task.options, task.run
    schema = task.request.into_schema or f"restored_{run.run_id[-8:]}"
    names = [table_name(text) for text in task.request.tables]
    _check_schema(options, schema)
    # Owners and grants are left behind, so roles that are missing do not matter.
    request = replace(task.request, missing_roles="ignore", role_map={}, tablespace_map={})
    plan = make_plan(conn, options, request, run, record=not task.check_mode)
    plan = replace(plan, rules=RoleRules(ignored=plan.contents.roles))
    _check_tables(plan, names)
    result = result_of(options, run, plan.source.place, None, None, [*task.told, *plan.warnings])
    result["restore"].update(schema=schema, tables=[f"{s}.{n}" for s, n in names])
    result["diff"] = {
        "before": "",
        "after": "".join(state_line(options.db, f"schema {schema!r}, table {n!r}") for _, n in names),
    }
    if task.check_mode:
        result["plan"] = plan_values(plan, _steps(plan, names, schema))
        result["msg"] = f"Would put {len(names)} tables of {plan.source.name} into schema {schema!r}."
        return result
    try:
        create_empty(conn, options, plan, replace(plan.target, owner=""), run)
        load_side(conn, options, request, plan, run, task.contract, table_lines(plan.contents, names), PLAIN)
        _regroup(task, plan, names, schema)
        _carry_over(task, plan, schema)
        back = f"To remove it: {text_of(SQL('DROP SCHEMA {} CASCADE').format(Identifier(schema)))};"
        run.note_change(f"Schema {schema!r} with {len(names)} restored tables was made.", back)
    finally:
        clear_up(conn, options, run)
    result["restore"].update(counted([t for t in plan.rows if (t.schema, t.name) in names]))
    result["msg"] = f"Put {len(names)} tables of {plan.source.name} into schema {schema!r} of {options.db!r}."
    return result


def table_name(text: str) -> Name:
    """Schema and name out of `endpoints`, `public.endpoints` or `"odd name"."a.b"`; raises `InvalidInput`. Pure."""
    match = _NAME.fullmatch(text.strip())
    if not match:
        raise InvalidInput(f"{text!r} is not the name of a table.", 'Write it like endpoints or public."odd name".')
    schema, name = (
        quoted.replace('""', '"') if quoted else bare
        for quoted, bare in (match.group("quoted_schema", "schema"), match.group("quoted_name", "name"))
    )
    return schema or "public", str(name)


def _check_schema(options: Options, schema: str) -> None:
    with connect(options, purpose="restore plan") as live, explained("Looking at the schemas"):
        if fetch(live, "SELECT FROM pg_namespace WHERE nspname = %s", [schema]):
            raise RestoreRefused(
                f"Database {options.db!r} has a schema {schema!r} already.",
                "Choose another name in scannerdb_restore_into_schema, or drop that schema.",
            )
        if not scalar(live, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            raise RestoreRefused(
                f"This role may not create a schema in database {options.db!r}.", "GRANT CREATE ON DATABASE … TO it."
            )


def _check_tables(plan: RestorePlan, names: list[Name]) -> None:
    tables = plan.contents.of("TABLE")
    for schema, name in names if all(entry.schema for entry in tables) else ():  # else it shows when it is loaded
        if not any(entry.label.startswith(f"{schema} {name} ") for entry in tables):
            raise _no_table(plan, schema, name)
    twice = {name for _, name in names if sum(name == other for _, other in names) > 1}
    if twice:
        raise InvalidInput(f"Two tables named {', '.join(sorted(twice))} do not fit into one schema.")


def _no_table(plan: RestorePlan, schema: str, name: str) -> BackupInvalid:
    return BackupInvalid(f"The backup {plan.source.name} has no table {schema}.{name}.", "Check its name.")


def _steps(plan: RestorePlan, names: list[Name], schema: str) -> list[str]:
    tables = ", ".join(f"{s}.{n}" for s, n in names)
    what = f"all of it, about {plan.needed_bytes} bytes, for {tables}" if plan.source.kind == SQL_FILE else tables
    return [
        f"source: {plan.source.place}, {plan.source.size_bytes} bytes, verified",
        f"load {what} into the side database {plan.side!r}",
        f"copy them into the new schema {schema!r} of the live database, as one transaction",
        "drop the side database",
    ]


def _regroup(task: RestoreTask, plan: RestorePlan, names: list[Name], schema: str) -> None:
    """In the side database: hold the tables against what the source says, and put them into their new schema."""
    with side_session(task.options, plan, task.run) as side:
        _refuse_relatives(side, plan, names)
        compare_content(side, plan, task.run, names)
        if plan.source.kind == SQL_FILE:
            bare(side, names)
        with explained("Moving the tables"), side.transaction():
            side.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
            for old, name in names:
                side.execute(SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(*map(Identifier, (old, name, schema))))


def bare(side: Connection, names: list[Name]) -> None:
    """Take from the tables what is not loaded from an archive: it would lead to live tables, or is not wanted."""
    attached = """
        SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname) AS statement
          FROM pg_constraint WHERE conrelid = %(table)s::regclass AND contype = 'f'
        UNION ALL SELECT format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass)
          FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal
        UNION ALL SELECT format('DROP RULE %%I ON %%s', rulename, ev_class::regclass)
          FROM pg_rewrite WHERE ev_class = %(table)s::regclass
        UNION ALL SELECT format('DROP POLICY %%I ON %%s', polname, polrelid::regclass)
          FROM pg_policy WHERE polrelid = %(table)s::regclass
        UNION ALL SELECT format(
               'ALTER TABLE %%s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', oid::regclass)
          FROM pg_class WHERE oid = %(table)s::regclass AND (relrowsecurity OR relforcerowsecurity)
        UNION ALL SELECT format('DROP INDEX %%s', indexrelid::regclass)
          FROM pg_index WHERE indrelid = %(table)s::regclass
           AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    """
    with explained("Taking off what belongs to other tables"), side.transaction():
        for schema, name in names:
            for row in fetch(side, attached, {"table": text_of(Identifier(schema, name))}):
                side.execute(row["statement"])


def _refuse_relatives(side: Connection, plan: RestorePlan, names: list[Name]) -> None:
    """What has partitions, or inherits, would come without its rows, or as a part of the live table."""
    query = """
        SELECT to_regclass(%(table)s) IS NOT NULL AS there,
               EXISTS (SELECT FROM pg_inherits WHERE to_regclass(%(table)s) IN (inhrelid, inhparent)) AS related
    """
    for schema, name in names:
        with explained("Looking at the tables"):
            (row,) = fetch(side, query, {"table": text_of(Identifier(schema, name))})
        if not row["there"]:
            raise _no_table(plan, schema, name)
        if row["related"]:
            raise RestoreRefused(
                f"Table {schema}.{name} is a partition, has partitions, or inherits.",
                "Restore a clone (scannerdb_restore_into_database), and copy from there.",
            )


def _carry_over(task: RestoreTask, plan: RestorePlan, schema: str) -> None:
    """Dump the schema from the side database as SQL, and run that in the live one as one transaction.

    As SQL, because newer tools set what an older server does not know: a script can be spared that, line by line.
    """
    options, run = task.options, task.run
    folder = backup_folder(task.request)
    sweep(folder, options.db)
    with borrowed(folder, options.db) as place:
        script = Path(place, "tables.sql.gz")
        run.progress("dump")
        quoted = '"' + schema.replace('"', '""') + '"'
        words = [plan.tools.path("pg_dump"), "-Fp", "--compress=1", f"--schema={quoted}", f"--file={script}"]
        run_tool([*words, *PLAIN], options, dbname=plan.side)
        run.progress("copy")
        load_script(plan.tools, options, script, options.db, Terms(plan.server.major, plan.server.superuser))
