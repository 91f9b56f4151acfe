"""Rows that row security hides are not taken for rows that are well."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import Safety, fix

from tests.integration.support import content, options
from tests.security.attacks import MAINT, OWNER, Canary

HIDING = (
    "ALTER TABLE public.endpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY some_rows ON public.endpoints USING (id > 100)",
)


@pytest.mark.pg(17)
@pytest.mark.parametrize("user", ["postgres", MAINT])
def test_what_is_hidden_is_left_and_said(canary: Canary, tmp_path: Path, user: str) -> None:
    for statement in HIDING:
        canary.database.sql(statement)
    before = content(canary.database)
    done = fix(
        options(canary.database, user=user),
        safety=Safety(require_backup=False),
        state_dir=str(tmp_path),
    )
    assert content(canary.database)["public.endpoints"] == before["public.endpoints"]
    whys = {left["id"]: left["why"] for left in done["left_undone"]}
    hidden = {name for name, why in whys.items() if "Row security hides rows of" in why and OWNER in why}
    if user == "postgres":  # who sees them all, and may change none of them as their owner
        assert "data.endpoints.last_check_date_null" in hidden
        assert not [failure for failure in done["failures"] if "Row security" in failure]
    found = check(options(canary.database, user=user))["findings"]
    unseen = [one for one in found if one["id"] == "check.run.failed" and "row-level security" in one["message"]]
    assert bool(unseen) == (user == MAINT)
