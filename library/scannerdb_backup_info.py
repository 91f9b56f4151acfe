#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List the backup sets of the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_backup_info
short_description: List the backup sets of the Ollama Scanner database
version_added: "0.3.0"
description:
  - Lists the sets in a folder with age, size, versions, and how far each has been verified.
  - Reads manifests only; those of the copies too, where O(offsite_remote) is given. It asks no server and writes
    nothing.
  - The retention options are for the answer to whether the next backup would remove a set.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.backup_info
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_backup
  - module: scannerdb_restore
"""

EXAMPLES = r"""
- name: See what backups there are
  scannerdb_backup_info:
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
  register: backups

- name: Insist on a proven backup of the last day
  ansible.builtin.assert:
    that: >-
      backups.sets | selectattr('verified', 'in', ['read', 'restore'])
      | selectattr('age_h', 'lt', 24) | length > 0
"""

RETURN = r"""
sets:
  description: The sets, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the set's folder.
      type: str
      sample: ollama_scanner_20250418_120000.backup
    path:
      description: Where it is.
      type: str
    database:
      description: The database it is of.
      type: str
    created:
      description: When its snapshot was taken, UTC.
      type: str
    age_h:
      description: Hours since then.
      type: float
    purpose:
      description: regular or pre_restore.
      type: str
    size_bytes:
      description: Bytes of its files.
      type: int
    duration_s:
      description: Seconds until its manifest was written.
      type: float
    rows:
      description: Rows of all tables.
      type: int
    tables:
      description: Number of tables.
      type: int
    compression:
      description: Compression and level.
      type: str
    globals:
      description: Whether it has the role definitions.
      type: bool
    encrypted:
      description: Whether its files are encrypted.
      type: bool
    server_version:
      description: Version of the server.
      type: str
    pg_dump_version:
      description: Version of the program that made the dump.
      type: str
    verified:
      description: The highest level it passed, one of none, checksum, read, restore.
      type: str
    verified_at:
      description: When it passed that, UTC; empty where it never did.
      type: str
    restore_s:
      description: Seconds the restore took that proved it; 0 where none did.
      type: float
    problems:
      description: What its last verification found; empty where nothing is wrong.
      type: list
      elements: str
    latest:
      description: Whether C(latest.backup) leads to it.
      type: bool
    standby:
      description: Whether the dump was taken from a standby.
      type: bool
    copied:
      description: Whether it has a copy at O(offsite_remote); null where that is not given.
      type: bool
    made_here:
      description: Whether this host made it, as its key or its record of hashes tells.
      type: bool
    origin:
      description: Where it comes from, as a sentence, where it was not made here.
      type: str
    retention:
      description: Whether the next backup would keep or remove it (action), and why.
      type: dict
proven:
  description:
    - The newest set that a restore drill has proven restorable, as name, created, proven_at and restore_s.
    - Empty where there is none.
  returned: success
  type: dict
signing_key:
  description: This host's public key, for O(trusted_signers) of other hosts; empty where it has made no set yet.
  returned: success
  type: str
latest:
  description: Name of the set that C(latest.backup) leads to; empty where there is no such link.
  returned: success
  type: str
latest_found:
  description: Whether that set is among those listed.
  returned: success
  type: bool
adopted:
  description: Dumps that O(adopt) names, newest first, as name, path, database, created, age_h and retention.
  returned: success
  type: list
  elements: dict
others:
  description: Files and folders named like backups that are none of the bundle's sets, with the reason (name, why).
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.backup_info import backup_info
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.sets.options import BackupInfoOptions


def main() -> None:
    """Read the options, list the sets, answer."""
    module = AnsibleModule(argument_spec=argument_spec(BackupInfoOptions), supports_check_mode=True)
    run_module(module, lambda: backup_info(taken(BackupInfoOptions, module.params)))


if __name__ == "__main__":
    main()
