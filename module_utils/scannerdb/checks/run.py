"""Run the checks: one after the other on one connection; one that fails is a finding and stops nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..connection import DriverError
from ..errors import PrivilegeMissing, ScannerDbError
from ..finding import Finding
from ..finding_kinds import FindingKind, declare, finding
from .context import Context
from .unit import Unit

declare(
    FindingKind("check.run.failed", "warning", "A check could not look; its message says why."),
    FindingKind(
        "check.run.not_allowed",
        "info",
        "What only a superuser (or a member of pg_monitor) may look at was not looked at.",
        how="GRANT pg_monitor TO the role; password hashes and pg_hba.conf need a superuser.",
    ),
)

INSUFFICIENT_PRIVILEGE = "42501"


def run_checks(
    context: Context, units: Iterable[Unit], *, deep: bool = False, cross_table: bool = False
) -> list[Finding]:
    """Every finding of the units; raises only where the connection itself is gone.

    What the role may not look at becomes one finding for all such units, not one for each.
    """
    found: list[Finding] = []
    refused: dict[bool, dict[str, str]] = {False: {}, True: {}}
    for unit in units:
        if (unit.deep and not deep) or (unit.cross_table and not cross_table):
            continue
        try:
            found += list(unit.check(context))
        except Exception as error:  # whatever it is: it stops no other check, and is told
            if context.conn.closed:
                raise
            if isinstance(error, PrivilegeMissing) or getattr(error, "sqlstate", "") == INSUFFICIENT_PRIVILEGE:
                refused[unit.restricted][unit.name] = _why(error)
            else:
                found.append(could_not_look(unit.name, error))
    return found + list(_refusals(refused))


def _refusals(refused: dict[bool, dict[str, str]]) -> Iterator[Finding]:
    for restricted, whys in refused.items():
        if not whys:
            continue
        names, why = ", ".join(whys), next(iter(whys.values()))
        if restricted:
            message = f"This role may not look at: {names}."
            yield finding("check.run.not_allowed", "privileges", message, {"why": whys})
        else:
            message = f"{len(whys)} checks could not look ({names}), because the role lacks a privilege: {why}."
            yield finding("check.run.failed", "privileges", message, {"why": whys})


def could_not_look(name: str, error: Exception) -> Finding:
    """The finding that a check could not be made."""
    why = _why(error)
    return finding("check.run.failed", name, f"The check '{name}' could not look, because: {why}.", {"why": why})


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    said = lines[0].rstrip(".") if lines else ""
    known = isinstance(error, (DriverError, ScannerDbError))
    return said if known and said else f"{type(error).__name__} {said}".strip()
