"""deploy.yml and the write probe over every attack: the code runs, and has no more rights than its owner's."""

from __future__ import annotations

import contextlib

import pytest
from scannerdb.connection import connect
from scannerdb.contract.overlay import contract_with
from scannerdb.contract.probe import write_probe
from scannerdb.errors import ScannerDbError
from scannerdb.jobs.schema import schema

from tests.security.attack_support import options
from tests.security.attacks import ATTACKS, MAINT, Canary

USERS = ["postgres", MAINT]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_deploy_gives_no_rights_away(canary: Canary, name: str, user: str) -> None:
    canary.database.sql("ALTER TABLE models ALTER name DROP NOT NULL")
    canary.database.sql("ALTER TABLE endpoints DROP COLUMN inactive_reason")
    canary.database.sql("ALTER TABLE models DROP CONSTRAINT models_endpoint_id_fkey")
    canary.plant(ATTACKS[name])
    with contextlib.suppress(ScannerDbError):
        schema(options(canary, user))
    assert canary.escaped() == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_the_write_probe_gives_no_rights_away(canary: Canary, name: str, user: str) -> None:
    canary.plant(ATTACKS[name])
    with connect(options(canary, user)) as conn:
        write_probe(conn, contract_with(None))
    assert canary.escaped() == []
