#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove the newest physical backup of the cluster by restoring it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_physical_drill
short_description: Prove the newest physical backup by restoring it
version_added: "0.3.0"
description:
  - Restores the newest physical backup into a disposable cluster on a private socket, replays all of its WAL, looks
    into every table and B-tree index of every database with C(pg_amcheck), and holds the database against the contract.
  - The backup passes; it fails; or it was restored and its pages could not be looked at, which is said with the reason.
  - The module fails where the drill could not be tried, as for want of room; that says nothing against the backup.
  - Nothing is left. The live cluster is asked to archive its last segment, and not touched otherwise.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.physical_drill
attributes:
  check_mode:
    description: Judges what would be restored. Nothing is restored.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_physical_backup
  - module: scannerdb_verify
"""

EXAMPLES = r"""
- name: Prove that the cluster can be restored
  scannerdb_physical_drill:
    login_unix_socket: /var/run/postgresql
    backup_method: [pgbackrest]
    stanza: main
  become: true
  become_user: postgres
"""

RETURN = r"""
drill:
  description: >-
    What was proven, as label, outcome (passed, failed or incomplete), at, rto_s (seconds until the copy stood), rpo_s
    (seconds of work that a lost machine would have cost), check_s, segments, problems, and unseen (what kept the drill
    from the pages). Empty in check mode.
  returned: when it was tried
  type: dict
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.physical_drill import physical_drill
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.physical.options import PhysicalDrillOptions


def main() -> None:
    """Read the options, drill, answer."""
    spec = argument_spec(ConnectionOptions, PhysicalDrillOptions)
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    asked = taken(PhysicalDrillOptions, module.params)
    run_module(module, lambda: physical_drill(options_from(module.params), asked, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
