"""fix.yml with scannerdb_fix_types: convert: the trigger that it makes is no way in, neither before nor meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.fixes.backfill import Backfill
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, fix
from scannerdb.jobs.schema import schema

from tests.security.attack_support import USERS, options
from tests.security.attacks import ATTACKS, GRANTEE, OWNER, Attack, Canary

CONVERT = FixPolicy(types="convert", types_zone="UTC", only=("schema.column.type",))
HARMLESS = "CREATE FUNCTION public.{}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
EVIL = (
    "CREATE OR REPLACE FUNCTION public.{}() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM evil.code(); RETURN NEW; END'"
)
NAME = "scannerdb_convert_verified_endpoints"
BAIT = f"CREATE TRIGGER zz BEFORE INSERT ON evil.bait FOR EACH ROW EXECUTE FUNCTION public.{NAME}()"
RELATIONS = """
SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
"""
TYPE = """
SELECT atttypid::regtype::text FROM pg_attribute
 WHERE attrelid = 'verified_endpoints'::regclass AND attname = 'verification_date'
"""
ON_LINKS = "UPDATE ON public.verified_endpoints"
PLANTED = {
    "row trigger": f"CREATE TRIGGER zz BEFORE {ON_LINKS} FOR EACH ROW EXECUTE FUNCTION evil.fire()",
    "deferred trigger": f"CREATE CONSTRAINT TRIGGER zz AFTER {ON_LINKS} INITIALLY DEFERRED FOR EACH ROW"
    " EXECUTE FUNCTION evil.fire()",
    "CHECK": "ALTER TABLE public.verified_endpoints ADD CONSTRAINT zz CHECK (evil.truth(id)) NOT VALID",
    "expression index": "CREATE INDEX zz ON public.verified_endpoints (evil.truth(id))",
    "view": ATTACKS["view"].planted,
}


def owned_by(canary: Canary, role: str) -> None:
    for (name,) in canary.database.sql(RELATIONS):
        canary.database.sql(f"ALTER TABLE {name} OWNER TO {role}")
    canary.database.sql(f"ALTER DATABASE {canary.database.name} OWNER TO {role}")
    canary.database.sql(f"GRANT CREATE ON SCHEMA public TO {GRANTEE}, {OWNER}")


def of_texts(canary: Canary, user: str) -> dict[str, Any]:
    """A column of texts, whose owner is the superuser for a superuser's run; returns the overlay."""
    owner = "postgres" if user == "postgres" else OWNER
    owned_by(canary, owner)
    canary.database.sql("ALTER TABLE verified_endpoints ALTER verification_date DROP DEFAULT")
    canary.database.sql("ALTER TABLE verified_endpoints ALTER verification_date TYPE text")
    return {"application_role": owner}


def convert(canary: Canary, user: str, state_dir: Path, overlay: dict[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = {"policy": CONVERT, "safety": Safety(require_backup=False), "state_dir": str(state_dir)}
    try:
        return fix(options(canary, user), overlay=overlay, **words)
    except ScannerDbError as error:
        return {"refused": str(error), "fixed": [], "left_undone": []}


@contextlib.contextmanager
def meanwhile(canary: Canary, *statements: str) -> Iterator[list[str]]:
    """Once the columns and the trigger are there, the attacker runs these, and then somebody stronger writes."""
    run, refused = Backfill.run, []

    def attacked(self: Backfill) -> int:
        with canary.database.connect(GRANTEE) as conn:
            for statement in statements:
                try:
                    conn.execute(statement.encode())
                except psycopg.Error as error:
                    refused.append(str(error))
        with canary.database.connect() as conn:
            conn.execute("UPDATE verified_endpoints SET verification_date = verification_date WHERE id < 4")
        return run(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backfill, "run", attacked)
        yield refused


@pytest.mark.parametrize("user", USERS)
def test_the_function_of_somebody_else_is_not_the_triggers(canary: Canary, tmp_path: Path, user: str) -> None:
    """It was there before; its owner replaces it once the trigger is at work."""
    overlay = of_texts(canary, user)
    canary.plant(Attack("function of the trigger", HARMLESS.format(NAME), "", by=GRANTEE))
    with meanwhile(canary, EVIL.format(NAME)):
        result = convert(canary, user, tmp_path, overlay)
    with canary.database.connect() as conn, contextlib.suppress(psycopg.Error):
        conn.execute("UPDATE verified_endpoints SET verification_date = verification_date WHERE id < 4")
    assert canary.escaped() == [], result
    assert f"a function of {GRANTEE}, has the name" in str(result["left_undone"])


@pytest.mark.pg(17)
@pytest.mark.parametrize("user", USERS)
def test_nobody_else_gets_hold_of_the_function_meanwhile(canary: Canary, tmp_path: Path, user: str) -> None:
    """It can neither be replaced nor attached to a table of theirs, where it could not be dropped."""
    overlay = of_texts(canary, user)
    canary.plant(Attack("bait", "CREATE TABLE evil.bait (n int)", "", by=GRANTEE))
    with meanwhile(canary, EVIL.format(NAME), BAIT) as refused:
        result = convert(canary, user, tmp_path, overlay)
    assert canary.escaped() == [] and not canary.fired, result
    assert len(refused) >= 2 and result["fixed"], result
    assert canary.database.value(TYPE) == "timestamp with time zone"


@pytest.mark.pg(15)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", list(PLANTED))
def test_a_conversion_gives_no_rights_away(canary: Canary, tmp_path: Path, name: str, user: str) -> None:
    """Code that the table and the view over it run, which belong to a lesser role."""
    overlay = of_texts(canary, OWNER)
    canary.plant(Attack(name, PLANTED[name], ""))
    result = convert(canary, user, tmp_path, overlay)
    assert canary.escaped() == [], result


def test_a_replaced_function_of_the_view_is_whose_deploy_makes_it(canary: Canary) -> None:
    """A superuser deploys a database of his own; a lesser role had a function of that name first."""
    owned_by(canary, "postgres")
    canary.plant(Attack("function of the view", HARMLESS.format("scannerdb_servers_delete"), "", by=GRANTEE))
    schema(options(canary, "postgres"))
    with canary.database.connect(GRANTEE) as conn, contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        conn.execute(EVIL.format("scannerdb_servers_delete").encode())
    canary.database.sql("DELETE FROM servers WHERE id = (SELECT min(id) FROM servers)")
    assert canary.escaped() == []
