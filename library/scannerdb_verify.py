#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove a backup set of the Ollama Scanner database, by restoring it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_verify
short_description: Prove a backup set of the Ollama Scanner database, by restoring it
version_added: "0.3.0"
description:
  - At level V(restore), the restore drill, the set is restored into a scratch database. Its rows, the content where it
    was fingerprinted, and every object are compared with the set's manifest.
  - The scratch database is dropped whatever happens; what a killed drill left is removed by the next one.
  - The drill is timed. How long a restore takes is known then, not guessed.
  - Alternatively the drill happens on a server of its own, made for it and removed with it, so that production feels
    nothing.
  - The lower levels need no server.
  - What was shown is added to the set's C(verification.jsonl) and to the one in O(state_dir). The module fails where
    the set did not pass. Where nothing could be proven either way (no server, no room, no tools) it fails too, and that
    is no mark against the set.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.verify
attributes:
  check_mode:
    description: Looks at the set, the tools, the server's roles and rights and the room, tells the steps, and writes
      nothing. A copy elsewhere is not fetched and an encrypted set not decrypted, so the roles and extensions that such
      a one asks for are not looked at.
    support: full
  diff_mode:
    description: Shows what is known of the set before and after.
    support: full
requirements:
  - psycopg >= 3.1
  - PostgreSQL client programs of the set's major version or newer
seealso:
  - module: scannerdb_backup
  - module: scannerdb_backup_info
  - module: scannerdb_restore
"""

EXAMPLES = r"""
- name: Prove that the latest backup can be restored
  scannerdb_verify:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
  become: true
  become_user: postgres

- name: The same without touching the production server
  scannerdb_verify:
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    place: cluster
    nice: 10

- name: Look for bit rot in an old set
  scannerdb_verify:
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    source: ollama_scanner_20250418_120000.backup
    level: read
"""

RETURN = r"""
verification:
  description:
    - What was verified, and what it showed.
    - Of one that could not be tried only C(set), C(path), C(level), C(outcome), C(passed), C(problems) and C(at).
  returned: when not in check mode
  type: dict
  contains:
    set:
      description: Name of the set.
      type: str
      sample: ollama_scanner_20250418_120000.backup
    path:
      description: Where it is.
      type: str
    level:
      description: checksum, read or restore.
      type: str
    outcome:
      description:
        - V(proven), V(refuted) or V(not_tried). Only V(refuted) is a mark against the set.
        - What could not be tried leaves it as it was, and C(problems) says why.
      type: str
      sample: proven
    passed:
      description: Whether everything is as recorded.
      type: bool
    problems:
      description: What is not, as sentences.
      type: list
      elements: str
    duration_s:
      description: Seconds the whole verification took.
      type: float
    restore_s:
      description: Seconds from creating the database to analyzing it; what a real restore takes up to its own checks.
      type: float
    place:
      description: server or cluster; empty at the lower levels.
      type: str
    tools:
      description: Version of the pg_restore that was used.
      type: str
    compared:
      description: How many tables (by their rows), fingerprints and objects were compared.
      type: dict
    findings:
      description: Critical findings of the restored database against the contract, as id, object and message.
      type: list
      elements: dict
    at:
      description: When it was done, UTC.
      type: str
proven:
  description:
    - The newest set that was restored successfully, as name, created, proven_at and restore_s.
    - Empty where there is none.
  returned: success
  type: dict
swept:
  description:
    - What killed runs left and was removed (in check mode, would be), by name.
    - Scratch databases and servers of drills; half-made sets in O(backup_dir) where something is fetched or decrypted.
  returned: success
  type: list
  elements: str
plan:
  description: The set, the level, the place, and the steps in words.
  returned: in check mode
  type: dict
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.drill.options import DrillOptions
from ansible.module_utils.scannerdb.jobs.verify import verify
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, verify, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, DrillOptions), supports_check_mode=True)
    asked = taken(DrillOptions, module.params)
    run_module(module, lambda: verify(options_from(module.params), asked, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
