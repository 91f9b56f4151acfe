"""What the database is: the catalog of one schema, read in a handful of queries into the contract's own words.

Everything comes from catalog fields. Definitions as text (`pg_get_…def`) differ between server versions and are not
read; the one exception is a default's expression, which is reduced to its meaning.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ..connection import Connection, Row, explained, fetch, scalar
from .functions import PREFIX
from .grants import missing_grants
from .model import NOW, SEQUENCE, Catalog, Column, Contract, Extra, ForeignKey, Index, Pointing, Table, Trigger, View

KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}
RULES = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
MATCHES = {"s": "SIMPLE", "f": "FULL", "p": "PARTIAL"}
CONDITIONS = {"c": "CHECK constraint", "x": "exclusion constraint"}
CLOCKS = re.compile(
    r"^(now\(\)|current_timestamp|transaction_timestamp\(\)|statement_timestamp\(\)|clock_timestamp\(\)|localtimestamp)$"
)

RELATIONS = """
SELECT c.oid, c.relname::text AS name, c.relkind::text AS kind, pg_get_userbyid(c.relowner)::text AS owner,
       c.reltuples::bigint AS rows
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
   AND c.oid NOT IN (SELECT objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
                        AND classid = 'pg_class'::regclass)
"""
NAMES = """
SELECT array_agg(c.relname::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s
"""

COLUMNS = """
SELECT a.attrelid AS relation, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
       NOT a.attnotnull AS nullable, a.attidentity::text AS identity, a.attgenerated::text AS generated,
       pg_get_expr(d.adbin, d.adrelid) AS default,
       -- since PostgreSQL 18 a NOT NULL is a constraint, which may be NOT VALID
       (SELECT k.conname::text FROM pg_constraint k
         WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated)
       AS unproven
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE c.oid = ANY (%s::oid[]) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""

CONSTRAINTS = """
SELECT k.conrelid AS relation, k.conname::text AS name, k.contype::text AS type, k.convalidated AS validated,
       k.confdeltype::text AS on_delete, rn.nspname::text AS ref_schema, r.relname::text AS ref_table,
       k.confupdtype::text AS on_update, k.confmatchtype::text AS match,
       CASE WHEN k.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable
            THEN 'DEFERRABLE INITIALLY IMMEDIATE' ELSE 'NOT DEFERRABLE' END AS deferral,
       -- the columns of later versions: PostgreSQL 18 and 15
       coalesce((to_jsonb(k)->>'conenforced')::boolean, true) AS enforced,
       ARRAY(SELECT a.attname::text
               FROM jsonb_array_elements_text(nullif(to_jsonb(k)->'confdelsetcols', 'null'::jsonb)) u(num)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num::int2) AS set_columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(num, pos)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.pos) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(num, pos)
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.pos) AS ref_columns
  FROM pg_constraint k
  LEFT JOIN pg_class r ON r.oid = k.confrelid
  LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
 WHERE k.conrelid = ANY (%s::oid[]) AND k.contype IN ('p', 'u', 'f', 'c', 'x')
"""

POINTING = """
SELECT n.nspname::text AS schema, c.relname::text AS table, c.relkind::text AS kind,
       NOT EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum = ANY (x.conkey) AND a.attnotnull) AS nullable, k.*
  FROM pg_constraint x
  JOIN pg_class c ON c.oid = x.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
<constraints>) k
 WHERE x.confrelid = ANY (%(referenced)s::oid[]) AND x.contype = 'f' AND x.conparentid = 0
 ORDER BY 1, 2, k.name
""".replace("<constraints>", CONSTRAINTS.replace("k.conrelid = ANY (%s::oid[])", "k.oid = x.oid"))

INDEXES = """
SELECT i.indrelid AS relation, c.relname::text AS name, i.indisunique AS unique, i.indisprimary AS primary,
       i.indimmediate AS immediate,
       i.indisvalid AND i.indisready AS valid, m.amname = 'btree' AND i.indpred IS NULL AS simple,
       EXISTS (SELECT FROM pg_constraint k
                WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AS constraint,
       NOT EXISTS (SELECT FROM unnest(i.indclass[0:i.indnkeyatts - 1]) o(oid)
                     JOIN pg_opclass p USING (oid) WHERE NOT p.opcdefault) AS default_classes,
       ARRAY(SELECT a.attname::text
               FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY u(num, pos)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.num AND u.num > 0
              ORDER BY u.pos) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_am m ON m.oid = c.relam
 WHERE i.indrelid = ANY (%s::oid[])
"""

TRIGGERS = """
SELECT t.tgrelid AS relation, t.tgname::text AS name, t.tgtype::int AS type, t.tgenabled::text AS enabled,
       t.tgisinternal AS internal, p.proname::text AS function, pn.nspname::text AS function_schema, p.prosrc AS source,
       p.prosecdef AS security_definer, k.conname::text AS constraint,
       (SELECT split_part(s, '=', 2) FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%%') AS search_path
  FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_proc p ON p.oid = t.tgfoid
  JOIN pg_namespace pn ON pn.oid = p.pronamespace
  LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
 WHERE t.tgrelid = ANY (%s::oid[]) AND (NOT t.tgisinternal OR t.tgenabled IN ('D', 'R'))
"""

# One comparison for equality (of integers: the operators in brackets) is what joins endpoints to their links, be it by
# JOIN, IN or EXISTS. Any other condition, a NOT, a LIMIT, a set operation or a grouping shows other rows.
VIEW_READS = """
SELECT w.ev_class AS relation, r.relname::text AS ref, a.attname::text AS column,
       w.ev_action::text ~ ':jointype [1-9]' AS outer_join,
       w.ev_action::text ~ '{(SCALARARRAYOPEXPR|NULLTEST|BOOLEANTEST)|:boolop not|:(limitCount|limitOffset) {'
         OR w.ev_action::text ~ ':setOperations {|:(hasAggs|hasWindowFuncs|hasTargetSRFs) true'
         OR w.ev_action::text ~ ':(groupClause|groupingSets|distinctClause) \\('
         OR (SELECT count(*) FILTER (WHERE found[1] IN ('96', '410', '15', '416')) <> 1 OR count(*) <> 1
               FROM regexp_matches(w.ev_action::text, '{OPEXPR :opno (\\d+)', 'g') AS m(found)) AS filtered
  FROM pg_rewrite w
  JOIN pg_class v ON v.oid = w.ev_class
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class r ON r.oid = d.refobjid AND r.oid <> v.oid
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
 WHERE v.oid = ANY (%s::oid[]) AND v.relkind IN ('v', 'm')
"""

# What the schema has besides tables and views. A sequence that a column owns or takes from belongs to its table, a
# function of a trigger on `relations` to that trigger, and a type's constructors (dependency 'i') to the type.
EXTRAS = """
WITH home AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END AS kind,
       p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
  FROM pg_proc p
 WHERE p.pronamespace = (SELECT oid FROM home)
   AND NOT (p.prorettype = 'trigger'::regtype AND starts_with(p.proname::text, %(ours)s))
   AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgrelid = ANY (%(relations)s::oid[]))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype IN ('i', 'e'))
UNION ALL
SELECT 'sequence', s.relname
  FROM pg_class s
 WHERE s.relnamespace = (SELECT oid FROM home) AND s.relkind = 'S'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid
                      AND d.deptype IN ('a', 'i', 'e'))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
                      AND d.classid = 'pg_attrdef'::regclass)
UNION ALL
SELECT CASE y.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, y.typname
  FROM pg_type y LEFT JOIN pg_class c ON c.oid = y.typrelid
 WHERE y.typnamespace = (SELECT oid FROM home) AND (y.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = y.oid
                      AND d.deptype = 'e')
UNION ALL
SELECT 'rule', c.relname || '.' || w.rulename FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
 WHERE w.ev_class = ANY (%(relations)s::oid[]) AND w.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', c.relname || '.' || y.polname FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid
 WHERE y.polrelid = ANY (%(relations)s::oid[])
"""


# What is read of each relation that the contract names.
PARTS = {
    "columns": COLUMNS,
    "constraints": CONSTRAINTS,
    "indexes": INDEXES,
    "triggers": TRIGGERS,
    "reads": VIEW_READS,
}
PEOPLE = """
SELECT current_user::text AS user, pg_get_userbyid(datdba)::text AS owner,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
  FROM pg_database WHERE datname = current_database()
"""


def read_catalog(conn: Connection, contract: Contract) -> Catalog:
    """Read the contract's schema, and which of the contract's grants are missing. Takes no lock on any table.

    What the contract names is read in depth; of everything else in the schema, that it is there.
    """
    with explained("Reading the catalog"), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        schema = contract.schema
        relations = fetch(conn, RELATIONS, [schema])
        names = frozenset(scalar(conn, NAMES, [schema]) or ())
        demanded = {*contract.tables, contract.view.name}
        oids = [row["oid"] for row in relations if row["name"] in demanded]
        parts = {part: _grouped(fetch(conn, query, [oids])) for part, query in PARTS.items()}
        pointing = fetch(conn, POINTING, {"referenced": oids})
        extras = fetch(conn, EXTRAS, {"schema": schema, "ours": PREFIX, "relations": oids})
        roles = frozenset(row["rolname"] for row in fetch(conn, "SELECT rolname::text FROM pg_roles"))
        missing = missing_grants(conn, contract, roles, {row["name"] for row in relations})
        people = fetch(conn, PEOPLE)[0]
    tables = {r["name"]: _table(r, parts) for r in relations if r["kind"] in ("r", "p", "f")}
    return Catalog(
        tables=tables,
        views={r["name"]: _view(r, parts) for r in relations if r["kind"] in ("v", "m")},
        roles=roles,
        missing_grants=missing,
        schema=schema,
        owner=_owner(contract, tables, people["owner"]),
        user=people["user"],
        superuser=people["superuser"],
        names=names,
        extras=tuple(Extra(**row) for row in extras),
        pointing=tuple(
            Pointing(row["schema"], row["table"], _foreign_key(row), row["nullable"], KINDS.get(row["kind"], ""))
            for row in pointing
        ),
    )


def _grouped(rows: Iterable[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["relation"]].append(row)
    return groups


def _owner(contract: Contract, tables: Mapping[str, Table], fallback: str) -> str:
    owners = Counter(table.owner for name, table in tables.items() if name in contract.tables)
    return owners.most_common(1)[0][0] if owners else fallback


def _table(relation: Row, parts: Mapping[str, Mapping[int, list[Row]]]) -> Table:
    oid = relation["oid"]
    constraints = parts["constraints"].get(oid, [])
    indexes = [_index(row) for row in parts["indexes"].get(oid, [])]
    triggers = parts["triggers"].get(oid, [])
    return Table(
        name=relation["name"],
        columns={row["name"]: _column(row) for row in parts["columns"].get(oid, [])},
        primary_key=next((tuple(k["columns"]) for k in constraints if k["type"] == "p"), ()),
        uniques=tuple(i.columns for i in indexes if i.unique and i.valid and i.plain),
        foreign_keys=tuple(_foreign_key(k) for k in constraints if k["type"] == "f"),
        indexes=tuple(indexes),
        triggers=tuple(_trigger(row) for row in triggers if not row["internal"]),
        disabled_triggers=tuple(sorted(row["name"] for row in triggers if row["enabled"] in ("D", "R"))),
        conditions=tuple(Extra(CONDITIONS[k["type"]], k["name"]) for k in constraints if k["type"] in CONDITIONS),
        kind=KINDS[relation["kind"]],
        owner=relation["owner"],
        rows=relation["rows"],
    )


def _column(row: Row) -> Column:
    meaning, unproven = default_meaning(row), row["unproven"] or ""
    return Column(row["name"], row["type"], row["nullable"], meaning, unproven=unproven)


def default_meaning(row: Mapping[str, Any]) -> str | None:
    """What a default means: NOW, SEQUENCE, a constant's text, None, or its expression where it is none of these."""
    text = str(row["default"] or "").strip()
    if row["identity"] or text.startswith("nextval("):
        return SEQUENCE
    if row["default"] is None:
        return None
    if row["generated"]:
        return f"generated: {text}"
    bare = _uncast(text)
    if CLOCKS.match(bare.lower()):
        return NOW
    constant = re.match(r"^'((?:[^']|'')*)'$", bare)
    return constant.group(1).replace("''", "'") if constant else bare


def _uncast(text: str) -> str:
    """An expression without outer brackets and a cast at its end."""
    while True:
        bare = re.sub(r"::[a-z ]+(\(\d+\))?$", "", text).strip()
        if bare.startswith("(") and bare.endswith(")"):
            bare = bare[1:-1].strip()
        if bare == text:
            return bare
        text = bare


def _foreign_key(row: Row) -> ForeignKey:
    limited = set(row["set_columns"]) < set(row["columns"])
    return ForeignKey(
        tuple(row["columns"]),
        row["ref_table"],
        tuple(row["ref_columns"]),
        RULES[row["on_delete"]],
        row["name"],
        row["validated"],
        on_update=RULES[row["on_update"]],
        match=MATCHES[row["match"]],
        deferral=row["deferral"],
        set_columns=tuple(row["set_columns"]) if limited else (),
        enforced=row["enforced"],
    )


def _index(row: Row) -> Index:
    columns = tuple(name if name is not None else "(expression)" for name in row["columns"])
    plain = row["simple"] and row["default_classes"] and "(expression)" not in columns
    return Index(
        columns,
        unique=row["unique"],
        name=row["name"],
        valid=row["valid"],
        plain=plain,
        constraint=row["constraint"],
        immediate=row["immediate"],
    )


def _trigger(row: Row) -> Trigger:
    kind = row["type"]
    timing = "INSTEAD OF" if kind & 64 else "BEFORE" if kind & 2 else "AFTER"
    events = frozenset(word for bit, word in ((4, "INSERT"), (8, "DELETE"), (16, "UPDATE")) if kind & bit)
    return Trigger(
        name=row["name"],
        timing=timing if kind & 1 else f"{timing} STATEMENT",
        events=events,
        enabled=row["enabled"] in ("O", "A"),
        function=row["function"],
        function_schema=row["function_schema"],
        source=row["source"],
        search_path=row["search_path"],
        security_definer=row["security_definer"],
    )


def _view(relation: Row, parts: Mapping[str, Mapping[int, list[Row]]]) -> View:
    oid = relation["oid"]
    reads = parts["reads"].get(oid, [])
    return View(
        name=relation["name"],
        columns=tuple(row["name"] for row in parts["columns"].get(oid, [])),
        reads=frozenset((row["ref"], row["column"]) for row in reads if row["column"]),
        outer_join=any(row["outer_join"] for row in reads),
        filtered=any(row["filtered"] for row in reads),
        triggers=tuple(_trigger(row) for row in parts["triggers"].get(oid, []) if not row["internal"]),
        kind=KINDS[relation["kind"]],
        owner=relation["owner"],
    )
