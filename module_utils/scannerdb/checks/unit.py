"""A check: a function that looks, declared together with the kinds of findings that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..finding_kinds import FindingKind, declare
from .context import Check


@dataclass(frozen=True)
class Unit:
    """One check. `deep` ones belong to the health check only, not to a fix's look; `cross_table` ones are asked for.

    `restricted`: PostgreSQL shows it to superusers or members of pg_monitor only, so that it may well be out of reach.
    """

    name: str
    check: Check
    deep: bool = True
    cross_table: bool = False
    restricted: bool = False


_DECLARED: dict[Check, Unit] = {}


def check(
    name: str, *kinds: FindingKind, deep: bool = True, cross_table: bool = False, restricted: bool = False
) -> Callable[[Check], Check]:
    """Declare a check and what it finds; checks of a file run in the order in which they stand there."""
    declare(*kinds)

    def declared(look: Check) -> Check:
        _DECLARED[look] = Unit(name, look, deep, cross_table, restricted)
        return look

    return declared


def units_of(module: str) -> tuple[Unit, ...]:
    """The checks that a module declares."""
    return tuple(unit for look, unit in _DECLARED.items() if look.__module__ == module)


def unit_of(look: Check) -> Unit:
    """The declared check of a function."""
    return _DECLARED[look]
