"""The roles of a restore: those that are made, and those that take the place of others.

pg_restore cannot rename roles. So where any are replaced or ignored, it is told to leave owners, grants and policies
alone; the statements that it would have run for them are rewritten, and run in the side database afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..connection import SQL, Connection, Identifier, explained, fetch, text_of
from ..contract.model import Contract
from ..errors import ValidationFailed
from ..load.role_mapping import RoleRules, roles_in
from ..runs import Run
from .plan import RestorePlan
from .request import RestoreRequest

_EVENT = "ALTER EVENT TRIGGER "


def make_roles(conn: Connection, request: RestoreRequest, plan: RestorePlan, run: Run) -> None:
    """Create the roles that are missing, where that is wanted.

    Whoever is no superuser becomes a member of them, or could not give them anything.
    """
    if request.missing_roles != "create" or not plan.missing_roles:
        return
    with explained("Creating the missing roles"), conn.transaction():
        for role in map(Identifier, plan.missing_roles):
            conn.execute(SQL("CREATE ROLE {} NOLOGIN").format(role))
            if not plan.server.superuser:
                conn.execute(SQL("GRANT {} TO CURRENT_USER").format(role))
    for name in plan.missing_roles:
        dropping = text_of(SQL("DROP ROLE {}").format(Identifier(name)))
        run.note_change(f"Role {name!r} was created.", f"To remove it: {dropping};")


def give_to_roles(side: Connection, plan: RestorePlan) -> int:
    """Run the archive's own statements about owners, grants and policies, rewritten; how many there were.

    They are one transaction. Raises one of our errors with the statement that failed.
    """
    statements = [text for text in plan.contents.about_roles if not text.startswith(_EVENT)]
    return _give(side, [plan.rules.rewritten(written) for written in statements])


def give_event_triggers(side: Connection, plan: RestorePlan) -> list[str]:
    """The same for event triggers, which come last. Whose new owner is no superuser stay the restoring role's: those.

    No other role may own them.
    """
    with explained("Looking at who is a superuser"):
        strong = {row["name"] for row in fetch(side, "SELECT rolname::text AS name FROM pg_roles WHERE rolsuper")}
    statements = [plan.rules.rewritten(text).strip() for text in plan.contents.about_roles if text.startswith(_EVENT)]
    _give(side, [statement for statement in statements if roles_in(statement)[0] <= strong])
    return [" ".join(statement.split()) for statement in statements if not roles_in(statement)[0] <= strong]


def _give(side: Connection, statements: Sequence[str]) -> int:
    done = 0
    with side.transaction():
        side.execute("SET LOCAL search_path = ''")  # policies are written for it
        for statement in map(str.strip, statements):
            if statement:
                with explained(f"Giving the restored objects to their roles ({' '.join(statement.split())[:200]})"):
                    side.execute(statement.encode("utf-8", "surrogateescape"))
                done += 1
    return done


def check_replaced(side: Connection, rules: RoleRules) -> None:
    """Raise `ValidationFailed` where a role whose place another takes still has something in the side database.

    The restoring role is left out: what nobody else gets is its own.
    """
    gone = sorted(set(rules.mapped) - set(rules.mapped.values()))
    with explained("Looking at what the roles have"):
        rows = fetch(
            side,
            "SELECT DISTINCT r.rolname::text AS name FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid"
            " WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = ANY(%s) AND r.rolname <> current_user"
            " AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            [gone],
        )
    if rows:
        raise ValidationFailed(
            f"After the restore {', '.join(row['name'] for row in rows)} still owned something, or had rights or "
            "policies, though scannerdb_restore_role_map has others take that place.",
            "The live database was not touched. The backup gives it in a way that pg_dump does not write.",
        )


def contract_under(contract: Contract, rules: RoleRules) -> Contract:
    """What the contract demands where other roles take the place of those it names. Pure."""
    return replace(
        contract,
        application_role=rules.of(contract.application_role),
        grants=tuple(replace(grant, role=rules.of(grant.role)) for grant in contract.grants),
    )
