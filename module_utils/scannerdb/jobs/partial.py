"""A task that changed something says so also when it fails: what was done, under which name, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..connection import DriverError, explained
from ..errors import ScannerDbError


def way_back(run_id: str) -> str:
    """What to type to take a run back, for the end of a message."""
    return f" To take back what was done: ansible-playbook playbooks/undo.yml -e scannerdb_run_id={run_id}"


@contextlib.contextmanager
def telling(result: Callable[[], dict[str, Any]], doing: str = "The run") -> Iterator[None]:
    """An error inside the block carries what was done until then, as `done`, where anything was."""
    try:
        with explained(doing):
            yield
    except (ScannerDbError, DriverError) as error:
        done = result()
        if done["changed"] and isinstance(error, ScannerDbError):
            said = f"{error} Before that: {done['msg']}"
            error.done = {**done, "failures": [*done["failures"], str(error)], "msg": said}
        raise
