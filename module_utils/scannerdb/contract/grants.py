"""Which of the contract's grants a database lacks."""

from __future__ import annotations

from collections import defaultdict

from ..connection import Connection, fetch, scalar
from .model import Contract, Grant

# Asked of each role about itself: what it has by membership counts. %% is a % of format().
_MISSING = """
WITH asked AS (
    SELECT u.role, u.relation, u.privilege, format('%%I.%%I', %(schema)s::text, u.relation) AS name
      FROM unnest(%(roles)s::text[], %(relations)s::text[], %(privileges)s::text[])
           AS u(role, relation, privilege))
SELECT 'TABLE' AS kind, role, relation, privilege FROM asked
 WHERE NOT has_table_privilege(role, name, privilege)
UNION
SELECT 'SEQUENCE', a.role, s.relname, 'USAGE'
  FROM asked a
  JOIN LATERAL (
      SELECT objid AS oid FROM pg_depend
       WHERE refclassid = 'pg_class'::regclass AND refobjid = a.name::regclass
         AND classid = 'pg_class'::regclass AND deptype = 'a'
      UNION  -- a default may take a sequence that its column does not own
      SELECT u.refobjid FROM pg_attrdef f JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass
         AND u.objid = f.oid AND u.refclassid = 'pg_class'::regclass
       WHERE f.adrelid = a.name::regclass) d ON true
  JOIN pg_class s ON s.oid = d.oid AND s.relkind = 'S' AND s.relnamespace = %(schema)s::regnamespace
 WHERE a.privilege = 'INSERT' AND NOT has_sequence_privilege(a.role, s.oid, 'USAGE')
UNION
SELECT 'SCHEMA', r.role, %(schema)s, p.privilege
  FROM unnest(%(users)s::text[]) AS r(role) CROSS JOIN (VALUES ('USAGE'), ('CREATE')) AS p(privilege)
 WHERE NOT has_schema_privilege(r.role, %(schema)s, p.privilege)
   -- CREATE TABLE IF NOT EXISTS needs CREATE even where the table exists
   AND (p.privilege = 'USAGE' OR r.role = %(creator)s)
"""


def missing_grants(
    conn: Connection, contract: Contract, roles: frozenset[str], relations: set[str]
) -> tuple[Grant, ...]:
    """The contract's grants that a role has neither itself nor by inheritance, on relations that exist."""
    asked = [
        (grant.role, grant.relation, privilege)
        for grant in contract.grants
        if grant.role in roles and grant.relation in relations
        for privilege in sorted(grant.privileges)
    ]
    users = sorted({grant.role for grant in contract.grants} & roles)
    if not users or not scalar(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", [contract.schema]):
        return ()
    rows = fetch(
        conn,
        _MISSING,
        {
            "schema": contract.schema,
            "users": users,
            "creator": contract.application_role if contract.application_creates else None,
            "roles": [role for role, _, _ in asked],
            "relations": [relation for _, relation, _ in asked],
            "privileges": [privilege for _, _, privilege in asked],
        },
    )
    groups: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        groups[row["kind"], row["role"], row["relation"]].add(row["privilege"])
    return tuple(Grant(role, name, frozenset(p), kind) for (kind, role, name), p in sorted(groups.items()))
