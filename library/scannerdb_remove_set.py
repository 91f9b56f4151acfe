#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a backup set aside, or remove one that was."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_remove_set
short_description: Put a backup set aside, or remove one that was
version_added: "0.3.0"
description:
  - Moves a set, such as a damaged one, into the hidden folder C(.aside) of the backup folder, where no job takes it for
    a backup. The link C(latest.backup) leads to the newest of the others then.
  - With O(final=true) a set that was put aside is removed for good.
  - The last set that is not damaged is refused. Takes the database's job lock.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.connection
options:
  maintenance_db:
    description: Database in which the job lock is taken.
    type: str
    default: postgres
  pg_bin_dir:
    description: Folder of the client programs. This module needs none; the option is here as in all the others.
    type: path
    default: ""
  backup_dir:
    description: Folder of the sets.
    type: path
    required: true
  name:
    description: The set's name.
    type: str
    required: true
  final:
    description: Whether a set that was put aside is removed for good.
    type: bool
    default: false
  lock_wait_s:
    description: How long to wait for another run on the same database.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows the set's name.
    support: full
seealso:
  - module: scannerdb_backup_info
"""

EXAMPLES = r"""
- name: Put a damaged set aside
  scannerdb_remove_set:
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    name: ollama_scanner_20250418_120000.backup
"""

RETURN = r"""
aside:
  description: Where the set is, or was.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import connection_arguments, options_from
from ansible.module_utils.scannerdb.jobs.remove_set import remove_set


def main() -> None:
    """Read the options, move or remove, answer."""
    arguments = {
        "backup_dir": {"type": "path", "required": True},
        "name": {"type": "str", "required": True},
        "final": {"type": "bool", "default": False},
        "lock_wait_s": {"type": "int", "default": 0},
    }
    module = AnsibleModule(argument_spec={**connection_arguments(), **arguments}, supports_check_mode=True)
    given = {name: module.params[name] for name in arguments}
    run_module(module, lambda: remove_set(options_from(module.params), check_mode=module.check_mode, **given))


if __name__ == "__main__":
    main()
