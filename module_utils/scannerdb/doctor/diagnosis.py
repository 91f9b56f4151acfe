"""One cause that was tested, and what came of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ScannerDbError

FINE, WRONG, UNKNOWN = "fine", "wrong", "unknown"


@dataclass(frozen=True)
class Diagnosis:
    """`cause` names what was tested; `state` is fine, wrong, or unknown (not to be tested). A hint is a sentence."""

    cause: str
    state: str
    message: str
    hint: str = ""


def fine(cause: str, message: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(cause, FINE, message)


def wrong(cause: str, message: str, hint: str) -> Diagnosis:
    """This is what is wrong."""
    return Diagnosis(cause, WRONG, message, hint)


def unknown(cause: str, why: str) -> Diagnosis:
    """It could not be tested."""
    return Diagnosis(cause, UNKNOWN, f"Not tested: {why}")


def from_error(cause: str, error: ScannerDbError) -> Diagnosis:
    """An error of ours says what is wrong and how to repair it."""
    return wrong(cause, error.message, error.hint or "Look at the server's log.")
