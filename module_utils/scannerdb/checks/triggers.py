"""Triggers, their functions, sequences and constraints: what the contract's comparison does not look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..connection import SQL, Identifier, fetch, text_of
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from .context import Context, place
from .unit import check

CLOCK = (
    r"(now\(\)|current_timestamp|transaction_timestamp\(\)|clock_timestamp\(\)|statement_timestamp\(\)|localtimestamp)"
)
STAMP = re.compile(
    r'^begin (?:if (?P<condition>[^;]*) then )?new\.(?P<column>"?\w+"?) ?:?= ?'
    rf"{CLOCK}; ?(?:end if; ?)?return new; ?end;?$"
)

TRIGGERS = """
SELECT c.relname::text AS relation, t.tgname::text AS trigger, fn.nspname::text AS function_schema,
       p.proname::text AS function, p.prosrc AS source, l.lanname::text AS language,
       coalesce(p.proconfig::text, '') LIKE '%%search_path=%%' AS fixed,
       ARRAY(SELECT a.attname::text  -- what UPDATE OF and WHEN name
               FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
              WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.refobjid = c.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0) AS columns
  FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
  JOIN pg_proc p ON p.oid = t.tgfoid
  JOIN pg_namespace fn ON fn.oid = p.pronamespace
  JOIN pg_language l ON l.oid = p.prolang
 WHERE NOT t.tgisinternal AND c.relname = ANY(%s) AND fn.nspname <> 'pg_catalog'
 ORDER BY c.relname, t.tgname
"""

DISABLED = """
SELECT n.nspname::text AS schema, c.relname::text AS table, t.tgname::text AS trigger, k.conname::text AS constraint
  FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
 WHERE t.tgenabled IN ('D', 'R') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT (n.nspname = %s AND c.relname = ANY(%s))
 ORDER BY 1, 2, 3
"""

CONSTRAINTS = """
SELECT n.nspname::text AS schema, c.relname::text AS table, k.conname::text AS name, k.contype::text AS type
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT k.convalidated AND coalesce((to_jsonb(k)->>'conenforced')::boolean, true) AND k.conparentid = 0
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT (k.contype = 'f' AND n.nspname = %s AND c.relname = ANY(%s))
 ORDER BY 1, 2, 3
"""

# Defaults that take a sequence which belongs to no column, or to another one. Taken minus owned comes first: in a
# database of thousands of serial columns nothing is left to join.
SEQUENCES = """
WITH loose AS MATERIALIZED (
    SELECT d.adrelid AS relation, d.adnum::int AS number, u.refobjid AS sequence
      FROM pg_attrdef d
      JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
           AND u.refclassid = 'pg_class'::regclass AND u.refobjid <> d.adrelid
    EXCEPT
    SELECT refobjid, refobjsubid, objid FROM pg_depend
     WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjsubid > 0
       AND deptype IN ('a', 'i'))
SELECT n.nspname::text AS schema, c.relname::text AS table, a.attname::text AS column,
       sn.nspname::text AS sequence_schema, s.relname::text AS sequence
  FROM loose l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = l.relation AND a.attnum = l.number
  JOIN pg_class s ON s.oid = l.sequence AND s.relkind = 'S'
  JOIN pg_namespace sn ON sn.oid = s.relnamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 ORDER BY 1, 2, 3
"""


def plain_source(source: str) -> str:
    """A function's body without comments and layout, in lower case. Pure."""
    text = re.sub(r"/\*.*?\*/", " ", re.sub(r"--[^\n]*", " ", source), flags=re.DOTALL)
    return re.sub(r" *; *", "; ", re.sub(r"\s+", " ", text)).strip().lower()


def only_stamps(source: str, watched: Sequence[str], stamps: Mapping[str, frozenset[str]]) -> bool:
    """True where a trigger does no more than give one of `stamps` the time when the columns it goes with change. Pure.

    `source` is its body; `watched` are the columns that its UPDATE OF and WHEN name. A condition counts by the columns
    that it mentions.
    """
    match = STAMP.match(plain_source(source))
    if match is None:
        return False
    wanted = stamps.get(match.group("column").strip('"'))
    return wanted is not None and wanted <= {*watched, *re.findall(r"\w+", match.group("condition") or "")}


@check(
    "triggers",
    FindingKind(
        "schema.trigger.unexpected",
        "info",
        "A trigger on a table of the contract does something that the contract does not know, or at other moments.",
        how="Read it; if it is this site's own, suppress the finding with that reason.",
    ),
    FindingKind(
        "schema.function.search_path",
        "info",
        "A trigger's function has no search_path of its own, so it finds its tables by the writer's.",
        how="ALTER FUNCTION … SET search_path.",
        lock="none",
    ),
)
def triggers(context: Context) -> Iterator[Finding]:
    """Triggers on the contract's tables whose body is another than a date's stamp; functions without a search_path."""
    seen: set[tuple[str, str]] = set()
    for row in fetch(context.conn, TRIGGERS, [context.schema, sorted(context.contract_tables)]):
        function = place(row["function_schema"], row["function"])
        if not (row["relation"] == "endpoints" and only_stamps(row["source"], row["columns"], context.stamps)):
            yield finding(
                "schema.trigger.unexpected",
                f"{row['relation']}.{row['trigger']}",
                f"Trigger {row['trigger']} on {row['relation']} runs {function}: not what the contract knows.",
                {
                    "function": function,
                    "language": row["language"],
                    "when_changed": row["columns"],
                    "source": row["source"][:2000],
                },
            )
        key = (row["function_schema"], row["function"])
        if not row["fixed"] and key not in seen:
            seen.add(key)
            statement = SQL("ALTER FUNCTION {}() SET search_path = {}, pg_temp").format(
                Identifier(*key), Identifier(context.schema)
            )
            yield finding(
                "schema.function.search_path",
                function,
                f"Function {function} of trigger {row['trigger']} has no search_path of its own.",
                {"trigger": row["trigger"], "table": row["relation"]},
                by_hand("schema.function.search_path", text_of(statement)),
            )


@check(
    "triggers of other tables",
    FindingKind(
        "schema.trigger.disabled_extra",
        "warning",
        "A trigger of a table beyond the contract is disabled, also one behind a foreign key.",
        how="ALTER TABLE … ENABLE TRIGGER; if it is meant so, suppress the finding with that reason.",
        lock="SHARE ROW EXCLUSIVE",
    ),
)
def disabled_elsewhere(context: Context) -> Iterator[Finding]:
    """Disabled triggers of tables beyond the contract; those within are the contract's own finding."""
    for row in fetch(context.conn, DISABLED, [context.schema, sorted(context.contract_tables)]):
        table, behind = place(row["schema"], row["table"]), row["constraint"]
        statement = SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(
            Identifier(row["schema"], row["table"]), Identifier(row["trigger"])
        )
        yield finding(
            "schema.trigger.disabled_extra",
            f"{table}.{row['trigger']}",
            f"Trigger {row['trigger']} on {table} is disabled" + (f", so {behind} is not kept." if behind else "."),
            {"constraint": behind} if behind else {},
            by_hand("schema.trigger.disabled_extra", text_of(statement)),
        )


@check(
    "constraints",
    FindingKind(
        "schema.constraint.not_valid",
        "warning",
        "A constraint was never checked against the rows that were there before it.",
        how="VALIDATE CONSTRAINT stops no writer; it fails where old rows break the rule.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
)
def constraints(context: Context) -> Iterator[Finding]:
    """Constraints that are NOT VALID, beyond the contract's own foreign keys."""
    for row in fetch(context.conn, CONSTRAINTS, [context.schema, sorted(context.contract_tables)]):
        statement = SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            Identifier(row["schema"], row["table"]), Identifier(row["name"])
        )
        table = place(row["schema"], row["table"])
        yield finding(
            "schema.constraint.not_valid",
            f"{table}.{row['name']}",
            f"Constraint {row['name']} on {table} was never checked against old rows.",
            {"kind": {"f": "foreign key", "c": "check", "n": "not null"}.get(row["type"], row["type"])},
            by_hand("schema.constraint.not_valid", text_of(statement)),
        )


@check(
    "sequences without an owner",
    FindingKind(
        "schema.sequence.not_owned",
        "info",
        "A column's default takes a sequence that the column does not own, so the table can go without it.",
        how="ALTER SEQUENCE … OWNED BY.",
        lock="SHARE ROW EXCLUSIVE on the sequence",
    ),
)
def sequences(context: Context) -> Iterator[Finding]:
    """Sequences that a default takes without owning them."""
    for row in fetch(context.conn, SEQUENCES):
        sequence = Identifier(row["sequence_schema"], row["sequence"])
        column = Identifier(row["schema"], row["table"], row["column"])
        where = place(row["schema"], row["table"], row["column"])
        yield finding(
            "schema.sequence.not_owned",
            where,
            f"{where} takes its values from {row['sequence']}, which it does not own.",
            {"sequence": place(row["sequence_schema"], row["sequence"])},
            by_hand(
                "schema.sequence.not_owned", text_of(SQL("ALTER SEQUENCE {} OWNED BY {}").format(sequence, column))
            ),
        )


DEFINERS = """
SELECT n.nspname::text AS schema, p.proname::text AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
       pg_get_userbyid(p.proowner)::text AS owner, p.prokind::text AS kind
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND coalesce(p.proconfig::text, '') NOT LIKE '%search_path=%'
   AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = p.oid
                      AND x.deptype = 'e')
 ORDER BY 1, 2, 3
"""


@check(
    "SECURITY DEFINER functions",
    FindingKind(
        "security.function.definer",
        "warning",
        "A SECURITY DEFINER function has no search_path of its own: its caller can make it run other objects.",
        how="ALTER FUNCTION … SET search_path.",
        lock="none",
    ),
)
def definers(context: Context) -> Iterator[Finding]:
    """SECURITY DEFINER functions that trust their caller's search_path."""
    for row in fetch(context.conn, DEFINERS):
        name = place(row["schema"], row["name"])
        kind = "PROCEDURE" if row["kind"] == "p" else "FUNCTION"
        statement = SQL("ALTER {} {}({}) SET search_path = {}, pg_temp").format(
            SQL(kind),  # type: ignore[arg-type,unused-ignore]
            Identifier(row["schema"], row["name"]),
            SQL(row["arguments"]),
            Identifier(context.schema),
        )
        yield finding(
            "security.function.definer",
            f"{name}({row['arguments']})",
            f"Function {name} runs with the rights of {row['owner']} but with the caller's search_path.",
            {"owner": row["owner"]},
            by_hand("security.function.definer", text_of(statement)),
        )
