#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the private folders that the jobs write to, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_folders
short_description: Make the private folders that the jobs write to
version_added: "0.3.0"
description:
  - Makes several folders private and with an owner, in one call; M(ansible.builtin.file) needs one call for each.
  - Missing parents are made, too, but anybody can pass through those. Another database's folders may come to lie there,
    and be another user's.
  - Root does nothing below a folder that a lesser user can write to, where a link might be put in its way. There the
    owner's own rights do it; a folder below another user's is refused.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.folders
attributes:
  check_mode:
    description: Tells which folders would be made or changed.
    support: full
  diff_mode:
    description: Shows what is there before and after.
    support: full
seealso:
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Make the folders
  scannerdb_folders:
    paths:
      - /var/lib/scannerdb/scanner
      - /var/backups/scannerdb/scanner
    owner: postgres
  become: true
"""

RETURN = r"""
swept:
  description: What killed runs had left and was removed, or would be.
  returned: success
  type: list
  elements: str
made:
  description: Folders that were made, or would be, parents included.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.folders import folders
from ansible.module_utils.scannerdb.option import argument_spec, values_of
from ansible.module_utils.scannerdb.sets.options import FoldersOptions


def main() -> None:
    """Make what is missing, then set owner and mode."""
    module = AnsibleModule(argument_spec=argument_spec(FoldersOptions), supports_check_mode=True)
    run_module(module, lambda: folders(check_mode=module.check_mode, **values_of(FoldersOptions, module.params)))


if __name__ == "__main__":
    main()
