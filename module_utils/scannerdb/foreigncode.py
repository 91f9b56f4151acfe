"""Code of other roles that a table would run: who wrote it, and whose rights it would have."""

from __future__ import annotations

from collections.abc import Sequence

from .connection import Connection, Row, fetch, scalar
from .errors import UnsafeCode

_TABLES = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = ANY (%s)
"""
# Functions of other roles (superusers apart) that the tables' triggers call; of any lesser role that anything of the
# tables calls, where a superuser writes.
_FOREIGN_CODE = """
WITH tables AS (SELECT c.oid, c.relname, c.relowner FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(tables)s::oid[])),
parts AS (
    SELECT t.relname, 'pg_trigger'::regclass AS catalog, x.oid AS part
      FROM tables t JOIN pg_catalog.pg_trigger x ON x.tgrelid = t.oid AND NOT x.tgisinternal AND %(triggers)s
    UNION ALL
    SELECT t.relname, x.catalog, x.part
      FROM tables t CROSS JOIN LATERAL (
        SELECT 'pg_constraint'::regclass, c.oid FROM pg_catalog.pg_constraint c WHERE c.conrelid = t.oid
        UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_catalog.pg_attrdef d WHERE d.adrelid = t.oid
        UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid
        UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_catalog.pg_policy p WHERE p.polrelid = t.oid
        UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_catalog.pg_rewrite w WHERE w.ev_class = t.oid
        UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = t.oid
        UNION ALL SELECT 'pg_class'::regclass, t.oid) x (catalog, part)
     WHERE (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = %(role)s))
SELECT parts.relname::text AS name, coalesce(p.proname, y.typname)::text AS code, o.rolname::text AS owner
  FROM parts
  JOIN pg_catalog.pg_depend d ON d.classid = parts.catalog AND d.objid = parts.part
  LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
  LEFT JOIN pg_catalog.pg_type y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
  JOIN pg_catalog.pg_roles o ON o.oid = coalesce(p.proowner, y.typowner)
 WHERE NOT o.rolsuper AND o.rolname <> %(role)s
 LIMIT 1
"""


def table_oids(conn: Connection, schema: str, tables: Sequence[str]) -> list[int]:
    """The tables and views of these names."""
    return [row["oid"] for row in fetch(conn, _TABLES, [schema, list(tables)])]


def foreign_code(conn: Connection, tables: Sequence[int], role: str, triggers: bool = True) -> str:
    """What of these tables would run code of a lesser role with the rights of `role`, as a sentence; else nothing."""
    found = fetch(conn, _FOREIGN_CODE, {"tables": list(tables), "role": role, "triggers": triggers})
    return _said(found[0], role) if found else ""


def refuse_foreign_code(conn: Connection, schema: str, tables: Sequence[str], role: str, triggers: bool = True) -> None:
    """Raise `UnsafeCode` where something of these tables would run code of a lesser role with the rights of `role`."""
    found = foreign_code(conn, table_oids(conn, schema, tables), role, triggers)
    if found:
        raise UnsafeCode(f"{found}.", "Drop that code, or give it to the table's owner.")


def _said(code: Row, role: str) -> str:
    return f"{code['code']} of {code['owner']}, which {code['name']} uses, would run with the rights of {role}"


def is_superuser(conn: Connection, role: str) -> bool:
    """True where the role is a superuser."""
    return bool(scalar(conn, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = %s", [role]))
