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
  - scannerdb.remove_set
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
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.remove_set import remove_set
from ansible.module_utils.scannerdb.option import argument_spec, values_of
from ansible.module_utils.scannerdb.sets.options import RemoveSetOptions


def main() -> None:
    """Read the options, move or remove, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, RemoveSetOptions), supports_check_mode=True)
    run_module(
        module,
        lambda: remove_set(
            options_from(module.params), check_mode=module.check_mode, **values_of(RemoveSetOptions, module.params)
        ),
    )


if __name__ == "__main__":
    main()
