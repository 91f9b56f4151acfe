#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep a password in a user's password file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_passfile
short_description: Keep a password in a user's password file
version_added: "0.3.0"
description:
  - Writes one line of the file in which PostgreSQL's clients look for passwords. Other lines stay.
  - The file is written with the rights of its O(owner), so that a link in that user's home leads nowhere else.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.passfile
attributes:
  check_mode:
    description: Tells whether the file would be changed.
    support: full
  diff_mode:
    description: A password is never shown.
    support: none
"""

EXAMPLES = r"""
- name: Keep the password
  scannerdb_passfile:
    path: /home/maintainer/.pgpass
    owner: maintainer
    place: "db1.example.org:5432:*:scannerdb_maint"
    password: "{{ vault_maintenance_password }}"
  become: true
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.options import PassfileOptions
from ansible.module_utils.scannerdb.jobs.passfile import keep_password
from ansible.module_utils.scannerdb.option import argument_spec, values_of


def main() -> None:
    """Read the options, write, answer."""
    module = AnsibleModule(argument_spec=argument_spec(PassfileOptions), supports_check_mode=True)
    request = values_of(PassfileOptions, module.params)
    run_module(module, lambda: keep_password(**request, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
