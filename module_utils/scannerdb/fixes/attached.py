"""What hangs on a table's columns, read from the catalog: what a conversion carries over, and what it stops at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, fetch
from ..contract.conversion import TRIGGER, proof_name
from ..lockbudget import relation

# Of a table's columns, as one row for each. The words are PostgreSQL's own (aclexplode, format_type).
_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       a.attgenerated <> '' OR a.attidentity <> '' AS computed, coalesce(a.attstattarget, -1) AS target,
       (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
         WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) AS default,
       col_description(a.attrelid, a.attnum) AS comment,
       (SELECT jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), x.privilege_type, x.is_grantable))
          FROM aclexplode(a.attacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee) AS acl
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = %(table)s AND a.attname = ANY (%(columns)s) AND NOT a.attisdropped
"""
_DEPENDENTS = """
SELECT DISTINCT d.classid::regclass::text AS catalog, d.objid AS object, a.attname::text AS column,
       pg_describe_object(d.classid, d.objid, d.objsubid) AS what,
       d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_attrdef f
            WHERE f.oid = d.objid AND f.adrelid = a.attrelid AND f.adnum = a.attnum) AS own_default,
       d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_constraint c
            WHERE c.oid = d.objid AND c.contype = 'n') AS not_null,
       d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_rewrite w
            JOIN pg_catalog.pg_class v ON v.oid = w.ev_class WHERE w.oid = d.objid AND v.relkind = 'v') AS view,
       d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = d.objid)
            AS index
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s AND a.attname = ANY (%(columns)s)
"""
_INDEXES = """
SELECT i.indexrelid AS oid, c.relname::text AS name, i.indisunique AS is_unique, i.indnkeyatts AS keys,
       am.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT i.indisreplident
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint x WHERE x.conindid = i.indexrelid)
       AND NOT EXISTS (SELECT FROM unnest(i.indclass::oid[], i.indcollation::oid[], i.indkey::int2[]) k(class, coll, n)
                         JOIN pg_catalog.pg_opclass o ON o.oid = k.class
                         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
                        WHERE NOT o.opcdefault OR k.coll <> a.attcollation) AS plain,
       i.indisclustered AS clustered, obj_description(i.indexrelid, 'pg_class') AS comment,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o) AS columns,
       array(SELECT o::int FROM unnest(i.indoption::int2[]) WITH ORDINALITY o(o, n) ORDER BY n) AS options,
       c.reloptions, t.spcname::text AS tablespace
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = c.relam LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
 WHERE i.indrelid = %(table)s
"""
# Why a table's columns cannot be changed at all, besides what depends on one of them.
_TABLE = """
SELECT c.oid AS table, pg_get_userbyid(c.relowner)::text AS owner,
       c.relkind <> 'r' OR c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits h
            WHERE c.oid IN (h.inhrelid, h.inhparent)) AS parted,
       EXISTS (SELECT FROM pg_catalog.pg_publication_tables p
                WHERE p.schemaname = n.nspname AND p.tablename = c.relname) AS published,
       has_schema_privilege(c.relowner, n.oid, 'CREATE') AS creates,
       pg_has_role(c.relowner, 'MEMBER') AS ours,
       (SELECT min(t.tgname::text) FROM pg_catalog.pg_trigger t
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname > %(trigger)s) AS later
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""


@dataclass(frozen=True)
class Attached:
    """A table, its owner, the columns' own properties by name, and the plain indexes over them."""

    table: int
    owner: str
    columns: Mapping[str, Mapping[str, Any]]
    indexes: Sequence[Mapping[str, Any]]


def attached(conn: Connection, schema: str, table: str, columns: Sequence[str]) -> tuple[Attached, str]:
    """What hangs on these columns, and why they cannot be converted; the reason is empty where they can."""
    seen = fetch(conn, _TABLE, {"schema": schema, "name": table, "trigger": TRIGGER})
    if not seen:
        return Attached(0, "", {}, ()), f"{table} is gone"
    words = {"table": seen[0]["table"], "columns": list(columns)}
    known = {row["name"]: row for row in fetch(conn, _COLUMNS, words)}
    every = fetch(conn, _INDEXES, words)
    proof = {row["oid"] for row in every if row["name"] == proof_name(table)}
    mine = [row for row in every if set(row["columns"]) & set(columns) and row["oid"] not in proof]
    plain = [row for row in mine if row["plain"] and not row["is_unique"]]
    carried = {row["oid"] for row in plain} | proof
    others = [d["what"] for d in fetch(conn, _DEPENDENTS, words) if not _carried(d, carried)]
    found = Attached(seen[0]["table"], seen[0]["owner"], known, plain)
    return found, _reason(table, seen[0], known, others)


def _carried(dependent: Mapping[str, Any], indexes: set[int]) -> bool:
    """True for what a conversion brings over to the new column."""
    if dependent["index"]:
        return dependent["object"] in indexes
    return bool(dependent["own_default"] or dependent["not_null"] or dependent["view"])


def _reason(table: str, seen: Mapping[str, Any], columns: Mapping[str, Any], others: Sequence[str]) -> str:
    reasons = (
        (seen["parted"], f"{table} is no plain table of its own (a partition, or part of an inheritance)"),
        (seen["published"], f"{table} is published to subscribers, whose tables would lack the new column"),
        (others, f"this depends on the column, drop it first: {', '.join(others)}"),
        (any(c["computed"] for c in columns.values()), "the column is generated"),
        (seen["later"], f"the trigger {seen['later']} of {table} would run after the conversion's own"),
        (not seen["ours"], f"this session's role is no member of {seen['owner']}, who owns {table}"),
        (not seen["creates"], f"{seen['owner']}, who owns {table}, has no CREATE on the schema"),
    )
    return next((why for applies, why in reasons if applies), "")


def index_beside(schema: str, table: str, index: Mapping[str, Any], name: str, names: Mapping[str, str]) -> Composable:
    """CREATE INDEX CONCURRENTLY of an index like that one, over the columns that take the others' place."""
    parts = [
        SQL("{}{}{}").format(
            Identifier(names.get(column, column)),
            SQL(" DESC" if option & 1 else ""),
            SQL(" NULLS FIRST" if option & 2 else " NULLS LAST"),
        )
        for column, option in zip(index["columns"][: index["keys"]], index["options"])
    ]
    more = [Identifier(names.get(column, column)) for column in index["columns"][index["keys"] :]]
    words = [word.split("=", 1) for word in index["reloptions"] or ()]
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} ({}){}{}{}").format(
        Identifier(name),
        relation(schema, table),
        SQL(", ").join(parts),
        SQL(" INCLUDE ({})").format(SQL(", ").join(more)) if more else SQL(""),
        SQL(" WITH ({})").format(SQL(", ").join(SQL("{} = {}").format(Identifier(k), Literal(v)) for k, v in words))
        if words
        else SQL(""),
        SQL(" TABLESPACE {}").format(Identifier(index["tablespace"])) if index["tablespace"] else SQL(""),
    )


def index_said(schema: str, table: str, index: Mapping[str, Any]) -> Iterator[Composable]:
    """What an index has besides its definition."""
    if index["comment"] is not None:
        yield SQL("COMMENT ON INDEX {} IS {}").format(relation(schema, index["name"]), Literal(index["comment"]))
    if index["clustered"]:
        yield SQL("ALTER TABLE {} CLUSTER ON {}").format(relation(schema, table), Identifier(index["name"]))
