#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back up the Ollama Scanner database into a verified set."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_backup
short_description: Back up the Ollama Scanner database into a verified set
version_added: "0.3.0"
description:
  - Makes one backup set, a folder with a parallel dump, the role definitions, and a manifest of what a restore needs.
  - The rows of every table are counted in the dump's own snapshot while it runs, and the set is verified before
    C(latest.backup) leads to it. A backup that fails leaves C(latest.backup) as it was.
  - Removes old sets by age, but never the newest verified one nor anything younger, and only sets that it made.
  - Takes no lock that a writer could wait for. One job at a time works on a database; a second one says who is first.
  - Runs against a standby too, and finds one by itself where O(login_host) names several servers.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.backup
attributes:
  check_mode:
    description:
      - Looks at the server, the tools, the disk and the old sets, tells what would be made and removed, and writes
        nothing.
    support: full
  diff_mode:
    description: Shows the sets before and after.
    support: full
requirements:
  - PostgreSQL client programs of the server's major version or newer
seealso:
  - module: scannerdb_backup_info
  - module: scannerdb_restore
"""

EXAMPLES = r"""
- name: Back up the database of this host
  scannerdb_backup:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
  become: true
  become_user: postgres

- name: Back up a remote database gently, and keep a year
  scannerdb_backup:
    login_host: db.example.com
    login_user: scannerdb_maint
    login_password: "{{ scannerdb_login_password }}"
    backup_dir: /srv/backups/scanner
    retention_days: 365
    jobs: 2
    nice: 10
"""

RETURN = r"""
backup:
  description: The new set. In check mode its name and the estimated size.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the set's folder.
      type: str
      sample: ollama_scanner_20250418_120000.backup
    path:
      description: Where it is.
      type: str
    size_bytes:
      description: Bytes of its files.
      type: int
    duration_s:
      description: Seconds it took, with flush and verification.
      type: float
    verified:
      description: The level it passed, one of none, checksum, read, restore.
      type: str
    created:
      description: When its snapshot was taken, UTC.
      type: str
    purpose:
      description: regular or pre_restore.
      type: str
    rows:
      description: Rows of all tables.
      type: int
    tables:
      description: Number of tables.
      type: int
    compression:
      description: Compression and level.
      type: str
      sample: zstd:1
    globals:
      description: Whether the role definitions could be saved.
      type: bool
    encrypted:
      description: Whether its files are encrypted.
      type: bool
    standby:
      description: Whether the dump was taken from a standby.
      type: bool
removed:
  description: Names of the sets that retention removed (in check mode, would remove).
  returned: success
  type: list
  elements: str
retention:
  description: What becomes of each set, and why; a list of name, action (keep or remove) and why.
  returned: success
  type: list
  elements: dict
swept:
  description: Debris of killed runs that was removed (in check mode, would be).
  returned: success
  type: list
  elements: str
latest:
  description: Name of the set that C(latest.backup) leads to.
  returned: success
  type: str
proven:
  description:
    - The newest set that a restore drill has proven restorable, as name, created, proven_at and restore_s.
    - Empty where there is none.
  returned: success
  type: dict
offsite:
  description:
    - The copy, as remote, copied, why (what failed), removed (old copies), caught_up (sets that earlier runs could not
      copy, copied now), missing (sets that still have none) and left_alone (folders there that are named like sets and
      have no manifest, and that nothing shows to be the bundle's). Empty where no copies are made.
  returned: when a set was made
  type: dict
plan:
  description: Server, tools, compression, expected size and free space.
  returned: in check mode
  type: dict
log:
  description: The run's log.
  returned: when a set was made
  type: str
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.backup.options import BackupOptions
from ansible.module_utils.scannerdb.backup.request import addresses_in
from ansible.module_utils.scannerdb.jobs.backup import backup
from ansible.module_utils.scannerdb.option import argument_spec, taken


class Module(AnsibleModule):
    """A module that shows no address of a webhook, which may hold a token.

    C(no_log) on the options would hide every word of a command, such as "true", wherever it occurs.
    """

    def _load_params(self) -> None:
        super()._load_params()  # before the options are checked, and before they go to the system's log
        self.no_log_values.update(addresses_in(self.params))


def main() -> None:
    """Read the options, make the backup, answer."""
    module = Module(argument_spec=argument_spec(ConnectionOptions, BackupOptions), supports_check_mode=True)
    asked = taken(BackupOptions, module.params)
    run_module(module, lambda: backup(options_from(module.params), asked, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
