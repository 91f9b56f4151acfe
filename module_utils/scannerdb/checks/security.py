"""Who may do what: schemas, the application's role, passwords, the ways in."""

from __future__ import annotations

from collections.abc import Iterator

from ..connection import SQL, Identifier, Row, fetch, text_of
from ..finding import Finding
from .context import Context
from .registry import by_hand, finding

SCHEMAS = """
SELECT nspname::text AS name FROM pg_namespace
 WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
   AND has_schema_privilege('public', oid, 'CREATE')
 ORDER BY 1
"""
ROLE = """
SELECT r.rolsuper AS superuser, r.rolbypassrls AS bypassrls,
       ARRAY(SELECT s.rolname::text FROM pg_roles s
              WHERE (s.rolsuper OR s.rolname IN ('pg_write_server_files', 'pg_execute_server_program'))
                AND s.oid <> r.oid AND pg_has_role(r.oid, s.oid, 'MEMBER') ORDER BY 1) AS member_of
  FROM pg_roles r WHERE r.rolname = %s
"""
# A grant counts for whoever has it, by itself or through a role it inherits from. What a superuser or an owner may do
# is no grant.
WRITES = """
SELECT r.rolname::text AS reader, c.relname::text AS relation, g.rolname::text AS grantee,
       array_agg(x.privilege_type ORDER BY x.privilege_type) AS privileges
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
 CROSS JOIN LATERAL aclexplode(c.relacl) x
  LEFT JOIN pg_roles g ON g.oid = x.grantee
  JOIN pg_roles r ON r.rolname = ANY (%s) AND NOT r.rolsuper
       AND (x.grantee = 0 OR pg_has_role(r.oid, x.grantee, 'USAGE'))
 WHERE c.relkind IN ('r', 'p', 'v') AND x.grantee <> c.relowner
   AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
PASSWORDS = """
SELECT rolname::text AS name, left(rolpassword, 3) AS kind FROM pg_authid
 WHERE rolcanlogin AND rolpassword IS NOT NULL AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'
 ORDER BY 1
"""
HBA = """
SELECT line_number AS line, type, database, user_name AS users, address,
       coalesce(netmask, '') AS netmask,
       address IN ('::1', 'localhost', 'samehost') OR address LIKE '127.%' AS loopback
  FROM pg_hba_file_rules
 WHERE error IS NULL AND auth_method = 'trust' AND type LIKE 'host%'
   AND (database && ARRAY['all', 'replication', current_database()::text]
        OR EXISTS (SELECT FROM unnest(database) d WHERE d IN ('sameuser', 'samerole', 'samegroup') OR d LIKE '/%'))
 ORDER BY line_number
"""
TLS = """
SELECT current_setting('ssl') AS ssl, current_setting('listen_addresses') AS listens,
       (SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
         WHERE NOT s.ssl AND a.client_addr IS NOT NULL
           AND NOT a.client_addr <<= ANY (ARRAY['127.0.0.0/8', '::1/128']::inet[])) AS plain_sessions
"""
ONLY_HERE = {"", "localhost", "::1"}


def public_schemas(context: Context) -> Iterator[Finding]:
    """Schemas in which everybody may create."""
    for row in fetch(context.conn, SCHEMAS):
        statement = SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(Identifier(row["name"]))
        yield finding(
            "security.schema.public_create",
            row["name"],
            f"Everybody may create objects in schema {row['name']}.",
            {},
            by_hand("security.schema.public_create", text_of(statement)),
        )


def application_role(context: Context) -> Iterator[Finding]:
    """An application's role that may do too much."""
    for row in fetch(context.conn, ROLE, [context.role]):
        role = Identifier(context.role)
        if row["superuser"] or row["member_of"]:
            revokes = [SQL("REVOKE {} FROM {}").format(Identifier(name), role) for name in row["member_of"]]
            alters = [SQL("ALTER ROLE {} NOSUPERUSER").format(role)] if row["superuser"] else []
            what = "a superuser" if row["superuser"] else f"a member of {', '.join(row['member_of'])}"
            yield finding(
                "security.role.superuser",
                f"role {context.role}",
                f"The application's role {context.role} is {what}.",
                dict(row),
                by_hand("security.role.superuser", *map(text_of, [*alters, *revokes])),
            )
        if row["bypassrls"] and not row["superuser"]:
            statement = SQL("ALTER ROLE {} NOBYPASSRLS").format(role)
            yield finding(
                "security.role.bypassrls",
                f"role {context.role}",
                f"The application's role {context.role} ignores row level security.",
                {},
                by_hand("security.role.bypassrls", text_of(statement)),
            )


def readers(context: Context) -> Iterator[Finding]:
    """Roles that are declared to read only, and may write: one finding for each."""
    found: dict[str, list[Row]] = {}
    for row in fetch(context.conn, WRITES, [context.schema, list(context.readers)]) if context.readers else ():
        found.setdefault(row["reader"], []).append(row)
    for reader, rows in found.items():
        revoke = SQL("REVOKE {} ON {} FROM {}")
        statements = [
            revoke.format(
                SQL(", ".join(row["privileges"])),
                Identifier(context.schema, row["relation"]),
                Identifier(row["grantee"]) if row["grantee"] else SQL("PUBLIC"),
            )
            for row in rows
        ]
        yield finding(
            "security.role.not_read_only",
            reader,
            f"Role {reader} should only read, but may write to {', '.join(sorted({row['relation'] for row in rows}))}.",
            {"granted_to": sorted({row["grantee"] or "PUBLIC" for row in rows})},
            by_hand("security.role.not_read_only", *map(text_of, statements)),
        )


def passwords(context: Context) -> Iterator[Finding]:
    """Password hashes weaker than SCRAM. The hash itself goes nowhere."""
    for row in fetch(context.conn, PASSWORDS):
        yield finding(
            "security.password.weak",
            f"role {row['name']}",
            f"The password of role {row['name']} is stored as {'MD5' if row['kind'] == 'md5' else 'something weak'}.",
        )


def hba(context: Context) -> Iterator[Finding]:
    """Lines of pg_hba.conf that ask for no password on TCP."""
    for row in fetch(context.conn, HBA):
        kind = "security.hba.trust_loopback" if row["loopback"] else "security.hba.trust"
        whom = ", ".join(row["users"])
        copies = ", and read a copy of everything by replication" if "replication" in row["database"] else ""
        yield finding(
            kind,
            f"pg_hba.conf line {row['line']}",
            f"pg_hba.conf lets {whom} in from {row['address'] or 'anywhere'} without a password{copies}.",
            {k: row[k] for k in ("line", "type", "database", "users", "address", "netmask")},
        )


def tls(context: Context) -> Iterator[Finding]:
    """A server that listens to the network without TLS."""
    row = fetch(context.conn, TLS)[0]
    listens = {address.strip() for address in row["listens"].split(",")} - ONLY_HERE
    beyond = [address for address in listens if not address.startswith("127.")]
    if row["ssl"] == "off" and beyond:
        message = f"The server listens on {row['listens']} without TLS."
        if row["plain_sessions"]:
            message += f" {row['plain_sessions']} sessions come from other machines in the clear."
        yield finding("security.tls.off", "ssl", message, dict(row))
