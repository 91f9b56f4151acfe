"""Which words of a backup's hooks no output may show: pure, over whatever was given."""

from __future__ import annotations

from typing import Any

import pytest
from scannerdb.backup.request import addresses_in


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        ({}, set()),
        ({"hook_pre_backup": None, "hook_post_backup": 5, "hook_on_failure": [True, 5, None]}, set()),
        ({"hook_post_backup": ["true", "https"], "offsite_remote": "https://kept"}, set()),
        (
            {"hook_post_backup": ["https://a/t"], "hook_on_failure": ["curl", "http://b/t?x=1"]},
            {"https://a/t", "http://b/t?x=1"},
        ),
        ({"hook_pre_backup": ["curl", "--url=https://a/t"]}, {"https://a/t"}),
        ({"hook_pre_backup": "curl, https://a/t ,-v"}, {"https://a/t"}),
    ],
)
def test_only_addresses_are_hidden(given: dict[str, Any], hidden: set[str]) -> None:
    assert addresses_in(given) == hidden
