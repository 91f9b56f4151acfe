"""What a database is made of, object by object, each with a short print: read at the backup and again in a drill.

Everything is compared by catalog fields, never by text that differs between server versions, so a set may be drilled
on a newer server than it came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ..connection import Connection, execute, explained, fetch
from .manifest import ObjectPrint

# How a print begins. Older ones begin with nothing, and have the columns in their own order, which a restore lawfully
# changes in tables that inherit.
SCHEME = "2:"
_ORDERS = {SCHEME: 'a.attname COLLATE "C"', "": "a.attnum"}
_OWN = """n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e'
                      AND (e.classid, e.objid)
                       IN (('{catalog}'::regclass, {oid}), ('pg_namespace'::regclass, n.oid)))"""
# Who may do what, without the owner's own rights and without what older servers do not know.
_ACL = """ARRAY(SELECT coalesce(g.rolname::text, 'PUBLIC') || ':' || a.privilege_type || ':' || a.is_grantable::text
                  FROM aclexplode(coalesce({acl}, acldefault({kind}, {owner}))) a
                  LEFT JOIN pg_roles g ON g.oid = a.grantee
                 WHERE a.grantee <> {owner} AND a.privilege_type <> 'MAINTAIN' ORDER BY 1)"""
_KIND = """CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END"""
_RELATIONS = """
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                      ELSE 'table' END AS kind,
       n.nspname || '.' || c.relname AS name, pg_get_userbyid(c.relowner)::text AS owner, c.relkind::text AS relkind,
       c.relpersistence::text AS persistence, c.relrowsecurity AS row_security,
       {privileges} AS privileges,
       ARRAY(SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef,
                              a.attidentity, a.attgenerated)
               FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY {order}) AS columns,
       ARRAY(SELECT concat_ws(' ', k.contype, k.conname, k.convalidated, k.confdeltype, k.confupdtype,
                              fn.nspname, f.relname,
                              (SELECT string_agg(a.attname, ',' ORDER BY u.pos)
                                 FROM unnest(k.conkey) WITH ORDINALITY u (num, pos)
                                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num))
               FROM pg_constraint k LEFT JOIN pg_class f ON f.oid = k.confrelid
               LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
              WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f', 'c', 'x') ORDER BY k.conname) AS constraints,
       ARRAY(SELECT concat_ws(' ', x.relname, m.amname, i.indisunique, i.indisprimary, i.indnkeyatts,
                              i.indpred IS NOT NULL,
                              (SELECT string_agg(coalesce(a.attname, '()'), ',' ORDER BY u.pos)
                                 FROM unnest(i.indkey) WITH ORDINALITY u (num, pos)
                                 LEFT JOIN pg_attribute a
                                   ON a.attrelid = i.indrelid AND a.attnum = u.num AND u.num > 0))
               FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
              WHERE i.indrelid = c.oid AND i.indisvalid ORDER BY x.relname) AS indexes,
       ARRAY(SELECT concat_ws(' ', t.tgname, t.tgtype, t.tgenabled, p.proname)
               FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY t.tgname) AS triggers
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
   AND {own}
"""
_FUNCTIONS = """
SELECT 'function' AS kind, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
         AS name,
       pg_get_userbyid(p.proowner)::text AS owner, p.prosrc AS source, p.prosecdef AS definer,
       p.provolatile::text AS volatility, p.proconfig AS settings,
       {privileges} AS privileges
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE {own}
"""
_SCHEMAS = """
SELECT 'schema' AS kind, n.nspname::text AS name,
       {privileges} AS privileges
  FROM pg_namespace n
 WHERE n.nspname NOT IN ('information_schema', 'public') AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.classid = 'pg_namespace'::regclass
                      AND e.objid = n.oid)
"""
_EXTENSIONS = "SELECT 'extension' AS kind, extname::text AS name FROM pg_extension"
_QUERIES = (
    _RELATIONS.replace("{privileges}", _ACL.format(acl="c.relacl", kind=_KIND, owner="c.relowner")).replace(
        "{own}", _OWN.format(catalog="pg_class", oid="c.oid")
    ),
    _FUNCTIONS.replace("{privileges}", _ACL.format(acl="p.proacl", kind="'f'", owner="p.proowner")).replace(
        "{own}", _OWN.format(catalog="pg_proc", oid="p.oid")
    ),
    _SCHEMAS.replace("{privileges}", _ACL.format(acl="n.nspacl", kind="'n'", owner="n.nspowner")),
    _EXTENSIONS,
)


def read_structure(conn: Connection, scheme: str = SCHEME) -> tuple[ObjectPrint, ...]:
    """Every object of the database with its print, sorted; reads the catalog only, which every role may."""
    found = []
    with explained("Reading the structure"), conn.transaction():
        execute(conn, "SET LOCAL quote_all_identifiers = off")  # some names come as text that it changes
        for query in _QUERIES:
            for row in fetch(conn, query.replace("{order}", _ORDERS[scheme])):
                values = dict(row)
                kind, name = str(values.pop("kind")), str(values.pop("name"))
                found.append(ObjectPrint(kind, name, scheme + _print(values)))
    return tuple(sorted(found, key=lambda o: (o.kind, o.name)))


def scheme_of(objects: Sequence[ObjectPrint]) -> str:
    """The scheme that prints were made by. Pure."""
    return SCHEME if all(o.print.startswith(SCHEME) for o in objects) else ""


def _print(values: object) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def structure_fingerprint(objects: Sequence[ObjectPrint]) -> str:
    """One value for the whole structure; empty where none was read. Pure."""
    return _print([[o.kind, o.name, o.print] for o in objects]) if objects else ""


def structure_differences(expected: Sequence[ObjectPrint], found: Sequence[ObjectPrint]) -> list[str]:
    """What a restored database lacks, has too much of, or has otherwise than recorded, as sentences. Pure."""
    before = {(o.kind, o.name): o.print for o in expected}
    after = {(o.kind, o.name): o.print for o in found}
    problems = [f"The {kind} {name} is missing after the restore." for kind, name in sorted(before.keys() - after)]
    problems += [
        f"The restore made a {kind} {name}, which was not backed up." for kind, name in sorted(after.keys() - before)
    ]
    problems += [
        f"The {kind} {name} was restored otherwise than it was (its columns, constraints, indexes, triggers, source, "
        "owner or privileges differ)."
        for kind, name in sorted(before.keys() & after)
        if before[kind, name] != after[kind, name]
    ]
    return problems
