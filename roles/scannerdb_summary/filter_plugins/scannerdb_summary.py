"""The filter that sums up a play; the text is made by module_utils/scannerdb/status/summary.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.text.formatters import bytes_to_human

BUNDLE = Path(__file__).resolve().parents[3]
_SOURCE = importlib.util.spec_from_file_location(  # the package is no part of the controller's path
    "scannerdb_status_summary", BUNDLE / "module_utils" / "scannerdb" / "status" / "summary.py"
)
assert _SOURCE and _SOURCE.loader
_summary = importlib.util.module_from_spec(_SOURCE)
_SOURCE.loader.exec_module(_summary)


def scannerdb_summary(facts: Mapping[str, Any]) -> str:
    """The text for people."""
    return str(_summary.summary(facts, bytes_to_human))


class FilterModule:
    """The role's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"scannerdb_summary": scannerdb_summary}
