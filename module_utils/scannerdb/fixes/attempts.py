"""The results of a run that began again on a new primary, as one: what it did before counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..lockbudget import LockRecord
from .ranges import AIM_S

ROWS = f"batches aim at {AIM_S * 1000:.0f} ms"
_FIGURES = ("max_lock_ms", "max_wait_ms", "max_structure_ms", "max_rows_ms")
_Result = Mapping[str, Any]


def in_all(parts: Sequence[_Result], lock_timeout_ms: int) -> dict[str, Any]:
    """What the attempts have done together; what is only known at the end is that of the last."""
    fixed = [one for part in parts for one in part["fixed"]]
    record = LockRecord(**{name: max(part[name] for part in parts) for name in _FIGURES})
    return {
        **parts[-1],
        "changed": True,
        "fixed": fixed,
        "statements": [text for part in parts for text in part["statements"]],
        "failures": list(dict.fromkeys(text for part in parts for text in part["failures"])),
        "diff": next((part["diff"] for part in parts if part["fixed"]), parts[-1]["diff"]),
        **record.public(lock_timeout_ms, ROWS),
    }


def finished(earlier: Sequence[_Result], result: _Result, lock_timeout_ms: int) -> dict[str, Any]:
    """The result of the attempt that came to its end, with what those before it had done.

    A fix that failed earlier counts as failed, unless it was made in the end; that the primary was lost does not.
    """
    if not earlier:
        return dict(result)
    made = [f"{one['id']} on {one['object']}" for one in result["fixed"]]
    before = [
        {**part, "failures": [text for text in part["failures"][:-1] if not any(what in text for what in made)]}
        for part in earlier
    ]
    done = in_all([*before, result], lock_timeout_ms)
    failed = [text for text in done["failures"] if text not in result["failures"]]
    said = f"{result['msg']} The primary was replaced meanwhile: {len(done['fixed'])} fixes were applied in all."
    if failed:
        said += f" Before that, {len(failed)} fixes failed: {' '.join(failed)}"
    return {**done, "msg": said}


def broken_off(parts: Sequence[_Result], error: str, back: str, lock_timeout_ms: int) -> dict[str, Any]:
    """What a run had done that ended with `error` after it had begun again; `back` is the way back, for the end."""
    done = in_all(parts, lock_timeout_ms)
    said = (
        f"{error} Before that, the primary was replaced once or more: {len(done['fixed'])} fixes were applied in all, "
        f"and the rows of one that was interrupted may be changed in part."
    )
    failures = list(dict.fromkeys([*done["failures"], error]))
    return {**done, "failures": failures, "msg": said + back}
