"""A task that changed something says so also when it fails: what was done, under which name, and the way back."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from .connection import DriverError, explained
from .errors import ScannerDbError
from .runs import Run


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


@contextlib.contextmanager
def telling_changes(run: Run) -> Iterator[None]:
    """An error inside the block carries what the run had noted as changed; without any it goes on as it is.

    Also one that nobody has foreseen: a module that dies of it would say that nothing was changed.
    """
    try:
        with explained(f"The {run.job}"):
            yield
    except ScannerDbError as error:
        if run.changes:
            error.done = _done(run, str(error))
        raise
    except Exception as error:
        if not run.changes:
            raise
        sudden = ScannerDbError(f"The {run.job} ended with an error of its own: {type(error).__name__}: {error}.")
        sudden.done = {**_done(run, str(sudden)), "exception": traceback.format_exc()}
        raise sudden from error


def _done(run: Run, why: str) -> dict[str, Any]:
    backs = list(dict.fromkeys(filter(None, run.changes.values())))
    told = " ".join([why, "Before that:", *run.changes, *backs])
    return {
        **run.facts,
        "changed": True,
        "run_id": run.run_id,
        "log": run.log_path,
        "done": list(run.changes),
        "way_back": backs,
        "failures": [why],
        "msg": told,
    }
