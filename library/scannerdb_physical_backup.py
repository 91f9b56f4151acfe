#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back up the cluster of the Ollama Scanner database with pgBackRest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_physical_backup
short_description: Back up the whole cluster with pgBackRest
version_added: "0.3.0"
description:
  - Makes the full, differential or incremental backup that is due, looks at what was made and at its WAL in the
    archive, and only then lets pgBackRest remove old backups.
  - Each repository gets a backup. Where one got none, the module fails, says which, and tells what was made elsewhere.
  - Refuses where there is no stanza, a stanza of another cluster, or no archiving. A new backup is a change.
  - The lock of the bundle's jobs is held meanwhile. Runs as the user that the server runs as.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.physical_backup
attributes:
  check_mode:
    description: Looks at everything and says which kind would be made. Nothing is made.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_backup
  - module: scannerdb_physical_info
"""

EXAMPLES = r"""
- name: Back up the cluster of this host
  scannerdb_physical_backup:
    login_unix_socket: /var/run/postgresql
    backup_method: [pgbackrest]
    stanza: main
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
  become: true
  become_user: postgres
"""

RETURN = r"""
backup:
  description: >-
    The new backup, as label, kind, started, stopped, duration_s, size_bytes, repository_bytes, delta_bytes,
    page_errors, why (this kind), and sound (whether it and its WAL are whole). In check mode kind and why.
  returned: success
  type: dict
backups:
  description: The new backup of each repository that got one, each as C(backup), which is the first of them.
  returned: success
  type: list
  elements: dict
removed:
  description: Labels of the backups that retention removed.
  returned: success
  type: list
  elements: str
physical:
  description: What there is afterwards, as in M(scannerdb_physical_info).
  returned: success
  type: dict
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.physical_backup import physical_backup
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.physical.options import PhysicalBackupOptions


def main() -> None:
    """Read the options, make the backup, answer."""
    module = AnsibleModule(
        argument_spec=argument_spec(ConnectionOptions, PhysicalBackupOptions), supports_check_mode=True
    )
    asked = taken(PhysicalBackupOptions, module.params)
    run_module(module, lambda: physical_backup(options_from(module.params), asked, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
