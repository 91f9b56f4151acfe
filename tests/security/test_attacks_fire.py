"""Every attack works where nothing protects from it: else the other tests here would prove nothing."""

from __future__ import annotations

import psycopg
import pytest

from tests.security.attacks import ATTACKS, BELONGS_TO_SERVER, MAINT, Canary


@pytest.mark.parametrize("user", ["postgres", MAINT])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in BELONGS_TO_SERVER])
def test_a_plain_session_runs_the_attacker_s_code(canary: Canary, name: str, user: str) -> None:
    attack = ATTACKS[name]
    canary.plant(attack)
    with psycopg.connect(**{**canary.database.kwargs, "user": user}) as conn:
        conn.execute(attack.sets_off.encode())
    assert canary.fired
    if name == "function replaced during the call":  # its code is at home in a frame only
        return
    assert ("superuser" if user == "postgres" else "maint") in canary.escaped()
