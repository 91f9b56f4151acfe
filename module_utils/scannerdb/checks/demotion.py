"""The SQL that takes a superuser's rights from the application's role, and never the last of it from the server. Pure.

It runs in a session of another superuser only, and refuses to run anywhere else: such a session is the proof that
somebody is left who can log in and take it back. Where there is no such role, making one is the first statement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..connection import SQL, Composable, Identifier, Literal, text_of

ADMINISTRATORS = ("postgres", "scannerdb_admin")
TAG = "$scannerdb$"

# What a superuser may do without any grant, and the application goes on needing.
GRANTS = """
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {name});
    GRANT USAGE{create} ON SCHEMA {schema} TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE{references} ON ALL TABLES IN SCHEMA {schema} TO {role};
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};"""

GUARD = """
    IF session_user::text = {name} OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
        RAISE EXCEPTION 'Log in as another superuser than % and run this there: it proves that one is left.', {name};
    END IF;"""

# The role that initdb made stays a superuser for ever. It goes on under another name, and the application gets a role
# of its own under the old one: with its password, and owning what it owned in this database.
REPLACED = """
    SELECT rolpassword INTO secret FROM pg_authid WHERE rolname = {name};
    ALTER ROLE {role} RENAME TO {kept};
    CREATE ROLE {role} LOGIN;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', {name}, secret);
    FOR statement IN
        SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, {name})
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relowner = {kept_name}::regrole AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
           AND n.nspname !~ '^(pg_|information_schema$)'
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                              AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, {name})
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.proowner = {kept_name}::regrole AND n.nspname !~ '^(pg_|information_schema$)'
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                              AND d.deptype = 'e')
        UNION ALL
        SELECT format('ALTER DATABASE %I OWNER TO %I', current_database(), {name})
          FROM pg_database WHERE datname = current_database() AND datdba = {kept_name}::regrole
    LOOP
        EXECUTE statement;
    END LOOP;"""


def demotion(role: str, seen: Mapping[str, Any], roles: Collection[str], schema: str, creates: bool) -> list[str]:
    """The whole way, for a role that is a superuser or a member of one; `seen` is the check's row about it."""
    steps: list[str] = []
    if seen["superuser"] or seen["of_superusers"]:
        if not seen["other_superusers"]:
            administrator = Identifier(_free(roles, ADMINISTRATORS))
            steps.append(text_of(SQL("CREATE ROLE {} LOGIN SUPERUSER").format(administrator)))
        steps.append(_guarded(role, seen, roles, schema, creates))
    return steps + _revokes(role, seen["of_programs"])


def _revokes(role: str, groups: Sequence[str]) -> list[str]:
    revoke = SQL("REVOKE {} FROM {}")
    return [text_of(revoke.format(Identifier(name), Identifier(role))) for name in groups]


def _guarded(role: str, seen: Mapping[str, Any], roles: Collection[str], schema: str, creates: bool) -> str:
    """The block that takes the rights, in a session of another superuser."""
    kept = _free(roles, (f"{role}_superuser",))
    names: dict[str, Composable] = {
        "name": Literal(role),
        "role": Identifier(role),
        "schema": Identifier(schema),
        "kept": Identifier(kept),
        "kept_name": Literal(text_of(Identifier(kept))),
        "create": SQL(", CREATE" if creates else ""),
        "references": SQL(", REFERENCES" if creates else ""),
    }
    parts = [GUARD]
    if seen["superuser"]:
        parts.append(REPLACED if seen["bootstrap"] else "\n    ALTER ROLE {role} NOSUPERUSER;")
    body = text_of(SQL("".join([*parts, GRANTS])).format(**names))  # type: ignore[arg-type,unused-ignore]
    body += "".join(f"\n    {revoke};" for revoke in _revokes(role, seen["of_superusers"]))
    tag = TAG
    while tag in body:
        tag = tag[:-1] + "_$"
    advice = (
        f"-- In a session of another superuser than {' '.join(role.split())} (give it a password first: \\password).\n"
        "-- What logs in as the application for its superuser's rights, maintenance too, uses that one afterwards.\n"
    )
    return f"{advice}DO {tag}\nDECLARE\n    secret text;\n    statement text;\nBEGIN{body}\nEND\n{tag}"


def _free(taken: Collection[str], wanted: Sequence[str]) -> str:
    """The first of these names that no role has, or the last with a number."""
    numbered = (f"{wanted[-1]}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (*wanted, *numbered) if name not in taken)
