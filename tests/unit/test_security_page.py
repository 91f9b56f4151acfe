"""The count of attacks in docs/security.md is the suite's own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.attack_support import USERS
from tests.security.attacks import ATTACKS
from tests.servers import VERSIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
JOBS = 3  # fix with undo, deploy, the write probe


def test_the_count_of_attacks_is_right() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    said = re.search(r"plants (\d+) attacks .* (\d+) . (\d+) . (\d+) . (\d+) = (\d+) combinations", text)
    assert said
    product = len(ATTACKS) * JOBS * len(USERS) * len(VERSIONS)
    assert [int(one) for one in said.groups()] == [len(ATTACKS), len(ATTACKS), JOBS, len(USERS), len(VERSIONS), product]
