#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at the physical backups of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_physical_info
short_description: Look at the physical backups of the cluster
version_added: "0.3.0"
description:
  - Lists the backups of a stanza of pgBackRest and the segments of its archive, holds them against the server, and says
    what can be restored and what is wrong. What pgBackRest says of itself is not believed where it can be looked at.
  - Runs as a user who may read pgBackRest's configuration and its repository. Changes nothing. What could not be looked
    at is no failure, but said in the result.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.physical_info
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_physical_backup
"""

EXAMPLES = r"""
- name: See what can be restored
  scannerdb_physical_info:
    login_unix_socket: /var/run/postgresql
    backup_method: [pgbackrest]
    stanza: main
  become: true
  become_user: postgres
  register: seen
"""

RETURN = r"""
physical:
  description: What was seen. Empty where no physical backups are made.
  returned: success
  type: dict
  contains:
    why:
      description: Why the backups could not be looked at; empty where they could.
      type: str
    backups:
      description: The backups, each with label, kind, started, stopped, sizes, page_errors, timeline and prior.
      type: list
      elements: dict
    windows:
      description: What can be restored along each timeline, as begins, ends, gaps and a sentence.
      type: list
      elements: dict
    window:
      description: That of the newest timeline; empty where nothing can be restored.
      type: dict
    problems:
      description: What is wrong, as findings with their hint.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.physical_info import physical_info
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.physical.options import PhysicalInfoOptions


def main() -> None:
    """Read the options, look, answer."""
    module = AnsibleModule(
        argument_spec=argument_spec(ConnectionOptions, PhysicalInfoOptions), supports_check_mode=True
    )
    asked = taken(PhysicalInfoOptions, module.params)
    run_module(module, lambda: physical_info(options_from(module.params), asked))


if __name__ == "__main__":
    main()
