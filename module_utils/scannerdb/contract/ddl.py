"""The statements that bring an object into being, each with how it locks. Pure: nothing here touches a server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence

from ..connection import SQL, Composable, Identifier, Literal, Query
from ..finding import Change
from .functions import SEARCH_PATH, VIEW_PROGRAMS, Program, stamp_program
from .model import NOW, SEQUENCE, UNSPECIFIED, Column, ForeignKey, Grant, Index, Table, View

NAME_BYTES = 63
NUMBER_OR_BOOLEAN = re.compile(r"^(-?\d+(\.\d+)?|true|false)$")
SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
NONE = "none"
LOCK_STRENGTH = {NONE: 0, SHARE_UPDATE_EXCLUSIVE: 1, SHARE_ROW_EXCLUSIVE: 2, ACCESS_EXCLUSIVE: 3}


def short_name(*parts: str) -> str:
    """Parts joined by `_`, cut and hashed where PostgreSQL would cut it silently."""
    name = "_".join(parts)
    if len(name.encode("utf-8")) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return name.encode("utf-8")[: NAME_BYTES - 9].decode("utf-8", "ignore") + "_" + digest


def free_name(taken: Collection[str], *parts: str) -> str:
    """A name no relation of the schema has yet."""
    name, number = short_name(*parts), 1
    while name in taken:
        number += 1
        name = short_name(*parts, str(number))
    return name


def qualified(schema: str, name: str) -> Composable:
    """`schema.name`, composed."""
    return SQL("{}.{}").format(Identifier(schema), Identifier(name))


def columns_of(names: Sequence[str]) -> Composable:
    """A column list in brackets."""
    return SQL("({})").format(SQL(", ").join(map(Identifier, names)))


def default_of(column: Column) -> Composable | None:
    """The expression of a column's default, or None."""
    if column.default in (None, SEQUENCE):
        return None
    if column.default == UNSPECIFIED:
        return SQL("now()") if column.type.startswith("timestamp") else None
    if column.default == NOW:
        return SQL("now()")
    if NUMBER_OR_BOOLEAN.match(str(column.default)) and not column.type.startswith(("text", "char")):
        return SQL(str(column.default))  # type: ignore[arg-type,unused-ignore]
    return Literal(column.default)


def type_of(column: Column) -> Composable:
    """A column's type; it comes from the contract, whose types are words, digits, brackets and commas only."""
    allowed = set('abcdefghijklmnopqrstuvwxyz0123456789_ (),[]".')
    if not set(column.type.lower()) <= allowed:
        raise ValueError(f"not a type: {column.type!r}")
    return SQL(column.type)  # type: ignore[arg-type,unused-ignore]


def _definition(column: Column) -> Composable:
    words: list[Composable] = [Identifier(column.name), type_of(column)]
    if column.default == SEQUENCE:
        words[1] = SQL({"integer": "serial", "bigint": "bigserial", "smallint": "smallserial"}[column.type])
    default = default_of(column)
    if default is not None:
        words += [SQL("DEFAULT"), default]
    if not column.nullable:
        words.append(SQL("NOT NULL"))
    return SQL(" ").join(words)


def create_table(schema: str, table: Table) -> Query:
    """CREATE TABLE with columns, primary key and unique constraints; foreign keys come later."""
    parts = [_definition(column) for column in table.columns.values()]
    if table.primary_key:
        parts.append(SQL("PRIMARY KEY ") + columns_of(table.primary_key))
    parts += [SQL("UNIQUE ") + columns_of(unique) for unique in table.uniques]
    return SQL("CREATE TABLE {} (\n    {}\n)").format(qualified(schema, table.name), SQL(",\n    ").join(parts))


def alter(schema: str, table: str, action: Composable) -> Query:
    """ALTER TABLE with one action."""
    return SQL("ALTER TABLE {} {}").format(qualified(schema, table), action)


def strong(schema: str, tables: Sequence[str], *statements: Query, lock: str = ACCESS_EXCLUSIVE) -> Change:
    """A step that blocks writers of `tables` for an instant."""
    return Change(statements, lock, "strong", tuple((schema, table) for table in tables))


def add_column(schema: str, table: str, column: Column) -> list[Change]:
    """A new column without a rewrite: a constant default fills old rows, a clock's does not (that would be a lie)."""
    default = default_of(column)
    constant = default is not None and column.default not in (NOW, UNSPECIFIED)
    action = SQL("ADD COLUMN {} {}").format(Identifier(column.name), type_of(column))
    if constant:
        action += SQL(" DEFAULT {}").format(default)
        if not column.nullable:
            action += SQL(" NOT NULL")
    statements = [alter(schema, table, action)]
    if default is not None and not constant:
        statements.append(set_default(schema, table, column))
    return [strong(schema, [table], *statements)]


def set_default(schema: str, table: str, column: Column) -> Query:
    """ALTER COLUMN SET DEFAULT; existing rows keep what they have."""
    action = SQL("ALTER COLUMN {} SET DEFAULT {}").format(Identifier(column.name), default_of(column))
    return alter(schema, table, action)


def set_not_null(schema: str, table: str, column: str) -> list[Change]:
    """SET NOT NULL without a scan under the strong lock: a validated CHECK proves it first (PostgreSQL 12+)."""
    name = Identifier(short_name("scannerdb", table, column, "not_null"))
    drop = alter(schema, table, SQL("DROP CONSTRAINT IF EXISTS {}").format(name))
    add = SQL("ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID").format(name, Identifier(column))
    validate = alter(schema, table, SQL("VALIDATE CONSTRAINT {}").format(name))
    final = alter(schema, table, SQL("ALTER COLUMN {} SET NOT NULL").format(Identifier(column)))
    return [
        strong(schema, [table], drop, alter(schema, table, add)),
        online(validate, cleanup=strong(schema, [table], drop)),
        strong(schema, [table], final, drop),
    ]


def online(statement: Query, cleanup: Change | None = None, index: tuple[str, str] | None = None) -> Change:
    """A step that stops no writer, however long it takes."""
    return Change((statement,), SHARE_UPDATE_EXCLUSIVE, "online", cleanup=cleanup, index=index)


def create_index(schema: str, table: str, index: Index, name: str) -> Change:
    """CREATE INDEX CONCURRENTLY under a name that is free."""
    statement = SQL("CREATE {}INDEX CONCURRENTLY {} ON {} {}").format(
        SQL("UNIQUE " if index.unique else ""),
        Identifier(name),
        qualified(schema, table),
        columns_of(index.columns),
    )
    return online(statement, index=(schema, name))


def reindex(schema: str, name: str) -> Change:
    """REINDEX CONCURRENTLY, which makes an invalid index valid."""
    return online(SQL("REINDEX INDEX CONCURRENTLY {}").format(qualified(schema, name)))


def drop_index(schema: str, name: str) -> Change:
    """DROP INDEX CONCURRENTLY."""
    return online(SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(qualified(schema, name)))


def drop_constraint(schema: str, tables: Sequence[str], name: str) -> Change:
    """Drop a constraint of the first table, if it is still there."""
    return strong(
        schema, tables, alter(schema, tables[0], SQL("DROP CONSTRAINT IF EXISTS {}").format(Identifier(name)))
    )


def alter_column(schema: str, table: str, column: str, action: str) -> Change:
    """ALTER COLUMN with a fixed action, e.g. DROP DEFAULT."""
    words = SQL("ALTER COLUMN {} {}").format(Identifier(column), SQL(action))  # type: ignore[arg-type,unused-ignore]
    return strong(schema, [table], alter(schema, table, words))


def drop_triggers(schema: str, relation: str, names: Sequence[str], soft: bool = True) -> Change:
    """Drop triggers by name; `soft` takes the table's soft lock first (a view has none)."""
    statements = tuple(
        SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(name), qualified(schema, relation)) for name in names
    )
    return Change(statements, ACCESS_EXCLUSIVE, "strong", ((schema, relation),) if soft else ())


def add_key(schema: str, table: str, columns: Sequence[str], name: str, primary: bool) -> list[Change]:
    """A primary key or unique constraint: its index is built CONCURRENTLY, then attached."""
    word = SQL("PRIMARY KEY") if primary else SQL("UNIQUE")
    attach = SQL("ADD CONSTRAINT {} {} USING INDEX {}").format(Identifier(name), word, Identifier(name))
    return [
        create_index(schema, table, Index(tuple(columns), unique=True), name),
        strong(schema, [table], alter(schema, table, attach)),
    ]


def _keywords(text: str) -> Composable:
    """Words of PostgreSQL's own, out of this area's lists: nothing that a catalog or an overlay could spell."""
    return SQL(text)  # type: ignore[arg-type,unused-ignore]


def foreign_key(key: ForeignKey, name: str, schema: str, not_valid: bool = True) -> Composable:
    """The ADD CONSTRAINT action of a foreign key; what is PostgreSQL's own default is not said."""
    limited = SQL(" ") + columns_of(key.set_columns) if key.set_columns else SQL("")
    return SQL("ADD CONSTRAINT {} FOREIGN KEY {} REFERENCES {} {}{} ON DELETE {}{}{}{}{}").format(
        Identifier(name),
        columns_of(key.columns),
        qualified(schema, key.table),
        columns_of(key.ref_columns),
        _keywords("" if key.match == "SIMPLE" else f" MATCH {key.match}"),
        _keywords(key.on_delete),
        limited,
        _keywords("" if key.on_update == "NO ACTION" else f" ON UPDATE {key.on_update}"),
        _keywords("" if key.deferral == "NOT DEFERRABLE" else f" {key.deferral}"),
        SQL(" NOT ENFORCED" if not key.enforced else " NOT VALID" if not_valid else ""),
    )


def add_foreign_key(schema: str, table: str, key: ForeignKey, name: str) -> list[Change]:
    """A foreign key in two steps: NOT VALID locks for an instant, VALIDATE scans beside the writers.

    A key that is to be NOT VALID or NOT ENFORCED, as it was before a fix, has the first step only.
    """
    tables = [table, key.table]
    add = strong(schema, tables, alter(schema, table, foreign_key(key, name, schema)), lock=SHARE_ROW_EXCLUSIVE)
    if not (key.validated and key.enforced):
        return [add]
    return [add, online(validate(schema, table, name), cleanup=drop_constraint(schema, tables, name))]


def validate(schema: str, table: str, name: str) -> Query:
    """VALIDATE CONSTRAINT."""
    return alter(schema, table, SQL("VALIDATE CONSTRAINT {}").format(Identifier(name)))


def swap_name(name: str) -> str:
    """The name that a foreign key's successor has until it takes its place."""
    return short_name("scannerdb", name)


def swap_foreign_key(schema: str, table: str, old: ForeignKey, new: ForeignKey, left_over: bool = True) -> list[Change]:
    """Replace a foreign key's rule online, keeping its name: the new one is proven before the old one goes.

    `left_over`: an interrupted swap may have left a successor; dropping it takes a stronger lock than adding one.
    """
    successor, tables = swap_name(old.name), [table, old.table]
    drop = alter(schema, table, SQL("DROP CONSTRAINT {}").format(Identifier(old.name)))
    rename = alter(schema, table, SQL("RENAME CONSTRAINT {} TO {}").format(Identifier(successor), Identifier(old.name)))
    return [
        *([drop_constraint(schema, tables, successor)] if left_over else []),
        *add_foreign_key(schema, table, new, successor),
        strong(schema, tables, drop, rename),
    ]


def create_function(schema: str, program: Program) -> Query:
    """CREATE OR REPLACE of a trigger function, with its fixed search_path."""
    return SQL(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER SET search_path = "
        + SEARCH_PATH
        + " AS {}"
    ).format(qualified(schema, program.name), Literal(body_of(schema, program)))


def body_of(schema: str, program: Program) -> str:
    """A function's body as the catalog will hold it."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return program.body.replace("{schema}", schema if schema == "public" else quoted)


def create_trigger(schema: str, program: Program) -> Query:
    """CREATE OR REPLACE TRIGGER (PostgreSQL 14+)."""
    when = SQL(f" WHEN ({program.when})") if program.when else SQL("")
    return SQL("CREATE OR REPLACE TRIGGER {} {} {} ON {} FOR EACH ROW{} EXECUTE FUNCTION {}()").format(
        Identifier(program.name),
        SQL(program.timing),
        SQL(program.event),
        qualified(schema, program.relation),
        when,
        qualified(schema, program.name),
    )


def trigger_with_function(schema: str, program: Program, owner: str = "") -> list[Query]:
    """A trigger and its function, given to `owner`, else to its maker: one that is replaced would stay another's."""
    whom = Identifier(owner) if owner else SQL("CURRENT_USER")
    given = SQL("ALTER FUNCTION {}() OWNER TO {}").format(qualified(schema, program.name), whom)
    return [create_function(schema, program), given, create_trigger(schema, program)]


def row_trigger(schema: str, program: Program, owner: str = "") -> list[Change]:
    """A row trigger on a table, with its function."""
    statements = trigger_with_function(schema, program, owner)
    return [strong(schema, [program.relation], *statements, lock=SHARE_ROW_EXCLUSIVE)]


def enable_trigger(schema: str, table: str, name: str) -> Change:
    """ALTER TABLE ENABLE TRIGGER; that of a constraint needs a superuser."""
    action = SQL("ENABLE TRIGGER {}").format(Identifier(name))
    return strong(schema, [table], alter(schema, table, action), lock=SHARE_ROW_EXCLUSIVE)


def view_triggers(
    schema: str, events: Collection[str], drop: Sequence[str] = (), view: str = "servers", owner: str = ""
) -> list[Change]:
    """The INSTEAD OF triggers for these events; `drop` are the foreign triggers they replace.

    One transaction; the view itself is never dropped, so grants on it and views over it survive. A view needs no soft
    lock: nothing vacuums it, and LOCK TABLE would reach through to its tables.
    """
    statements: list[Query] = [
        SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(name), qualified(schema, view)) for name in drop
    ]
    for event in sorted(events):
        statements += trigger_with_function(schema, VIEW_PROGRAMS[event], owner)
    return [Change(tuple(statements), SHARE_ROW_EXCLUSIVE, "strong")]


def create_view(schema: str, view: View, replace: bool = False) -> Query:
    """The `servers` view: endpoints that have a link."""
    return SQL(
        "CREATE {}VIEW {} AS SELECT e.id, e.ip, e.port, e.scan_date FROM {} e JOIN {} v ON v.endpoint_id = e.id"
    ).format(
        SQL("OR REPLACE " if replace else ""),
        qualified(schema, view.name),
        qualified(schema, "endpoints"),
        qualified(schema, "verified_endpoints"),
    )


def grant(schema: str, item: Grant) -> Query:
    """GRANT for one role on one object."""
    return _privilege("GRANT {} ON {} {} TO {}", schema, item)


def revoke(schema: str, item: Grant) -> Query:
    """REVOKE of what `grant` gives."""
    return _privilege("REVOKE {} ON {} {} FROM {}", schema, item)


def _privilege(template: str, schema: str, item: Grant) -> Query:
    words = SQL(", ").join(SQL(p) for p in sorted(item.privileges))  # type: ignore[arg-type,unused-ignore]
    target = Identifier(item.relation) if item.kind == "SCHEMA" else qualified(schema, item.relation)
    kind = SQL(item.kind)  # type: ignore[arg-type,unused-ignore]
    return SQL(template).format(words, kind, target, Identifier(item.role))  # type: ignore[arg-type,unused-ignore]


def set_owner(kind: str, schema: str, name: str, owner: str) -> Query:
    """ALTER … OWNER TO, for an object made by somebody else than the owner of its siblings."""
    return SQL("ALTER {} {} OWNER TO {}").format(
        SQL(kind),  # type: ignore[arg-type,unused-ignore]
        qualified(schema, name),
        Identifier(owner),
    )


def new_table(
    schema: str, table: Table, grants: Sequence[Grant], taken: Collection[str], owner: str = ""
) -> list[Change]:
    """Everything a missing table needs: itself, indexes, triggers, privileges, and its foreign keys.

    `owner` is set where it is not the role that creates it.
    """
    made: list[Query] = [create_table(schema, table)]
    names = set(taken)
    for index in table.indexes:
        if index.unless_unique_leads and any(u[: len(index.columns)] == index.columns for u in table.uniques):
            continue
        name = free_name(names, table.name, *index.columns, "idx")
        names.add(name)
        made.append(
            SQL("CREATE {}INDEX {} ON {} {}").format(
                SQL("UNIQUE " if index.unique else ""),
                Identifier(name),
                qualified(schema, table.name),
                columns_of(index.columns),
            )
        )
    for stamp in table.row_triggers:
        program = stamp_program(stamp.stamps, stamp.when_changed)
        made += trigger_with_function(schema, program, owner)
    for item in grants:
        made.append(grant(schema, item))
        if "INSERT" in item.privileges:
            made += [grant(schema, g) for g in sequence_grants(table, item.role)]
    if owner:
        made.append(set_owner("TABLE", schema, table.name, owner))
    changes = [Change(tuple(made), NONE, "plain")]
    for key in table.foreign_keys:
        name = short_name(table.name, *key.columns, "fkey")
        add = alter(schema, table.name, foreign_key(key, name, schema, not_valid=False))
        changes.append(strong(schema, [key.table], add, lock=SHARE_ROW_EXCLUSIVE))
    return changes


def sequence_grants(table: Table, role: str) -> list[Grant]:
    """USAGE on the sequences that `create_table` makes for a table."""
    serial = [c.name for c in table.columns.values() if c.default == SEQUENCE]
    names = ["_".join((table.name, column, "seq")) for column in serial]
    # PostgreSQL cuts longer names in its own way; the next check finds what is missing on those.
    return [Grant(role, n, frozenset({"USAGE"}), "SEQUENCE") for n in names if len(n.encode("utf-8")) <= NAME_BYTES]
