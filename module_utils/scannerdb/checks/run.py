"""Run the checks: one after the other on one connection; one that fails is a finding and stops nothing else."""

from __future__ import annotations

from ..connection import DriverError
from ..finding import Finding
from . import data, indexes
from .context import Check, Context
from .registry import finding

UNITS: dict[str, Check] = {
    "data rules of endpoints": data.endpoints,
    "orphans": data.orphans,
    "indexes": indexes.check,
}


def run_checks(context: Context) -> list[Finding]:
    """Every finding of the units; raises only where the connection itself is gone."""
    found: list[Finding] = []
    for name, unit in UNITS.items():
        try:
            with context.conn.transaction():
                found += list(unit(context))
        except DriverError as error:
            if context.conn.closed:
                raise
            found.append(could_not_look(name, error))
    return found


def could_not_look(name: str, error: Exception) -> Finding:
    """The finding that a check could not be made."""
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return finding("check.run.failed", name, f"The check '{name}' could not look, because: {why}.", {"why": why})
