"""Run the checks: one after the other on one connection; one that fails is a finding and stops nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from ..connection import DriverError
from ..errors import PrivilegeMissing, ScannerDbError
from ..finding import Finding
from . import (
    capacity,
    counters,
    data,
    data_cross,
    duplicates,
    expiry,
    foreign_keys,
    gauges,
    holders,
    indexes,
    programs,
    restorable,
    security,
    sequences,
    server,
)
from .context import Check, Context
from .registry import finding

INSUFFICIENT_PRIVILEGE = "42501"


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


COUNTERS = Unit("counters in metadata", counters.check)
UNITS = (
    Unit("data rules of endpoints", data.endpoints, deep=False),
    Unit("orphans", data.orphans, deep=False),
    Unit("indexes", indexes.check, deep=False),
    Unit("duplicates", duplicates.check),
    Unit("dates of benchmark results", data_cross.result_dates),
    *(Unit(f"dates of {place[0]}", partial(data_cross.dates, *place)) for place in data_cross.OTHER_DATES),
    Unit("models of benchmark results", data_cross.foreign_models, cross_table=True),
    Unit("rows that go by a rule", expiry.check, deep=False),
    COUNTERS,
    Unit("interrupted scans", counters.marks),
    Unit("sequences behind their tables", sequences.check, deep=False),
    Unit("foreign keys without an index", foreign_keys.unindexed),
    Unit("triggers", programs.triggers),
    Unit("triggers of other tables", programs.disabled_elsewhere),
    Unit("constraints", programs.constraints),
    Unit("sequences without an owner", programs.sequences),
    Unit("SECURITY DEFINER functions", programs.definers),
    Unit("functions that a restore runs", restorable.functions),
    Unit("transaction ids", capacity.transaction_ids),
    Unit("sequences near their end", capacity.sequences),
    Unit("connections", capacity.connections),
    Unit("gauges", gauges.measure),
    Unit("growth", capacity.database_growth),
    Unit("disk", capacity.disk, restricted=True),
    Unit("old transactions", holders.sessions, restricted=True),
    Unit("prepared transactions", holders.prepared),
    Unit("replication slots", holders.slots),
    Unit("standbys that ask to wait", holders.standbys, restricted=True),
    Unit("version", server.version),
    Unit("settings", server.settings),
    Unit("checksums", server.checksums),
    Unit("collations", server.collations),
    Unit("extensions", server.extensions),
    Unit("WAL archive", server.archiver),
    Unit("schemas open to everybody", security.public_schemas),
    Unit("the application's role", security.application_role),
    Unit("read-only roles", security.readers),
    Unit("password hashes", security.passwords, restricted=True),
    Unit("pg_hba.conf", security.hba, restricted=True),
    Unit("TLS", security.tls),
)


def run_checks(
    context: Context, *, deep: bool = False, cross_table: bool = False, units: Iterable[Unit] = UNITS
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
