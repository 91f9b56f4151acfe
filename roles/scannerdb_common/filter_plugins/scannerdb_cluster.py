# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter that says which member of a cluster works; module_utils/scannerdb/cluster/share.py decides."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleError
from jinja2.exceptions import UndefinedError

DOCUMENTATION = r"""
name: share_of_cluster
short_description: Whom a member of a cluster leaves the work to
version_added: "0.3.0"
description: A dictionary with C(left_to), the host that works in the place of this one, or nothing; C(why); and
  C(member), whether this host is a member of a cluster of several.
positional: _input, me, group, hostvars, request
options:
  _input:
    description: What the server of each host of the run said, by host.
    type: dict
    required: true
  me:
    description: The host that asks.
    type: str
    required: true
  group:
    description: All hosts that are maintained, in this run or another.
    type: list
    elements: str
    required: true
  hostvars:
    description: Their variables, as far as they are known.
    type: dict
    required: true
  request:
    description: The job, where dumps are wanted from, how far a standby may be behind, and whether a standby gives way.
    type: dict
    required: true
"""

PACKAGE = Path(__file__).resolve().parents[3] / "module_utils" / "scannerdb"
WHERE = ("ansible_host", "scannerdb_login_host", "scannerdb_login_unix_socket")


def _loaded(name: str) -> ModuleType:
    """One file of the package, which is no part of the controller's path."""
    source = importlib.util.spec_from_file_location(f"scannerdb_{Path(name).stem}", PACKAGE / name)
    assert source and source.loader
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


_addresses, _share = _loaded("addresses.py"), _loaded("cluster/share.py")


class Places(Mapping[str, "tuple[list[str], int | None]"]):
    """How each host of the group can be reached, and its server's port where that is set; looked up when needed."""

    def __init__(self, group: Iterable[str], hostvars: Mapping[str, Any]) -> None:
        self.group, self.hostvars = list(group), hostvars

    def __getitem__(self, host: str) -> tuple[list[str], int | None]:
        names, port = [host], ""
        # Of a host in another slice there are no variables, and those of a broken one are its own trouble.
        with contextlib.suppress(KeyError, AnsibleError, UndefinedError):
            variables = self.hostvars[host]
            names += [str(variables[name]) for name in WHERE if variables.get(name)]
            port = str(variables.get("scannerdb_login_port", ""))
        return names, int(port) if port.isdigit() else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.group)

    def __len__(self) -> int:
        return len(self.group)


def share_of_cluster(
    answers: Mapping[str, Any], me: str, group: Iterable[str], hostvars: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    """Whom `me` leaves the work to."""
    decided: dict[str, Any] = _share.share(me, answers, Places(group, hostvars), request, _addresses.addresses_of)
    return decided


class FilterModule:
    """The role's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"share_of_cluster": share_of_cluster}
