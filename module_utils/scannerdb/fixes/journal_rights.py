"""Whether the role may use the journal that is there; asked before a plan, so that check mode says it as well."""

from __future__ import annotations

from ..connection import Connection, explained, fetch
from ..errors import PrivilegeMissing

# A name that this role may not look up is not found by to_regclass: the catalog knows it all the same.
JOURNAL = """
SELECT pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role,
       has_schema_privilege(n.oid, 'USAGE')
         AND (SELECT bool_and(has_table_privilege(c.oid, p))
                FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p) AS may
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'scannerdb_maintenance' AND c.relname = 'journal'
"""


def require_journal_rights(conn: Connection) -> None:
    """Raise `PrivilegeMissing` where there is a journal that the role may not read and write."""
    with explained("Looking at the journal's owner"):
        rows = fetch(conn, JOURNAL)
    if rows and not rows[0]["may"]:
        owner, role = rows[0]["owner"], rows[0]["role"]
        raise PrivilegeMissing(
            f"The journal (scannerdb_maintenance.journal) belongs to {owner!r}, and {role!r} may not write to it.",
            f'Run as {owner!r}, or let the role use it: GRANT "{owner}" TO "{role}". Nothing was changed.',
        )
