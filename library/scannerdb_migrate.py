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
  - scannerdb.migrate
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
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.migrate import migrate
from ansible.module_utils.scannerdb.jobs.options import MigrateOptions
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, migrate, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, MigrateOptions), supports_check_mode=True)
    request = taken(MigrateOptions, module.params)
    run_module(module, lambda: migrate(options_from(module.params), request, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
