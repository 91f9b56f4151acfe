# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over names of variables with the bundle's prefix: a misspelt one would count as not set."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: unknown_to_scannerdb
short_description: What is wrong with names of variables that begin with scannerdb_
version_added: "0.3.0"
description: Sentences about the variables that no role or playbook of the bundle knows, with the nearest known name.
positional: _input
options:
  _input:
    description: For each host the names of its variables, and whether it is strict. Names with other prefixes are none
      of the bundle's.
    type: list
    elements: list
    required: true
  strict:
    description: Whether the names that strict hosts have are looked at, or those that only other hosts have.
    type: bool
    default: true
"""

PREFIX = "scannerdb_"
ROLES = Path(__file__).resolve().parents[2]
_SOURCE = importlib.util.spec_from_file_location(  # the package is no part of the controller's path
    "scannerdb_nearest", ROLES.parent / "module_utils" / "scannerdb" / "nearest.py"
)
assert _SOURCE and _SOURCE.loader
_nearest = importlib.util.module_from_spec(_SOURCE)
_SOURCE.loader.exec_module(_nearest)
# What playbooks ask for or keep, and what a sliced job of AWX is told; and how the names end that tasks register.
OF_PLAYBOOKS = frozenset(
    PREFIX + name
    for name in (
        "hosts",
        "serial",
        "max_fail_percentage",
        "found",
        "slices",
        "slice_names",
        "check_judged",
        "cluster_gives_way",
    )
)
REGISTERED = ("_result", "_artifacts")


def known() -> set[str]:
    """The variables that somebody may set."""
    texts = [path.read_text(encoding="utf-8") for path in ROLES.glob("*/defaults/main.yml")]
    return {*OF_PLAYBOOKS, *(name for text in texts for name in re.findall(r"^(scannerdb_\w+):", text, re.MULTILINE))}


def unknown(owned: Iterable[tuple[Iterable[str], bool]], strict: bool = True) -> list[str]:
    """A sentence for each name with our prefix that nothing knows: of strict hosts, or what only others have."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for names, of_strict in owned:
        found[of_strict].update(name for name in names if name.startswith(PREFIX) and not name.endswith(REGISTERED))
    variables = known()
    names = found[True] if strict else found[False] - found[True]
    return [f"Nothing knows {one}{_nearest.nearest(one, variables, PREFIX)}" for one in sorted(names - variables)]


def only_known(names: Iterable[str]) -> list[str]:
    """The names that somebody may set, out of these."""
    variables = known()
    return [name for name in names if name in variables]


class FilterModule:
    """Tells Ansible the filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters, by name."""
        return {"unknown_to_scannerdb": unknown, "known_to_scannerdb": only_known}
