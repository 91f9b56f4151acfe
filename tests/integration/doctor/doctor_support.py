"""Short words for the tests of the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scannerdb.jobs.doctor import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """All folders of a database, private."""
    names = ("backups", "state", "logs", "reports", "etc")
    for name in names:
        (tmp_path / name).mkdir(mode=0o700)
    return Places(*(str(tmp_path / name) for name in names))


def wrongs(result: dict[str, Any]) -> dict[str, str]:
    """What is wrong: the cause, and its message with its hint, which each must have."""
    found = [d for d in result["diagnoses"] if d["state"] == "wrong"]
    assert all(d["hint"] for d in found) and result["problems"] == len(found)
    return {d["cause"]: f"{d['message']} {d['hint']}" for d in found}
