"""Who may do what: schemas, the application's role, passwords, the ways in."""

from __future__ import annotations

from collections.abc import Iterator

from ..connection import SQL, Composable, Identifier, Row, fetch, scalar, text_of
from ..finding import Finding
from ..finding_kinds import FindingKind, by_hand, finding
from .context import Context
from .demotion import demotion
from .unit import check

SCHEMAS = """
SELECT n.nspname::text AS name,
       ARRAY(SELECT r.rolname::text FROM pg_roles r
              WHERE r.rolname = ANY (%s) AND NOT r.rolsuper
                AND NOT EXISTS (SELECT FROM aclexplode(n.nspacl) x
                                 WHERE x.privilege_type = 'CREATE' AND x.grantee <> 0
                                   AND pg_has_role(r.oid, x.grantee, 'USAGE')) ORDER BY 1) AS depend
  FROM pg_namespace n
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND has_schema_privilege('public', n.oid, 'CREATE')
 ORDER BY 1
"""
# The role that initdb made has the first oid there is.
ROLE = """
WITH privileged AS (
    SELECT s.oid, s.rolname::text AS name, s.rolsuper AS superuser, s.rolcanlogin AS login FROM pg_roles s
     WHERE (s.rolsuper OR s.rolname IN ('pg_write_server_files', 'pg_execute_server_program'))
       AND s.rolname <> %(role)s)
SELECT r.rolsuper AS superuser, r.rolbypassrls AS bypassrls, r.oid = 10 AS bootstrap,
       ARRAY(SELECT p.name FROM privileged p WHERE NOT r.rolsuper AND pg_has_role(r.oid, p.oid, 'MEMBER')
              ORDER BY 1) AS member_of,
       ARRAY(SELECT p.name FROM privileged p JOIN pg_auth_members m ON m.roleid = p.oid AND m.member = r.oid
              WHERE p.superuser GROUP BY 1 ORDER BY 1) AS of_superusers,
       ARRAY(SELECT p.name FROM privileged p JOIN pg_auth_members m ON m.roleid = p.oid AND m.member = r.oid
              WHERE NOT p.superuser GROUP BY 1 ORDER BY 1) AS of_programs,
       ARRAY(SELECT p.name FROM privileged p WHERE p.superuser AND p.login ORDER BY 1) AS other_superusers
  FROM pg_roles r WHERE r.rolname = %(role)s
"""
# Tables whose rows a role without BYPASSRLS sees by their policies only; an owner is exempt unless it is forced.
ROW_SECURITY = """
SELECT c.relname::text AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = %s
 WHERE n.nspname = %s AND c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
 ORDER BY 1
"""
# A grant counts for whoever has it, by itself or through a role it inherits from. What a superuser or an owner may do
# is no grant.
WRITES = """
SELECT r.rolname::text AS reader, c.relname::text AS relation, g.rolname::text AS grantee,
       EXISTS (SELECT FROM pg_roles a WHERE a.rolname = %s AND a.oid <> r.oid
                  AND (x.grantee = 0 OR pg_has_role(a.oid, x.grantee, 'USAGE') AND a.oid <> x.grantee)) AS shared,
       array_agg(x.privilege_type ORDER BY x.privilege_type) AS privileges
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
 CROSS JOIN LATERAL aclexplode(c.relacl) x
  LEFT JOIN pg_roles g ON g.oid = x.grantee
  JOIN pg_roles r ON r.rolname = ANY (%s) AND NOT r.rolsuper
       AND (x.grantee = 0 OR pg_has_role(r.oid, x.grantee, 'USAGE'))
 WHERE c.relkind IN ('r', 'p', 'v') AND x.grantee <> c.relowner
   AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
 GROUP BY 1, 2, 3, 4
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


@check(
    "schemas open to everybody",
    FindingKind(
        "security.schema.public_create",
        "warning",
        "Everybody may create objects in a schema, and so put a function or table in front of others.",
        how="REVOKE CREATE ON SCHEMA … FROM PUBLIC, after a GRANT to those that need it.",
        lock="none",
    ),
)
def public_schemas(context: Context) -> Iterator[Finding]:
    """Schemas in which everybody may create. Who lives by that in the contract's schema first gets its own grant."""
    for row in fetch(context.conn, SCHEMAS, [[*_creators(context)]]):
        schema = Identifier(row["name"])
        keep = row["depend"] if row["name"] == context.schema else ()
        grants = [SQL("GRANT CREATE ON SCHEMA {} TO {}").format(schema, Identifier(role)) for role in keep]
        revoke = SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(schema)
        yield finding(
            "security.schema.public_create",
            row["name"],
            f"Everybody may create objects in schema {row['name']}.",
            {"depend": list(keep)} if keep else {},
            by_hand("security.schema.public_create", *map(text_of, [*grants, revoke])),
        )


def _creators(context: Context) -> Iterator[str]:
    """Who must stay able to create: the application, where the contract says so, and whoever maintains."""
    if context.creates:
        yield context.role
    yield str(scalar(context.conn, "SELECT current_user::text"))


@check(
    "the application's role",
    FindingKind(
        "security.role.superuser",
        "warning",
        "The application's role is a superuser (or a member of one): a mistake in the application reaches everything.",
        how="The SQL makes another superuser where there is none, completes the role's grants, then revokes SUPERUSER.",
        lock="none",
    ),
    FindingKind(
        "security.role.bypassrls",
        "warning",
        "The application's role ignores row level security.",
        how="ALTER ROLE … NOBYPASSRLS, once no policy hides rows that the application needs.",
        lock="none",
    ),
)
def application_role(context: Context) -> Iterator[Finding]:
    """An application's role that may do too much."""
    for row in fetch(context.conn, ROLE, {"role": context.role}):
        if row["superuser"] or row["member_of"]:
            what = "a superuser" if row["superuser"] else f"a member of {', '.join(row['member_of'])}"
            if row["superuser"] and not row["other_superusers"]:
                what += ", the only one that can log in"
            names = [r["name"] for r in fetch(context.conn, "SELECT rolname::text AS name FROM pg_roles")]
            steps = demotion(context.role, row, names, context.schema, context.creates)
            yield finding(
                "security.role.superuser",
                f"role {context.role}",
                f"The application's role {context.role} is {what}.",
                dict(row),
                by_hand("security.role.superuser", *steps) if steps else None,
            )
        if row["bypassrls"] and not row["superuser"]:
            yield _bypassrls(context)


def _bypassrls(context: Context) -> Finding:
    """Where policies wait, taking the attribute away would hide the application's own rows: no SQL is offered."""
    guarded = [row["name"] for row in fetch(context.conn, ROW_SECURITY, [context.role, context.schema])]
    statement = SQL("ALTER ROLE {} NOBYPASSRLS").format(Identifier(context.role))
    message = f"The application's role {context.role} ignores row level security."
    if guarded:
        message += f" Without that it would see only what the policies of {', '.join(guarded)} show: write those first."
    return finding(
        "security.role.bypassrls",
        f"role {context.role}",
        message,
        {"tables": guarded} if guarded else {},
        None if guarded else by_hand("security.role.bypassrls", text_of(statement)),
    )


@check(
    "read-only roles",
    FindingKind(
        "security.role.not_read_only",
        "warning",
        "A role of read_only_roles may write, by a grant of its own or through a role it belongs to.",
        how="REVOKE; where the grant is another role's, its other members lose it too, but for the application.",
        lock="none",
    ),
)
def readers(context: Context) -> Iterator[Finding]:
    """Roles that are declared to read only, and may write: one finding for each."""
    found: dict[str, list[Row]] = {}
    parameters = [context.role, context.schema, list(context.readers)]
    for row in fetch(context.conn, WRITES, parameters) if context.readers else ():
        found.setdefault(row["reader"], []).append(row)
    for reader, rows in found.items():
        # What the application has through the same grant it gets by itself first.
        statements = [_privilege("GRANT {} ON {} TO {}", context, row, context.role) for row in rows if row["shared"]]
        statements += [_privilege("REVOKE {} ON {} FROM {}", context, row, row["grantee"]) for row in rows]
        yield finding(
            "security.role.not_read_only",
            reader,
            f"Role {reader} should only read, but may write to {', '.join(sorted({row['relation'] for row in rows}))}.",
            {"granted_to": sorted({row["grantee"] or "PUBLIC" for row in rows})},
            by_hand("security.role.not_read_only", *map(text_of, statements)),
        )


def _privilege(template: str, context: Context, row: Row, role: str | None) -> Composable:
    return SQL(template).format(  # type: ignore[arg-type,unused-ignore]
        SQL(", ".join(row["privileges"])),
        Identifier(context.schema, row["relation"]),
        Identifier(role) if role else SQL("PUBLIC"),
    )


@check(
    "password hashes",
    FindingKind(
        "security.password.weak",
        "warning",
        "A password is stored as MD5, which is quickly guessed from a copy of the hash.",
        how="Set password_encryption to scram-sha-256 and give the role its password again.",
    ),
    restricted=True,
)
def passwords(context: Context) -> Iterator[Finding]:
    """Password hashes weaker than SCRAM. The hash itself goes nowhere."""
    for row in fetch(context.conn, PASSWORDS):
        yield finding(
            "security.password.weak",
            f"role {row['name']}",
            f"The password of role {row['name']} is stored as {'MD5' if row['kind'] == 'md5' else 'something weak'}.",
        )


@check(
    "pg_hba.conf",
    FindingKind(
        "security.hba.trust",
        "warning",
        "pg_hba.conf lets other machines in without a password.",
        how="Replace trust by scram-sha-256 and reload the server.",
    ),
    FindingKind(
        "security.hba.trust_loopback",
        "info",
        "pg_hba.conf lets every local user in over TCP without a password.",
        how="Replace trust by scram-sha-256 and reload the server.",
    ),
    restricted=True,
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


@check(
    "TLS",
    FindingKind(
        "security.tls.off",
        "info",
        "The server listens beyond this machine without TLS: passwords are safe with SCRAM, data is not.",
        how="Set ssl = on with a certificate, and hostssl in pg_hba.conf.",
    ),
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
