# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Jinja test: is a collection on the controller? Its modules, once named, fail before a task could say so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

DOCUMENTATION = r"""
name: scannerdb_collection
short_description: Whether a collection is installed on the controller
version_added: "0.3.0"
description: True where Ansible finds the collection of that name.
positional: _input
options:
  _input:
    description: The collection's name.
    type: str
    required: true
"""


def installed(name: str) -> bool:
    """True where Ansible finds the collection, wherever it looks for collections."""
    try:
        return importlib.util.find_spec(f"ansible_collections.{name}") is not None
    except ImportError:
        return False


class TestModule:
    """Tells Ansible the tests of this file."""

    def tests(self) -> dict[str, Callable[[str], bool]]:
        """The tests, by name."""
        return {"scannerdb_collection": installed}
