# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A filter that finds variables with the bundle's prefix that nothing knows: a misspelt one would count as not set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

DOCUMENTATION = r"""
name: unknown_to_scannerdb
short_description: What is wrong with names of variables that begin with scannerdb_
version_added: "0.3.0"
description: Sentences about the variables that no role or playbook of the bundle knows, with the nearest known name.
positional: _input
options:
  _input:
    description: Names of variables; those with other prefixes are none of the bundle's.
    type: list
    elements: str
    required: true
"""

PREFIX = "scannerdb_"
ROLES = Path(__file__).resolve().parents[2]
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


def unknown(names: Iterable[str]) -> list[str]:
    """A sentence for each name with our prefix that nothing knows."""
    names, variables = {name for name in names if name.startswith(PREFIX)}, known()
    return [_sentence(name, variables) for name in sorted(names - variables) if not name.endswith(REGISTERED)]


def _sentence(name: str, variables: set[str]) -> str:
    # Without the prefix, which would make any two of them alike.
    near = difflib.get_close_matches(name[len(PREFIX) :], [one[len(PREFIX) :] for one in sorted(variables)], 1)
    return f"Nothing knows {name}" + (f"; {PREFIX}{near[0]} is the nearest that there is." if near else ".")


class FilterModule:
    """Tells Ansible the filters of this file."""

    def filters(self) -> dict[str, Callable[[Iterable[str]], list[str]]]:
        """The filters, by name."""
        return {"unknown_to_scannerdb": unknown}
