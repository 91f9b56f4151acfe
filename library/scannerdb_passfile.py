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
options:
  path:
    description: The file, such as F(/home/maintainer/.pgpass). It is made where it is missing, for its owner only.
    type: path
    required: true
  owner:
    description: The system user whose file it is; empty for the one who runs the task.
    type: str
    default: ""
  place:
    description: What the password is for, as C(host:port:database:user); a colon or backslash in one is escaped.
    type: str
    required: true
  password:
    description: The password, escaped likewise.
    type: str
    required: true
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
from ansible.module_utils.scannerdb.jobs.passfile import keep_password


def main() -> None:
    """Read the options, write, answer."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "owner": {"type": "str", "default": ""},
            "place": {"type": "str", "required": True, "no_log": False},
            "password": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    run_module(module, lambda: keep_password(p["path"], p["place"], p["password"], p["owner"], module.check_mode))


if __name__ == "__main__":
    main()
