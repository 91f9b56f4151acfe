"""All that the families of checks declare: kinds of findings, checks in the order of a run, thresholds.

A new check is nothing here; only a new file of checks is named, in the imports and in FAMILIES.
"""

from __future__ import annotations

from ..contract import difference
from ..finding_kinds import KINDS
from ..physical import kinds as physical
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
    members,
    restorable,
    run,
    security,
    sequences,
    server,
    tables,
    thresholds,
    triggers,
)
from .unit import units_of

__all__ = ["KINDS", "THRESHOLDS", "UNITS", "WITHOUT_CHECKS"]

# In this order: what reads the tables first, for the counters take over what that counted.
FAMILIES = (
    data,
    indexes,
    duplicates,
    data_cross,
    expiry,
    counters,
    sequences,
    foreign_keys,
    triggers,
    restorable,
    capacity,
    gauges,
    holders,
    server,
    members,
    security,
)
WITHOUT_CHECKS = (
    difference,
    physical,
    run,
    tables,
)  # these declare findings that others make out of what they measured
THRESHOLDS = dict(sorted(thresholds.THRESHOLDS.items()))
UNITS = tuple(unit for family in FAMILIES for unit in units_of(family.__name__))
