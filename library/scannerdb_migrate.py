#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Migrate an older layout of the Ollama Scanner database into the baseline, beside the live one, and cut over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_migrate
short_description: Migrate an older layout of the Ollama Scanner database into the baseline
version_added: "0.3.0"
description:
  - In the older layouts C(servers) is a table, and models reference it. It becomes C(endpoints), its C(status) the
    number in C(verified); links, the view C(servers) and all else that the contract demands are made. Ids, rows,
    further columns, other tables and their foreign keys stay.
  - Writes to the live database wait from the backup on to the cutover; readers go on. The backup is restored into a
    database beside the live one, compared with it, moved, compared again, and takes its name as a restore does.
  - The replaced database is kept; M(scannerdb_restore) with O(ignore:state=undone) swaps it back.
  - Where C(servers) is no table there is nothing to do, and nothing changes.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.budget
  - scannerdb.connection
  - scannerdb.encryption
  - scannerdb.identity
  - scannerdb.offsite
  - scannerdb.overlay
  - scannerdb.run
options:
  confirm:
    description: The name of the database, spelled out. Anything else and nothing happens.
    type: str
    default: ""
  backup_dir:
    description: Folder of the backups, where the backup before the migration and the log C(migrate_<time>.log) go.
    type: path
    required: true
  storage:
    description:
      - Whether O(backup_dir) keeps the backup before the migration; V(auto) looks, as M(scannerdb_backup) does.
      - Where it does not, that backup needs a copy at O(offsite_remote), else nothing is migrated.
    type: str
    default: persistent
    choices: [auto, persistent, ephemeral]
  jobs:
    description: Parallel workers; 0 for as many as there are processors, at most eight.
    type: int
    default: 0
  grace_s:
    description: How many seconds clients get to go, at the beginning and again before the cutover.
    type: int
    default: 5
  terminate:
    description:
      - Whether sessions that are still there may be ended at the moment of the cutover. A write of theirs that waits is
        refused then, never lost.
      - Without it a migration of a database that is in use stops, and says who uses it.
    type: bool
    default: false
  replication:
    description:
      - What to do where logical replication slots or subscriptions hang on the database, which the cutover would cut
        off. V(stop) says what that would mean and migrates nothing; V(cut) goes on.
    type: str
    default: stop
    choices: [stop, cut]
  run_code:
    description:
      - Whether functions that belong to lesser roles may run while the side database is loaded, with the rights of
        O(login_user). Without it the migration is refused, and names the function and its owner.
    type: bool
    default: false
  run_id:
    description: Name of this run in logs and progress files; made up where it is empty.
    type: str
    default: ""
  log_path:
    description: File for the run's log instead of C(migrate_<time>.log) in O(backup_dir).
    type: path
    default: ""
attributes:
  check_mode:
    description: Looks at all that could stop the migration, tells the whole plan, and writes nothing.
    support: full
  diff_mode:
    description: In check mode the steps of the plan; else what became of the tables.
    support: full
seealso:
  - module: scannerdb_restore
"""

EXAMPLES = r"""
- name: Migrate an older layout
  scannerdb_migrate:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    confirm: ollama_scanner
  become: true
  become_user: postgres
"""

RETURN = r"""
restore:
  description: As of M(scannerdb_restore), for the cutover is the same.
  returned: success
  type: dict
  contains:
    source:
      description: The database itself; empty where there was nothing to do.
      type: str
    database:
      description: The database.
      type: str
    previous_database:
      description: The name under which the replaced database is kept.
      type: str
    cutover_ms:
      description: The longest time that a client could not connect, as a client measured it.
      type: float
    backup:
      description: The path of the backup before it.
      type: str
    rows:
      description: How many rows were moved.
      type: int
    table_count:
      description: Of how many tables.
      type: int
    sessions_ended:
      description: How many sessions the cutover ended.
      type: int
plan:
  description: The steps in words, the size, and how many servers there are.
  returned: in check mode, where there is an older layout
  type: dict
run_id:
  description: Name of the run; M(scannerdb_restore) takes it to swap back.
  returned: success
  type: str
log:
  description: The run's log.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import (
    budget_arguments,
    budget_from,
    connection_arguments,
    encryption_arguments,
    identity_arguments,
    offsite_arguments,
    options_from,
    overlay_arguments,
    run_arguments,
)
from ansible.module_utils.scannerdb.jobs.migrate import migrate


def main() -> None:
    """Read the options, migrate, answer."""
    own = {
        **encryption_arguments(),
        **identity_arguments(),
        **offsite_arguments(),
        **overlay_arguments(),
        "confirm": {"type": "str", "default": ""},
        "backup_dir": {"type": "path", "required": True},
        "storage": {"type": "str", "default": "persistent", "choices": ["auto", "persistent", "ephemeral"]},
        "jobs": {"type": "int", "default": 0},
        "grace_s": {"type": "int", "default": 5},
        "terminate": {"type": "bool", "default": False},
        "replication": {"type": "str", "default": "stop", "choices": ["stop", "cut"]},
        "run_code": {"type": "bool", "default": False},
        "run_id": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={**connection_arguments(), **run_arguments(), **budget_arguments(), **own},
        supports_check_mode=True,
    )
    values = {name: module.params[name] for name in [*run_arguments(), *own]}
    run_module(
        module,
        lambda: migrate(
            options_from(module.params), budget=budget_from(module.params), check_mode=module.check_mode, **values
        ),
    )


if __name__ == "__main__":
    main()
